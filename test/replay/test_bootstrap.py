"""Intervals of differences: as often right as promised, and against SciPy's quantiles."""

from __future__ import annotations

import numpy as np
import pytest
from figure import smooth_noise
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stsp_model.replay.bootstrap import draws, interval, widening


def test_noise_without_bias_is_taken_for_chance_as_often_as_promised() -> None:
    """Over 200 pairs of runs of a minute, whose errors vary as slowly as the tests' noise does."""

    errors = 50 + smooth_noise(np.random.default_rng(0), (1800, 200, 2), 20)

    def misses(block: int) -> int:
        count = 0
        for run in range(200):
            series = np.concatenate([errors[:, run], np.ones((1800, 1))], axis=1)
            low, high = interval(series, draws(1800, block, 300), block)
            count += not low <= 0 <= high
        return count

    # A 95 % interval misses in 10 of 200; 20 are three standard deviations more.
    assert 2 <= misses(60) <= 20
    # Were frames drawn one by one, differences would be seen that are not there.
    assert misses(1) > 80


def test_few_blocks_widen_the_interval_as_students_t_does() -> None:
    """Against SciPy's quantiles."""
    for blocks in (4, 6, 10, 30, 1000):
        exact = stats.t.ppf(0.975, blocks - 1) / stats.norm.ppf(0.975)
        exact *= np.sqrt(blocks / (blocks - 1))
        assert widening(blocks) == pytest.approx(exact, rel=0.02)


@given(st.integers(61, 200), st.integers(1, 60), st.floats(-50, 50))
def test_a_difference_without_noise_has_an_interval_without_width(
    frames: int, block: int, offset: float
) -> None:
    a = np.random.default_rng(frames).uniform(0, 100, frames)
    series = np.stack([a, a + offset, np.ones(frames)], axis=1)
    low, high = interval(series, draws(frames, block, 20), block)
    assert (low, high) == pytest.approx((offset, offset), abs=1e-6)


def test_draws_in_which_nothing_counts_say_nothing() -> None:
    """Only five frames in a hundred count, so that many a draw of ten blocks has none of them."""
    counts = np.zeros(100)
    counts[40:45] = 1
    series = np.stack([counts, 3 * counts, counts], axis=1)
    starts = draws(100, 10, 200)
    inside = (starts[..., None] + np.arange(10)) % 100
    assert (counts[inside].sum(axis=(1, 2)) == 0).sum() > 10
    assert interval(series, starts, 10) == pytest.approx((2, 2), abs=1e-9)
