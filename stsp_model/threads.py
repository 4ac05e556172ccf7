"""How many threads the network gets beside a middleware, or beside what reads a bag."""

from __future__ import annotations

import os

_MOST_THREADS = 4  # one person's crop does not keep more busy


def network_threads() -> int:
    """All cores but one, four at most.

    A thread of PyTorch that waits for one whose core the middleware has taken makes a frame late:
    on two cores one thread answers sooner than two, and far more steadily.
    """
    return min(max(len(os.sched_getaffinity(0)) - 1, 1), _MOST_THREADS)


def leave_a_core_free() -> None:
    """Give PyTorch and OpenCV `network_threads`; OMP_NUM_THREADS has the last word on PyTorch's."""
    import cv2
    import torch  # takes seconds

    cv2.setNumThreads(network_threads())
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(network_threads())
