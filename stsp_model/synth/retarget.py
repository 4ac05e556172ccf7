"""Motion capture onto a child's body: world rotations, contact with the ground, pace.

A segment of the child turns as the captured bone does, after a constant turn that lays the child's
rest pose over the capture's. Lengths are the child's own. Ways shrink with the leg and time with
the root of it (equal Froude numbers), so that jumps obey the one gravity there is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

from stsp_model.data.bvh_file import Capture
from stsp_model.data.rotations import swing
from stsp_model.skeleton import BONES, JOINTS
from stsp_model.synth.body import SEGMENT, SEGMENTS, Body, anatomy, joints, pose, skin
from stsp_model.synth.rigs import CMU_RIG, Rig

FloatArray = npt.NDArray[np.float64]

_FLIGHT = 1.0  # s; whoever stays off the ground for longer stands on something: that is the ground
_SETTLING = 0.3  # s, over which a correction of the height is spread
_SOLE_STRIDE = 12  # every how many vertices of the body are looked at for the lowest one
# Alignments that lay a segment's line over the capture's: from the segment's own pivot to this one.
_LINES = MappingProxyType(
    {
        f"{side}_{upper}": f"{side}_{lower}"
        for side in ("left", "right")
        for upper, lower in (
            ("thigh", "shin"),
            ("shin", "foot"),
            ("upper_arm", "forearm"),
            ("forearm", "hand"),
        )
    }
)
# What can move as in another motion: the segment that it hangs on, and its own.
LIMBS: Mapping[str, tuple[int, list[int]]] = MappingProxyType(
    {
        limb: (SEGMENT[trunk], [SEGMENT[f"{side}_{part}"] for side in sides for part in parts])
        for limb, trunk, sides, parts in (
            ("left_arm", "chest", ("left",), ("collar", "upper_arm", "forearm", "hand")),
            ("right_arm", "chest", ("right",), ("collar", "upper_arm", "forearm", "hand")),
            ("legs", "hips", ("left", "right"), ("thigh", "shin", "foot")),
        )
    }
)


@dataclass(frozen=True, eq=False)
class Performance:
    """A child's body in motion; T frames at `stamps` (s).

    `rotations` (T, S, 3, 3) and `root` (T, 3) are what `body.pose` takes; the ground is z = 0.
    """

    rotations: FloatArray
    root: FloatArray
    stamps: FloatArray


def blend(a: FloatArray, b: FloatArray, t: npt.ArrayLike) -> FloatArray:
    """Rotations (..., 3, 3) on the shortest way from `a` to `b`, at `t` (...,) from 0 to 1."""
    turn = np.swapaxes(a, -1, -2) @ b
    vector = 0.5 * np.stack(
        [
            turn[..., 2, 1] - turn[..., 1, 2],
            turn[..., 0, 2] - turn[..., 2, 0],
            turn[..., 1, 0] - turn[..., 0, 1],
        ],
        axis=-1,
    )
    sine = np.linalg.norm(vector, axis=-1)
    angle = np.arctan2(sine, (np.trace(turn, axis1=-2, axis2=-1) - 1) / 2)
    axis = vector / np.maximum(sine, 1e-12)[..., None]
    part = (angle * np.asarray(t))[..., None, None]
    zero = np.zeros_like(axis[..., 0])
    x, y, z = np.moveaxis(axis, -1, 0)
    skew = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1)
    skew = skew.reshape(*axis.shape[:-1], 3, 3)
    return a @ (np.eye(3) + np.sin(part) * skew + (1 - np.cos(part)) * skew @ skew)


def _rest_places(capture: Capture, rig: Rig) -> dict[str, FloatArray]:
    """Where a capture's joints are in its rest pose, m along the body's axes."""
    places: list[FloatArray] = []
    for offset, parent in zip(capture.offsets, capture.parents, strict=True):
        places.append(np.zeros(3) if parent < 0 else places[parent] + rig.axes @ offset)
    return dict(zip(capture.names, places, strict=True))


def _alignments(capture: Capture, body: Body, rig: Rig) -> FloatArray:
    """(S, 3, 3): lays the child's rest pose over the capture's, limb after limb."""
    rest = _rest_places(capture, rig)
    result = np.tile(np.eye(3), (len(SEGMENTS), 1, 1))
    for segment, end in _LINES.items():
        # What the segment above turned by comes first, so that no limb twists against the last.
        above = segment.replace("shin", "thigh").replace("forearm", "upper_arm")
        line = result[SEGMENT[above]] @ (body.pivots[SEGMENT[end]] - body.pivots[SEGMENT[segment]])
        captured = rest[rig.place(end)] - rest[rig.place(segment)]
        result[SEGMENT[segment]] = swing(line, captured) @ result[SEGMENT[above]]

    def between_hips(place: Callable[[str], FloatArray]) -> FloatArray:
        return (place("left_thigh") + place("right_thigh")) / 2

    trunk = swing(
        body.pivots[SEGMENT["neck"]] - between_hips(lambda name: body.pivots[SEGMENT[name]]),
        rest[rig.place("neck")] - between_hips(lambda name: rest[rig.place(name)]),
    )
    # The shoulders' line is no limb: collar bones keep the way they lie in the child's own chest.
    for segment in ("abdomen", "ribs", "chest", "left_collar", "right_collar"):
        result[SEGMENT[segment]] = trunk
    for side in ("left", "right"):
        result[SEGMENT[f"{side}_hand"]] = result[SEGMENT[f"{side}_forearm"]]
    return result


def _floor(lowest: FloatArray, fps: float) -> FloatArray:
    """The ground under a capture (T,), never above `lowest` (T,): what was touched around then."""
    reach = max(1, round(_FLIGHT / 2 * fps))
    padded = np.pad(lowest, 2 * reach, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    touched = windows.min(axis=1)
    return np.lib.stride_tricks.sliding_window_view(touched, 2 * reach + 1).mean(axis=1)


def _smooth(values: FloatArray, fps: float) -> FloatArray:
    """Values (T,) averaged under a Hann window of `_SETTLING`."""
    half = max(1, round(_SETTLING / 2 * fps))
    window = np.hanning(2 * half + 3)[1:-1]
    return np.convolve(np.pad(values, half, mode="edge"), window / window.sum(), mode="valid")


def _clearance(capture: Capture, rig: Rig) -> FloatArray:
    """(T,) m, how far whoever was captured is off the ground."""
    index = {name: i for i, name in enumerate(capture.names)}
    used = [name for name in rig.radii if name in index]
    height = capture.positions[:, [index[name] for name in used]] @ rig.axes[2]
    lowest = (height - np.array([rig.radii[name] for name in used])).min(axis=1)
    return lowest - _floor(lowest, capture.fps)


def _lowest(body: Body, transforms: FloatArray) -> FloatArray:
    """(T,) m, the height of the lowest point of a posed body."""
    surface = np.unique(anatomy().faces["body"])[::_SOLE_STRIDE]
    return np.concatenate(
        [
            skin(body.vertices[surface], anatomy().weights[surface], part)[..., 2].min(axis=1)
            for part in np.array_split(transforms, math.ceil(len(transforms) / 256))
        ]
    )


def retarget(capture: Capture, body: Body, rig: Rig = CMU_RIG) -> Performance:
    """Let a child's body perform a captured motion.

    The hips' way over the ground and every height above it are scaled by the ratio of the legs,
    time by its root. The lowest point of the body is as far above the ground as in the capture.

    Args:
        capture: T frames.
        body: whose rest pose and lengths count.
        rig: of the capture.

    Raises:
        ValueError: if the capture lacks a joint of the rig.
    """
    index = {name: i for i, name in enumerate(capture.names)}
    lacking = {name for names in rig.bones.values() for name in names} - index.keys()
    if lacking:
        raise ValueError(
            f"capture lacks the joints {', '.join(sorted(lacking))} of its rig; "
            f"it has {', '.join(capture.names)}"
        )
    aligned = _alignments(capture, body, rig)
    rotations = np.empty((len(capture.rotations), len(SEGMENTS), 3, 3))
    for segment, names in rig.bones.items():
        turn = rig.axes @ capture.rotations[:, index[names[0]]] @ rig.axes.T
        if len(names) == 2:
            other = rig.axes @ capture.rotations[:, index[names[1]]] @ rig.axes.T
            turn = blend(turn, other, 0.5)
        rotations[:, SEGMENT[segment]] = turn @ aligned[SEGMENT[segment]]

    scale = body.leg / captured_leg(capture, rig)
    hips = [rig.place(f"{side}_thigh") for side in ("left", "right")]
    pelvis = capture.positions[:, [index[name] for name in hips]].mean(axis=1) @ rig.axes.T
    still = pose(body, rotations, np.zeros((len(rotations), 3)))
    own = skin(body.pivots, np.eye(len(SEGMENTS), dtype=np.float32), still)
    own_pelvis = own[:, [SEGMENT["left_thigh"], SEGMENT["right_thigh"]]].mean(axis=1)
    root = scale * (pelvis - pelvis[0]) - own_pelvis
    # What lifts or lowers the child against the scaled capture changes in jerks, as contact goes
    # from heel to toe; smoothed, its soles stray a centimetre from the ground instead.
    lift = scale * _clearance(capture, rig) - _lowest(body, still) - root[:, 2]
    root[:, 2] += _smooth(lift, capture.fps)
    stamps = np.arange(len(root)) / capture.fps * math.sqrt(scale)
    return Performance(rotations, root, stamps)


def with_limbs_of(performance: Performance, others: Mapping[str, Performance]) -> Performance:
    """The performance, with limbs that move as in others.

    Arms keep their way relative to the chest and legs theirs relative to the hips, so that any two
    motions go together. Heights are left as they were: see `grounded`.

    Args:
        performance: T frames.
        others: by limb, one of LIMBS: T frames of the same body at the same stamps.
    """
    rotations = performance.rotations.copy()
    for limb, other in others.items():
        trunk, segments = LIMBS[limb]
        turn = performance.rotations[:, trunk] @ np.swapaxes(other.rotations[:, trunk], -1, -2)
        rotations[:, segments] = turn[:, None] @ other.rotations[:, segments]
    return replace(performance, rotations=rotations)


def tumbling(performance: Performance, axis: float, start: float, speed: float) -> Performance:
    """The performance turned about a level axis through the hips, as in a cartwheel or somersault.

    Heights are left as they were: see `grounded`.

    Args:
        axis: radians from x, in the plane of the ground.
        start: radians, of the first frame.
        speed: radians/s.
    """
    along = np.array([math.cos(axis), math.sin(axis), 0.0])
    angles = start + speed * (performance.stamps - performance.stamps[0])
    turns = Rotation.from_rotvec(angles[:, None] * along).as_matrix()
    return replace(performance, rotations=turns[:, None] @ performance.rotations)


def grounded(changed: Performance, performance: Performance, body: Body) -> Performance:
    """A changed performance, its lowest point as far above the ground as it was before.

    Args:
        changed, performance: T frames at the same even stamps.
    """
    before, after = (_lowest(body, pose(body, p.rotations, p.root)) for p in (performance, changed))
    root = changed.root.copy()
    fps = (len(root) - 1) / (changed.stamps[-1] - changed.stamps[0])
    root[:, 2] += _smooth(before - after, fps)
    return replace(changed, root=root)


def captured_leg(capture: Capture, rig: Rig = CMU_RIG) -> float:
    """m from the hip over the knee to the ankle of a capture's skeleton."""
    rest = _rest_places(capture, rig)
    hip, knee, ankle = (rest[rig.place(f"left_{part}")] for part in ("thigh", "shin", "foot"))
    return float(np.linalg.norm(hip - knee) + np.linalg.norm(knee - ankle))


def resample(performance: Performance, stamps: npt.ArrayLike) -> Performance:
    """The performance at other times (s), which must lie within its own, of at least two frames."""
    stamps = np.asarray(stamps, dtype=np.float64)
    first, last = performance.stamps[[0, -1]]
    if stamps.min() < first - 1e-9 or stamps.max() > last + 1e-9:
        raise ValueError(
            f"stamps go from {stamps.min():.3f} to {stamps.max():.3f} s, "
            f"expected them within {first:.3f} to {last:.3f} s"
        )
    # Cubic, because straight lines between captured frames would move every joint in jerks.
    frames = len(performance.stamps)
    together = np.concatenate([performance.rotations.reshape(frames, -1), performance.root], axis=1)
    values = CubicSpline(performance.stamps, together)(stamps)
    left, _, right = np.linalg.svd(values[:, :-3].reshape(len(stamps), -1, 3, 3))
    return Performance(left @ right, values[:, -3:], stamps)


def angle_errors(
    capture: Capture, captured_joints: FloatArray, body: Body, rig: Rig = CMU_RIG
) -> dict[str, FloatArray]:
    """Angles (T,) in degrees between each bone of the retargeted child and of the capture.

    Args:
        captured_joints: (T, 17, 3) of the capture, NaN where it has none; bones with NaN are
            left out.

    Returns:
        by bone, called "parent-child".
    """
    performance = retarget(capture, body, rig)
    own = joints(body, pose(body, performance.rotations, performance.root))
    source = captured_joints @ rig.axes.T
    result = {}
    for parent, child in BONES:
        a, b = own[:, child] - own[:, parent], source[:, child] - source[:, parent]
        if not np.isfinite(b).all():
            continue
        across = np.linalg.norm(np.cross(a, b), axis=1)
        angle = np.degrees(np.arctan2(across, np.einsum("ti,ti->t", a, b)))
        result[f"{JOINTS[parent]}-{JOINTS[child]}"] = angle
    return result
