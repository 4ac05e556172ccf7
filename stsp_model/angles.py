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
from collections.abc import Iterable, Sequence
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
# The bones of knee and elbow are those whose bending eq. 16 limits.
_HINGES = {limit.name: limit for limit in ANGLES}


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

    def at(name: str) -> FloatArray:
        return joints[..., INDEX[name], :]

    down = at("pelvis") - at("thorax")
    right = at("right_hip") - at("left_hip")
    legs = (at("left_ankle") + at("right_ankle")) / 2 - at("pelvis")
    turned, bent = {"trunk": (down, legs)}, {}
    for side in ("left", "right"):
        turned[f"{side}_hip"] = down, at(f"{side}_knee") - at(f"{side}_hip")
        bent[f"{side}_shoulder"] = down, at(f"{side}_elbow") - at(f"{side}_shoulder")
        for name in (f"{side}_knee", f"{side}_elbow"):
            hinge = _HINGES[name]
            vertex = joints[..., hinge.vertex, :]
            bent[name] = vertex - joints[..., hinge.start, :], joints[..., hinge.end, :] - vertex
    # All of a kind at once: a call for each takes a quarter of a millisecond.
    turns = _turn(*_stacked(turned.values()), right[..., None, :])
    found = np.concatenate([turns, _between(*_stacked(bent.values()))], axis=-1)
    names = [*turned, *bent]
    return np.asarray(found[..., [names.index(name) for name in ANGLE_NAMES]])


def _stacked(pairs: Iterable[tuple[FloatArray, FloatArray]]) -> tuple[FloatArray, FloatArray]:
    """The first of N pairs of vectors (..., 3) as (..., N, 3), and the second."""
    first, second = zip(*pairs, strict=True)
    return np.stack(first, axis=-2), np.stack(second, axis=-2)


def _unit(vectors: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, lengths, out=np.full_like(vectors, np.nan), where=lengths > 0)


def _between(first: FloatArray, second: FloatArray) -> FloatArray:
    """The angle (...), 0..pi, between vectors (..., 3)."""
    first, second = _unit(first), _unit(second)
    sine = np.linalg.norm(np.cross(first, second), axis=-1)
    return np.asarray(np.arctan2(sine, (first * second).sum(-1)))


def _turn(first: FloatArray, second: FloatArray, axis: FloatArray) -> FloatArray:
    """The right-handed angle (...), -pi..pi, about `axis` that takes `first` to `second`."""
    first, second, axis = _unit(first), _unit(second), _unit(axis)
    # What is left of each across the axis; its length is the sine of the angle between the two.
    across = [v - (v * axis).sum(-1, keepdims=True) * axis for v in (first, second)]
    sine = (axis * np.cross(*across)).sum(-1)
    turn = np.arctan2(sine, (across[0] * across[1]).sum(-1))
    defined = np.minimum(*(np.linalg.norm(v, axis=-1) for v in across)) >= _LEAST_SINE
    return np.where(defined, turn, np.nan)
