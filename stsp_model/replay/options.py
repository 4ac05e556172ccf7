"""How bags are replayed, as the command's options say it."""

from __future__ import annotations

from dataclasses import dataclass

from stsp_model.estimator import Settings
from stsp_model.replay.live import Live
from stsp_model.runtime import AUTO


class ReplayError(ValueError):
    """A replay that cannot be done as asked; the sentence says why."""


@dataclass(frozen=True)
class Options:
    """How bags are replayed.

    model: preset, file of weights, or folder that `stsp export` wrote. device: where it runs.
    backend: what runs it, see runtime.open_network.
    subject_height, max_people, rectified, image_rotation: as the node's parameters of those names.
    image_topic, camera_info_topic: which of the bag's, where there is a choice.
    live: None: every image, in the order of stamps. Milliseconds that a node would work on each
        image, or "measured": images are dropped as there.
    ground_truth: a bag that holds the truth about all bags; None: each bag's own.
    copy_images: into the bag of skeletons. images: into the report.
    """

    model: str = "edge"
    device: str = "cpu"
    backend: str = AUTO
    subject_height: float | None = None
    max_people: int = 1
    rectified: bool = False
    image_rotation: int = 0
    image_topic: str | None = None
    camera_info_topic: str | None = None
    live: Live = None
    ground_truth: str | None = None
    copy_images: bool = False
    images: bool = False

    def __post_init__(self) -> None:
        try:
            checked = Settings(
                self.subject_height, self.max_people, image_rotation=self.image_rotation
            )
        except (TypeError, ValueError) as error:
            raise ReplayError(str(error)) from None
        object.__setattr__(self, "subject_height", checked.subject_height)
