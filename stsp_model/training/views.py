"""Random cameras for stage lift: where they stand, how they move, and what they see.

All are drawn from uniform and normal numbers, so a batch of clips is one vectorised computation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stsp_model.data.samples import FloatArray
from stsp_model.training.config_3d import Cameras

FrameArray = npt.NDArray[np.float32]

# Images of common cameras, px; the network sees nothing of it but K and what lies outside.
SIZES = np.array([(1280, 720), (640, 480), (1920, 1080), (720, 1280), (640, 640)], np.float64)
_NEAREST = 0.35  # standing heights; no joint comes closer to the camera
_SPEED = 0.7  # m/s, at most, of a camera on a robot
UNIFORM, NORMAL = 9, 4  # numbers that `random_views` takes


@dataclass(frozen=True, eq=False)
class Views:
    """What B cameras see over T frames.

    K (B, 3, 3); size (B, 2) px; rotation (B, T, 3, 3) from the world (y up) to the camera's axes;
    position (B, T, 3) in the world, standing heights of the person.
    """

    K: FloatArray
    size: FloatArray
    rotation: FrameArray
    position: FrameArray


def random_views(
    settings: Cameras,
    uniform: FloatArray,
    normal: FloatArray,
    pelvis: FrameArray,
    reach: FrameArray,
    stamps: FloatArray,
    height: FloatArray,
) -> Views:
    """A random camera per clip, aimed at the person.

    Args:
        uniform: (B, UNIFORM) in 0..1; normal: (B, NORMAL).
        pelvis: (B, T, 3) in the world, y up, standing heights; reach: (B,) furthest of a joint
            from the pelvis.
        stamps: (B, T) s from the clip's beginning; height: (B,) m.
    """

    def within(column: int, limits: tuple[float, ...]) -> FloatArray:
        return limits[0] + (limits[1] - limits[0]) * uniform[:, column]

    size = SIZES[np.minimum((uniform[:, 0] * len(SIZES)).astype(int), len(SIZES) - 1)]
    field = np.radians(within(1, settings.field_of_view_deg))
    focal = size.max(axis=1) / 2 / np.tan(field / 2)
    elevation = np.radians(within(2, settings.elevation_deg))
    azimuth = 2 * np.pi * uniform[:, 3]
    # Shares are drawn evenly in their logarithm: far children are as many as near ones.
    share = np.exp(within(4, tuple(np.log(settings.share))))
    distance = np.maximum(focal / (share * size[:, 1]), reach + _NEAREST)

    moving = uniform[:, 5] < settings.moving_share
    follows = np.where(moving, uniform[:, 6], 0.0)[:, None, None]
    mean = pelvis.mean(axis=1, keepdims=True)
    target = mean + follows * (pelvis - mean)
    way = np.stack([normal[:, 0], 0.2 * normal[:, 1], normal[:, 2]], axis=1)
    way *= (moving * _SPEED / height / np.maximum(np.linalg.norm(way, axis=1), 1.0))[:, None]
    drift = way[:, None] * (stamps - stamps.mean(axis=1, keepdims=True))[..., None]
    level = np.cos(elevation)
    out = np.stack([level * np.sin(azimuth), np.sin(elevation), level * np.cos(azimuth)], axis=1)
    # Further back, until nobody comes too close at any time.
    place = mean + out[:, None] * distance[:, None, None] + drift
    along = np.einsum("btj,bj->bt", pelvis - place, -out)
    lacking = np.maximum((reach + _NEAREST)[:, None] - along, 0).max(axis=1)
    place = place + out[:, None] * lacking[:, None, None]

    rotation = _look(target - place)
    # Aimed beside the person, by a share of half the image; then rolled.
    aside = settings.off_centre * (2 * uniform[:, 7:9] - 1) * size / 2 / focal[:, None]
    extra = _turn(1, np.arctan(aside[:, 0])) @ _turn(0, -np.arctan(aside[:, 1]))
    extra = _turn(2, np.radians(settings.roll_deg) * normal[:, 3]) @ extra
    K = np.zeros((len(size), 3, 3))
    K[:, 0, 0] = K[:, 1, 1] = focal
    K[:, :2, 2] = (size - 1) / 2
    K[:, 2, 2] = 1
    return Views(K, size, (extra[:, None] @ rotation).astype("f4"), place.astype("f4"))


def _look(way: FloatArray) -> FloatArray:
    """(..., 3, 3) rotation from the world, y up, to a level camera that looks along `way`."""
    z = way / np.linalg.norm(way, axis=-1, keepdims=True)
    x = np.cross(z, np.broadcast_to([0.0, 1.0, 0.0], z.shape))
    x = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9)
    return np.stack([x, np.cross(z, x), z], axis=-2)


def _turn(axis: int, angle: FloatArray) -> FloatArray:
    """(B, 3, 3) rotations by angles (B,) about x, y or z."""
    turn = np.tile(np.eye(3), (len(angle), 1, 1))
    a, b = [(1, 2), (2, 0), (0, 1)][axis]
    turn[:, a, a] = turn[:, b, b] = np.cos(angle)
    turn[:, a, b], turn[:, b, a] = -np.sin(angle), np.sin(angle)
    return turn


def project(points: FrameArray, K: FloatArray) -> FrameArray:
    """(B, T, J, 2) px of points (B, T, J, 3) in the camera's axes."""
    focal = K[:, 0, 0].astype("f4")[:, None, None, None]
    centre = K[:, :2, 2].astype("f4")[:, None, None]
    flat: FrameArray = points[..., :2] / np.maximum(points[..., 2:], 1e-3) * focal + centre
    return flat
