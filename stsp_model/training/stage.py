"""What the training loop needs to know of a stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from stsp_model.network import STSPNet


class Batches(Protocol):
    """All batches of a run, each a function of its step's number alone."""

    def batch(self, step: int, part: int, parts: int) -> Any:
        """One of `parts` equal parts of a step's batch, as (nested) named tuples of tensors."""


@dataclass(frozen=True)
class Group:
    """Weights that learn at `rate` times the learning rate."""

    parameters: Sequence[nn.Parameter]
    rate: float = 1.0


@dataclass(frozen=True)
class Stage:
    """One stage of training, ready to run.

    losses: forward(batch) gives each loss by name, a mean over what it counts; its `counts(batch)`
        gives how many that are, so that parts of a batch add up to the whole.
    weights: of the losses.
    groups: what is trained; everything else stays as it is.
    batches: to train on.
    steps_per_epoch: steps that go once through the data.
    shared: numbers of items in a batch that must each be a multiple of its parts.
    evaluate: scores of a network at an epoch, by name.
    calibrate: sets a trained network's calibration by the selection data, see calibrate.py.
    score: which of them selects; `higher` whether more is better.
    guard: (name, points): training ends, and such weights are not kept, when that score has
        fallen by more points since the start.
    changes: epochs from which on scores cannot be compared with earlier ones.
    frozen_norm: whether batch norm keeps its statistics.
    """

    losses: Losses
    weights: Mapping[str, float]
    groups: Sequence[Group]
    batches: Batches
    steps_per_epoch: int
    shared: Sequence[int]
    evaluate: Callable[[STSPNet, int], dict[str, float]]
    calibrate: Callable[[STSPNet], None]
    score: str
    higher: bool
    guard: tuple[str, float] | None = None
    changes: frozenset[int] = frozenset()
    frozen_norm: bool = False


class Losses(nn.Module, ABC):
    """Losses of a stage, as a module so that processes can share its gradients."""

    model: STSPNet

    @abstractmethod
    def counts(self, batch: Any) -> dict[str, Tensor]:
        """How many joints, people or clips each loss is a mean over."""
