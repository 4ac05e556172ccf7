"""Whether a difference of two runs could be chance: intervals by a paired block bootstrap.

A paired block bootstrap over time (Kuensch 1989; blocks that wrap around, Politis & Romano 1992):
whole stretches of BLOCK seconds are drawn with replacement, both runs' frames together, and the
difference is computed anew. Errors of neighbouring frames are nearly the same error (the network
sees its last five poses, and a child stays in a difficult posture for a while), so frames drawn
singly would give intervals several times too narrow. Two seconds are longer than both: the network
remembers half a second at most, and a jump or a cycle of steps takes less. As few blocks vary too
little, intervals are widened as Student's t does it, by `widening`.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

BLOCK = 2.0  # s
RESAMPLES = 4000
LEVEL = 0.95
FEW_BLOCKS = 10  # with fewer, an interval is hardly worth its name
_SEED = 0


def draws(frames: int, length: int, resamples: int = RESAMPLES) -> npt.NDArray[np.int64]:
    """First frames (resamples, blocks) of the blocks that make up each resample; always alike."""
    blocks = -(-frames // length)
    return np.random.default_rng(_SEED).integers(0, frames, (resamples, blocks))


def interval(series: FloatArray, starts: npt.NDArray[np.int64], length: int) -> tuple[float, float]:
    """LEVEL interval of the mean of B less that of A, by bootstrap of blocks of `length` frames.

    `series` (T, 3): by frame the sum of A, that of B, and how many count, which some do. Without
    limits where one block takes in everything, which tells nothing of chance.
    """
    blocks = starts.shape[1]
    if blocks < 2:
        return -math.inf, math.inf
    # Of the block that starts at each frame, going on at the first frame after the last.
    wrapped = np.concatenate([np.zeros((1, 3)), series, series[: length - 1]])
    running = np.cumsum(wrapped, axis=0)
    sums = running[length:] - running[:-length]
    drawn = np.array([sums[first].sum(axis=0) for first in starts])
    drawn = drawn[drawn[:, 2] > 0]
    differences = (drawn[:, 1] - drawn[:, 0]) / drawn[:, 2]
    a, b, count = series.sum(axis=0)
    difference, wider = (b - a) / count, widening(blocks)
    low, high = np.quantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return (
        float(difference + wider * (low - difference)),
        float(difference + wider * (high - difference)),
    )


def widening(blocks: int) -> float:
    """Student's t to the normal quantile, and the spread of a sample to that of its source.

    The former by its expansion in 1 / degrees of freedom (Abramowitz & Stegun 26.7.5).
    """
    z, freedom = NormalDist().inv_cdf((1 + LEVEL) / 2), blocks - 1
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    t = z + sum(term / freedom ** (i + 1) for i, term in enumerate(terms))
    return t / z * math.sqrt(blocks / freedom)
