"""The lifter: GSR and TMP over a track, frame by frame or over a whole clip, to metres.

Both ways run the same code on the same windows of past frames; they differ only in whether a
window comes from a track's state or from the clip. So online equals offline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .body import BODY_FRAMES, BODY_VALUES, body_of, running_median, with_bone_lengths
from .epe import mass_logit
from .gsr import GSR, LAYERS, LOG_VARIANCE_RANGE, FramePose, Keypoints2D
from .skeleton import BONE_COUNT, JOINT_COUNT
from .tmp import TAU, TMP, History
from .virtual_camera import virtual_camera

MAX_GAP = 0.5  # s; after a longer pause between frames a track starts anew
Data = TypeVar("Data")
_REFERENCE_DEVIATION = 0.06  # m, of a joint; more lowers its confidence, less raises it


@dataclass(frozen=True)
class Keypoints:
    """2D joints in the image, of people or of frames (any leading dimensions).

    joints (..., J, 2): pixels without distortion; NaN where missing.
    mass (..., J): 0..1, how sure the detector is; 0 is missing too.
    covariance (..., J, 2, 2): the same pixels squared.
    features (..., J, C): EPE's pooled features; None for 2D joints from elsewhere.
    """

    joints: Tensor
    mass: Tensor
    covariance: Tensor
    features: Tensor | None = None


@dataclass(frozen=True)
class Lifted:
    """3D poses, relative to the pelvis, camera axes (leading dimensions as the keypoints').

    joints (..., J, 3): metres. variance (..., J, 3): m^2, the height's share included.
    confidence (..., J): chance, 0..1, to be within 150 mm of the truth.
    height (...,): metres. height_variance (...,): m^2, 0 if given.
    frames_used (...,): int64, past frames behind the pose, 0..TAU.
    frame: GSR's poses from single frames, and corrected, corrected_log_variance (..., J, 3):
    TMP's before bone lengths are made to agree; all in units of standing height, for the losses.
    """

    joints: Tensor
    variance: Tensor
    confidence: Tensor
    height: Tensor
    height_variance: Tensor
    frames_used: Tensor
    frame: FramePose
    corrected: Tensor
    corrected_log_variance: Tensor


@dataclass(frozen=True)
class TrackState:
    """What one track remembers, oldest first; only the last `count` entries are known.

    TAU is that of the lifter that made the state, and 1 where it has no temporal module.

    joints, log_variance (TAU, J, 3): GSR's poses, camera axes, standing heights.
    stamps: TAU times in seconds.
    body (BODY_FRAMES, 18): bone lengths, height and the height's log-variance.
    """

    joints: Tensor
    log_variance: Tensor
    stamps: tuple[float, ...]
    body: Tensor
    count: int

    @classmethod
    def empty(cls, device: torch.device | str = "cpu", tau: int = TAU) -> TrackState:
        """The state of a track that has seen nothing yet: the start for a lifter of any tau."""
        pose = torch.zeros(tau, JOINT_COUNT, 3, device=device)
        body = torch.zeros(BODY_FRAMES, BODY_VALUES, device=device)
        return cls(pose, pose, (0.0,) * tau, body, 0)

    def continues(self, stamp: float, max_gap: float) -> bool:
        """Whether a frame at `stamp` (s) belongs to the same stretch of time."""
        return self.count > 0 and 0 <= stamp - self.stamps[-1] <= max_gap


@dataclass(frozen=True)
class Past:
    """What N tracks remember, as one frame's lifter takes it.

    joints, log_variance (N, TAU, J, 3), body (N, BODY_FRAMES, 18): of their states.
    age (N, TAU): seconds before the frame, float32. count (N,): int64, how many are known.
    """

    joints: Tensor
    log_variance: Tensor
    age: Tensor
    body: Tensor
    count: Tensor

    @classmethod
    def of(cls, states: Sequence[TrackState], stamp: float) -> Past:
        """The past of a frame at `stamp` (s)."""
        # Subtracted in double precision: epochs in single precision are minutes apart.
        ages = [[stamp - past for past in state.stamps] for state in states]
        joints = torch.stack([state.joints for state in states])
        return cls(
            joints,
            torch.stack([state.log_variance for state in states]),
            torch.tensor(ages, dtype=joints.dtype, device=joints.device),
            torch.stack([state.body for state in states]),
            torch.tensor([state.count for state in states], device=joints.device),
        )


def continued(
    states: Sequence[TrackState], stamp: float, max_gap: float, window: int
) -> list[TrackState]:
    """The states that count for a frame at `stamp` (s); in place of others, empty ones.

    `window` is that of the lifter.
    """
    return [
        state if state.continues(stamp, max_gap) else TrackState.empty(state.joints.device, window)
        for state in states
    ]


def advanced(
    states: Sequence[TrackState], stamp: float, joints: Tensor, log_variance: Tensor, body: Tensor
) -> list[TrackState]:
    """The states of N tracks after a frame at `stamp` (s) that left these tensors."""
    return [
        TrackState(joints[i], log_variance[i], (*state.stamps[1:], stamp), body[i], state.count + 1)
        for i, state in enumerate(states)
    ]


def mapped(data: Data, change: Callable[[Tensor], Tensor]) -> Data:
    """The same dataclass with every tensor in it changed."""

    def changed(value: Any) -> Any:
        if is_dataclass(value):
            return mapped(value, change)
        return change(value) if isinstance(value, Tensor) else value

    values = {f.name: changed(getattr(data, f.name)) for f in fields(data)}  # type: ignore[arg-type]
    return type(data)(**values)


def _marked(keypoints: Keypoints) -> Keypoints:
    """The same with no mass where a joint is missing for whatever reason."""
    there = (keypoints.joints.abs().sum(dim=-1) < torch.inf) & (keypoints.mass > 0)  # NaN is not
    return replace(keypoints, mass=torch.where(there, keypoints.mass, 0.0))


def log_deviation(variance: Tensor) -> Tensor:
    """Logarithm of a joint's standard deviation over 60 mm (...,), of variance (..., 3) m^2."""
    return 0.5 * torch.log(variance.mean(dim=-1) / _REFERENCE_DEVIATION**2)


class Lifter(nn.Module):
    """From 2D joints of a track to its poses in metres.

    Args:
        channels: C of the visual features.
        context: False for GSR as printed.
        tau: past poses that the temporal module sees. 0: no temporal module.
        layers: of graph attention, see GSR.
    """

    variance_scale: Tensor
    height_variance_scale: Tensor
    calibration: Tensor

    def __init__(
        self, channels: int, context: bool = True, tau: int = TAU, layers: int = LAYERS
    ) -> None:
        super().__init__()
        self.channels = channels
        self.window = max(tau, 1)  # the last stamp is needed in any case
        self.gsr = GSR(channels, context, layers)
        self.tmp = TMP() if tau else None
        # Calibration, set once after training on held-out data. Variances are multiplied by their
        # scale, one for each joint and axis. A joint's confidence, the chance to be within 150 mm,
        # is the sigmoid of an offset, plus a slope times the logit of its mass, plus a slope times
        # log(deviation / 60 mm).
        self.register_buffer("variance_scale", torch.ones(JOINT_COUNT, 3))
        self.register_buffer("height_variance_scale", torch.ones(()))
        self.register_buffer("calibration", torch.tensor([1.0, 0.5, -2.0]))

    def step(
        self,
        keypoints: Keypoints,
        boxes: Tensor,
        K: Tensor,
        stamp: float,
        states: Sequence[TrackState],
        subject_height: Tensor | None = None,
        max_gap: float = MAX_GAP,
    ) -> tuple[Lifted, list[TrackState]]:
        """One frame of N tracks, in one batch.

        Args:
            keypoints: of N people.
            boxes: (N, 4) tight boxes x0 y0 x1 y1, pixels without distortion.
            K: (3, 3) or (N, 3, 3) camera matrix.
            stamp: seconds; a track whose last stamp is later, or more than max_gap earlier,
                starts anew.
            states: N states; N at least 1.
            subject_height: (N,) metres; NaN, as None, where it is to be estimated.
            max_gap: seconds.

        Returns:
            the poses of N people, and their N new states; the old ones stay as they were.
        """
        states = continued(states, stamp, max_gap, self.window)
        lifted, joints, log_variance, body = self.advance(
            keypoints, boxes, K, Past.of(states, stamp), subject_height
        )
        return lifted, advanced(states, stamp, joints, log_variance, body)

    def advance(
        self,
        keypoints: Keypoints,
        boxes: Tensor,
        K: Tensor,
        past: Past,
        subject_height: Tensor | None = None,
    ) -> tuple[Lifted, Tensor, Tensor, Tensor]:
        """`step` on tensors alone, as it is exported.

        Args:
            keypoints, boxes, K, subject_height: see `step`.
            past: of the N tracks.

        Returns:
            the poses, and `joints`, `log_variance` and `body` of the N tracks' new states.
        """
        keypoints = _marked(keypoints)
        frame = self._frame(keypoints, boxes, K)
        count = past.count.unsqueeze(1)
        device = count.device
        history = History(
            past.joints,
            past.log_variance,
            past.age,
            torch.arange(self.window, 0, -1, device=device) <= count,
        )
        body = torch.cat([past.body[:, 1:], body_of(frame).unsqueeze(1)], dim=1)
        body_known = torch.arange(BODY_FRAMES - 1, -1, -1, device=device) <= count
        lifted = self._poses(frame, history, body, body_known, keypoints.mass, subject_height)
        joints = torch.cat([past.joints[:, 1:], frame.joints.unsqueeze(1)], dim=1)
        log_variance = torch.cat([past.log_variance[:, 1:], frame.log_variance.unsqueeze(1)], dim=1)
        return lifted, joints, log_variance, body

    def clip(
        self,
        keypoints: Keypoints,
        boxes: Tensor,
        K: Tensor,
        stamps: Tensor,
        valid: Tensor | None = None,
        subject_height: Tensor | None = None,
        max_gap: float = MAX_GAP,
    ) -> Lifted:
        """All frames of B tracks at once: what `step` gives frame by frame.

        Args:
            keypoints: (B, T, ...).
            boxes: (B, T, 4).
            K: (3, 3), (B, 3, 3) or (B, T, 3, 3).
            stamps: (B, T) seconds, float64 as epochs don't fit into less.
            valid: (B, T) bool; False hides a frame from all others, as if it had not come. Its own
                values must be finite all the same (NaN joints aside) and its result means
                nothing. None: all are valid.
            subject_height: (B,) metres; NaN, as None, where it is to be estimated.
            max_gap: seconds.
        """
        size = stamps.shape
        keypoints = _marked(keypoints)
        K = K.unsqueeze(1) if K.ndim == 3 else K
        frame = self._frame(
            mapped(keypoints, lambda x: x.flatten(0, 1)),
            boxes.flatten(0, 1),
            K.expand(*size, 3, 3).flatten(0, 1),
        )
        valid = torch.ones_like(stamps, dtype=torch.bool) if valid is None else valid
        row = torch.arange(size[0], device=stamps.device)[:, None, None]
        # Frame t is the place[t]-th valid one; order[n] is the n-th valid frame.
        place = valid.long().cumsum(dim=1) - 1
        order = (~valid).long().argsort(dim=1, stable=True)

        def before(back: Tensor) -> tuple[Tensor, Tensor]:
            """(B, T, W): index of the valid frame `back` places earlier, and whether there is."""
            wanted = place.unsqueeze(-1) - back
            return order[row, wanted.clamp_min(0)], wanted >= 0

        previous, exists = before(torch.ones(1, dtype=torch.long, device=stamps.device))
        interval = (stamps - stamps[row, previous].squeeze(-1)) * exists.squeeze(-1)
        anew = valid & ((interval > max_gap) | (interval < 0))
        stretch = anew.long().cumsum(dim=1)

        def window(length: int) -> tuple[Tensor, Tensor]:
            """(B, T, length): indices of the past frames, oldest first, and which are known."""
            index, exists = before(torch.arange(length, 0, -1, device=stamps.device))
            return index, exists & (stretch[row, index] == stretch.unsqueeze(-1))

        def gathered(x: Tensor, index: Tensor) -> Tensor:
            return x.unflatten(0, size)[row, index].flatten(0, 1)

        history = None
        if size[1] > 1:  # a single frame has no past to correct it by
            index, known = window(self.window)
            age = (stamps.unsqueeze(-1) - stamps[row, index]).to(frame.joints.dtype)
            history = History(
                gathered(frame.joints, index),
                gathered(frame.log_variance, index),
                age.flatten(0, 1),
                known.flatten(0, 1),
            )
        past, past_known = window(BODY_FRAMES - 1)
        own = torch.arange(size[1], device=stamps.device).expand(size).unsqueeze(-1)
        index = torch.cat([past, own], dim=-1)
        known = torch.cat([past_known, torch.ones_like(own, dtype=torch.bool)], dim=-1)
        if subject_height is not None:
            subject_height = subject_height.unsqueeze(1).expand(size).flatten()
        lifted = self._poses(
            frame,
            history,
            gathered(body_of(frame), index),
            known.flatten(0, 1),
            keypoints.mass.flatten(0, 1),
            subject_height,
        )
        return mapped(lifted, lambda x: x.unflatten(0, size))

    def _frame(self, keypoints: Keypoints, boxes: Tensor, K: Tensor) -> FramePose:
        """GSR's pose of every frame on its own, turned from the virtual to the real camera."""
        missing = keypoints.mass == 0
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        joints = torch.where(missing[..., None], centre[:, None], keypoints.joints)
        joints, extras, rotation = virtual_camera(joints, boxes, K)
        half = (boxes[:, 2:] - boxes[:, :2]).amax(dim=-1) / 2
        features = keypoints.features
        seen = (torch.zeros_like if features is None else torch.ones_like)(half, dtype=torch.bool)
        if features is None:
            features = joints.new_zeros(*joints.shape[:2], self.channels)
        frame = self.gsr(
            Keypoints2D(
                torch.where(missing[..., None], 0.0, joints),
                extras,
                keypoints.mass,
                keypoints.covariance / half[:, None, None, None].square(),
                missing,
                features,
                seen,
            )
        )
        turned = frame.joints @ rotation.transpose(-1, -2)
        # The diagonal of R diag(v) R^T.
        variance = frame.log_variance.exp() @ rotation.square().transpose(-1, -2)
        return FramePose(
            turned,
            variance.log(),
            frame.depth,
            frame.nodes,
            frame.height,
            frame.height_log_variance,
        )

    def _poses(
        self,
        frame: FramePose,
        history: History | None,
        body: Tensor,
        body_known: Tensor,
        mass: Tensor,
        subject_height: Tensor | None,
    ) -> Lifted:
        """M frames with their windows to poses in metres.

        One camera cannot tell how long a bone is, but it stays as long as it was: the poses take
        the running median of the track's bone lengths, and the person's height is the median of
        what single frames say. The height's variance is the median one: frames of one person err
        alike, so more of them do not make it smaller.
        """
        corrected, log_variance = frame.joints, frame.log_variance
        used = torch.zeros_like(mass[:, 0], dtype=torch.long)
        if self.tmp is not None and history is not None:
            corrected, log_variance = self.tmp(frame.nodes, corrected, log_variance, history)
            used = history.known.sum(dim=1)
        steady = running_median(body, body_known)
        joints = with_bone_lengths(corrected, steady[:, :BONE_COUNT])
        height = steady[:, -2]
        height_variance = steady[:, -1].exp() * self.height_variance_scale
        if subject_height is not None:
            given = subject_height.isfinite()
            height = torch.where(given, subject_height.to(height), height)
            height_variance = torch.where(given, 0.0, height_variance)

        scale = height[:, None, None]
        relative = log_variance.exp() * self.variance_scale
        # The pelvis is the origin and cannot be off.
        least = torch.full_like(relative[:, :1], LOG_VARIANCE_RANGE[0]).exp()
        relative = torch.cat([least, relative[:, 1:]], dim=1)
        variance = relative * scale.square() + joints.square() * height_variance[:, None, None]
        offset, of_mass, of_deviation = self.calibration.unbind()
        confidence = torch.sigmoid(
            offset + of_mass * mass_logit(mass.clamp(0, 1)) + of_deviation * log_deviation(variance)
        )
        return Lifted(
            joints * scale,
            variance,
            confidence,
            height,
            height_variance,
            used,
            frame,
            corrected,
            log_variance,
        )
