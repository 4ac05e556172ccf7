"""What a configuration file says of stages lift and finetune; see config.py."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from stsp_model.skeleton import JOINT_COUNT
from stsp_model.training.config import (
    Augmentation,
    ConfigError,
    EPEConfig,
    FinderConfig,
    Heatmaps,
    Optimisation,
    rising,
    within,
)


@dataclass(frozen=True)
class Cameras:
    """Ranges of the random cameras of stage lift, each [least, most].

    field_of_view_deg: across the longer side. elevation_deg: of the camera as seen from the
    person. roll_deg: its standard deviation. share: the person's height over the image's.
    off_centre: how far from the image's centre the person may be, of half its sides.
    moving_share: clips with a moving camera.
    """

    field_of_view_deg: tuple[float, ...]
    elevation_deg: tuple[float, ...]
    roll_deg: float
    share: tuple[float, ...]
    off_centre: float
    moving_share: float

    def __post_init__(self) -> None:
        rising(self, "field_of_view_deg", "elevation_deg", "share")
        within(self, 10, 150, "field_of_view_deg")
        within(self, -60, 80, "elevation_deg")
        within(self, 0, 45, "roll_deg")
        within(self, 0.05, 1.5, "share")
        within(self, 0, 1, "off_centre", "moving_share")


@dataclass(frozen=True)
class Noise:
    """The errors of 2D joints that stage lift is trained to bear; per joint where 17 are given.

    Lengths are in half box sides. deviation: of the bulk of the errors, along each axis;
    correlated: share of its variance that lasts, for about correlation_time (s).
    spread: standard deviation of the logarithm of a clip's own factor on all deviations.
    outlier_rate, outlier_deviation: joints seen elsewhere. miss_rate: not seen at all.
    swap_rate: left and right taken for each other, per pair. event_time: how long (s) an outlier,
    miss or swap lasts. mass, mass_wrong: mean and standard deviation of the logit of the heat
    map's mass, of joints in place and of others. reported: the deviation that the heat map itself
    shows, its median and the standard deviation of its logarithm. given_share: clips with 2D
    joints as from elsewhere, without mass and covariance, outliers and swaps.
    """

    deviation: tuple[float, ...]
    correlated: float
    correlation_time: float
    spread: float
    outlier_rate: tuple[float, ...]
    outlier_deviation: float
    miss_rate: tuple[float, ...]
    swap_rate: float
    event_time: float
    mass: tuple[float, ...]
    mass_wrong: tuple[float, ...]
    reported: tuple[float, ...]
    given_share: float

    def __post_init__(self) -> None:
        for name in ("deviation", "outlier_rate", "miss_rate"):
            if len(getattr(self, name)) not in (1, JOINT_COUNT):
                raise ConfigError(f"{name} has {len(getattr(self, name))} values, expected 1 or 17")
        for name in ("mass", "mass_wrong", "reported"):
            if len(getattr(self, name)) != 2:
                raise ConfigError(f"{name} must be two numbers, a middle and a spread")
        within(self, 1e-6, 5, "reported")
        within(self, 0, 2, "deviation", "outlier_deviation", "spread")
        within(self, 0, 0.5, "outlier_rate", "miss_rate", "swap_rate")
        within(self, 0, 1, "correlated", "given_share")
        within(self, 1e-3, 60, "correlation_time", "event_time")
        within(self, -20, 20, "mass", "mass_wrong")


@dataclass(frozen=True)
class LiftWeights:
    """Weights of the lifter's losses.

    frame, corrected: eq. 14 of GSR's poses and of TMP's; bone, angle: eq. 15 and 16; velocity,
    acceleration: eq. 19 and 20; likelihood: of the variances; height: of the standing height.
    squared: eq. 14 with the squared distance, as printed, instead of the distance.
    literal: eq. 8, 19 and 20 of the prediction alone, as printed, instead of its error.
    """

    frame: float
    corrected: float
    bone: float
    angle: float
    velocity: float
    acceleration: float
    likelihood: float
    height: float
    squared: bool
    literal: bool

    def __post_init__(self) -> None:
        within(self, 0, 1e6, *self.factors)

    @property
    def factors(self) -> dict[str, float]:
        """The weights by the names of their losses."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if name not in ("squared", "literal")}


@dataclass(frozen=True)
class Clips:
    """How clips are cut from motion capture.

    frames: per clip; with 1 the skeleton module learns alone, from frames of as many clips.
    rate: [least, most] frames a second. dropped: share of frames that are lost.
    speed: pace, up or down by this factor. mirrored: left for right. mixed: with arms, legs or
    head of other motions; bent_deg: standard deviation of the angles by which trunk, head and limbs
    of those clips are turned. tumbled: clips turned as a whole, any way up. proportions: standard
    deviation of the logarithm of a factor on every length of the body.
    """

    frames: int
    rate: tuple[float, ...]
    dropped: float
    speed: float
    mirrored: float
    mixed: float
    bent_deg: float
    tumbled: float
    proportions: float

    def __post_init__(self) -> None:
        within(self, 1, 1000, "frames")
        rising(self, "rate")
        within(self, 4, 240, "rate")
        within(self, 0, 0.9, "dropped")
        within(self, 1, 3, "speed")
        within(self, 0, 1, "mirrored", "mixed", "tumbled", "proportions")
        within(self, 0, 45, "bent_deg")


@dataclass(frozen=True)
class LiftConfig:
    """Stage lift: GSR and TMP from motion capture, the keypoint module as it is.

    validation_clips: how many, drawn once and for all from the validation takes.
    """

    preset: str
    stage: str
    optimisation: Optimisation
    validation_clips: int
    clips: Clips
    cameras: Cameras
    noise: Noise
    weights: LiftWeights

    def __post_init__(self) -> None:
        within(self, 1, 10**5, "validation_clips")


@dataclass(frozen=True)
class FinetuneConfig:
    """Stage finetune: all modules on video with 3D, half of every batch real images.

    frames: per clip of video; `optimisation.batch` counts crops, half of them in clips.
    motion_clips: of motion capture in a batch where such data is given, made as the preset's own
    configuration of stage lift says.
    validation_clips: rendered clips to select by, at most. negative_share, moving_share: of the
    real crops, see EPEConfig. clip_rotation_deg, clip_any_rotation: of rendered clips, turned as a
    whole about the line of sight, see Augmentation. epe_rate: the keypoint module's learning rate
    over the others'. guard: points of selection PCK that may be lost before it is stopped.
    trajectory: weight of eq. 8; present: of the person-present output; depth: of the depths read
    from pictures alone; total: of EPE's, GSR's and TMP's losses (eq. 23).
    """

    preset: str
    stage: str
    optimisation: Optimisation
    frames: int
    motion_clips: int
    validation_clips: int
    negative_share: float
    moving_share: float
    clip_rotation_deg: float
    clip_any_rotation: float
    epe_rate: float
    guard: float
    trajectory: float
    present: float
    depth: float
    total: tuple[float, ...]
    heatmaps: Heatmaps
    weights: LiftWeights
    augmentation: Augmentation

    def __post_init__(self) -> None:
        within(self, 3, 1000, "frames")
        within(self, 1, 10**5, "motion_clips", "validation_clips")
        within(self, 0, 10, "epe_rate")
        within(self, 0, 1, "moving_share", "clip_any_rotation")
        within(self, 0, 40, "clip_rotation_deg")
        within(self, 0, 0.5, "negative_share")
        within(self, 0, 100, "guard")
        within(self, 0, 1e6, "trajectory", "present", "depth", "total")
        if self.optimisation.batch < 4 * self.frames or self.optimisation.batch % 4:
            raise ConfigError(
                f"batch is {self.optimisation.batch}, expected a multiple of 4 whose half holds "
                f"two clips of {self.frames} frames"
            )
        if len(self.total) != 3:
            raise ConfigError("total must be three weights, of EPE, GSR and TMP")


StageConfig = FinderConfig | EPEConfig | LiftConfig | FinetuneConfig
