"""What a configuration file says, as frozen dataclasses: of every stage, of epe and of finder.

There are no defaults here. A configuration file is complete, so each value stands in one place,
beside the reason for it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SIZE_STEP = 32  # pixels; HRNet's coarsest branch has a 32nd of the resolution


class ConfigError(ValueError):
    """A configuration that cannot be used; the sentence says what is wrong with it."""


def within(owner: Any, low: float, high: float, *names: str) -> None:
    """Raise ConfigError if one of the named fields, or a number in it, is out of range."""
    for name in names:
        value = getattr(owner, name)
        for number in value if isinstance(value, tuple) else (value,):
            if not (math.isfinite(number) and low <= number <= high):
                raise ConfigError(f"{name} is {number}, expected {low} to {high}")


def rising(owner: Any, *names: str) -> None:
    """Raise ConfigError if one of the named fields is no [least, most]."""
    for name in names:
        value = getattr(owner, name)
        if len(value) != 2 or not value[0] <= value[1]:
            raise ConfigError(f"{name} is {list(value)}, expected [least, most]")


def one_of(owner: Any, name: str, allowed: Sequence[str]) -> None:
    """Raise ConfigError if the named field is none of those allowed."""
    if getattr(owner, name) not in allowed:
        raise ConfigError(f"{name} is {getattr(owner, name)!r}, expected {' or '.join(allowed)}")


@dataclass(frozen=True)
class Optimisation:
    """How long and how fast, the same for every stage.

    epochs; steps_per_epoch: 0 for as many as go once through the training images.
    batch: over all processes and micro-batches; accumulate: micro-batches per step and process.
    learning_rate, weight_decay: of AdamW (Adam where the decay is 0), after warmup_steps.
    schedule: "plateau": x plateau_factor after plateau_patience epochs without a better score;
    "cosine": down to zero at the end. stop_patience: epochs without a better score that end it.
    clip_norm: of the gradient; 0 is none. average_decay: of the weights' moving average.
    precision: "32-true" or "bf16-mixed". workers: processes that load data; 0 is none.
    checkpoint_steps: between checkpoints.
    """

    epochs: int
    steps_per_epoch: int
    batch: int
    accumulate: int
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    schedule: str
    plateau_patience: int
    plateau_factor: float
    stop_patience: int
    clip_norm: float
    average_decay: float
    precision: str
    seed: int
    workers: int
    checkpoint_steps: int

    def __post_init__(self) -> None:
        within(self, 1, 10**7, "epochs", "batch", "accumulate", "plateau_patience")
        within(self, 1, 10**7, "stop_patience", "checkpoint_steps")
        within(self, 0, 10**7, "steps_per_epoch", "warmup_steps", "workers", "seed")
        within(self, 1e-9, 1, "learning_rate", "plateau_factor")
        within(self, 0, 1, "weight_decay", "average_decay")
        within(self, 0, 1e6, "clip_norm")
        if self.average_decay == 1:
            raise ConfigError("average_decay is 1, expected less: the average would never move")
        one_of(self, "schedule", ("plateau", "cosine"))
        one_of(self, "precision", ("32-true", "bf16-mixed"))


@dataclass(frozen=True)
class Look:
    """What cameras do to pictures, each with its probability."""

    blur: float
    low_resolution: float
    colour: float
    grey: float
    sensor_noise: float
    jpeg: float

    def __post_init__(self) -> None:
        within(self, 0, 1, *(f.name for f in dataclasses.fields(self)))


@dataclass(frozen=True)
class Augmentation:
    """What happens to crops; numbers other than ranges and deviations are probabilities.

    rotation_deg: standard deviation, cut off at 40 degrees; any_rotation: turned by any angle.
    scale: factor, up or down; shift: of the crop's side, either way. flip: mirrored.
    truncate: a part of the person lies outside; occlude: things in front.
    """

    rotation_deg: float
    any_rotation: float
    scale: float
    shift: float
    flip: float
    truncate: float
    occlude: float
    look: Look

    def __post_init__(self) -> None:
        within(self, 0, 40, "rotation_deg")
        within(self, 1, 2, "scale")
        within(self, 0, 0.5, "shift")
        within(self, 0, 1, "any_rotation", "flip", "truncate", "occlude")


@dataclass(frozen=True)
class Heatmaps:
    """The heat maps' loss: "cross_entropy" or "mse", against a Gaussian of `sigma` cells."""

    loss: str
    sigma: float

    def __post_init__(self) -> None:
        one_of(self, "loss", ("cross_entropy", "mse"))
        within(self, 0.3, 10, "sigma")


@dataclass(frozen=True)
class EPEWeights:
    """Weights of the losses of stage epe."""

    heatmap: float
    present: float
    distil: float

    def __post_init__(self) -> None:
        within(self, 0, 1e6, *(f.name for f in dataclasses.fields(self)))


@dataclass(frozen=True)
class EPEConfig:
    """Stage epe: keypoint module and person-present output, from single images.

    sizes: (epoch from which on, side of the crop in pixels), rising.
    rendered_share: at most this of a batch's crops is rendered. negative_share: crops of nobody.
    moving_share: crops that get a previous frame. teacher: weights of a larger preset whose heat
    maps are learnt too; "" for none.
    """

    preset: str
    stage: str
    optimisation: Optimisation
    sizes: tuple[tuple[int, int], ...]
    rendered_share: float
    negative_share: float
    moving_share: float
    teacher: str
    heatmaps: Heatmaps
    weights: EPEWeights
    augmentation: Augmentation

    def __post_init__(self) -> None:
        within(self, 0, 0.3, "rendered_share")
        within(self, 0, 0.5, "negative_share")
        within(self, 0, 1, "moving_share")
        if not self.sizes or any(len(pair) != 2 for pair in self.sizes):
            raise ConfigError("sizes must be pairs [epoch, pixels]")
        epochs = [epoch for epoch, _ in self.sizes]
        if epochs[0] != 0 or sorted(set(epochs)) != epochs:
            raise ConfigError(f"the epochs of sizes are {epochs}, expected 0 first, then rising")
        for _, side in self.sizes:
            if side < 64 or side % SIZE_STEP:
                raise ConfigError(
                    f"sizes has {side} px, expected a multiple of {SIZE_STEP} from 64"
                )


@dataclass(frozen=True)
class FinderWeights:
    """Weights of the losses of stage finder."""

    centre: float
    size: float

    def __post_init__(self) -> None:
        within(self, 0, 1e6, *(f.name for f in dataclasses.fields(self)))


@dataclass(frozen=True)
class FinderConfig:
    """Stage finder: where people are in whole frames; a batch's items are frames.

    rendered_share: how likely a rendered picture is where one is taken. people: how likely 0, 1,
    ... 4 people are in a frame.
    """

    preset: str
    stage: str
    optimisation: Optimisation
    rendered_share: float
    people: tuple[float, ...]
    weights: FinderWeights
    look: Look

    def __post_init__(self) -> None:
        within(self, 0, 1, "rendered_share", "people")
        if len(self.people) != 5 or not math.isclose(sum(self.people), 1, abs_tol=1e-6):
            raise ConfigError("people must be five probabilities that add up to 1, of 0 to 4")
