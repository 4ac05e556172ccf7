"""The node under `stsp bench`: the real one, in a process that keeps the times of each frame."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import rclpy
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from stsp_model import PoseEstimator
from stsp_model.bench.child import Message, serve
from stsp_model.bench.figures import Usage
from stsp_model.bench.modules import NetworkClock
from stsp_model.estimator import Timings
from stsp_ros.diagnostics import FrameTimes
from stsp_ros.estimation import Estimator, build_estimator
from stsp_ros.node import PoseNode
from stsp_ros.parameters import Settings
from stsp_ros.spinner import Spinner

_STEP = tuple(field.name for field in fields(Timings) if field.name != "total")
_NETWORKS = ("EPE", "GSR", "TMP", "GSR+TMP")
COLUMNS = (
    *("all", "transport", "wait", "decode", *_STEP, *_NETWORKS, "step"),
    *("messages", "publish", "stamp to publication"),
)


class _Times:
    """Times of frames, in memory that is there from the start: what grows later is the node's."""

    def __init__(self, frames: int) -> None:
        self._rows = np.full((frames, len(COLUMNS)), np.nan, np.float64)
        self._count = 0
        self._pauses: list[float] = []  # s of the garbage collector
        self._collecting = 0.0
        self._estimator: PoseEstimator | None = None
        self._networks: NetworkClock | None = None
        gc.callbacks.append(self._collected)

    def build(self, settings: Settings) -> Estimator:
        """The node's own estimator, watched."""
        estimator = build_estimator(settings)
        assert isinstance(estimator, PoseEstimator)
        self._estimator, self._networks = estimator, NetworkClock(estimator.network)
        estimator.network = self._networks.network
        return estimator

    def watch(self, times: FrameTimes) -> None:
        """A frame was published; called in the worker's thread."""
        assert self._estimator is not None
        assert self._networks is not None
        step, networks = self._estimator.last_timings, self._networks.take()
        row = (
            *(times.total, times.age - times.total, times.wait, times.decode),
            *(getattr(step, name) for name in _STEP),
            *(networks.get(name, math.nan) for name in _NETWORKS),
            *(times.estimate, times.message, times.publish, times.age),
        )
        if self._count < len(self._rows):
            self._rows[self._count] = row
        self._count += 1

    def take(self) -> Message:
        """What came since this was last asked."""
        rows = self._rows[: self._count]
        pauses, self._pauses = self._pauses, []
        answer = {
            "times": {name: rows[:, i].tolist() for i, name in enumerate(COLUMNS)},
            "collections": len(pauses),
            "longest collection": max(pauses, default=0.0),
        }
        self._count = 0
        return answer

    def _collected(self, phase: str, _: object) -> None:
        if phase == "start":
            self._collecting = time.perf_counter()
        else:
            self._pauses.append(time.perf_counter() - self._collecting)


class _Node:
    """The node and the thread that spins it, as long as requests come."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self._times = _Times(options["frames"])
        self.node = PoseNode(
            self._times.build,
            self._times.watch,
            parameter_overrides=[
                Parameter(name, value=value) for name, value in options["parameters"].items()
            ],
        )
        self.spinner = Spinner(self.node)
        self.spinner.start()
        while self.node.state_name != "active":  # it brings itself up
            if self.node.failure:
                raise ValueError(f"the node does not start: {self.node.failure}")
            time.sleep(0.02)

    def answers(self) -> Mapping[str, Callable[..., Message]]:
        """What can be asked."""
        return {"take": self._times.take, "usage": lambda: asdict(Usage.now())}

    def close(self) -> None:
        """End it."""
        self.spinner.stop(5.0)
        self.node.close(5.0)
        self.node.destroy_node()
        rclpy.try_shutdown()


def main() -> None:
    """Answer requests until they end."""
    running: list[_Node] = []

    def prepare(options: Message) -> Mapping[str, Callable[..., Message]]:
        running.append(_Node(options))
        return running[0].answers()

    serve(prepare)
    for node in running:
        node.close()


if __name__ == "__main__":
    main()
