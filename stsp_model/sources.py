"""Frames with their stamps from a bag, a video file or a folder of images, behind one interface."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from stsp_model.bag import (
    COMPRESSED_IMAGE_TYPE,
    IMAGE_TYPE,
    NO_BAGS,
    STORAGE_SUFFIXES,
    BagReader,
    Record,
    camera_info_topic,
    image_topic,
    is_bag,
    stamp_nanoseconds,
)
from stsp_model.images import decode_compressed, decode_image

_LOGGER = logging.getLogger(__name__)
_SECOND = 1_000_000_000  # ns
# Videos and folders have no stamps: theirs count from here, because zero means "unset" in ROS.
FIRST_STAMP = _SECOND
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
FOLDER_RATE = 30.0  # Hz at which a folder's images are shown
SAMPLE = Path(__file__).resolve().parent.parent / "assets" / "sample.mcap"


class SourceError(ValueError):
    """A file or folder that holds no frames that can be read."""


@dataclass(frozen=True)
class Frame:
    """One picture: `image` (H, W, 3) uint8 BGR, possibly read-only, and its `stamp` (ns).

    `camera_info` is the sensor_msgs/CameraInfo in force, or None.
    """

    stamp: int
    image: npt.NDArray[np.uint8]
    frame_id: str
    camera_info: Any | None = None


@dataclass(frozen=True)
class Source:
    """Frames that can be gone through any number of times, each `frames()` from the start.

    `size` is the first frame's (width, height); `count` the number of frames as far as the file
    tells without decoding it, else 0.
    """

    name: str
    size: tuple[int, int]
    count: int
    frames: Callable[[], Iterator[Frame]]


def open_source(path: str | Path, image_topic: str | None = None, start: float = 0.0) -> Source:
    """The frames of a bag (folder, .mcap, .db3), a folder of images, or a video file.

    `image_topic` says which of a bag's cameras is meant. Frames less than `start` seconds after
    the first are left out. The first of the others is decoded to see that there is one. Raises
    SourceError or BagError with a sentence for the user.
    """
    path = Path(path)
    if not path.exists():
        what = ": the sample bag comes with a checkout of stsp; name a bag or video of your own"
        raise SourceError(f"{path} does not exist{what if path == SAMPLE else ''}")
    if path.suffix in NO_BAGS and not path.is_dir():
        raise SourceError(f"{path} is {NO_BAGS[path.suffix]}")
    if is_bag(path) or _holds_parts_of_a_bag(path):
        count, frames = _bag(path, image_topic)
    elif image_topic is not None:
        raise SourceError(f"{path} is no bag, which has topics: leave out --image-topic")
    elif path.is_dir():
        count, frames = _folder(path)
    else:
        count, frames = _video(path)
    frames_from_start = partial(frames, round(start * _SECOND))
    first = next(frames_from_start(), None)
    if first is None:
        when = f", {start:g} s after its first frame or later," if start > 0 else ""
        raise SourceError(f"{path} holds no frame{when} that can be decoded")
    height, width = first.image.shape[:2]
    return Source(path.name, (width, height), 0 if start > 0 else count, frames_from_start)


def _holds_parts_of_a_bag(path: Path) -> bool:
    """Whether a folder is what an interrupted recording leaves; reading it as a bag says so."""
    suffixes = {file.suffix.lower() for file in path.iterdir()} if path.is_dir() else set()
    return not suffixes.isdisjoint(STORAGE_SUFFIXES) and suffixes.isdisjoint(_IMAGE_SUFFIXES)


# The frames from so many ns after the first on, without decoding the others.
_Frames = Callable[[int], Iterator[Frame]]


def _bag(path: Path, wanted: str | None) -> tuple[int, _Frames]:
    with BagReader(path) as reader:
        topic = image_topic(reader, wanted)
        count = reader.topics[topic].count
    return count, partial(_bag_frames, path, topic)


def _bag_frames(path: Path, topic: str, start: int) -> Iterator[Frame]:
    with BagReader(path) as reader:
        first = None
        for image in bag_images(reader, topic, camera_info_topic(reader, topic)):
            first = image.stamp if first is None else first
            if start > 0 and image.stamp < first + start:  # all from 0, late frames too
                continue
            try:
                pixels = image.decode()
            except ValueError as error:
                seconds = image.stamp / _SECOND
                _LOGGER.warning("image of %s at %.3f s is left out: %s", topic, seconds, error)
                continue
            info = None if image.info is None else image.info[1]
            yield Frame(image.stamp, pixels, image.message.header.frame_id, info)


@dataclass(frozen=True)
class BagImage:
    """An image as it stands in a bag; its `stamp` (ns) is never zero.

    `message` is that of `record`; `info` the sensor_msgs/CameraInfo in force, likewise with its
    record, or None.
    """

    stamp: int
    record: Record
    message: Any
    info: tuple[Record, Any] | None

    def decode(self) -> npt.NDArray[np.uint8]:
        """Pixels (H, W, 3) uint8 BGR. Raises ValueError with the reason if that is impossible."""
        message = self.message
        if self.record.type == COMPRESSED_IMAGE_TYPE:
            return decode_compressed(message.data, message.format)
        assert self.record.type == IMAGE_TYPE
        return decode_image(
            message.height,
            message.width,
            message.encoding,
            message.step,
            message.data,
            bool(message.is_bigendian),
        )


def bag_images(reader: BagReader, topic: str, info_topic: str | None) -> Iterator[BagImage]:
    """The images of a topic in the order in which they were logged.

    The first camera info counts from the first image on: an image is often logged just before the
    camera info of the same instant. Raises BagError where the bag is damaged.
    """
    info = None
    if info_topic:
        # Metadata may count what the file lacks.
        record = next(reader.records([info_topic]), None)
        info = None if record is None else (record, reader.decode(record))
    for record in reader.records([topic, *([info_topic] if info_topic else [])]):
        message = reader.decode(record)
        if record.topic == info_topic:
            info = record, message
            continue
        # A camera that sets no stamp: the time of recording is the nearest to it.
        yield BagImage(stamp_nanoseconds(message) or record.log_time, record, message, info)


def _folder(path: Path) -> tuple[int, _Frames]:
    images = (f for f in path.iterdir() if f.suffix.lower() in _IMAGE_SUFFIXES)
    files = sorted(images, key=lambda file: _natural(file.name))
    if not files:
        raise SourceError(
            f"folder {path} is no bag (no metadata.yaml) and holds no {', '.join(_IMAGE_SUFFIXES)}"
        )
    return len(files), partial(_folder_frames, files)


def _natural(name: str) -> tuple[list[str | int], str]:
    """A key that sorts numbers within names by their value: frame_2 before frame_10."""
    parts = re.split(r"([0-9]+)", name)  # text and numbers take turns, text first
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _folder_frames(files: list[Path], start: int) -> Iterator[Frame]:
    for index, file in enumerate(files):
        stamp = FIRST_STAMP + round(index * _SECOND / FOLDER_RATE)
        if stamp < FIRST_STAMP + start:
            continue
        try:
            image = cv2.imread(str(file), cv2.IMREAD_COLOR)
        except cv2.error:  # of a size beyond all reason, say
            image = None
        if image is None:
            _LOGGER.warning("%s is left out: it does not decode", file)
            continue
        yield Frame(stamp, np.asarray(image, np.uint8), "camera")


def _video(path: Path) -> tuple[int, _Frames]:
    capture = cv2.VideoCapture(str(path))
    opened, count = capture.isOpened(), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    if not opened:
        raise SourceError(f"{path} cannot be opened as a video, and is no bag; it may be damaged")
    return max(count, 0), partial(_video_frames, path)


def _video_frames(path: Path, start: int) -> Iterator[Frame]:
    capture = cv2.VideoCapture(str(path))
    try:
        rate = capture.get(cv2.CAP_PROP_FPS)
        period = round(_SECOND / rate) if 1 <= rate <= 1000 else round(_SECOND / 30)
        stamp, first, count = FIRST_STAMP - period, None, 0
        while capture.grab():
            count += 1
            # The container's own times, where they advance: phones record at a varying rate.
            told = FIRST_STAMP + round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
            stamp = told if told > stamp else stamp + period
            first = stamp if first is None else first
            if stamp < first + start:
                continue
            decoded, image = capture.retrieve()
            if not decoded:
                break
            yield Frame(stamp, np.asarray(image, np.uint8), "camera")
        told = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if count < told - 1:  # some containers tell a length only, which is rounded to frames
            _LOGGER.warning(
                "%s says that it holds %d frames, and cannot be read beyond %d of them; it may be "
                "cut off or damaged",
                *(path, told, count),
            )
    finally:
        capture.release()
