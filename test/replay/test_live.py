"""Which images a replay takes, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stsp_model.replay.live import as_lived, checked_live, in_stamp_order

MS = 1_000_000  # ns


def images(*stamps: int, log_times: tuple[int, ...] | None = None) -> list[Any]:
    return [
        SimpleNamespace(stamp=stamp, record=SimpleNamespace(log_time=log_time))
        for stamp, log_time in zip(stamps, log_times or stamps, strict=True)
    ]


def ordered(*milliseconds: int) -> list[int]:
    found = in_stamp_order(images(*(m * MS for m in milliseconds)), 0.5)
    return [image.stamp // MS for image in found]


def test_images_that_come_late_are_put_where_they_belong() -> None:
    assert ordered(0, 66, 33, 100, 400, 133, 1000, 600) == [0, 33, 66, 100, 133, 400, 600, 1000]


def test_a_clock_that_jumps_back_is_followed() -> None:
    assert ordered(1000, 1066, 1033, 0, 66, 33) == [1000, 1033, 1066, 0, 33, 66]


def test_images_of_one_stamp_stay_as_they_were() -> None:
    given = images(5, 5, 4)
    assert list(in_stamp_order(given, 0.5)) == [given[2], given[0], given[1]]


def test_a_clock_that_stands_still_does_not_fill_the_memory() -> None:
    read = 0

    def counted() -> Iterator[Any]:
        nonlocal read
        for image in images(*[7 * MS] * 1000):
            read += 1
            yield image

    ahead = []
    for done, _ in enumerate(in_stamp_order(counted(), 0.5)):
        ahead.append(read - done)
    assert len(ahead) == 1000
    assert max(ahead) < 200


@given(st.lists(st.integers(0, 499)), st.integers(0, 10**6))
def test_within_the_gap_all_is_sorted(milliseconds: list[int], start: int) -> None:
    stamps = [start + m for m in milliseconds]
    assert ordered(*stamps) == sorted(stamps)


@given(st.lists(st.integers(0, 5000)))
def test_nothing_is_lost(milliseconds: list[int]) -> None:
    assert sorted(ordered(*milliseconds)) == sorted(milliseconds)


def lived(arrivals: list[int], took: int) -> dict[int, bool]:
    """Which images are taken that come at these milliseconds."""
    given = images(*range(len(arrivals)), log_times=tuple(a * MS for a in arrivals))
    fates = [(image.stamp, taken) for image, taken in as_lived(given, lambda: took / 1000)]
    assert len(dict(fates)) == len(fates)
    taken = [stamp for stamp, taken in fates if taken]
    assert taken == sorted(taken)
    return dict(fates)


def test_the_newest_image_that_waits_is_taken() -> None:
    # 0 is worked on until 80. Of 33 and 66 the later waits longer; it is worked on until 160. Then
    # comes 133's turn, and 166 and 200 arrive before that is done at 240: 200 is last.
    fates = lived([0, 33, 66, 100, 133, 166, 200], 80)
    assert fates == {0: True, 1: False, 2: True, 3: False, 4: True, 5: False, 6: True}


def test_who_is_fast_enough_takes_all() -> None:
    assert all(lived([0, 33, 66, 100], 33).values())
    assert lived([0, 10, 20, 30], 0) == dict.fromkeys(range(4), True)


def simulated(arrivals: list[int], took: int) -> set[int]:
    """The same by ticking through all milliseconds: done, then arrival, then the next is taken."""
    taken: set[int] = set()
    waiting: int | None = None
    busy = 0
    for now in range(max(arrivals, default=0) + took * (len(arrivals) + 1) + 1):
        busy = max(0, busy - 1) if now else 0
        for i in [i for i, arrival in enumerate(arrivals) if arrival == now]:
            if busy == 0:
                first, waiting = (i, None) if waiting is None else (waiting, i)
                taken.add(first)
                busy = took
            else:
                waiting = i
        if busy == 0 and waiting is not None:
            taken.add(waiting)
            waiting, busy = None, took
    return taken


@given(st.lists(st.integers(0, 300), unique=True).map(sorted), st.integers(1, 120))
def test_it_is_as_if_it_had_been_lived(arrivals: list[int], took: int) -> None:
    fates = lived(arrivals, took)
    assert {i for i, taken in fates.items() if taken} == simulated(arrivals, took)
    assert len(fates) == len(arrivals)


def test_work_may_take_longer_for_some() -> None:
    durations = iter([0.2, 0.01, 0.01])
    given = images(0, 50 * MS, 100 * MS, 150 * MS, 210 * MS)
    fates = [
        (image.stamp // MS, taken) for image, taken in as_lived(given, lambda: next(durations, 0))
    ]
    assert fates == [(0, True), (50, False), (100, False), (150, True), (210, True)]


def test_what_live_may_be() -> None:
    assert checked_live("measured") == "measured"
    assert checked_live("33.3") == 33.3
    for wrong in ("-1", "inf", "nan", "fast"):
        with pytest.raises(ValueError, match=f"live is '{wrong}', expected milliseconds"):
            checked_live(wrong)
