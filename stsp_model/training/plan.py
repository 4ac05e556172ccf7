"""Which item is in which place of which batch: a pure function of the seed and the step.

So a run that goes on at step n needs nothing but n to see the items it would have seen, and several
processes share a batch by taking every so manieth place of it.
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np
import numpy.typing as npt


def generator(seed: int, purpose: str, *place: int) -> np.random.Generator:
    """Random numbers for one place, such as a step and a slot in its batch.

    Different purposes give unrelated numbers.
    """
    return np.random.default_rng([seed, _number(purpose), *place])


def item(seed: int, purpose: str, position: int, count: int) -> int:
    """The item at a position of an endless sequence that holds all `count` items in turn.

    Each round through the items has an order of its own.
    """
    round_, place = divmod(position, count)
    return int(_order(seed, purpose, round_, count)[place])


def places(total: int, part: int, parts: int) -> range:
    """Which of the `total` places of a batch belong to one of `parts` equal parts.

    Raises ValueError if the batch cannot be shared equally.
    """
    if total % parts:
        raise ValueError(
            f"a batch of {total} cannot be shared by {parts} processes x micro-batches"
        )
    return range(part, total, parts)


@functools.lru_cache(maxsize=8)
def _order(seed: int, purpose: str, round_: int, count: int) -> npt.NDArray[np.int64]:
    return generator(seed, f"order of {purpose}", round_).permutation(count)


def _number(purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:4], "little")
