"""What a camera sees of captured motion: seeded random cameras, projections, noise, frame rates.

This is the project's protocol for scoring the lifter; training draws its own cameras.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from stsp_model.camera import Camera
from stsp_model.data.samples import Motion, median_length
from stsp_model.skeleton import INDEX

FloatArray = npt.NDArray[np.float64]

WIDTH, HEIGHT = 1280, 720  # px
FIELD_OF_VIEW_DEG = (45.0, 90.0)  # across the width
CAMERA_HEIGHT = (0.3, 2.0)  # m above the lowest joint: from a small robot to a tall tripod
DISTANCE = (2.0, 6.0)  # m from the middle of the motion; further where it would not fit in
ROLL_DEG = 3.0  # standard deviation
_STEP_BACK = 1.15  # times the distance, until all joints of the take are in the image
_NEAREST = 0.5  # m in front of the camera
NOISE_TIME = 5.0  # frames: time constant of the correlated half of the noise
# Standing height over leg (hip, knee, ankle) plus trunk (hips' to shoulders' middle): segment
# lengths of Drillis & Contini (1966), 0.530 - 0.039 and 0.818 - 0.530 of the height.
_STATURE = 1 / (0.491 + 0.288)


@dataclass(frozen=True, eq=False)
class Trial:
    """A take to be lifted, as one camera saw it.

    Args:
        motion: with `camera` and `joints_2d`, those to be lifted.
        height: standing height, metres.
        confidence, covariance: (T, 17) 0..1 and (T, 17, 2, 2) px^2 of the 2D joints, where a
            detector says them.
    """

    motion: Motion
    height: float
    confidence: FloatArray | None = None
    covariance: FloatArray | None = None


def standing_height(joints: npt.ArrayLike) -> float:
    """Standing height (m) to be expected of a body with these bones; NaN if they are unknown.

    From the medians of leg and trunk by an adult's proportions: good for sets that do not say how
    tall their subjects are.

    Args:
        joints: (T, 17, 3) m.
    """
    joints = np.asarray(joints, dtype=np.float64)

    def at(name: str) -> FloatArray:
        return np.asarray(joints[:, INDEX[name]])

    legs = [
        median_length(at(f"{side}_hip"), at(f"{side}_knee"))
        + median_length(at(f"{side}_knee"), at(f"{side}_ankle"))
        for side in ("left", "right")
    ]
    hips = (at("left_hip") + at("right_hip")) / 2
    shoulders = (at("left_shoulder") + at("right_shoulder")) / 2
    return _STATURE * (sum(legs) / 2 + median_length(hips, shoulders))


def resampled(motion: Motion, fps: float) -> Motion:
    """The motion at another frame rate, by cubic interpolation of every coordinate.

    NaN where a joint is unknown in one of the two frames around. A motion that has been seen by a
    camera already is interpolated in its image, too.

    Raises:
        ValueError: if `fps` is not above 0, or above the motion's own rate.
    """
    count = len(motion.stamps)
    period = float(np.median(np.diff(motion.stamps))) if count > 1 else math.inf
    if not (math.isfinite(fps) and fps > 0) or fps * period > 1.01:
        raise ValueError(
            f"fps is {fps}, expected more than 0 and at most the {1 / period:.4g} of {motion.name}"
        )
    first, last = motion.stamps[0], motion.stamps[-1]
    stamps = first + np.arange(math.floor((last - first) * fps + 1e-6) + 1) / fps
    stamps = np.minimum(stamps, last)
    joints = _interpolated(motion.joints, motion.stamps, stamps)
    flat = motion.joints_2d
    flat = None if flat is None else _interpolated(flat, motion.stamps, stamps)
    return replace(motion, joints=joints, stamps=stamps, joints_2d=flat)


def _interpolated(values: FloatArray, old: FloatArray, new: FloatArray) -> FloatArray:
    """Cubic Hermite interpolation of (T, ...) along time, slopes by finite differences."""
    place = np.clip(np.searchsorted(old, new, side="right") - 1, 0, len(old) - 2)
    interval = old[place + 1] - old[place]
    shape = (-1,) + (1,) * (values.ndim - 1)
    t = ((new - old[place]) / interval).reshape(shape)
    slope = np.gradient(values, old, axis=0)
    # At the edge of the unknown there is a slope on one side only.
    steps = np.diff(values, axis=0) / np.diff(old).reshape(shape)
    before, after = np.concatenate([steps[:1], steps]), np.concatenate([steps, steps[-1:]])
    slope = np.where(np.isfinite(slope), slope, np.where(np.isfinite(before), before, after))
    a, b = values[place], values[place + 1]
    p, q = (slope[place + i] * interval.reshape(shape) for i in (0, 1))
    curve = (
        (2 * t**3 - 3 * t**2 + 1) * a
        + (t**3 - 2 * t**2 + t) * p
        + (3 * t**2 - 2 * t**3) * b
        + (t**3 - t**2) * q
    )
    # On a frame itself the next one need not be known.
    return np.asarray(np.where(t == 0, a, np.where(t == 1, b, curve)))


def seen(motion: Motion, seed: Sequence[int]) -> Motion:
    """The motion as a random, still camera sees it: in its frame, with projections.

    The camera stands somewhere around, looks at the middle of where the pelvis goes, and is far
    enough away for every joint of the take to be in the image.

    Args:
        motion: in any frame; where its `up` is unknown, in a camera's, whose up is taken.
        seed: numbers that make the camera; the same ones, the same camera.
    """
    rng = np.random.default_rng(list(seed))
    up = motion.up if np.isfinite(motion.up).all() else np.array([0.0, -1.0, 0.0])
    points = motion.joints.reshape(-1, 3)
    points = points[np.isfinite(points).all(axis=1)]
    pelvis = motion.joints[:, INDEX["pelvis"]]
    pelvis = pelvis[np.isfinite(pelvis).all(axis=1)]
    if not len(pelvis):
        raise ValueError(f"{motion.name} has no frame with a known pelvis")
    middle = (pelvis.min(axis=0) + pelvis.max(axis=0)) / 2
    ground = float((points @ up).min())

    across = np.cross(up, np.eye(3)[int(np.abs(up).argmin())])
    across /= np.linalg.norm(across)
    azimuth = rng.uniform(0, 2 * math.pi)
    away = math.cos(azimuth) * across + math.sin(azimuth) * np.cross(up, across)
    rise = ground + rng.uniform(*CAMERA_HEIGHT) - float(middle @ up)
    distance = rng.uniform(*DISTANCE)
    camera = Camera.of_field_of_view(rng.uniform(*FIELD_OF_VIEW_DEG), WIDTH, HEIGHT)
    roll = math.radians(rng.normal(0, ROLL_DEG))
    while True:
        place = middle + distance * away + rise * up
        axes = _looking(middle - place, up, roll)
        if _fits((points - place) @ axes.T, camera):
            break
        distance *= _STEP_BACK
    joints = (motion.joints - place) @ axes.T
    return replace(
        motion, joints=joints, up=axes @ up, camera=camera, joints_2d=camera.project(joints)
    )


def _looking(forward: FloatArray, up: FloatArray, roll: float) -> FloatArray:
    """(3, 3) rows: right, down and forward of a camera, turned about the last by `roll`."""
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    turned = math.cos(roll) * right + math.sin(roll) * down
    return np.stack([turned, np.cross(forward, turned), forward])


def _fits(points: FloatArray, camera: Camera) -> bool:
    if points[:, 2].min() < _NEAREST:
        return False
    pixels = camera.project(points)
    return bool(((pixels >= 0) & (pixels <= (camera.width - 1, camera.height - 1))).all())


def longer_side(joints_2d: FloatArray) -> FloatArray:
    """(T,) px, of the box around the known joints of (T, 17, 2); 0 where there are none."""
    known = np.asarray(np.isfinite(joints_2d).all(axis=-1, keepdims=True))
    low = np.where(known, joints_2d, np.inf).min(axis=1)
    high = np.where(known, joints_2d, -np.inf).max(axis=1)
    return np.asarray(np.where(known.any(axis=1), high - low, 0.0).max(axis=1))


def noisy(joints_2d: npt.ArrayLike, share: float, seed: Sequence[int]) -> FloatArray:
    """2D joints (T, 17, 2) px with errors: `share` of the longer side of the box, along each axis.

    That is the standard deviation. Half of the variance is white; half is an AR(1) process with a
    time constant of 5 frames, from its stationary state on.

    Raises:
        ValueError: if `share` is negative.
    """
    if not (math.isfinite(share) and share >= 0):
        raise ValueError(f"share is {share}, expected 0 or more")
    joints_2d = np.asarray(joints_2d, dtype=np.float64)
    rng = np.random.default_rng(list(seed))
    side = longer_side(joints_2d)
    white = rng.standard_normal(joints_2d.shape)
    correlated = rng.standard_normal(joints_2d.shape)
    keep = math.exp(-1 / NOISE_TIME)
    for t in range(1, len(correlated)):
        correlated[t] = keep * correlated[t - 1] + math.sqrt(1 - keep**2) * correlated[t]
    return np.asarray(
        joints_2d + share * side[:, None, None] * math.sqrt(0.5) * (white + correlated)
    )
