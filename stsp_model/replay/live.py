"""In which order a replay takes a bag's images: all by their stamps, or as a node would have."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator

from stsp_model.bag import BagError
from stsp_model.newest import Newest
from stsp_model.sources import BagImage

_SECOND = 1_000_000_000  # ns
_MOST_HELD = 128  # images; more than MAX_GAP s of them at 240 Hz
MEASURED = "measured"
Live = float | str | None  # milliseconds, MEASURED, or no live replay


def checked_live(value: str) -> float | str:
    """What --live is given. Raises ValueError if it is neither milliseconds nor "measured"."""
    if value == MEASURED:
        return value
    try:
        milliseconds = float(value)
    except ValueError:
        milliseconds = math.nan
    if not 0 <= milliseconds < math.inf:
        raise ValueError(f"live is {value!r}, expected milliseconds from 0, or {MEASURED!r}")
    return milliseconds


def in_stamp_order(images: Iterable[BagImage], max_gap: float) -> Iterator[BagImage]:
    """Images sorted by their stamps, as far as these lie within `max_gap` s of each other.

    A jump back by more is no disorder but another recording, or a clock that was set: it stays.
    So does what comes more than _MOST_HELD images late, or a clock that stands still would have
    all of a bag held in memory.
    Where the bag is damaged, what was read before comes before the BagError.
    """
    gap = round(max_gap * _SECOND)
    held: list[tuple[int, int, BagImage]] = []
    newest = -math.inf
    damage = None
    try:
        for number, image in enumerate(images):
            if image.stamp <= newest - gap:
                while held:
                    yield heapq.heappop(held)[2]
                newest = -math.inf
            heapq.heappush(held, (image.stamp, number, image))
            newest = max(newest, image.stamp)
            while held[0][0] <= newest - gap or len(held) > _MOST_HELD:
                yield heapq.heappop(held)[2]
    except BagError as error:  # which comes after the images that are held
        damage = error
    while held:
        yield heapq.heappop(held)[2]
    if damage is not None:
        raise damage


def as_lived(
    images: Iterable[BagImage], took: Callable[[], float]
) -> Iterator[tuple[BagImage, bool]]:
    """Each image and whether a node takes it, which works on one at a time and on the newest.

    An image arrives when it was logged. `took` says how many seconds the latest image that was
    given out as taken was worked on; it is asked when the next image is wanted.
    """
    newest: Newest[BagImage] = Newest()
    free = 0  # ns, when the worker is done
    for image in images:
        arrival = image.record.log_time
        if newest and free <= arrival:
            yield newest.take(), True
            free += round(took() * _SECOND)
        if free <= arrival:
            yield image, True
            free = arrival + round(took() * _SECOND)
        else:
            skipped = newest.offer(image)
            if skipped is not None:
                yield skipped, False
    if newest:
        yield newest.take(), True
