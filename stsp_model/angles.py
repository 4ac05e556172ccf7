"""Joint angles as people who study movement read them: knees, hips, elbows, shoulders and trunk.

All follow from joint centres alone, in the skeleton's own axes: no camera, no gravity, no size.
Rotation of a limb about its own length cannot be had from joint centres. Angles are in radians,
zero in the anatomical position (standing straight, arms hanging), flexion positive. With

    up       from pelvis to thorax, the whole trunk taken as one piece
    right    from the left to the right hip, about which hips and trunk flex
    thigh    from hip to knee, shank from knee to ankle; upper arm and forearm likewise

they are:

- SIDE_knee, SIDE_elbow (0..pi): the angle by which the outer bone is bent out of the inner one's
  direction. It has no sign: a knee bent backwards past straight counts as bent, because the bones
  alone do not tell their hinge's direction. (Flexion of Wu et al. 2005 for the elbow, its carrying
  angle taken as zero; of the neutral-zero method of Norkin & White for both.)
- SIDE_hip (-pi..pi): how far the thigh is turned about `right` from the trunk's direction
  downwards, positive forwards (flexion), negative backwards (extension); being spread plays no
  part. It is the first angle of the hip's joint coordinate system in Wu et al. 2002, with the
  trunk's `up` for the pelvis's, whose tilt joint centres do not show: bending the back adds to it.
- SIDE_shoulder (0..pi): elevation, the angle between the upper arm and the trunk's direction
  downwards, whether to the front or the side: pi/2 in a T-pose, pi with the arm overhead. (The
  second angle of humerus relative to thorax in Wu et al. 2005, which counts it negative.)
- trunk (-pi..pi): how far the trunk is bent about `right` out of the line from the middle of the
  ankles to the pelvis, positive forwards. Ours: standards measure against gravity or the pelvis.
  While somebody stands in balance that line is near vertical, so it tells bending over (hips and
  trunk) from a squat (hips alone); it is no inclination against gravity.

Flexion about `right` does not exist for what points along it: within 10 degrees it is NaN.

Wu et al., Journal of Biomechanics 35:543-548 (2002) and 38:981-992 (2005): recommendations of the
International Society of Biomechanics. Norkin & White: Measurement of Joint Motion.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .skeleton import ANGLES, INDEX, JOINT_COUNT

if TYPE_CHECKING:
    from .pose import Pose

FloatArray = npt.NDArray[np.float64]

ANGLE_NAMES: tuple[str, ...] = (
    *("right_hip", "right_knee", "left_hip", "left_knee", "trunk"),
    *("left_shoulder", "left_elbow", "right_shoulder", "right_elbow"),
)
_LEAST_SINE = math.sin(math.radians(10))  # between a direction and the axis it turns about
_LEFT_ANKLE, _RIGHT_ANKLE = INDEX["left_ankle"], INDEX["right_ankle"]
_NEXT, _AFTER = [1, 2, 0], [2, 0, 1]


def _bones() -> tuple[list[int], list[int], list[int]]:
    """Where the bones of all angles start and end, and where in ANGLE_NAMES each angle belongs.

    Firsts of all pairs, then seconds, then the axis through the hips; pairs that turn about that
    axis come before those that merely bend. Point JOINT_COUNT is the middle of the ankles.
    """
    down = INDEX["thorax"], INDEX["pelvis"]
    pairs = {"trunk": (down, (INDEX["pelvis"], JOINT_COUNT))}
    for side in ("left", "right"):
        pairs[f"{side}_hip"] = down, (INDEX[f"{side}_hip"], INDEX[f"{side}_knee"])
    for side in ("left", "right"):
        pairs[f"{side}_shoulder"] = down, (INDEX[f"{side}_shoulder"], INDEX[f"{side}_elbow"])
    # The bones of knee and elbow are those whose bending eq. 16 limits.
    for limit in (one for one in ANGLES if one.name.endswith(("_knee", "_elbow"))):
        pairs[limit.name] = (limit.start, limit.vertex), (limit.vertex, limit.end)
    axis = INDEX["left_hip"], INDEX["right_hip"]
    bones = [
        *(first for first, _ in pairs.values()),
        *(second for _, second in pairs.values()),
        axis,
    ]
    names = list(pairs)
    return [a for a, _ in bones], [b for _, b in bones], [names.index(n) for n in ANGLE_NAMES]


_STARTS, _ENDS, _PLACES = _bones()
_COUNT, _TURNS = len(ANGLE_NAMES), 3


def named_angles(poses: Sequence[Pose]) -> tuple[list[str], FloatArray]:
    """Names (N,), `<id>/left_knee` and so on, and angles (N,) in radians of everyone seen.

    Unknown angles are NaN; who is lost has none.
    """
    from .pose import TrackingState  # with PyTorch

    seen = [pose for pose in poses if pose.tracking_state != TrackingState.TERMINATE]
    joints = np.array([pose.joints for pose in seen]).reshape(-1, JOINT_COUNT, 3)
    names = [f"{pose.id}/{name}" for pose in seen for name in ANGLE_NAMES]
    return names, joint_angles(joints).ravel()


def joint_angles(joints: npt.ArrayLike) -> FloatArray:
    """Angles (..., 9) in radians, in the order of ANGLE_NAMES, of joints (..., 17, 3).

    NaN where a joint that it takes is unknown, and where it is not defined: a bone without length,
    a thigh or trunk along the line through the hips. Joints are in any unit and about any origin.

    Raises:
        ValueError: for joints of another shape.
    """
    joints = np.asarray(joints, np.float64)
    if joints.shape[-2:] != (JOINT_COUNT, 3):
        raise ValueError(f"joints has shape {joints.shape}, expected (..., {JOINT_COUNT}, 3)")

    ankles = joints[..., (_LEFT_ANKLE, _RIGHT_ANKLE), :].mean(axis=-2, keepdims=True)
    points = np.concatenate([joints, ankles], axis=-2)
    # All of a kind at once: a call for each takes a quarter of a millisecond.
    bones = _unit(points[..., _ENDS, :] - points[..., _STARTS, :])
    first, second = bones[..., :_COUNT, :], bones[..., _COUNT:-1, :]
    turns = _turn(first[..., :_TURNS, :], second[..., :_TURNS, :], bones[..., -1:, :])
    bends = _between(first[..., _TURNS:, :], second[..., _TURNS:, :])
    return np.concatenate([turns, bends], axis=-1)[..., _PLACES]


def _unit(vectors: FloatArray) -> FloatArray:
    lengths = _length(vectors)[..., None]
    return np.divide(vectors, lengths, out=np.full_like(vectors, np.nan), where=lengths > 0)


def _cross(first: FloatArray, second: FloatArray) -> FloatArray:
    """The cross product of vectors (..., 3); NumPy's own looks at every axis first."""
    product: FloatArray = first[..., _NEXT] * second[..., _AFTER]
    product -= first[..., _AFTER] * second[..., _NEXT]
    return product


def _length(vectors: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt((vectors * vectors).sum(-1)))


def _between(first: FloatArray, second: FloatArray) -> FloatArray:
    """The angle (...), 0..pi, between unit vectors (..., 3)."""
    return np.asarray(np.arctan2(_length(_cross(first, second)), (first * second).sum(-1)))


def _turn(first: FloatArray, second: FloatArray, axis: FloatArray) -> FloatArray:
    """The right-handed angle (...), -pi..pi, about `axis` that takes `first` to `second`."""
    # What is left of each across the axis; its length is the sine of the angle between the two.
    across = [v - (v * axis).sum(-1, keepdims=True) * axis for v in (first, second)]
    sine = (axis * _cross(*across)).sum(-1)
    turn = np.arctan2(sine, (across[0] * across[1]).sum(-1))
    defined = np.minimum(*map(_length, across)) >= _LEAST_SINE
    return np.where(defined, turn, np.nan)
