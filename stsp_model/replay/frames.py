"""A replay's images, read and decoded beside the network."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stsp_model.bag import BagReader
from stsp_model.lifter import MAX_GAP
from stsp_model.replay.beside import Beside, Work
from stsp_model.replay.live import MEASURED, Live, as_lived, in_stamp_order
from stsp_model.sources import BagImage, bag_images


@dataclass(frozen=True)
class Frame:
    """An image of the bag; `pixels`, or why there are none; None where the image is skipped."""

    image: BagImage
    pixels: npt.NDArray[np.uint8] | str | None
    seconds: float  # of decoding


def _frames(
    bag: Path,
    topic: str,
    info_topic: str | None,
    live: Live,
    took: Callable[[], float],
) -> Generator[Frame, None, None]:
    with BagReader(bag) as reader:
        images = bag_images(reader, topic, info_topic)
        fates: Iterator[tuple[BagImage, bool]]
        if live is None:
            fates = ((image, True) for image in in_stamp_order(images, MAX_GAP))
        elif isinstance(live, str):
            fates = as_lived(images, took)
        else:
            each = live / 1000
            fates = as_lived(images, lambda: each)
        for image, taken in fates:
            began = time.perf_counter()
            pixels: npt.NDArray[np.uint8] | str | None = None
            if taken:
                try:
                    pixels = image.decode()
                except ValueError as error:
                    pixels = str(error)
            yield Frame(image, pixels, time.perf_counter() - began)


@contextmanager
def prepared(
    bag: Path,
    topic: str,
    info_topic: str | None,
    live: Live,
    took: Callable[[], float],
    thread: Beside,
) -> Iterator[Iterator[Frame]]:
    """The frames, each read and decoded by the thread while the one before is worked on.

    The first is under way at once, so that what there is to set up costs no time beside it.

    Not so in a replay that measures: there the time that work took decides what comes next.
    """
    frames = _frames(bag, topic, info_topic, live, took)
    if live == MEASURED:
        try:
            yield frames
        finally:
            frames.close()
        return
    # One thread alone opens, reads and closes the bag: SQLite insists.
    first = thread.add(partial(next, frames, None))
    thread.begin()
    try:
        yield _ahead(thread, frames, first)
    finally:
        thread.add(frames.close).result()


def _ahead(thread: Beside, frames: Iterator[Frame], coming: Work[Frame | None]) -> Iterator[Frame]:
    while (frame := coming.result()) is not None:
        coming = thread.add(partial(next, frames, None))
        yield frame
