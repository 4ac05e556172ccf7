"""The virtual camera, which is aimed at a person. Axes and pixels are those of camera.py."""

from __future__ import annotations

import torch
from torch import Tensor

from .constants import beside

_MIN_RAY_DEPTH = 0.1  # rays further than 84 degrees off the box's centre are taken as that far
# The middles of a box and of its sides, half its sides from its centre.
_MIDDLES = torch.tensor([[0.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
_DOWN = torch.tensor([0.0, 1.0, 0.0])
# (0, 1, 0) x (x, y, z) = (z, 0, -x)
_BACKWARDS, _ACROSS = torch.tensor([2, 1, 0]), torch.tensor([1.0, 0.0, -1.0])


def rays(points: Tensor, K: Tensor) -> Tensor:
    """Directions (..., N, 3) with z = 1 of pinhole pixels (..., N, 2), for K (..., 3, 3)."""
    centre = K[..., :2, 2].unsqueeze(-2)
    focal = K.flatten(-2)[..., :5:4].unsqueeze(-2)
    return torch.nn.functional.pad((points - centre) / focal, (0, 1), value=1.0)


def virtual_camera(joints_2d: Tensor, boxes: Tensor, K: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """2D joints as a camera would see them that looks straight at the box's centre.

    A person then looks alike wherever in the image, and however large, he or she is; what is lost
    by that, the size and how far up or down the camera had to look, is returned beside it.

    Args:
        joints_2d: (..., J, 2) pixels without distortion; NaN stays NaN.
        boxes: (..., 4) x0 y0 x1 y1, tight box in the same pixels, of positive size.
        K: (..., 3, 3) camera matrix.

    Returns:
        joints (..., J, 2): offsets from the box's centre on the plane at distance 1, in units of
            half the box's longer side;
        extras (..., 2): natural logarithm of that half side (about half its angle in radians), and
            the tilt of the view, radians, positive downwards;
        rotation (..., 3, 3): from the virtual to the real camera's axes. The virtual camera is
            turned, never rolled.
    """
    low, high = boxes[..., None, :2], boxes[..., None, 2:]
    corners = rays((low + high) / 2 + beside(_MIDDLES, boxes) * (high - low) / 2, K)
    ahead = corners[..., 0, :]
    forward = ahead / torch.linalg.vector_norm(ahead, dim=-1, keepdim=True)
    # Written out, down x forward and forward x that: the exported form of `cross` is 20 nodes.
    across = forward[..., beside(_BACKWARDS, boxes)] * beside(_ACROSS, boxes)
    level = torch.linalg.vector_norm(across, dim=-1, keepdim=True)
    below = beside(_DOWN, boxes) - forward[..., 1:2] * forward
    rotation = torch.stack([across / level, below / level, forward], dim=-1)

    def seen(directions: Tensor) -> Tensor:
        turned = directions @ rotation  # rows times R is R transposed times columns
        depth = turned[..., 2:].clamp_min(_MIN_RAY_DEPTH * directions.norm(dim=-1, keepdim=True))
        return turned[..., :2] / depth

    edges = seen(corners[..., 1:, :])
    extent = edges.amax(dim=-2) - edges.amin(dim=-2)
    half = extent.amax(dim=-1) / 2
    tilt = torch.atan(forward[..., 1] / level.squeeze(-1))
    joints = seen(rays(joints_2d, K)) / half[..., None, None]
    return joints, torch.stack([half.log(), tilt], dim=-1), rotation
