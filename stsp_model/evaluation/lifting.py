"""Takes to be scored from motion data: seen by cameras, lifted by the network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stsp_model.archive import save_arrays
from stsp_model.data.bvh import BVHDataset
from stsp_model.data.errors import DataError
from stsp_model.data.samples import Z_UP, Motion
from stsp_model.evaluation.predictions import Prediction
from stsp_model.evaluation.scores import Take
from stsp_model.evaluation.views import Trial, noisy, resampled, seen, standing_height
from stsp_model.network import SUBJECT_HEIGHT_RANGE, STSPNet

FloatArray = npt.NDArray[np.float64]

CHILD_HEIGHTS = (1.0, 1.6)  # m
_TRIES = 1000  # bodies, until one is as tall as wanted
# Takes the place of the item's number in a seed where something else is drawn.
_CAMERA, _NOISE, _BODY = 1, 2, 3


@dataclass(frozen=True)
class Protocol:
    """How motion data becomes trials.

    Args:
        views: random cameras for each motion that comes without one.
        fps: frame rate to resample to; None: the motion's own.
        noise: standard deviation of 2D joints, of the box's longer side; 0: exact.
        detector: the name of a `detector.noise_model` for 2D joints, instead of `noise`.
        children: whether children's bodies perform the motions (BVH alone, needs [synth]).
        seed: of cameras, noise and bodies.
    """

    views: int = 4
    fps: float | None = None
    noise: float = 0.0
    detector: str | None = None
    children: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.views < 1:
            raise ValueError(f"views is {self.views}, expected 1 or more")
        if not (math.isfinite(self.noise) and self.noise >= 0):
            raise ValueError(f"noise is {self.noise}, expected 0 or more")
        if self.noise and self.detector is not None:
            raise ValueError("noise and detector are both given, expected one of them")
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps is {self.fps}, expected more than 0")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected 0 or more")


def trials(data: Any, protocol: Protocol) -> Iterator[Trial]:
    """The takes of a motion data set, each as seen by a camera.

    Motions with a known camera are taken as they are; with detections of their own those are what
    is lifted. All others are seen by `protocol.views` random cameras; names tell them apart.

    Args:
        data: a `Dataset` of Motion.

    Raises:
        DataError: if `protocol` asks for what the data set cannot give.
    """
    if protocol.children and not isinstance(data, BVHDataset):
        raise DataError("children's bodies can perform BVH motion capture alone")
    settings = None
    if protocol.detector is not None:
        from stsp_model.evaluation.detector import detected, noise_model

        settings = noise_model(protocol.detector)
    for index in range(len(data)):
        if protocol.children:
            motion, height = child(data, index, protocol.seed)
        else:
            motion = data[index]
            height = standing_height(motion.joints)
        if protocol.fps is not None:
            try:
                motion = resampled(motion, protocol.fps)
            except ValueError as error:
                raise DataError(str(error)) from None
        for view, one in enumerate(_views(motion, index, protocol)):
            assert one.joints_2d is not None
            seed = [protocol.seed, _NOISE, index, view]
            if settings is not None:
                flat, confidence, covariance = detected(one, settings, seed)
                yield Trial(replace(one, joints_2d=flat), height, confidence, covariance)
            elif protocol.noise:
                flat = noisy(one.joints_2d, protocol.noise, seed)
                yield Trial(replace(one, joints_2d=flat), height)
            else:
                yield Trial(one, height)


def _views(motion: Motion, index: int, protocol: Protocol) -> Iterator[Motion]:
    if motion.camera is not None:
        flat = motion.joints_2d
        yield (
            motion
            if flat is not None
            else replace(motion, joints_2d=motion.camera.project(motion.joints))
        )
        return
    for view in range(protocol.views):
        name = f"{motion.name}/view{view + 1}"
        yield replace(seen(motion, [protocol.seed, _CAMERA, index, view]), name=name)


def child(data: BVHDataset, index: int, seed: int) -> tuple[Motion, float]:
    """A captured motion performed by a random child's body, z up, and the child's height (m).

    The child is 4 to 14 years old and 1.0 to 1.6 m tall.

    Raises:
        ImportError: if the extra [synth] is not installed.
    """
    from stsp_model.synth import body as bodies
    from stsp_model.synth.retarget import retarget

    rng = np.random.default_rng([seed, _BODY, index])
    low, high = CHILD_HEIGHTS
    for _ in range(_TRIES):
        body = bodies.make_body(bodies.sample_phenotype(rng))
        if low <= body.height <= high:
            break
    else:
        raise RuntimeError(f"no body of {_TRIES} is {low} to {high} m tall")
    performance = retarget(data.capture(index), body)
    transforms = bodies.pose(body, performance.rotations, performance.root)
    motion = replace(
        data[index],
        joints=bodies.joints(body, transforms),
        stamps=performance.stamps,
        up=np.array(Z_UP),
    )
    return motion, body.height


def lift(model: STSPNet, trial: Trial, height_given: bool) -> Prediction:
    """What `model.lift` makes of a trial's 2D joints, with the true height or without."""
    motion = trial.motion
    flat, camera = motion.joints_2d, motion.camera
    assert flat is not None
    assert camera is not None
    low, high = SUBJECT_HEIGHT_RANGE
    if height_given and not low <= trial.height <= high:
        raise DataError(
            f"{motion.name} has a standing height of {trial.height:.3g} m, expected {low} to "
            f"{high}; score it with the height estimated"
        )
    track = model.lift_track(
        flat,
        motion.stamps,
        camera,
        trial.confidence,
        trial.height if height_given else None,
        trial.covariance,
    )
    return Prediction(
        joints=track.joints.astype(np.float64),
        height=None if height_given else track.height.astype(np.float64),
        confidence=track.confidence.astype(np.float64),
        variance=track.variance.astype(np.float64),
        height_variance=None if height_given else track.height_variance.astype(np.float64),
    )


def take(trial: Trial, prediction: Prediction | None) -> Take:
    """A trial with what a method made of it; None: nothing.

    Raises:
        DataError: if the prediction has another number of frames, or no 3D joints.
    """
    motion = trial.motion
    frames = len(motion.stamps)
    if prediction is None:
        return Take(
            motion.name,
            motion.action,
            np.full_like(motion.joints, np.nan),
            motion.joints,
            motion.stamps,
        )
    if prediction.joints is None or len(prediction.joints) != frames:
        have = "no 3D joints" if prediction.joints is None else f"{len(prediction.joints)} frames"
        raise DataError(f"the prediction for {motion.name} has {have}, expected {frames} frames")
    return Take(
        motion.name,
        motion.action,
        prediction.joints,
        motion.joints,
        motion.stamps,
        prediction.height,
        trial.height if math.isfinite(trial.height) else None,
        prediction.confidence,
        prediction.variance,
        prediction.height_variance,
    )


def save_inputs(path: str | Path, every: Sequence[Trial]) -> None:
    """Write what there is to be lifted, so that another method can lift the same.

    An .npz archive without pickles: `names` (K,), `lengths` (K,), `K` (K, 3, 3) px, `size` (K, 2)
    width and height, `height` (K,) m, and, one after the other, `stamps` (N,) s and `joints_2d`
    (N, 17, 2) px without lens distortion.
    """
    motions = [trial.motion for trial in every]
    cameras = [motion.camera for motion in motions]
    flat = [
        camera.undistort(motion.joints_2d)
        for motion, camera in zip(motions, cameras, strict=True)
        if camera is not None and motion.joints_2d is not None
    ]
    arrays = {
        "names": np.array([motion.name for motion in motions]),
        "lengths": np.array([len(motion.stamps) for motion in motions]),
        "K": np.stack([camera.K for camera in cameras if camera is not None]),
        "size": np.array([(c.width, c.height) for c in cameras if c is not None]),
        "height": np.array([trial.height for trial in every]),
        "stamps": np.concatenate([motion.stamps for motion in motions]),
        "joints_2d": np.concatenate(flat),
    }
    save_arrays(path, arrays)
