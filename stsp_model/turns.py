"""Cameras that hang on a side or upside down: what they see turned upright, and poses turned back.

Turns are in degrees clockwise, multiples of 90, as they move pixels without changing them. With
negative ones what was turned is turned back.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from .camera import Camera
from .pose import Pose

FloatArray = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]

TURNS = (0, 90, 180, 270)
_OPENCV = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
# Which of x and y becomes the new x, which the new y, and their signs; y points down.
_ORDER = {0: [0, 1], 90: [1, 0], 180: [0, 1], 270: [1, 0]}
_SIGN = {0: [1.0, 1.0], 90: [-1.0, 1.0], 180: [-1.0, -1.0], 270: [1.0, -1.0]}
# Where the coefficients of OpenCV's lens models that belong to x and to y stand in D: tangential
# distortion, both of thin prisms, and the sensor's tilts. All others are alike all around the axis.
_COEFFICIENTS = ((3, 2), (8, 10), (9, 11), (12, 13))


def turned_vectors(vectors: npt.ArrayLike, degrees: int) -> FloatArray:
    """Vectors (..., 2 or more), x and y first, turned about the line of sight."""
    turned = np.array(vectors, np.float64)
    turned[..., :2] = turned[..., _ORDER[degrees % 360]] * _SIGN[degrees % 360]
    return turned + 0.0  # no -0.0, which the pelvis of every pose would show


def turned_points(points: npt.ArrayLike, degrees: int, size: tuple[int, int]) -> FloatArray:
    """Where pixels (..., 2) of an image of (width, height) lie in the turned image."""
    corner = turned_vectors([size[0] - 1, size[1] - 1], degrees)
    return turned_vectors(points, degrees) - np.minimum(corner, 0.0)


def turned_boxes(boxes: npt.ArrayLike, degrees: int, size: tuple[int, int]) -> FloatArray:
    """The same for boxes (..., 4) x0 y0 x1 y1."""
    boxes = np.asarray(boxes, np.float64)
    ends = turned_points(boxes.reshape(*boxes.shape[:-1], 2, 2), degrees, size)
    return np.concatenate([ends.min(axis=-2), ends.max(axis=-2)], axis=-1)


def turned_size(size: tuple[int, int], degrees: int) -> tuple[int, int]:
    """(width, height) of the turned image."""
    across, down = _ORDER[degrees % 360]
    return size[across], size[down]


def turned_image(image: Image, degrees: int) -> Image:
    """An image (H, W, ...) turned, as a copy; itself where there is nothing to turn."""
    if degrees % 360 == 0:
        return image
    return np.asarray(cv2.rotate(image, _OPENCV[degrees % 360]), np.uint8)


@lru_cache(maxsize=4)  # of a stream each image asks for the same one, which knows its lens by then
def turned_camera(camera: Camera, degrees: int) -> Camera:
    """The camera that would take the turned image.

    Raises ValueError for a sensor tilted about both axes (14 coefficients) turned by 90 or 270
    degrees: OpenCV's model tilts about one after the other and has no place for the other order.
    """
    K, D = np.eye(3), camera.D
    order, size = _ORDER[degrees % 360], (camera.width, camera.height)
    K[[0, 1], [0, 1]] = camera.K[order, order]
    K[:2, 2] = turned_points(camera.K[:2, 2], degrees, size)
    if D is not None and camera.distortion_model != "equidistant":
        D = D.copy()
        if D[12:].all() and len(D) == 14 and degrees % 180:
            raise ValueError(
                f"the camera's sensor is tilted about both axes, by {D[12]:g} and {D[13]:g} rad: "
                "it can be turned by 180 degrees, and not by 90"
            )
        for pair in _COEFFICIENTS:
            if max(pair) < len(D):
                D[list(pair)] = turned_vectors(D[list(pair)], degrees)
    width, height = turned_size(size, degrees)
    return Camera(K, width, height, D, camera.distortion_model, camera.assumed)


def turned_pose(pose: Pose, degrees: int, size: tuple[int, int]) -> Pose:
    """A pose in an image of (width, height), and in its camera's axes, as in the turned image."""

    def spread(variance: FloatArray) -> FloatArray:
        return np.abs(turned_vectors(variance, degrees))

    return replace(
        pose,
        joints=turned_vectors(pose.joints, degrees),
        variance=spread(pose.variance),
        joints_2d=turned_points(pose.joints_2d, degrees, size),
        root=turned_vectors(pose.root, degrees),
        root_variance=spread(pose.root_variance),
        box=turned_boxes(pose.box, degrees, size),
    )
