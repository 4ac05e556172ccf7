"""The scores that papers print: pure functions of predicted and true joints.

3D joints are (T, J, 3) in metres, relative to the pelvis, one person over T consecutive frames;
2D joints (T, J, 2) in pixels; arrays or tensors. `mask` (T, J) tells which joints count, all by
default; `joints` picks some by index, such as skeleton.JOINTS_14. Lengths come back in millimetres,
shares in percent, as papers print them; NaN where nothing counts. Masked-out joints may hold
anything; a joint that counts and is not finite is refused, not left out of the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .skeleton import JOINT_COUNT, TORSO

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
PCK_3D_THRESHOLD = 0.150  # metres, MPI-INF-3DHP (Mehta et al., 2017)
PCK_2D_THRESHOLD = 0.2  # of the torso
AUC_STEP = 0.005  # metres between the thresholds of the AUC


def mpjpe(
    prediction: Any, target: Any, mask: Any = None, joints: Sequence[int] | None = None
) -> float:
    """Mean per-joint position error, millimetres ("Protocol 1"; no alignment but the pelvis)."""
    prediction, target, mask = _pair(prediction, target, mask, joints, 3)
    return _mean_mm(_distance(prediction, target), mask)


def n_mpjpe(
    prediction: Any, target: Any, mask: Any = None, joints: Sequence[int] | None = None
) -> float:
    """MPJPE after the best scale of every frame, millimetres (Rhodin et al., CVPR 2018)."""
    prediction, target, mask = _pair(prediction, target, mask, joints, 3)
    size = (prediction**2).sum(axis=(1, 2))
    overlap = (prediction * target).sum(axis=(1, 2))
    scale = np.divide(overlap, size, out=np.zeros_like(size), where=size > 0)
    return _mean_mm(_distance(scale[:, None, None] * prediction, target), mask)


def pa_mpjpe(
    prediction: Any, target: Any, mask: Any = None, joints: Sequence[int] | None = None
) -> float:
    """MPJPE after the best rotation, scale and shift of every frame, millimetres ("Protocol 2").

    Orthogonal Procrustes by SVD, without reflection: a left/right swap stays an error.
    """
    prediction, target, mask = _pair(prediction, target, mask, joints, 3)
    weights = mask[..., None].astype(np.float64)
    count = np.maximum(weights.sum(axis=1, keepdims=True), 1)
    target_mean = (weights * target).sum(axis=1, keepdims=True) / count
    a = weights * (prediction - (weights * prediction).sum(axis=1, keepdims=True) / count)
    b = weights * (target - target_mean)
    u, s, vt = np.linalg.svd(np.swapaxes(a, 1, 2) @ b)
    # The least singular direction gives way where the best orthogonal matrix would mirror.
    s[:, 2] *= np.sign(np.linalg.det(u @ vt))
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    size = (a**2).sum(axis=(1, 2))
    scale = np.divide(s.sum(axis=1), size, out=np.zeros_like(size), where=size > 0)
    aligned = scale[:, None, None] * (a @ (u @ vt)) + target_mean
    return _mean_mm(_distance(aligned, target), mask)


def pck_3d(
    prediction: Any,
    target: Any,
    mask: Any = None,
    joints: Sequence[int] | None = None,
    threshold: float = PCK_3D_THRESHOLD,
) -> float:
    """Percentage of joints within `threshold` metres of the truth (150 mm by default).

    All joints that are given count, so the pelvis, if it is the origin, as right (as it does as 0
    in MPJPE).
    """
    prediction, target, mask = _pair(prediction, target, mask, joints, 3)
    return _percent(_distance(prediction, target) <= threshold, mask)


def auc_3d(
    prediction: Any, target: Any, mask: Any = None, joints: Sequence[int] | None = None
) -> float:
    """Mean of `pck_3d` over the thresholds 0, 5, ... 150 mm, percent (Mehta et al., 2017)."""
    prediction, target, mask = _pair(prediction, target, mask, joints, 3)
    distance = _distance(prediction, target)
    steps = round(PCK_3D_THRESHOLD / AUC_STEP)
    scores = [_percent(distance <= AUC_STEP * i, mask) for i in range(steps + 1)]
    return float(np.mean(scores))


def pck_2d(
    prediction: Any,
    target: Any,
    mask: Any = None,
    joints: Sequence[int] | None = None,
    threshold: float = PCK_2D_THRESHOLD,
) -> float:
    """Percentage of 2D joints within `threshold` torso lengths of the truth (PCK@0.2).

    The torso is the true one, see `torso_lengths`; frames without one do not count. All 17 joints
    must be given; `joints` picks those that are scored.
    """
    prediction, target, mask = _pair(prediction, target, mask, None, 2)
    if target.shape[1] != JOINT_COUNT:
        raise ValueError(f"target has {target.shape[1]} joints, expected {JOINT_COUNT}")
    torso = torso_lengths(target, mask)
    mask = mask & np.isfinite(torso)[:, None]
    right = _distance(prediction, target) <= threshold * np.nan_to_num(torso)[:, None]
    picked = list(range(JOINT_COUNT) if joints is None else joints)
    return _percent(right[:, picked], mask[:, picked])


def torso_lengths(joints: FloatArray, visible: BoolArray) -> FloatArray:
    """Length (N,) of the torso of 2D joints (N, 17, 2) where visible (N, 17), as PCK@0.2 takes it.

    From the right shoulder to the left hip, or from the left shoulder to the right hip where one of
    those is not visible; NaN with neither, or where they lie on one point.
    """
    torso = np.full(len(joints), np.nan)
    for a, b in reversed(TORSO):
        known = visible[:, a] & visible[:, b] & (joints[:, a] != joints[:, b]).any(axis=-1)
        torso[known] = np.linalg.norm(joints[known, a] - joints[known, b], axis=-1)
    return torso


def mpjve(
    prediction: Any, target: Any, mask: Any = None, joints: Sequence[int] | None = None
) -> float:
    """Mean per-joint velocity error, millimetres per frame (Pavllo et al., CVPR 2019)."""
    prediction, target, mask = _pair(prediction, target, mask, joints, 3)
    error = np.diff(prediction - target, axis=0)
    return _mean_mm(np.linalg.norm(error, axis=-1), mask[1:] & mask[:-1])


def acceleration_error(
    prediction: Any,
    target: Any,
    mask: Any = None,
    joints: Sequence[int] | None = None,
    fps: float | None = None,
) -> float:
    """Mean distance of accelerations, mm/frame^2, or m/s^2 where `fps` is given."""
    prediction, target, mask = _pair(prediction, target, mask, joints, 3)
    error, mask = _acceleration(prediction - target, mask)
    return _mean_mm(np.linalg.norm(error, axis=-1), mask) * _per_second(fps)


def acceleration_std(
    prediction: Any,
    mask: Any = None,
    joints: Sequence[int] | None = None,
    fps: float | None = None,
) -> float:
    """Standard deviation of acceleration, mm/frame^2, or m/s^2 where `fps` is given.

    The root of the mean square distance, over frames and joints, of a joint's acceleration from
    its own mean over time: how shaky a motion is, without need of the truth.
    """
    prediction, _, mask = _pair(prediction, prediction, mask, joints, 3)
    acceleration, mask = _acceleration(prediction, mask)
    if not mask.any():
        return float("nan")
    weights = mask[..., None]
    count = np.maximum(weights.sum(axis=0), 1)
    centred = acceleration - (weights * acceleration).sum(axis=0) / count
    square = (centred**2).sum(axis=-1)[mask].mean()
    return float(np.sqrt(square)) * 1000 * _per_second(fps)


def _array(values: Any) -> npt.NDArray[Any]:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double().numpy()
    return np.asarray(values)


def _pair(
    prediction: Any, target: Any, mask: Any, joints: Sequence[int] | None, dimensions: int
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Both as float64 with masked-out joints set to zero, and the mask; of the picked joints."""
    target = _array(target).astype(np.float64)
    prediction = _array(prediction).astype(np.float64)
    if target.ndim != 3 or target.shape[-1] != dimensions:
        raise ValueError(f"target has shape {target.shape}, expected (T, J, {dimensions})")
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction has shape {prediction.shape}, expected that of the target, {target.shape}"
        )
    known = np.ones(target.shape[:2], bool) if mask is None else _array(mask).astype(bool)
    if known.shape != target.shape[:2]:
        raise ValueError(f"mask has shape {known.shape}, expected {target.shape[:2]}")
    if joints is not None:
        picked = list(joints)
        prediction, target, known = prediction[:, picked], target[:, picked], known[:, picked]
    for name, values in (("prediction", prediction), ("target", target)):
        bad = known & ~np.isfinite(values).all(axis=-1)
        if bad.any():
            frame, joint = np.argwhere(bad)[0]
            raise ValueError(
                f"{name} is not finite at frame {frame}, joint {joint}, which the mask admits"
            )
    weights = known[..., None]
    return np.where(weights, prediction, 0.0), np.where(weights, target, 0.0), known


def _distance(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.norm(a - b, axis=-1))


def _mean_mm(metres: FloatArray, mask: BoolArray) -> float:
    return float(metres[mask].mean()) * 1000 if mask.any() else float("nan")


def _percent(right: BoolArray, mask: BoolArray) -> float:
    return float(right[mask].mean()) * 100 if mask.any() else float("nan")


def _acceleration(joints: FloatArray, mask: BoolArray) -> tuple[FloatArray, BoolArray]:
    return np.diff(joints, n=2, axis=0), mask[2:] & mask[1:-1] & mask[:-2]


def _per_second(fps: float | None) -> float:
    if fps is None:
        return 1.0
    if not (np.isfinite(fps) and fps > 0):
        raise ValueError(f"fps is {fps}, expected frames per second above 0")
    return fps**2 / 1000
