"""Checks of what callers hand to PoseEstimator and STSPNet.lift: errors name what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .camera import Camera
from .crop import whole_image
from .skeleton import JOINT_COUNT

FloatArray = npt.NDArray[np.float64]
MIN_IMAGE_SIDE, MAX_IMAGE_SIDE = 64, 4096  # pixels


def is_number(value: Any) -> bool:
    """Whether a value is one number, whole or not, of Python or NumPy; True and False are none."""
    numbers = (int, float, np.integer, np.floating)
    return isinstance(value, numbers) and not isinstance(value, bool)


def checked_image(image: Any) -> npt.NDArray[np.uint8]:
    """The image, copied only where OpenCV cannot read its strides."""
    if not isinstance(image, np.ndarray):
        raise TypeError(f"image is a {type(image).__name__}, expected an array (H, W, 3) of uint8")
    if image.dtype != np.uint8:
        raise TypeError(f"image is of {image.dtype}, expected uint8")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image has shape {image.shape}, expected (H, W, 3)")
    height, width = image.shape[:2]
    if min(height, width) < MIN_IMAGE_SIDE or max(height, width) > MAX_IMAGE_SIDE:
        raise ValueError(
            f"image is {width}x{height}, expected {MIN_IMAGE_SIDE} to {MAX_IMAGE_SIDE} a side"
        )
    if image.strides[1:] != (3, 1) or image.strides[0] < 3 * width:
        image = np.ascontiguousarray(image)
    return image


def checked_stamp(stamp: Any) -> float:
    """The stamp as a finite number of seconds."""
    try:
        seconds = float(stamp)
    except (TypeError, ValueError):
        raise TypeError(f"stamp is {stamp!r}, expected seconds") from None
    if not np.isfinite(seconds):
        raise ValueError(f"stamp is {seconds}, expected finite seconds")
    return seconds


def checked_camera(camera: Any, width: int, height: int) -> Camera:
    """The camera, or a guessed one where there is none."""
    if camera is None:
        return Camera.guess(width, height)
    if not isinstance(camera, Camera):
        raise TypeError(f"camera is a {type(camera).__name__}, expected a Camera or None")
    if (camera.width, camera.height) != (width, height):
        raise ValueError(
            f"camera is for {camera.width}x{camera.height} pixels, the image has {width}x{height}; "
            "use camera.scaled for a resized image"
        )
    return camera


def checked_boxes(boxes: npt.ArrayLike, width: int, height: int, name: str = "boxes") -> FloatArray:
    """Boxes (P, 4), each finite, of positive size and at least partly in the image."""
    try:
        array = np.array(boxes, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is no array of numbers: {boxes!r}") from None
    if array.size == 0:
        return np.empty((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"{name} has shape {array.shape}, expected (P, 4)")
    edges = whole_image(width, height)
    for box in array:
        if not np.isfinite(box).all() or not (box[2:] > box[:2]).all():
            raise ValueError(
                f"{name} holds {box.tolist()}, expected finite x0 y0 x1 y1, x0 < x1, y0 < y1"
            )
        if not ((box[:2] < edges[2:]) & (box[2:] > edges[:2])).all():
            raise ValueError(f"{name} holds {box.tolist()}, beyond the image of {width}x{height}")
    return array


def checked_region(region: npt.ArrayLike | None, width: int, height: int) -> FloatArray:
    """The part (4,) of the image to search, within the image; all of it where `region` is None."""
    edges = whole_image(width, height)
    if region is None:
        return edges
    shape = np.shape(region)
    if shape != (4,):
        raise ValueError(f"region has shape {shape}, expected (4,): x0 y0 x1 y1")
    part = checked_boxes(np.asarray(region)[None], width, height, name="region")[0]
    return np.concatenate([np.maximum(part[:2], edges[:2]), np.minimum(part[2:], edges[2:])])


def _array(name: str, values: npt.ArrayLike | Tensor) -> FloatArray:
    if isinstance(values, Tensor):
        values = values.detach().cpu().double().numpy()
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is no array of numbers: {error}") from None


def checked_track(
    joints_2d: npt.ArrayLike | Tensor,
    stamps: npt.ArrayLike | Tensor,
    camera: Camera,
    confidence: npt.ArrayLike | Tensor | None,
    covariance: npt.ArrayLike | Tensor | None,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray | None]:
    """Arguments of `STSPNet.lift` as arrays, or an error that names the wrong one."""
    if not isinstance(camera, Camera):
        raise TypeError(f"camera is a {type(camera).__name__}, expected a Camera")
    points, times = _array("joints_2d", joints_2d), _array("stamps", stamps)
    if points.ndim != 3 or points.shape[1:] != (JOINT_COUNT, 2):
        raise ValueError(f"joints_2d has shape {points.shape}, expected (T, {JOINT_COUNT}, 2)")
    if times.shape != points.shape[:1]:
        raise ValueError(f"stamps has shape {times.shape}, expected ({len(points)},)")
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise ValueError("stamps must be finite and increase from frame to frame")
    certainty = np.ones(points.shape[:2])
    if confidence is not None:
        certainty = _array("confidence", confidence)
        if certainty.shape != points.shape[:2]:
            raise ValueError(f"confidence has shape {certainty.shape}, expected {points.shape[:2]}")
        if not ((certainty >= 0) & (certainty <= 1)).all():
            raise ValueError("confidence must lie within 0 and 1 everywhere")
    if covariance is None:
        return points, times, certainty, None
    spread = _array("covariance", covariance)
    if spread.shape != (*points.shape, 2):
        raise ValueError(f"covariance has shape {spread.shape}, expected {(*points.shape, 2)}")
    if not np.isfinite(spread).all():
        raise ValueError("covariance must be finite everywhere")
    return points, times, certainty, spread
