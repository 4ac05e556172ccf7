"""The latest camera_info, decoded with or without ROS, as a Camera for the images that come."""

from __future__ import annotations

from typing import Any

from .camera import Camera
from .camera_info import camera_from_info

Key = tuple[object, ...]


def _content(info: Any) -> Key:
    roi = info.roi
    return (
        *(info.width, info.height, info.binning_x, info.binning_y),
        *(roi.x_offset, roi.y_offset, roi.width, roi.height),
        *(info.distortion_model, bytes(info.k.data), bytes(info.p.data), info.d.tobytes()),
    )


class CameraSource:
    """Takes camera_info in one thread, gives cameras in another; rebuilds only what changed."""

    def __init__(self) -> None:
        self._latest: tuple[Key, Any] | None = None
        self._built_for: Key | None = None
        self._camera: Camera | None = None
        self._problem = ""
        self.bad = 0  # camera_info messages that could not be used

    def receive(self, info: Any) -> None:
        """A camera_info message came."""
        content = _content(info)
        if self._latest is None or self._latest[0] != content:
            self._latest = content, info
        elif self._problem:
            self.bad += 1

    def camera(self, width: int, height: int, *, rectified: bool) -> Camera | None:
        """The camera of images of this size; None while there is none that can be used."""
        latest = self._latest
        if latest is None:
            return None
        content, info = latest
        key = (content, width, height, rectified)
        if key != self._built_for:
            self._built_for = key
            self._problem = ""
            try:
                self._camera = camera_from_info(info, width, height, rectified=rectified)
            except ValueError as error:
                self._camera = None
                self._problem = str(error)
                self.bad += 1
        return self._camera

    @property
    def problem(self) -> str:
        """Why the latest camera_info cannot be used, or an empty string."""
        return self._problem

    @property
    def state(self) -> str:
        """What diagnostics say of it."""
        if self._latest is None:
            return "none received, no distances"
        if self._problem:
            return f"unusable: {self._problem}"
        if self._built_for is None:
            return "received"
        if self._camera is None:
            return "uncalibrated (all zeros), no distances"
        return f"calibrated, {'distorted' if self._camera.D is not None else 'no distortion'}"
