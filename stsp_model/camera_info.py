"""sensor_msgs/CameraInfo, decoded with or without ROS, to the camera it describes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .camera import Camera

# In lengths of the sensor's longer side. A pinhole camera of the shortest focal length would see
# 169 degrees, and a fisheye of all around has one twice to three times as long: what is shorter
# stands in millimetres or in shares of the image, and people seem to be a few centimetres away.
_FOCAL = 1 / 20, 1000
_CENTRE = 100  # from the corner; cut out of a panorama it may lie far outside


def camera_from_info(
    info: Any, width: int, height: int, *, rectified: bool = False
) -> Camera | None:
    """The camera behind images of width x height px, or None for an all-zero matrix.

    `info`, with the fields of sensor_msgs/CameraInfo, describes the full sensor; its region of
    interest and binning say which part of it the image shows, and any remaining difference in size
    is taken for a resized image. `rectified`: the image is already undistorted, so P holds its
    matrix and D does not apply.

    Raises ValueError naming the field for a matrix that is not finite, has no positive focal
    length or skew or cannot be in pixels, an unknown distortion model, or a region outside the
    sensor.
    """
    matrix = np.array(info.p, np.float64).reshape(3, 4)[:, :3] if rectified else None
    K = np.array(info.k, np.float64).reshape(3, 3) if matrix is None else matrix.copy()
    if not K.any():
        return None
    full_width, full_height = info.width or width, info.height or height
    roi = info.roi
    x0, y0 = roi.x_offset, roi.y_offset
    seen_width, seen_height = roi.width or full_width - x0, roi.height or full_height - y0
    if min(seen_width, seen_height) < 1 or (
        x0 + seen_width > full_width or y0 + seen_height > full_height
    ):
        raise ValueError(
            f"camera_info has a roi of {seen_width}x{seen_height} px at ({x0}, {y0}), outside its "
            f"{full_width}x{full_height} px"
        )
    of_sensor = K.copy()
    K[0, 2] -= x0
    K[1, 2] -= y0
    D = None if rectified else np.array(info.d, np.float64)
    try:
        seen = Camera(K, seen_width, seen_height, D, info.distortion_model or "plumb_bob")
    except ValueError as error:
        raise ValueError(f"camera_info: {error}") from error
    _check_pixels(of_sensor, full_width, full_height)
    # Binning and resizing are the same to the camera: so many pixels for the same view.
    return seen.scaled(width, height)


def _check_pixels(K: npt.NDArray[np.float64], width: int, height: int) -> None:
    """Raise ValueError for the matrix of a sensor of this size that cannot be in its pixels."""
    longest = max(width, height)
    focal, centre = np.diag(K)[:2], K[:2, 2]
    low, high = _FOCAL[0] * longest, _FOCAL[1] * longest
    if not ((low <= focal) & (focal <= high) & (abs(centre) <= _CENTRE * longest)).all():
        raise ValueError(
            f"camera_info has focal lengths {focal[0]:g}, {focal[1]:g} and the principal point "
            f"({centre[0]:g}, {centre[1]:g}) for {width}x{height} px; expected focal lengths of "
            f"{low:g} to {high:g}, all in pixels"
        )
