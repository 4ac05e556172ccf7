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

import numpy as np
import numpy.typing as npt

from .pose import Pose, TrackingState
from .skeleton import ANGLES, INDEX, JOINT_COUNT

FloatArray = npt.NDArray[np.float64]
_Bone = tuple[int, int]
_Vector = tuple[float, float, float]

ANGLE_NAMES: tuple[str, ...] = (
    *("right_hip", "right_knee", "left_hip", "left_knee", "trunk"),
    *("left_shoulder", "left_elbow", "right_shoulder", "right_elbow"),
)
_MOST_COSINE = math.cos(math.radians(10))  # between a direction and the axis it turns about
_LEFT_ANKLE, _RIGHT_ANKLE = INDEX["left_ankle"], INDEX["right_ankle"]
_AXIS = INDEX["left_hip"], INDEX["right_hip"]


def _pairs() -> list[tuple[_Bone, _Bone, bool]]:
    """The two bones of each of ANGLE_NAMES, and whether one turns about the axis of the hips.

    A bone is where it starts and where it ends; point JOINT_COUNT is the middle of the ankles.
    """
    down = INDEX["thorax"], INDEX["pelvis"]
    pairs = {"trunk": (down, (INDEX["pelvis"], JOINT_COUNT), True)}
    for side in ("left", "right"):
        pairs[f"{side}_hip"] = down, (INDEX[f"{side}_hip"], INDEX[f"{side}_knee"]), True
        pairs[f"{side}_shoulder"] = down, (INDEX[f"{side}_shoulder"], INDEX[f"{side}_elbow"]), False
    # The bones of knee and elbow are those whose bending eq. 16 limits.
    for limit in (one for one in ANGLES if one.name.endswith(("_knee", "_elbow"))):
        pairs[limit.name] = (limit.start, limit.vertex), (limit.vertex, limit.end), False
    return [pairs[name] for name in ANGLE_NAMES]


_PAIRS = _pairs()
_BONES = {_AXIS, *(bone for *pair, _ in _PAIRS for bone in pair)}


def named_angles(poses: Sequence[Pose]) -> tuple[list[str], FloatArray]:
    """Names (N,), `<id>/left_knee` and so on, and angles (N,) in radians of everyone seen.

    Unknown angles are NaN; who is lost has none.
    """
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

    # In plain numbers: for one body NumPy's calls take four times as long.
    bodies = joints.reshape(-1, JOINT_COUNT, 3).tolist()
    angles = np.array([_angles_of(body) for body in bodies], np.float64)
    return angles.reshape(*joints.shape[:-2], len(ANGLE_NAMES))


def _angles_of(joints: list[list[float]]) -> list[float]:
    left, right = joints[_LEFT_ANKLE], joints[_RIGHT_ANKLE]
    points = [*joints, [(a + b) / 2 for a, b in zip(left, right, strict=True)]]
    bones = {(start, end): _direction(points[start], points[end]) for start, end in _BONES}
    axis = bones[_AXIS]
    return [
        _turn(bones[first], bones[second], axis) if turns else _bend(bones[first], bones[second])
        for first, second, turns in _PAIRS
    ]


def _direction(start: list[float], end: list[float]) -> _Vector:
    """The unit vector from one point to another; NaN if they are the same."""
    x, y, z = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    length = math.sqrt(x * x + y * y + z * z) or math.nan
    return x / length, y / length, z / length


def _dot(first: _Vector, second: _Vector) -> float:
    return first[0] * second[0] + first[1] * second[1] + first[2] * second[2]


def _cross(first: _Vector, second: _Vector) -> _Vector:
    (a, b, c), (x, y, z) = first, second
    return b * z - c * y, c * x - a * z, a * y - b * x


def _bend(first: _Vector, second: _Vector) -> float:
    """The angle, 0..pi, between unit vectors."""
    across = _cross(first, second)
    return math.atan2(math.sqrt(_dot(across, across)), _dot(first, second))


def _turn(first: _Vector, second: _Vector, axis: _Vector) -> float:
    """The right-handed angle, -pi..pi, about `axis` that takes one unit vector to another."""
    along, other = _dot(first, axis), _dot(second, axis)
    if abs(along) > _MOST_COSINE or abs(other) > _MOST_COSINE:
        return math.nan
    # Between what is left of each across the axis.
    return math.atan2(_dot(axis, _cross(first, second)), _dot(first, second) - along * other)
