"""Bags for tests of the replay: the sample's first images, in every form that a bag can have."""

from __future__ import annotations

import contextlib
import functools
import resource
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stsp_model.bag import (
    CAMERA_INFO_TYPE,
    COMPRESSED_IMAGE_TYPE,
    IMAGE_TYPE,
    BagReader,
    BagWriter,
    Record,
    header,
    typestore,
)
from stsp_model.sources import Frame, open_source

SAMPLE = Path(__file__).resolve().parents[2] / "assets" / "sample.mcap"
FRAME_ID = "left_optical_frame"
IMAGE, INFO = "/left/image_raw", "/left/camera_info"
FIRST, PERIOD = 1_700_000_000_000_000_000, 33_333_333  # ns
DELAY = 5_000_000  # ns from a stamp to the time of recording
TYPES = typestore().types

Message = tuple[str, str, int, Any]  # topic, type, log time in ns, message


def stamps(count: int) -> list[int]:
    """At 30 Hz."""
    return [FIRST + i * PERIOD for i in range(count)]


@functools.cache
def _sample() -> tuple[Iterator[Frame], list[np.ndarray]]:
    """What is still to be read of the sample, and what was read of it."""
    return open_source(SAMPLE).frames(), []


def picture(number: int) -> np.ndarray:
    """An image of the sample, smaller, for the tests' sake."""
    frames, read = _sample()
    while len(read) <= number:
        small = cv2.resize(next(frames).image, (320, 240), interpolation=cv2.INTER_AREA)
        read.append(np.asarray(small, np.uint8))
    return read[number]


def raw(stamp: int, number: int = 0, topic: str = IMAGE) -> Message:
    """The image of that number in the sample, unpacked."""
    pixels = picture(number)
    height, width = pixels.shape[:2]
    message = TYPES[IMAGE_TYPE](
        header=header(stamp, FRAME_ID),
        height=height,
        width=width,
        encoding="bgr8",
        is_bigendian=0,
        step=3 * width,
        data=pixels.ravel(),
    )
    return topic, IMAGE_TYPE, stamp + DELAY, message


def png(stamp: int, number: int = 0) -> Message:
    """The same pixels, packed."""
    data = cv2.imencode(".png", picture(number))[1].ravel()
    message = TYPES[COMPRESSED_IMAGE_TYPE](header(stamp, FRAME_ID), "png", data)
    return f"{IMAGE}/compressed", COMPRESSED_IMAGE_TYPE, stamp + DELAY, message


def info(stamp: int, topic: str = INFO, focal: float = 300.0) -> Message:
    """The calibration of a camera of 320x240 px."""
    K = np.array([focal, 0, 159.5, 0, focal, 119.5, 0, 0, 1])
    message = TYPES[CAMERA_INFO_TYPE](
        header=header(stamp, FRAME_ID),
        height=240,
        width=320,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=K,
        r=np.eye(3).ravel(),
        p=np.hstack([K.reshape(3, 3), np.zeros((3, 1))]).ravel(),
        binning_x=0,
        binning_y=0,
        roi=TYPES["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
    )
    return topic, CAMERA_INFO_TYPE, stamp + DELAY, message


def write(path: Path, messages: Sequence[Message], storage: str = "mcap") -> Path:
    """A bag of these messages."""
    with BagWriter(path, storage) as bag:
        for topic, kind, log_time, message in messages:
            bag.add_topic(topic, kind)
            bag.write_message(topic, log_time, message)
    return path


def film(
    path: Path,
    frames: int = 4,
    image: Callable[[int, int], Message] = raw,
    storage: str = "mcap",
) -> Path:
    """So many images with camera info."""
    messages = [m for i, s in enumerate(stamps(frames)) for m in (info(s), image(s, i))]
    return write(path, messages, storage)


def records(path: Path, *topics: str) -> list[Record]:
    """All messages of a bag on these topics, as they stand there."""
    with BagReader(path) as reader:
        return list(reader.records(topics))


def messages(path: Path, topic: str) -> list[Any]:
    """The same, decoded."""
    with BagReader(path) as reader:
        return [reader.decode(record) for record in reader.records([topic])]


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file can be written beyond so many bytes, which is told as a full disk is."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
