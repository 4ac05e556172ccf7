"""Motion capture as directions: what a motion is once the body that made it is taken away.

Every frame becomes the directions of the bones, in axes with y up, and the way of the pelvis in leg
lengths; any body can then perform it (`perform`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from stsp_model.data.bvh import BVHDataset
from stsp_model.data.errors import DataError
from stsp_model.data.rotations import rotation_matrix, swing
from stsp_model.data.samples import BoolArray, FloatArray, Motion
from stsp_model.skeleton import BONES, INDEX, JOINT_COUNT, JOINTS
from stsp_model.training.bodies import Bodies

FrameArray = npt.NDArray[np.float32]

_LIMBS = tuple(i for i, name in enumerate(JOINTS) if name.startswith(("left_", "right_")))
_BONE_TO = {JOINTS[child]: bone for bone, (_, child) in enumerate(BONES)}
# What can move as in another motion, and the bones of it; the head has axes instead.
PARTS: dict[str, tuple[int, ...]] = {
    "left_arm": (_BONE_TO["left_elbow"], _BONE_TO["left_wrist"]),
    "right_arm": (_BONE_TO["right_elbow"], _BONE_TO["right_wrist"]),
    "legs": tuple(_BONE_TO[f"{s}_{n}"] for s in ("left", "right") for n in ("knee", "ankle")),
    "head": (),
}
# What `bent` turns: the whole, what is above the pelvis, the head, each limb, and its lower half.
_UPPER = tuple(name for name in _BONE_TO if not name.endswith(("_hip", "_knee", "_ankle")))
_CHAINS: tuple[tuple[str, str, str], ...] = tuple(
    (trunk, f"{side}_{joint}", f"{side}_{end}")
    for trunk, joint, end in (("chest", "elbow", "wrist"), ("pelvis", "knee", "ankle"))
    for side in ("left", "right")
)
TURNS = 3 + 2 * len(_CHAINS)
_NEEDED = (*_LIMBS, INDEX["thorax"])
_LEAST_SPAN = 0.5  # s; what is left of a take between frames with missing joints
_BVH_HEAD = "head"  # the bone whose axes in CMU's rest pose are left, up, ahead


@dataclass(frozen=True, eq=False)
class Motions:
    """N frames of K takes, one after the other.

    directions (N, 16, 3): unit vectors of the bones, y up; of the four bones within chest and
    head only those of the shoulders mean anything.
    chest, head (N, 3, 3): rows are the axes to the left, up and forwards.
    pelvis (N, 3): leg lengths, from where the take began on the ground plane, above its lowest
    point. stamps (N,): s since its beginning.
    starts (K + 1,): first frame of each take, and N. names: K.
    """

    directions: FrameArray
    chest: FrameArray
    head: FrameArray
    pelvis: FrameArray
    stamps: FloatArray
    starts: npt.NDArray[np.int64]
    names: tuple[str, ...]

    @property
    def durations(self) -> FloatArray:
        """(K,) s."""
        return self.stamps[self.starts[1:] - 1]


def collect(datasets: Sequence[Any], shoulder: FloatArray) -> Motions:
    """All motions of data sets whose items are `Motion`, as directions.

    Args:
        shoulder: (3,) mean way from thorax to left shoulder, in the chest's axes. Captures put
            their shoulders elsewhere on the trunk; they are turned so that they lie there.

    Raises:
        DataError: if no frame has all limbs and the thorax.
    """
    parts: list[dict[str, Any]] = []
    for dataset in datasets:
        for index in range(len(dataset)):
            motion = dataset[index]
            turned = _head_axes(dataset, index)
            parts += _pieces(motion, turned, shoulder)
    if not parts:
        raise DataError("no motion has all limbs and the thorax for half a second on end")
    lengths = [len(part["stamps"]) for part in parts]
    names = ("directions", "chest", "head", "pelvis")
    arrays = {name: np.concatenate([part[name] for part in parts]).astype("f4") for name in names}
    return Motions(
        **arrays,
        stamps=np.concatenate([part["stamps"] for part in parts]),
        starts=np.concatenate([[0], np.cumsum(lengths)]),
        names=tuple(part["name"] for part in parts),
    )


def _head_axes(dataset: Any, index: int) -> FloatArray | None:
    """(T, 3, 3) axes of the head where the capture has a bone for it."""
    if not isinstance(dataset, BVHDataset):
        return None
    capture = dataset.capture(index)
    if _BVH_HEAD not in capture.names:
        return None
    turned: FloatArray = capture.rotations[:, capture.names.index(_BVH_HEAD)]
    return np.swapaxes(turned, 1, 2)


def _unit(x: FloatArray) -> FloatArray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9)


def _axes(left: FloatArray, up: FloatArray) -> FloatArray:
    """Rows (..., 3, 3) to the left, up and forwards; `up` is kept, `left` made to fit."""
    up = _unit(up)
    forwards = _unit(np.cross(left, up))
    return np.stack([np.cross(up, forwards), up, forwards], axis=-2)


def _upright(up: FloatArray) -> FloatArray:
    """(3, 3) rotation that turns direction `up` (3,) into y."""
    across = np.array([1.0, 0, 0]) if abs(up[0]) < 0.9 else np.array([0, 0, 1.0])
    z = _unit(np.cross(across, up))
    return np.stack([np.cross(up, z), up, z])


def _up(motion: Motion) -> FloatArray:
    """Which way is up, (3,); where the set does not say, as people hold their trunks on average.

    It decides what the random cameras see, and those look from many elevations.
    """
    if np.isfinite(motion.up).all():
        return motion.up
    points = motion.joints[:, [INDEX[n] for n in ("left_hip", "right_hip", "thorax")]]
    points = points[np.isfinite(points).all(axis=(1, 2))]
    if not len(points):
        return np.array([0.0, 1.0, 0.0])  # no frame of the take is of use
    return _unit(_unit(points[:, 2] - points[:, :2].mean(axis=1)).mean(axis=0))


def _pieces(motion: Motion, head: FloatArray | None, shoulder: FloatArray) -> list[dict[str, Any]]:
    turn = _upright(_up(motion))
    joints = motion.joints @ turn.T
    head = None if head is None else head @ turn.T
    known = np.isfinite(joints[:, _NEEDED]).all(axis=(1, 2))
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]])))
    pieces = []
    for start, stop in edges.reshape(-1, 2):
        stamps = motion.stamps[start:stop] - motion.stamps[start]
        if stamps[-1] >= _LEAST_SPAN:
            part = None if head is None else head[start:stop]
            piece = _directions(joints[start:stop], part, shoulder)
            pieces.append({**piece, "stamps": stamps, "name": motion.name})
    return pieces


def _directions(
    joints: FloatArray, head: FloatArray | None, shoulder: FloatArray
) -> dict[str, FloatArray]:
    def at(name: str) -> FloatArray:
        return joints[:, INDEX[name]]

    pelvis = (at("left_hip") + at("right_hip")) / 2
    trunk = at("thorax") - pelvis
    chest = _axes(at("left_shoulder") - at("right_shoulder"), trunk)
    if head is None:
        head = _face(joints, chest)
    points = joints.copy()
    points[:, INDEX["pelvis"]] = pelvis
    points[:, INDEX["spine"]] = pelvis + trunk / 2
    points[:, [INDEX["nose"], INDEX["head_top"]]] = 0  # the head's axes say more
    parents, ends = ([bone[i] for bone in BONES] for i in (0, 1))
    bones = points[:, ends] - points[:, parents]
    directions = _unit(bones)
    for side, mirror in (("left", 1.0), ("right", -1.0)):
        bone = ends.index(INDEX[f"{side}_shoulder"])
        within = np.einsum("tij,tj->ti", chest, directions[:, bone])
        turn = swing(np.median(within, axis=0), shoulder * (mirror, 1, 1))
        directions[:, bone] = np.einsum("tij,ti->tj", chest, within @ turn.T)
    leg = np.linalg.norm(
        bones[:, [ends.index(INDEX[n]) for n in ("left_knee", "left_ankle")]], axis=-1
    )
    way = pelvis - np.array([pelvis[0, 0], joints[:, _LIMBS, 1].min(), pelvis[0, 2]])
    return {
        "directions": directions,
        "chest": chest,
        "head": head,
        "pelvis": way / np.median(leg.sum(axis=1)),
    }


def _face(joints: FloatArray, chest: FloatArray) -> FloatArray:
    """Axes of the head from what there is of nose and head_top, else those of the chest."""
    top = joints[:, INDEX["head_top"]] - joints[:, INDEX["thorax"]]
    nose = joints[:, INDEX["nose"]] - joints[:, INDEX["thorax"]]
    up = np.where(np.isfinite(top), top, chest[:, 1])
    axes = _axes(chest[:, 0], up)
    seen: BoolArray = np.asarray(np.isfinite(nose).all(axis=1))
    if seen.any():
        forwards = np.where(seen[:, None], nose, axes[:, 2])
        axes = _axes(np.cross(up, forwards), up)
    return axes


@dataclass(frozen=True, eq=False)
class Moments:
    """What B clips of T moments show, (B, T, ...) of the fields of `Motions`; not quite unit."""

    directions: FrameArray
    chest: FrameArray
    head: FrameArray
    pelvis: FrameArray


def between(motions: Motions, frames: npt.NDArray[np.int64], share: FloatArray) -> Moments:
    """The motions between their frames.

    Args:
        frames: (B, T) the frame before each moment; the next one must be of the same take.
        share: (B, T) 0..1, how far on to the next frame.
    """

    def at(values: FrameArray) -> FrameArray:
        t = share.astype("f4").reshape(*share.shape, *(1,) * (values.ndim - 1))
        mixed: FrameArray = values[frames] * (1 - t) + values[frames + 1] * t
        return mixed

    return Moments(*(at(getattr(motions, field.name)) for field in fields(Moments)))


def with_part_of(part: str, moments: Moments, others: Moments, rows: BoolArray) -> Moments:
    """The same, but in the clips `rows` (B,) one of PARTS moves as in `others`, one for each row.

    Arms and head keep their way relative to the chest and legs theirs relative to the pelvis, so
    that any two motions go together.
    """
    if part == "legs":
        mine, theirs = _pelvis(moments.directions[rows]), _pelvis(others.directions)
    else:
        mine, theirs = _normal(moments.chest[rows]), _normal(others.chest)
    turn = np.swapaxes(theirs, -1, -2) @ mine  # rows of axes: from the other trunk to this one
    if part == "head":
        head = moments.head.copy()
        head[rows] = others.head @ turn
        return replace(moments, head=head)
    bones = np.array(PARTS[part])
    directions = moments.directions.copy()
    swung = directions[rows]
    swung[:, :, bones] = others.directions[:, :, bones] @ turn
    directions[rows] = swung
    return replace(moments, directions=directions)


def bent(moments: Moments, turns: FloatArray) -> Moments:
    """The same with the body, its trunk, head and limbs turned, which makes poses nobody captured.

    Each turn is about axes of what the part hangs on and stays as it is through the clip, so that
    the motion stays as smooth as it was. The way of the pelvis is left alone.

    Args:
        turns: (B, TURNS, 3) rotation vectors, radians: of the whole body (world axes), of what is
            above the pelvis, of the head, and of each limb and its lower half: left arm, right arm,
            left leg, right leg.
    """
    rotations = _rotations(turns)

    def about(axes: FrameArray, number: int) -> FrameArray:
        """(B, T, 3, 3): turns rows of vectors of the world."""
        turn = np.swapaxes(rotations[:, None, number], -1, -2)
        return np.asarray(np.swapaxes(axes, -1, -2) @ turn @ axes, np.float32)

    whole = np.swapaxes(rotations[:, None, 0], -1, -2)
    directions, chest, head = (
        np.asarray(values @ whole, np.float32)
        for values in (moments.directions, moments.chest, moments.head)
    )
    pelvis = _pelvis(directions)

    def turn_bones(names: Sequence[str], turn: FrameArray) -> None:
        bones = [_BONE_TO[name] for name in names]
        directions[:, :, bones] = directions[:, :, bones] @ turn

    trunk = about(pelvis, 1)
    turn_bones(_UPPER, trunk)
    chest = _normal(np.asarray(chest @ trunk, np.float32))
    head = np.asarray(head @ trunk @ about(chest, 2), np.float32)
    for i, (name, joint, end) in enumerate(_CHAINS):
        axes = chest if name == "chest" else pelvis
        turn_bones((joint, end), about(axes, 3 + 2 * i))
        turn_bones((end,), about(axes, 4 + 2 * i))
    return replace(moments, directions=directions, chest=chest, head=head)


def _rotations(vectors: FloatArray) -> FrameArray:
    """(..., 3, 3) of rotation vectors (..., 3), radians."""
    angle = np.linalg.norm(vectors, axis=-1, keepdims=True)
    # sin(a / 2) / a, which is 1/2 where nothing is turned.
    share = np.sinc(angle / (2 * np.pi)) / 2
    quaternion = np.concatenate([np.cos(angle / 2), share * vectors], axis=-1)
    return rotation_matrix(quaternion).astype(np.float32)


def _pelvis(directions: FrameArray) -> FrameArray:
    """(B, T, 3, 3): rows are the axes of the pelvis to the left, up and forwards."""
    left, right, up = (
        directions[:, :, _BONE_TO[name]].astype(np.float64)
        for name in ("left_hip", "right_hip", "spine")
    )
    return np.asarray(_axes(left - right, up), np.float32)


def perform(moments: Moments, bodies: Bodies) -> tuple[FrameArray, FrameArray]:
    """Let bodies, one for each clip, perform.

    Returns:
        joints (B, T, 17, 3) from the pelvis, and the pelvis (B, T, 3); shares of standing height,
        y up.
    """
    bones = _normal(moments.directions) * bodies.lengths[:, None, :, None].astype("f4")
    joints = np.zeros((*bones.shape[:2], JOINT_COUNT, 3), "f4")
    for bone, (parent, child) in enumerate(BONES):
        joints[:, :, child] = joints[:, :, parent] + bones[:, :, bone]
    # The neck turns half as far as the head does.
    neck = _placed(bodies.neck, moments.head + moments.chest)
    for name, place in (("nose", bodies.nose), ("head_top", bodies.head_top)):
        joints[:, :, INDEX[name]] = joints[:, :, INDEX["thorax"]] + neck
        joints[:, :, INDEX[name]] += _placed(place, moments.head)
    leg = (bodies.leg / bodies.height).astype("f4")
    return joints, moments.pelvis * leg[:, None, None]


def _placed(place: FloatArray, axes: FrameArray) -> FrameArray:
    """(B, T, 3): places (B, 3) in axes (B, T, 3, 3), whose rows need not have unit length."""
    way: FrameArray = np.einsum("bi,btij->btj", place.astype("f4"), _normal(axes))
    return way


def _normal(vectors: FrameArray) -> FrameArray:
    """Made to have unit length, along the last axis."""
    unit: FrameArray = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)
    return unit
