"""Records of a made-up child that runs on the spot and swings its arms, with and without truth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from records import a_record

from stsp_model.outcomes import PROCESSED, SUPERSEDED
from stsp_model.replay.record import OUTCOMES, Record, Track
from stsp_model.skeleton import INDEX, JOINT_COUNT

PERIOD = 33_333_333  # ns
K = np.array([[520.0, 0, 320], [0, 520, 240], [0, 0, 1]])
# Of somebody 1.2 m tall, m.
THIGH, SHIN, UPPER_ARM, FOREARM, TRUNK, NECK = 0.27, 0.27, 0.19, 0.17, 0.33, 0.2


def running(seconds: np.ndarray) -> np.ndarray:
    """Joints (T, 17, 3) in metres from the pelvis, camera axes; seen from the front, aslant."""
    joints = np.zeros((len(seconds), JOINT_COUNT, 3))

    def put(name: str, parent: str, offset: Any) -> None:
        joints[:, INDEX[name]] = joints[:, INDEX[parent]] + offset

    def bone(length: float, angle: np.ndarray) -> np.ndarray:
        """Hanging down, turned forwards (towards the camera) by `angle`."""
        still = np.zeros_like(angle)
        return length * np.stack([still, np.cos(angle), -np.sin(angle)], axis=-1)

    put("thorax", "pelvis", (0, -TRUNK, -0.03))
    put("spine", "pelvis", (0, -TRUNK / 2, -0.015))
    put("nose", "thorax", (0, -0.11, -0.1))
    put("head_top", "thorax", (0, -NECK - 0.05, -0.02))
    for side, sign in (("left", 1.0), ("right", -1.0)):
        swing = np.sin(2 * np.pi * 1.3 * seconds) * sign
        put(f"{side}_hip", "pelvis", (0.07 * sign, 0.02, 0))
        put(f"{side}_knee", f"{side}_hip", bone(THIGH, 0.5 + 0.6 * swing))
        put(f"{side}_ankle", f"{side}_knee", bone(SHIN, -0.4 + 0.5 * swing))
        put(f"{side}_shoulder", "thorax", (0.13 * sign, 0.02, 0))
        put(f"{side}_elbow", f"{side}_shoulder", bone(UPPER_ARM, -0.7 * swing))
        put(f"{side}_wrist", f"{side}_elbow", bone(FOREARM, 1.1 - 0.7 * swing))
    turn = 0.5 + 0.4 * np.sin(0.4 * seconds)
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    x, z = joints[..., 0], joints[..., 2]
    joints[..., 0], joints[..., 2] = cos * x - sin * z, sin * x + cos * z
    return joints


def track(id: str, frames: np.ndarray, joints: np.ndarray, root: np.ndarray, **rows: Any) -> Track:
    """A person at `root` (M, 3), projected by K."""
    points = joints + root[:, None]
    joints_2d = (points @ K.T)[..., :2] / points[..., 2:]
    count = len(frames)
    values = {
        "joints": joints,
        "root": root,
        "joints_2d": joints_2d,
        "confidence": np.ones((count, JOINT_COUNT)),
        "variance": np.full((count, JOINT_COUNT, 3), 0.03**2),
        "box": np.concatenate([joints_2d.min(axis=1), joints_2d.max(axis=1)], axis=-1),
        "height": np.full(count, 1.2),
    } | rows
    return Track(id, frames, **{name: np.asarray(v, np.float32) for name, v in values.items()})


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> np.ndarray:
    """AR(1) along the first axis, about half a second long, of that standard deviation."""
    noise = rng.normal(0, 1, shape)
    for t in range(1, len(noise)):
        noise[t] = 0.9 * noise[t - 1] + np.sqrt(1 - 0.9**2) * noise[t]
    return scale * noise


def figure(
    frames: int = 120,
    *,
    truth: bool = True,
    people: int = 1,
    error: float = 0.02,
    bias: float = 0.0,
    gap: tuple[int, int] | None = None,
    drops: float = 0.0,
    seed: int = 0,
    **changes: Any,
) -> Record:
    """A replay at 30 Hz.

    Predictions are off by smooth noise of `error` metres an axis, twice that at the right wrist,
    and by `bias` metres sideways in all joints but the pelvis. In frames gap[0] to gap[1] the
    first person is not seen, and has another id thereafter. A share of `drops` images is dropped.
    """
    rng = np.random.default_rng(seed)
    index = np.arange(frames)
    seconds = index * PERIOD / 1e9
    outcome = np.where(
        rng.random(frames) < drops, OUTCOMES.index(SUPERSEDED), OUTCOMES.index(PROCESSED)
    )
    tracks, true = [], []
    for person in range(people):
        joints = running(seconds + 0.31 * person)
        root = np.stack(
            [
                0.35 * np.sin(0.5 * seconds) + person,
                0.1 + 0 * seconds,
                3 + 0.5 * person + 0 * seconds,
            ],
            axis=-1,
        )
        true.append(track(f"child_{person}", index, joints, root))
        noise = smooth_noise(rng, joints.shape, error)
        noise[:, INDEX["right_wrist"]] *= 2
        noise[..., 0] += bias
        noise[:, 0] = 0
        size = np.linalg.norm(noise, axis=-1)
        confidence = np.clip(0.97 - 6 * size + rng.normal(0, 0.02, size.shape), 0.02, 1)
        seen = outcome == OUTCOMES.index(PROCESSED)
        parts = [seen]
        if gap and person == 0:
            parts = [seen & (index < gap[0]), seen & (index > gap[1])]
        for part in parts:
            tracks.append(
                track(
                    f"p{len(tracks) + 1}",
                    index[part],
                    (joints + noise)[part],
                    root[part],
                    confidence=confidence[part],
                )
            )
    record = a_record(
        frames,
        bag="made-up.mcap",
        stamps=1_700_000_000_000_000_000 + index * PERIOD,
        outcome=outcome.astype(np.uint8),
        latency=np.where(outcome == 0, rng.gamma(20, 0.0012, frames), np.nan),
        K=K,
        tracks=tuple(tracks),
        truth=tuple(true) if truth else (),
    )
    return replace(record, **changes)
