"""Made-up records of replays for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from stsp_model.replay.record import Record, Track
from stsp_model.skeleton import JOINT_COUNT


def a_track(id: str = "p1", frames: tuple[int, ...] = (0, 1, 3), **changes: Any) -> Track:
    """A person whose numbers say nothing, but differ."""
    rng = np.random.default_rng(len(frames))

    def rows(*shape: int) -> np.ndarray:
        return rng.uniform(0, 1, (len(frames), *shape)).astype(np.float32)

    track = Track(
        id=id,
        frames=np.array(frames, np.int64),
        joints=rows(JOINT_COUNT, 3),
        root=rows(3),
        joints_2d=rows(JOINT_COUNT, 2),
        confidence=rows(JOINT_COUNT),
        variance=rows(JOINT_COUNT, 3),
        box=rows(4),
        height=rows(),
    )
    return replace(track, **changes)


def a_record(frames: int = 4, **changes: Any) -> Record:
    """A complete replay of that many frames at 30 Hz, in which nobody was seen."""
    record = Record(
        bag="run.mcap",
        image_topic="/camera/image",
        frame_id="camera_optical_frame",
        model="edge",
        weights_sha256="0" * 64,
        trained=True,
        image_size=(640, 480),
        K=np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]),
        settings={"subject_height": 1.2, "live": None},
        complete=True,
        stamps=1_000_000_000 + np.arange(frames, dtype=np.int64) * 33_333_333,
        outcome=np.zeros(frames, np.uint8),
        latency=np.full(frames, 0.02),
        tracks=(),
        truth=(),
    )
    return replace(record, **changes)
