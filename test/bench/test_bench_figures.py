"""The benchmark's figures: percentiles over all frames, spread between rounds, shares of cores."""

from __future__ import annotations

import gc
import math
import time

import pytest

from stsp_model.bench.figures import Figure, Usage, Version, cpu_share, names

EDGE = Version("edge", "torch", 1, (640, 480))


def test_percentiles_are_over_all_frames_and_the_spread_is_of_the_rounds_medians():
    figure = Figure.of([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]])
    assert figure is not None
    assert (figure.p50, figure.max, figure.mean, figure.count) == (4.0, 7.0, 4.0, 7)
    assert (figure.lowest_median, figure.highest_median) == (2.0, 5.5)
    assert figure.p90 == pytest.approx(6.4)  # 0.9 of the way along 1 2 3 4 5 6 7
    assert figure.p99 == pytest.approx(6.94)


def test_what_was_not_measured_is_left_out():
    figure = Figure.of([[math.nan, 2.0], [math.nan]])
    assert figure is not None
    assert (figure.p50, figure.count) == (2.0, 1)
    assert Figure.of([[math.nan], []]) is None


def test_versions_are_named_by_model_backend_and_what_else_differs():
    large = Version("edge", "torch", 1, (1920, 1080))
    assert names([EDGE]) == ["edge, torch"]
    assert names([EDGE, large]) == ["edge, torch, 640x480", "edge, torch, 1920x1080"]
    best_effort = Version("edge", "torch", 1, (640, 480), reliable=False)
    assert names([EDGE, best_effort]) == ["edge, torch, reliable", "edge, torch, best effort"]


def test_the_share_of_cores_is_work_over_time_of_all_spans():
    spans = [
        ({"cpu": 1.0, "wall": 10.0}, {"cpu": 4.0, "wall": 12.0}),
        ({"cpu": 4.0, "wall": 20.0}, {"cpu": 5.0, "wall": 22.0}),
    ]
    assert cpu_share(spans) == 1.0


def test_usage_counts_our_work_and_memory():
    gc.collect()  # or what earlier tests left may go meanwhile
    before = Usage.now()
    block = bytearray(256_000_000)
    block[::4096] = b"x" * len(block[::4096])  # touched, so that it is really there
    while time.process_time() - before.cpu < 0.05:
        pass
    after = Usage.now()
    assert after.cpu - before.cpu >= 0.05
    assert after.wall > before.wall
    assert after.memory - before.memory >= 128_000_000
    assert after.peak >= 256_000_000
