"""Rotations: of quaternions, as data sets write them, and between directions."""

from __future__ import annotations

import numpy as np

from stsp_model.data.samples import FloatArray


def rotation_matrix(quaternion: FloatArray) -> FloatArray:
    """(..., 3, 3) of quaternions (..., 4) w x y z, normalised first; NaN of one without length."""
    quaternion = np.asarray(quaternion, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        unit = quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)
    w, x, y, z = np.moveaxis(unit, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def swing(start: FloatArray, end: FloatArray) -> FloatArray:
    """The smallest rotation (3, 3) that turns direction `start` (3,) into `end` (3,).

    The identity where one of them has no length.
    """
    a, b = (way / max(float(np.linalg.norm(way)), 1e-12) for way in (start, end))
    axis, cosine = np.cross(a, b), float(a @ b)
    if cosine < -1 + 1e-9:  # opposite: half a turn about anything at right angles
        across = np.cross(a, [1.0, 0, 0] if abs(a[0]) < 0.9 else [0, 1.0, 0])
        across /= np.linalg.norm(across)
        return 2 * np.outer(across, across) - np.eye(3)
    skew = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + skew + skew @ skew / (1 + cosine)
