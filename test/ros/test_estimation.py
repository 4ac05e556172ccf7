"""How the node sets up the estimator it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import cv2
import pytest
import torch

from stsp_ros.estimation import leave_a_core_free


@pytest.fixture(autouse=True)
def _same_threads_afterwards() -> Iterator[None]:
    before, of_opencv = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(before)
    cv2.setNumThreads(of_opencv)


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (4, 3), (16, 4)])
def test_one_core_stays_free_for_the_middleware(
    cores: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cores)))
    leave_a_core_free()
    assert torch.get_num_threads() == threads
    assert cv2.getNumThreads() == threads


def test_the_users_thread_count_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    torch.set_num_threads(2)
    leave_a_core_free()
    assert torch.get_num_threads() == 2
