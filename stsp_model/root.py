"""Where people stand: the place at which a sized skeleton projects onto its 2D joints.

In NumPy: for the few numbers of a frame its calls cost a third of PyTorch's.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

MIN_ROOT_JOINTS = 4  # three unknowns and something left over to judge the fit by
_MIN_SPREAD = 1e-10  # mean square of the rays from their mean: joints within about 1e-5 rad


@np.errstate(all="ignore")  # what a broken network gives becomes NaN without a warning
def solve_root(
    joints_3d: FloatArray,
    joints_2d: FloatArray,
    weights: FloatArray,
    K: FloatArray,
    covariance: FloatArray | None = None,
    height: FloatArray | None = None,
    height_variance: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Where the pelvis must be for the sized skeleton to project onto the 2D joints.

    Weighted linear least squares: joint X + t seen along the ray (a, b, 1) gives
    x + tx = a (z + tz) and y + ty = b (z + tz). The variance is that of the solution when each
    joint strays by its keypoint's covariance plus the scatter of the residuals, and, as the place
    scales with the skeleton, by the height's relative variance times the place squared.

    Args:
        joints_3d: (..., J, 3) metres from the pelvis, camera axes.
        joints_2d: (..., J, 2) pixels without distortion; NaN where unseen.
        weights: (..., J), at least 0; 0 leaves a joint out.
        K: (3, 3) camera matrix.
        covariance: (..., J, 2, 2) of the 2D joints, pixels squared; None: exact.
        height, height_variance: (...,) m and m^2 of the size given to the skeleton; None: exact.

    Returns:
        root (..., 3) m and its variance (..., 3) m^2 along the axes. NaN with fewer than
        MIN_ROOT_JOINTS joints, or where no place in front of the camera fits.
    """
    focal, centre = K[[0, 1], [0, 1]], K[:2, 2]
    used = np.isfinite(joints_2d).all(-1) & np.isfinite(joints_3d).all(-1) & (weights > 0)
    weights = np.where(used, weights, 0.0)
    solid = np.where(used[..., None], joints_3d, 0.0)
    directions = (np.where(used[..., None], joints_2d, 0.0) - centre) / focal

    # In closed form: tz is the slope of a regression of the targets tx - a tz and ty - b tz on the
    # rays, negated; tx and ty follow from where their means are.
    target = directions * solid[..., 2:] - solid[..., :2]
    total = weights.sum(-1)[..., None, None]
    share = weights[..., None] / np.where(total > 0, total, 1.0)
    mean = (share * directions).sum(-2, keepdims=True)
    spread = (share * (directions - mean) ** 2).sum((-2, -1))
    # What each target adds to the root along the three axes: (..., 3, J, 2).
    gain = np.empty((*target.shape[:-2], 3, *target.shape[-2:]))
    gain[..., 2, :, :] = share * (mean - directions) / spread[..., None, None]
    gain[..., :2, :, :] = mean[..., 0, :, None, None] * gain[..., 2:, :, :]
    gain[..., 0, :, 0] += share[..., 0]
    gain[..., 1, :, 1] += share[..., 0]
    root = (gain * target[..., None, :, :]).sum((-2, -1))

    count = used.sum(-1)
    residual = root[..., None, :2] - directions * root[..., None, 2:] - target
    scatter = (share * residual**2).sum((-2, -1)) / 2
    scatter = scatter * 2 * count / np.maximum(2 * count - 3, 1)
    noise = scatter[..., None, None, None] * np.eye(2)
    if covariance is not None:
        # Metres at the joint's depth for one pixel: the residual is depth times the ray's error.
        depth = solid[..., 2] + root[..., None, 2]
        metres = depth[..., None] / focal
        known = np.where(used[..., None, None], covariance, 0.0)
        noise = noise + metres[..., :, None] * known * metres[..., None, :]
    each = gain[..., None, :]  # (..., 3, J, 1, 2)
    variance = (each @ noise[..., None, :, :, :] * each).sum((-3, -2, -1))
    if height is not None and height_variance is not None:
        variance = variance + (height_variance / height**2)[..., None] * root**2

    # Seen in one and the same direction, joints tell no distance.
    good = ((spread > _MIN_SPREAD) & (count >= MIN_ROOT_JOINTS) & (root[..., 2] > 0))[..., None]
    return np.where(good, root, np.nan), np.where(good, variance, np.nan)
