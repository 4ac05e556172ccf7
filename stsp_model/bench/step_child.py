"""Measures PoseEstimator.step, and what stands before and behind it, in a process of its own."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

import cv2
import numpy as np
import torch

from stsp_model.bag import header, message_types
from stsp_model.bench.child import Message, serve
from stsp_model.bench.figures import Usage
from stsp_model.bench.modules import NetworkClock
from stsp_model.bench.stream import load_stream
from stsp_model.estimator import PoseEstimator, Timings
from stsp_model.markers import skeleton_markers
from stsp_model.messages import skeletons_message
from stsp_model.runtime.backends import load

_INTERVAL = 1 / 30  # s between stamps


class _Steps:
    """An estimator and the camera in front of it."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        torch.set_num_threads(options["threads"])
        cv2.setNumThreads(options["threads"])  # as the node does
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that weights are missing, the report says itself
            model = load(options["model"], device=options["device"])
        stream = load_stream(
            options["source"], tuple(options["size"]), options["encoding"], options["people"]
        )
        self._pictures, self._camera = stream.endless(), stream.camera
        # What untrained weights see is timed as well, however little they are sure of it.
        self._estimator = PoseEstimator(
            model,
            device=options["device"],  # what was exported lies on none
            backend=options["backend"],
            max_people=options["people"],
            min_confidence=0.0,
        )
        self._networks = NetworkClock(self._estimator.network)
        self._estimator.network = self._networks.network
        self._types = message_types()
        self._stamp = 0.0

    def run(self, frames: int) -> Message:
        """Times of so many frames, by stage, in the order of their work."""
        times: dict[str, list[float]] = {}
        people = 0
        before = Usage.now()
        for _ in range(frames):
            for stage, seconds in self._frame().items():
                times.setdefault(stage, []).append(seconds)
            people += self._seen
        return {
            "times": times,
            "people": people,
            "usage": [asdict(before), asdict(Usage.now())],
            "trained": self._estimator.network.trained,
            "precision": self._estimator.network.precision,
        }

    def _frame(self) -> dict[str, float]:
        picture = next(self._pictures)
        self._stamp += _INTERVAL
        began = time.perf_counter()
        image = picture.decode()
        decoded = time.perf_counter()
        poses = self._estimator.step(image, self._stamp, self._camera)
        stepped = time.perf_counter()
        head = header(round(1e9 * self._stamp), "camera")
        skeletons_message(self._types, poses, head, stepped - began)
        described = time.perf_counter()
        skeleton_markers(self._types, poses, head, self._camera)
        marked = time.perf_counter()
        # Once more, by itself: within the step it is part of the lifting.
        points = np.array([pose.joints_2d for pose in poses]).reshape(-1, 2)
        self._camera.undistort(points)
        self._seen = len(poses)
        undistorted = time.perf_counter() - marked
        parts = self._estimator.last_timings
        times = {field.name: getattr(parts, field.name) for field in fields(Timings)}
        times.pop("total")
        return {
            "decode": decoded - began,
            **times,
            **self._networks.take(),
            "undistort": undistorted,
            "step": stepped - decoded,
            "messages": described - stepped,
            "markers": marked - described,
            "all": marked - began,
        }


def _prepare(options: Message) -> Mapping[str, Callable[..., Message]]:
    return {"run": _Steps(options).run}


if __name__ == "__main__":
    serve(_prepare)
