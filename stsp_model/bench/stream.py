"""A camera for the benchmark: pictures of a moving person that never jump and never end."""

from __future__ import annotations

import array
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from stsp_model.camera import Camera
from stsp_model.camera_info import camera_from_info
from stsp_model.images import decode_compressed, decode_image
from stsp_model.sources import Source, open_source

BGR8, RGB8, JPEG = "bgr8", "rgb8", "jpeg"
ENCODINGS = (BGR8, RGB8, JPEG)
_MOST_BYTES = 200_000_000  # of pictures held in memory
_JPEG_QUALITY = 80
# A mild lens, so that undistorting has something to do where the source has none.
_LENS = (0.05, -0.1, 0.0, 0.0, 0.02)

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """The fields of a sensor_msgs/Image; with encoding "jpeg" `data` is a CompressedImage's."""

    height: int
    width: int
    encoding: str
    step: int
    data: Any  # array.array("B"), as rclpy holds it

    def decode(self) -> Pixels:
        """The pixels, (H, W, 3) BGR, by the code that serves the node."""
        if self.encoding == JPEG:
            return decode_compressed(self.data, JPEG)
        return decode_image(self.height, self.width, self.encoding, self.step, self.data)


@dataclass(frozen=True)
class Stream:
    """Pictures in the order of their motion, and the camera that took them."""

    pictures: list[Picture]
    camera: Camera

    def endless(self) -> Iterator[Picture]:
        """Forwards and backwards for ever, so that a person is always near where he or she was."""
        while True:
            yield from self.pictures[:-1] or self.pictures
            yield from self.pictures[:0:-1]


def load_stream(
    source: str | Path, size: tuple[int, int], encoding: str = BGR8, people: int = 1
) -> Stream:
    """The first frames of a bag, a video or a folder, as a camera of (width, height) sends them.

    Each frame is shown `people` times, side by side; its shape is kept, what remains is filled
    with its edge. As many frames are taken as fit into 200 MB.

    Raises SourceError or BagError with a sentence for the user.
    """
    opened = open_source(source)
    width, height = size
    most = max(2, _MOST_BYTES // (3 * width * height))
    frames = list(islice(opened.frames(), most))
    pictures = [_picture(_shown(frame.image, size, people), encoding) for frame in frames]
    return Stream(pictures, _camera(opened, frames[0].camera_info, size, people))


def _grid(people: int) -> tuple[int, int]:
    """Columns and rows that hold so many."""
    columns = math.ceil(math.sqrt(people))
    return columns, math.ceil(people / columns)


def _scale(image_size: tuple[int, int], size: tuple[int, int], people: int) -> float:
    """By how much a frame is resized to fit its cell."""
    columns, rows = _grid(people)
    return min(size[0] / columns / image_size[0], size[1] / rows / image_size[1])


def _shown(image: Pixels, size: tuple[int, int], people: int) -> Pixels:
    height, width = image.shape[:2]
    if people == 1 and (width, height) == size:
        return image
    scale = _scale((width, height), size, people)
    small: Any = cv2.resize(
        image,
        (max(1, round(width * scale)), max(1, round(height * scale))),
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
    )
    columns, rows = _grid(people)
    cell = size[0] // columns, size[1] // rows
    blank = np.full((cell[1], cell[0], 3), small[0, 0], np.uint8)
    full = _bordered(small, cell)
    cells = [full if i < people else blank for i in range(columns * rows)]
    lines = [np.concatenate(cells[i : i + columns], axis=1) for i in range(0, len(cells), columns)]
    return _bordered(np.concatenate(lines, axis=0), size)


def _bordered(image: Any, size: tuple[int, int]) -> Pixels:
    """The image, cut or with its edge continued on the right and below, to a size."""
    image = image[: size[1], : size[0]]
    down, right = size[1] - image.shape[0], size[0] - image.shape[1]
    return np.asarray(cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_REPLICATE), np.uint8)


def _picture(image: Pixels, encoding: str) -> Picture:
    height, width = image.shape[:2]
    data = array.array("B")
    if encoding == JPEG:
        _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        data.frombytes(jpeg.tobytes())
        return Picture(height, width, JPEG, 0, data)
    if encoding == RGB8:
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    data.frombytes(np.ascontiguousarray(image).tobytes())
    return Picture(height, width, encoding, 3 * width, data)


def _camera(source: Source, info: Any | None, size: tuple[int, int], people: int) -> Camera:
    """The source's camera, as far as it has one, for the size; with a lens in any case."""
    camera = None if info is None else camera_from_info(info, *source.size)
    camera = camera or Camera.guess(*source.size)
    K = camera.K.copy()
    scale = _scale(source.size, size, people)
    K[[0, 1], [0, 1]] *= scale
    K[:2, 2] = (K[:2, 2] + 0.5) * scale - 0.5
    if camera.D is not None:
        return Camera(K, *size, camera.D, camera.distortion_model)
    return Camera(K, *size, np.array(_LENS), "plumb_bob")
