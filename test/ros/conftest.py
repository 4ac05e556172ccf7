"""Every test that meets ROS has a domain of its own on this host."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from stsp_ros.domain import claimed_domain, local_environment

if importlib.util.find_spec("rclpy") is None or importlib.util.find_spec("stsp") is None:
    collect_ignore_glob = ["test_*.py"]  # pip installed stsp without ROS
else:
    from bench import Bench


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A ROS domain nobody else uses, set in the environment for this process and its children."""
    with claimed_domain() as claimed:
        for name, value in local_environment(claimed).items():
            monkeypatch.setenv(name, value)
        yield claimed


@pytest.fixture
def bench(domain: int) -> Iterator[Bench]:
    """A running helper node, and a way to start the node under test beside it."""
    with Bench(domain) as running:
        yield running
