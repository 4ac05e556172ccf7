"""Augmentation of images for the keypoint module: what sport and cameras do to pictures of people.

Geometry is one affine map from the image to the crop, so that pixels are sampled once. Without any
change it is the crop of `stsp_model.crop`.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from stsp_model.crop import BORDER_BGR, REDUCE_FROM, crop_box
from stsp_model.epe import REFERENCE_INTERVAL, motion_saliency
from stsp_model.hrnet import STRIDE
from stsp_model.skeleton import FLIP
from stsp_model.training.config import Augmentation, Look

Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

MOSTLY_WITHIN_DEG = 40.0  # rotation beyond this only where any angle is drawn
_KEPT_SHARE = (0.4, 0.8)  # of the person's box, when truncated
_LEAST_DEPTH = 0.01  # of a ray before the camera that took the image, if 1 before the turned one
_FAR_AWAY = 1e4  # pixels


def crop_matrix(
    box: FloatArray, side: int, turn: float = 0.0, flip: bool = False
) -> npt.NDArray[np.float64]:
    """Affine map (2, 3) from pixels of the image to those of a crop.

    Args:
        box: (4,) square part of the image, before it is turned about its centre.
        side: of the crop, pixels.
        turn: radians, clockwise as seen in the picture.
        flip: mirrored left to right after that.
    """
    centre = (box[:2] + box[2:]) / 2
    scale = side / (box[2] - box[0])
    cosine, sine = scale * math.cos(turn), scale * math.sin(turn)
    linear = np.array([[cosine, -sine], [sine, cosine]])
    if flip:
        linear[0] *= -1
    shift = side / 2 - 0.5 - linear @ centre
    return np.concatenate([linear, shift[:, None]], axis=1)


def random_matrix(
    rng: np.random.Generator, box: FloatArray, side: int, settings: Augmentation
) -> tuple[npt.NDArray[np.float64], bool]:
    """A random `crop_matrix` for a person's tight box (4,), and whether it mirrors."""
    if rng.random() < settings.truncate:
        box = _part(rng, box)
    square = crop_box(box, (side, side))
    centre, half = (square[:2] + square[2:]) / 2, (square[2] - square[0]) / 2
    half *= settings.scale ** rng.uniform(-1, 1)
    centre = centre + rng.uniform(-settings.shift, settings.shift, 2) * 2 * half
    turn = random_turn(rng, settings.rotation_deg, settings.any_rotation)
    flip = bool(rng.random() < settings.flip)
    return crop_matrix(np.concatenate([centre - half, centre + half]), side, turn, flip), flip


def random_turn(rng: np.random.Generator, rotation_deg: float, any_rotation: float) -> float:
    """A random angle in the picture's plane, radians; see `Augmentation`."""
    if rng.random() < any_rotation:
        return rng.uniform(-math.pi, math.pi)
    limit = math.radians(MOSTLY_WITHIN_DEG)
    return float(np.clip(rng.normal(0, math.radians(rotation_deg)), -limit, limit))


def _part(rng: np.random.Generator, box: FloatArray) -> FloatArray:
    """A piece of a box that goes up to one of its edges: what a picture's border leaves."""
    part = box.copy()
    edge = int(rng.integers(4))
    lost = (1 - rng.uniform(*_KEPT_SHARE)) * (box[2:] - box[:2])[edge % 2]
    part[edge] += lost if edge < 2 else -lost
    return part


def move_points(
    points: FloatArray, matrix: npt.NDArray[np.float64], flip: bool = False
) -> FloatArray:
    """Points (17, 2) under an affine map (2, 3), left and right exchanged if it mirrors."""
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    return moved[list(FLIP)] if flip else moved


def warp(image: Image, matrix: npt.NDArray[np.float64], size: tuple[int, int]) -> Image:
    """The image (H, W, 3) under an affine map, cut to `size` (width, height), border filled."""
    image, block = _reduced(image, 1 / math.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if block > 1:
        matrix = matrix.copy()
        matrix[:, 2] += matrix[:, :2] @ np.full(2, (block - 1) / 2)
        matrix[:, :2] *= block
    cut: Any = cv2.warpAffine(
        image,
        matrix,
        size,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=BORDER_BGR,
    )
    return cut


def warp_turned(image: Image, homography: npt.NDArray[np.float64], side: int) -> Image:
    """What a turned camera sees of an image (H, W, 3), cut to a square, border filled.

    Args:
        homography: (3, 3) from pixels of the image to those of the cut, with the depth of each ray
            as third coordinate: positive before either camera.
        side: of the cut, pixels.
    """
    back = np.linalg.inv(homography)
    y, x = np.mgrid[:side, :side].astype(np.float64)
    rays = np.einsum("ij,jyx->iyx", back, np.stack([x, y, np.ones_like(x)]))
    depth = np.maximum(rays[2], _LEAST_DEPTH)
    # How many pixels of the image one of the cut's middle covers.
    shrink = math.sqrt(abs(np.linalg.det(back)) / depth[side // 2, side // 2] ** 3)
    image, block = _reduced(image, shrink)
    places = ((rays[:2] / depth + 0.5) / block - 0.5).astype(np.float32)
    places[:, rays[2] <= _LEAST_DEPTH] = -_FAR_AWAY  # behind the camera that took the image
    cut: Any = cv2.remap(
        image,
        places[0],
        places[1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=BORDER_BGR,
    )
    return cut


def _reduced(image: Image, shrink: float) -> tuple[Image, int]:
    """The image with whole blocks of pixels averaged, and how long these are.

    So what is left of a `shrink` is at most a factor of two, which bilinear sampling can do.
    """
    block = int(shrink) if shrink > REDUCE_FROM else 1
    block = min(block, *image.shape[:2])
    if block == 1:
        return image, 1
    rows, columns = (length // block for length in image.shape[:2])
    part = image[: rows * block, : columns * block]
    small = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), block


def occlude(rng: np.random.Generator, crop: Image) -> Image:
    """One to three things in front of the person; the joints behind them are still asked for."""
    crop = crop.copy()
    extent = np.array(crop.shape[1::-1])
    for _ in range(int(rng.integers(1, 4))):
        width, height = (int(x) for x in rng.uniform(0.08, 0.35, 2) * extent)
        x, y = (int(x) for x in rng.uniform(-0.1, 1, 2) * extent)
        area = (slice(max(y, 0), y + height), slice(max(x, 0), x + width))
        rows, columns = crop[area].shape[:2]
        if not rows or not columns:
            continue
        if rng.random() < 0.5:  # a piece of the picture itself
            left, top = rng.integers(extent - (columns, rows) + 1)
            crop[area] = crop[top : top + rows, left : left + columns].copy()
        else:
            noise = rng.normal(rng.uniform(0, 255, 3), rng.uniform(0, 40), (rows, columns, 3))
            patch = np.clip(noise, 0, 255).astype(np.uint8)
            if rng.random() < 0.5:
                inside = np.zeros((rows, columns), np.uint8)
                middle, axes = (columns // 2, rows // 2), (max(columns // 2, 1), max(rows // 2, 1))
                cv2.ellipse(inside, middle, axes, 0, 0, 360, 1, -1)
                patch = np.where(inside[..., None] > 0, patch, crop[area])
            crop[area] = patch
    return crop


def spoil(rng: np.random.Generator, crop: Image, settings: Augmentation) -> Image:
    """Things in front and `change_look`, each with its probability."""
    if rng.random() < settings.occlude:
        crop = occlude(rng, crop)
    return change_look(rng, crop, settings.look)


def change_look(rng: np.random.Generator, crop: Image, settings: Look) -> Image:
    """Blur, colour, noise and compression, each with its probability."""
    if rng.random() < settings.low_resolution:
        size = crop.shape[1], crop.shape[0]
        factor = rng.uniform(0.25, 0.7)
        small = (max(int(size[0] * factor), 16), max(int(size[1] * factor), 16))
        low = cv2.resize(crop, small, interpolation=cv2.INTER_AREA)
        crop = np.asarray(cv2.resize(low, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    if rng.random() < settings.blur:
        crop = _blurred(rng, crop)
    if rng.random() < settings.colour:
        crop = _recoloured(rng, crop)
    if rng.random() < settings.grey:
        grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
        crop = np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)
    if rng.random() < settings.sensor_noise:
        noise = rng.standard_normal(crop.shape, dtype=np.float32) * rng.uniform(2, 14)
        crop = np.clip(crop + noise, 0, 255).astype(np.uint8)
    if rng.random() < settings.jpeg:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 80))]
        crop = np.asarray(cv2.imdecode(cv2.imencode(".jpg", crop, quality)[1], 1), np.uint8)
    return crop


def _blurred(rng: np.random.Generator, crop: Image) -> Image:
    if rng.random() < 0.5:
        blurred: Any = cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.5, 2.0))
        return np.asarray(blurred, np.uint8)
    # Motion: a line of 3 to 11 pixels in any direction.
    length = int(rng.integers(1, 6))
    kernel = np.zeros((2 * length + 1, 2 * length + 1), np.float32)
    angle = rng.uniform(0, math.pi)
    x, y = length * math.cos(angle), length * math.sin(angle)
    start, end = (round(length - x), round(length - y)), (round(length + x), round(length + y))
    cv2.line(kernel, start, end, 1.0)
    moved: Any = cv2.filter2D(crop, -1, kernel / kernel.sum())
    return np.asarray(moved, np.uint8)


def _recoloured(rng: np.random.Generator, crop: Image) -> Image:
    """Gain and offset per channel, then gamma, by one table per channel."""
    gain = rng.uniform(0.65, 1.35) * rng.uniform(0.88, 1.12, 3)
    levels = np.arange(256)[:, None] * gain + rng.uniform(-20, 20)
    curve = 255 * (np.clip(levels, 0, 255) / 255) ** rng.uniform(0.7, 1.4)
    table = np.clip(np.rint(curve), 0, 255).astype(np.uint8)[:, None]
    changed: Any = cv2.LUT(crop, np.ascontiguousarray(table))
    return np.asarray(changed, np.uint8)


def still_saliency(
    rng: np.random.Generator, crop: Image, joints: FloatArray, known: BoolArray
) -> npt.NDArray[np.float32]:
    """Motion saliency of a still picture, from a previous frame that it is warped into.

    The camera moves, and so do one to three of the limbs, as a smooth bulge about a joint.

    Args:
        crop: (S, S, 3), joints: (17, 2) px in it, known: (17,) which of them are.

    Returns:
        (S/4, S/4), as `motion_saliency` gives it for video.
    """
    side = crop.shape[0]
    small = side // STRIDE  # the flow is computed at this size anyway
    grey: Any = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
    grey = cv2.resize(grey, (small, small), interpolation=cv2.INTER_AREA)
    y, x = np.mgrid[:small, :small].astype(np.float32)
    shift = rng.normal(0, 0.02, 2) * small
    zoom = 1 + rng.normal(0, 0.01)
    map_x = (x - small / 2) * zoom + small / 2 + shift[0]
    map_y = (y - small / 2) * zoom + small / 2 + shift[1]
    moving = np.flatnonzero(known)
    for joint in rng.choice(moving, min(len(moving), int(rng.integers(1, 4))), replace=False):
        centre = joints[joint] / STRIDE
        reach = rng.uniform(0.05, 0.15) * small
        move = rng.normal(0, 0.06, 2) * small
        distance = (x - centre[0]) ** 2 + (y - centre[1]) ** 2
        bulge = np.exp(-distance / (2 * reach**2))
        map_x, map_y = map_x + move[0] * bulge, map_y + move[1] * bulge
    previous: Any = cv2.remap(
        grey,
        map_x.astype(np.float32),
        map_y.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    whole = cv2.resize(np.stack([previous, grey], -1), (side, side))
    before, now = (np.ascontiguousarray(whole[..., i]).astype(np.uint8) for i in (0, 1))
    return motion_saliency(before, now, REFERENCE_INTERVAL)


def rgb(images: Tensor) -> Tensor:
    """uint8 BGR (N, H, W, 3) as the network takes it: (N, 3, H, W) RGB, 0..1."""
    return images.flip(-1).permute(0, 3, 1, 2).float() / 255
