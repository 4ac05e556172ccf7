"""Crops: from a box in the image to the network's input, and pixels there and back.

A box x0 y0 x1 y1 holds continuous pixel coordinates of its edges, so a whole image of width W
spans -0.5 to W - 0.5; a crop of width w spans the box in the same way.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch

MARGIN = 1.35  # side of the crop over the longer side of the tight box, as in the LSP protocol
BORDER_BGR = (104, 116, 124)  # ImageNet's mean colour: about zero once normalised
BORDER_GREY = 117  # the same colour in cv2.COLOR_BGR2GRAY
REDUCE_FROM = 2.0  # bilinear sampling skips pixels when it shrinks by more than this

FloatArray = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]
Points = TypeVar("Points", FloatArray, torch.Tensor)


def whole_image(width: int, height: int) -> FloatArray:
    """The box (4,) of an image of this size."""
    return np.array([-0.5, -0.5, width - 0.5, height - 0.5])


def crop_box(boxes: npt.ArrayLike, size: tuple[int, int], margin: float = MARGIN) -> FloatArray:
    """Boxes (..., 4) around tight boxes (..., 4), with a margin and the shape of the input.

    Args:
        boxes: tight boxes, in pixels.
        size: (width, height) of the network's input; a square one makes the boxes square.
        margin: crop's side over the tight box's, on the axis that fills it.
    """
    boxes = np.asarray(boxes, dtype=np.float64)
    shape = np.asarray(size, dtype=np.float64)
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    scale = ((boxes[..., 2:] - boxes[..., :2]) / shape).max(axis=-1, keepdims=True)
    half = margin / 2 * scale * shape
    return np.concatenate([centre - half, centre + half], axis=-1)


def to_crop(points: Points, box: Points, size: Points) -> Points:
    """Image pixels (..., 2) to pixels of the crop of `box` (..., 4), of size (2,) width, height."""
    return (points - box[..., :2]) * (size / (box[..., 2:] - box[..., :2])) - 0.5


def to_image(points: Points, box: Points, size: Points) -> Points:
    """The inverse of `to_crop`: pixels of the crop to pixels of the image."""
    return (points + 0.5) * ((box[..., 2:] - box[..., :2]) / size) + box[..., :2]


def crop(image: Image, box: npt.ArrayLike, size: tuple[int, int]) -> Image:
    """Cut `box` out of an image and resize it, filling with a neutral colour beyond the border.

    Args:
        image: (H, W, 3) or (H, W) uint8; may be read-only and strided.
        box: (4,) in pixels; may reach outside the image.
        size: (width, height) of the crop.

    Returns:
        (height, width, 3) or (height, width) uint8, never a view of `image`.
    """
    colour = image.ndim == 3
    border = BORDER_BGR if colour else (BORDER_GREY,)
    height, width = image.shape[:2]
    # Plain numbers: for so few of them NumPy's calls would take most of the time.
    x0, y0, x1, y1 = np.asarray(box, dtype=np.float64).tolist()
    shrink = min((x1 - x0) / size[0], (y1 - y0) / size[1])
    block = max(int(shrink), 1) if shrink > REDUCE_FROM else 1
    # Only what the box covers is touched, plus what the interpolation reaches for, in whole blocks.
    left, columns = _covered(x0, x1, block, width)
    top, rows = _covered(y0, y1, block, height)
    if columns < 1 or rows < 1:
        return np.full((size[1], size[0], *image.shape[2:]), border, dtype=np.uint8)
    part: Any = image[top : top + rows * block, left : left + columns * block]
    packed = part.strides[1:] == ((3, 1) if colour else (1,))
    if not packed or part.strides[0] < part.strides[1] * part.shape[1]:  # more than OpenCV reads
        part = np.ascontiguousarray(part)
    x0, y0, x1, y1 = x0 - left, y0 - top, x1 - left, y1 - top
    if block > 1:
        # Averages whole blocks of pixels first; the rest, at most a factor of two, is bilinear.
        part = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
        x0, y0, x1, y1 = ((edge + 0.5) / block - 0.5 for edge in (x0, y0, x1, y1))
    across, down = size[0] / (x1 - x0), size[1] / (y1 - y0)
    # The crop's pixel (0, 0) is half a crop pixel inside the box's corner.
    matrix = np.array([[across, 0, -x0 * across - 0.5], [0, down, -y0 * down - 0.5]])
    if colour:
        # OpenCV warps four channels in less than half the time of three, to the same values.
        part = cv2.cvtColor(part, cv2.COLOR_BGR2BGRA)
    cut: Any = cv2.warpAffine(
        part,
        matrix,
        (size[0], size[1]),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=border,
    )
    return cv2.cvtColor(cut, cv2.COLOR_BGRA2BGR) if colour else cut


def _covered(low: float, high: float, block: int, side: int) -> tuple[int, int]:
    """From which pixel on a side of the image is touched for a box's, and how many blocks on."""
    reach = 1 + block
    start = min(max(math.floor(low) - reach, 0), side)
    stop = min(max(math.ceil(high) + reach + block, 0), side)
    return start, (stop - start) // block
