"""Rotations as the data sets write them."""

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
