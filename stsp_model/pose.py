"""What PoseEstimator gives: a person's pose in one image."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from .skeleton import JOINT_COUNT

FloatArray = npt.NDArray[np.float64]

UNTRAINED = "the network is not trained: its skeletons mean nothing"  # to be said beside its poses


class TrackingState(IntEnum):
    """tracking_state of the message; the estimator gives OK and TERMINATE.

    SEARCHING stands for predicted joints. None are predicted: a person out of sight is not
    reported until found again, or is terminated when `max_gap` has passed.
    """

    OFF = 0
    OK = 1
    SEARCHING = 2
    TERMINATE = 3


@dataclass(frozen=True, eq=False)
class Pose:
    """One person in one image. Unknown is NaN; the arrays are the caller's to keep.

    id: starts with a letter; the same as long as the person is followed, and never used again.
    joints (17, 3): metres from the pelvis, camera axes; variance (17, 3): m^2; confidence (17,).
    joints_2d (17, 2): pixels of the image as it came. Joints may lie beyond its border, where they
        are guessed, not seen: their confidence_2d (17,) is halved.
    root (3,): pelvis in the camera frame, metres, and root_variance (3,), m^2; NaN without camera.
    height, height_variance: standing height, m and m^2; height_given: by `subject_height`.
    box (4,): x0 y0 x1 y1 pixels, tight around the joints. score: 0..1, of the person being there.
    frames_used: past frames behind this pose.

    With tracking_state TERMINATE, sent once when a person is lost, all is unknown but the id.
    """

    id: str
    tracking_state: TrackingState
    joints: FloatArray
    variance: FloatArray
    confidence: FloatArray
    joints_2d: FloatArray
    confidence_2d: FloatArray
    root: FloatArray
    root_variance: FloatArray
    height: float
    height_variance: float
    height_given: bool
    box: FloatArray
    score: float
    frames_used: int


def terminated(id: str) -> Pose:
    """The last that is heard of a person."""

    def unknown(*shape: int) -> FloatArray:
        return np.full(shape, np.nan)

    return Pose(
        id=id,
        tracking_state=TrackingState.TERMINATE,
        joints=unknown(JOINT_COUNT, 3),
        variance=unknown(JOINT_COUNT, 3),
        confidence=unknown(JOINT_COUNT),
        joints_2d=unknown(JOINT_COUNT, 2),
        confidence_2d=unknown(JOINT_COUNT),
        root=unknown(3),
        root_variance=unknown(3),
        height=float("nan"),
        height_variance=float("nan"),
        height_given=False,
        box=unknown(4),
        score=float("nan"),
        frames_used=0,
    )
