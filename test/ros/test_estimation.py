"""How the node sets up the estimator it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import torch

from stsp_model import STSPNet, save
from stsp_ros import estimation
from stsp_ros.estimation import build_estimator, leave_a_core_free, resolved_device
from stsp_ros.parameters import Settings


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


@pytest.mark.parametrize(
    ("device", "backend", "gpu", "expected"),
    [
        ("auto", "onnxruntime", True, "cpu"),
        ("auto", "openvino", True, "cpu"),
        ("auto", "torch", True, "cuda"),
        ("auto", "auto", True, "cuda"),
        ("auto", "auto", False, "cpu"),
        ("cpu", "auto", True, "cpu"),
        ("cuda:1", "torch", True, "cuda:1"),
    ],
)
def test_auto_takes_a_gpu_where_there_is_one_that_the_backend_can_use(
    device: str, backend: str, gpu: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert resolved_device(Settings(device=device, backend=backend)) == expected


def test_a_model_may_lie_below_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No shell expands the ~ of a parameter file, nor that of model:=~/weights.safetensors."""
    save(STSPNet("edge"), tmp_path / "weights.safetensors")
    monkeypatch.setenv("HOME", str(tmp_path))
    estimator = build_estimator(
        Settings(model="~/weights.safetensors", device="cpu", backend="torch")
    )
    assert not estimator.model.trained


def test_the_network_is_warmed_up_with_as_many_people_as_may_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warmed: list[tuple[object, int]] = []
    monkeypatch.setattr(estimation, "warm_up", lambda *arguments: warmed.append(arguments))
    estimator = build_estimator(Settings(device="cpu", backend="torch", max_people=7))
    assert warmed == [(estimator.model, 7)]
