"""STSP-Net: EPE, GSR, TMP and the finder put together, and the presets of their sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .body import BODY_FRAMES
from .camera import Camera
from .checks import checked_track, is_number
from .crop import Points, to_image
from .epe import EPE, Observation
from .finder import FINDER_SIZE, Finder
from .gsr import LAYERS
from .hrnet import STRIDE, HRNetSize
from .lifter import MAX_GAP, Keypoints, Lifted, Lifter, TrackState, mapped
from .runtime import FLOAT32
from .skeleton import JOINT_COUNT
from .tmp import TAU

FloatArray = npt.NDArray[np.float64]

SUBJECT_HEIGHT_RANGE = (0.5, 2.5)  # metres
# 2D joints from elsewhere come without a covariance: this deviation, in half box sides, is about
# half a heat-map cell.
NOMINAL_DEVIATION = 0.03
_FARTHEST = 1e15  # pixels; what lies farther off has no square in single precision
_LIFT_FRAMES = 512  # per pass of `lift`, so that its memory is bounded


@dataclass(frozen=True)
class Preset:
    """What distinguishes one network from another; `dataclasses.replace` makes an ablation.

    backbone: HRNet's sizes. crop: side of EPE's square input, pixels.
    literal_motion: eq. 4 as printed. context: False for GSR as printed (eq. 10-13).
    graph_layers: of GSR's attention; 0: an MLP per joint instead. tau: past poses that TMP sees;
    0: no TMP.

    Raises:
        ValueError: for less than 0 graph layers or past poses, or a crop that HRNet cannot halve
            five times or that is too small for the flow.
    """

    name: str
    backbone: HRNetSize
    crop: int
    literal_motion: bool = False
    context: bool = True
    graph_layers: int = LAYERS
    tau: int = TAU

    def __post_init__(self) -> None:
        if self.crop < 64 or self.crop % 32:
            raise ValueError(f"crop is {self.crop}, expected a multiple of 32, 64 or more")
        for field in ("graph_layers", "tau"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field} is {getattr(self, field)}, expected 0 or more")


# The crop's side: 192 px are what a CPU affords in 8 bits (docs/experiments.md),
# 256 and 384 are what the authors of HRNet trained W32 and W48 with (longer side).
PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "edge",
            HRNetSize((32, 64, 128, 160), 32, 16, layer1_blocks=2, modules=(1, 1, 1), blocks=2),
            192,
        ),
        Preset("base", HRNetSize((32, 64, 128, 256)), 256),
        Preset("large", HRNetSize((48, 96, 192, 384)), 384),
    )
}


def as_preset(preset: str | Preset) -> Preset:
    """The preset itself, or that of a name in PRESETS; ValueError if there is none."""
    if isinstance(preset, Preset):
        return preset
    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}, expected one of {', '.join(PRESETS)}")
    return PRESETS[preset]


@dataclass(frozen=True)
class Clip:
    """B tracks of T frames, for `STSPNet.forward`.

    crops (B, T, 3, H, W): RGB, 0..1; saliency (B, T, 1, H/4, W/4).
    crop_boxes (B, T, 4): what part of the image the crops show, x0 y0 x1 y1 pixels.
    boxes (B, T, 4): tight boxes, pixels. K (3, 3), (B, 3, 3) or (B, T, 3, 3); images without
    distortion. stamps (B, T): seconds, float64.
    valid (B, T): bool, see `Lifter.clip`. subject_height (B,): metres, NaN for unknown.
    """

    crops: Tensor
    saliency: Tensor
    crop_boxes: Tensor
    boxes: Tensor
    K: Tensor
    stamps: Tensor
    valid: Tensor | None = None
    subject_height: Tensor | None = None


def joints_in_image(
    joints: Points, covariance: Points, crop_boxes: Points, size: Points
) -> tuple[Points, Points]:
    """Joints (N, J, 2) and their covariances (N, J, 2, 2) in pixels of crops to the image's.

    Args:
        crop_boxes: (N, 4) x0 y0 x1 y1, pixels of the image. size: (2,) width, height of a crop.
    """
    scale = (crop_boxes[:, None, 2:] - crop_boxes[:, None, :2]) / size
    spread = scale[..., None] * scale[..., None, :]
    return to_image(joints, crop_boxes[:, None], size), covariance * spread


def image_keypoints(observation: Observation, crop_boxes: Tensor) -> Keypoints:
    """What was seen in crops, in pixels of the image they were cut from.

    Args:
        observation: of N crops.
        crop_boxes: (N, 4) x0 y0 x1 y1, pixels.
    """
    height, width = (STRIDE * side for side in observation.heatmaps.shape[-2:])
    joints, covariance = joints_in_image(
        observation.joints,
        observation.covariance,
        crop_boxes,
        crop_boxes.new_tensor([width, height]),
    )
    return Keypoints(joints, observation.mass, covariance, observation.features)


@dataclass(frozen=True, eq=False)
class LiftedTrack:
    """Poses of one person in T frames; NaN in those without any 2D joint.

    joints (T, 17, 3): m from the pelvis, camera axes; variance (T, 17, 3): m^2, the height's share
    included; confidence (T, 17): chance to be within 150 mm. height, height_variance (T,): m and
    m^2, the latter 0 where the height was given.
    """

    joints: npt.NDArray[np.float32]
    variance: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    height: npt.NDArray[np.float32]
    height_variance: npt.NDArray[np.float32]

    @classmethod
    def unknown(cls, frames: int) -> LiftedTrack:
        """All NaN."""
        shapes = (JOINT_COUNT, 3), (JOINT_COUNT, 3), (JOINT_COUNT,), (), ()
        return cls(*(np.full((frames, *shape), np.nan, np.float32) for shape in shapes))


class STSPNet(nn.Module):
    """STSP-Net (Liu et al. 2025): keypoints, skeleton and temporal module, and the finder.

    Args:
        preset: name in PRESETS, or a Preset.
        seed: of the initial weights. The caller's random state is left alone.

    Attributes:
        preset: the Preset.
        input_size: (width, height) of a crop. finder_size: of a letterboxed frame.
        trained: whether the weights were trained; note: how. precision: in which it computes.

    Raises:
        ValueError: if there is no such preset.
    """

    def __init__(self, preset: str | Preset = "edge", seed: int = 0) -> None:
        super().__init__()
        self.preset = preset = as_preset(preset)
        self.input_size = (preset.crop, preset.crop)
        self.finder_size = FINDER_SIZE
        self.trained = False
        self.note = ""
        self.precision = FLOAT32
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed: that seeds the accelerators as well.
            torch.default_generator.manual_seed(seed)
            self.finder = Finder()
            self.epe = EPE(preset.backbone, preset.literal_motion)
            self.lifter = Lifter(
                preset.backbone.widths[0], preset.context, preset.tau, preset.graph_layers
            )
        # A quarter to a third faster on CPUs, where narrow convolutions are bound by memory.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def find_people(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Where people are in whole frames; `finder.decode_people` makes boxes of it.

        Args:
            frames: (N, 3, h, w) RGB, 0..1, letterboxed to `finder_size`.

        Returns:
            centres (N, h/8, w/8) logits and distances (N, 4, h/8, w/8) to the box's edges, pixels.
        """
        centres, distances = self.finder(frames.contiguous(memory_format=torch.channels_last))
        return centres, distances

    def begin(self, crops: Tensor) -> None:
        """See `runtime.running.RunningNetwork.begin`: nothing to begin with here."""

    def observe(self, crops: Tensor, saliency: Tensor) -> Observation:
        """2D joints in crops (N, 3, H, W) RGB 0..1, given motion saliency (N, 1, H/4, W/4)."""
        observation = self.epe(crops.contiguous(memory_format=torch.channels_last), saliency)
        assert isinstance(observation, Observation)
        return observation

    def lift_frame(
        self,
        keypoints: Keypoints,
        boxes: Tensor,
        K: Tensor,
        stamp: float,
        states: Sequence[TrackState],
        subject_height: Tensor | None = None,
        max_gap: float = MAX_GAP,
    ) -> tuple[Lifted, list[TrackState]]:
        """One frame of N tracks to 3D, in one batch; see `Lifter.step`."""
        return self.lifter.step(keypoints, boxes, K, stamp, states, subject_height, max_gap)

    def forward(self, clip: Clip, max_gap: float = MAX_GAP) -> tuple[Observation, Lifted]:
        """Whole clips at once: the numbers that `observe` and `lift_frame` give frame by frame.

        Returns:
            the observation of B*T crops, and the poses (B, T, ...).
        """
        size = clip.stamps.shape
        observation = self.observe(clip.crops.flatten(0, 1), clip.saliency.flatten(0, 1))
        flat = image_keypoints(observation, clip.crop_boxes.flatten(0, 1))
        keypoints = mapped(flat, lambda x: x.unflatten(0, size))
        lifted = self.lifter.clip(
            keypoints, clip.boxes, clip.K, clip.stamps, clip.valid, clip.subject_height, max_gap
        )
        return observation, lifted

    def lift(
        self,
        joints_2d: npt.ArrayLike | Tensor,
        stamps: npt.ArrayLike | Tensor,
        camera: Camera,
        confidence: npt.ArrayLike | Tensor | None = None,
        subject_height: float | None = None,
        covariance: npt.ArrayLike | Tensor | None = None,
    ) -> npt.NDArray[np.float32]:
        """3D poses from 2D joints of one person alone; causal: a pose never sees later frames.

        Args:
            joints_2d: (T, 17, 2) pixels of the image; NaN where a joint is missing.
            stamps: (T,) seconds, increasing.
            camera: the camera that saw them.
            confidence: (T, 17), 0..1; 0 is missing. None: 1 for all.
            subject_height: standing height in metres, 0.5 to 2.5; None or 0: estimated.
            covariance: (T, 17, 2, 2) of the 2D joints, pixels of the image squared; None: a
                nominal one.

        Returns:
            (T, 17, 3) metres from the pelvis, camera axes; NaN for a frame without any joint.

        Raises:
            TypeError, ValueError: naming the argument that does not fit.
        """
        return self.lift_track(
            joints_2d, stamps, camera, confidence, subject_height, covariance
        ).joints

    @torch.inference_mode()
    def lift_track(
        self,
        joints_2d: npt.ArrayLike | Tensor,
        stamps: npt.ArrayLike | Tensor,
        camera: Camera,
        confidence: npt.ArrayLike | Tensor | None = None,
        subject_height: float | None = None,
        covariance: npt.ArrayLike | Tensor | None = None,
    ) -> LiftedTrack:
        """As `lift`, with how sure the poses are."""
        points, times, certainty, spread = checked_track(
            joints_2d, stamps, camera, confidence, covariance
        )
        height = checked_height(subject_height)
        points = camera.undistort(points)
        there = (np.abs(points) < _FARTHEST).all(axis=-1) & (certainty > 0)
        points[~there] = np.nan
        result = LiftedTrack.unknown(len(points))
        frames = np.flatnonzero(there.any(axis=1))
        points, times, certainty = points[frames], times[frames], certainty[frames]
        corners = np.nanmin(points, axis=1), np.nanmax(points, axis=1)
        # A lone joint has no extent; one pixel is the least a box can have.
        centre = (corners[0] + corners[1]) / 2
        half = np.maximum(corners[1] - corners[0], 1) / 2
        nominal = np.square(NOMINAL_DEVIATION * half.max(axis=-1))[:, None, None, None] * np.eye(2)
        nominal = np.broadcast_to(nominal, (len(frames), JOINT_COUNT, 2, 2))
        spread = nominal if spread is None else camera.undistort_spread(points, spread[frames])
        boxes = np.concatenate([centre - half, centre + half], axis=-1)
        # What a frame sees of the past is finite, so pieces that overlap by that much join exactly.
        for start in range(0, len(frames), _LIFT_FRAMES):
            first = max(start - BODY_FRAMES, 0)
            piece = slice(first, start + _LIFT_FRAMES)
            lifted = self._lifted(
                points[piece],
                certainty[piece],
                spread[piece],
                boxes[piece],
                times[piece],
                camera,
                height,
            )
            for field in fields(result):
                values = getattr(lifted, field.name)[0, start - first :].cpu().numpy()
                getattr(result, field.name)[frames[start : start + _LIFT_FRAMES]] = values
        return result

    def _lifted(
        self,
        points: FloatArray,
        certainty: FloatArray,
        spread: FloatArray,
        boxes: FloatArray,
        times: FloatArray,
        camera: Camera,
        height: float | None,
    ) -> Lifted:
        """`lift_track` for one piece of a clip, as a batch of one."""
        like = self.lifter.variance_scale
        joints, mass, covariance, box, K = (
            torch.from_numpy(np.ascontiguousarray(x)).to(like)
            for x in (points, certainty, spread, boxes, camera.K.copy())
        )
        keypoints = Keypoints(joints.unsqueeze(0), mass.unsqueeze(0), covariance.unsqueeze(0))
        return self.lifter.clip(
            keypoints,
            box.unsqueeze(0),
            K,
            torch.from_numpy(times).to(like.device).unsqueeze(0),
            subject_height=None if height is None else like.new_tensor([height]),
        )


def checked_height(subject_height: float | None) -> float | None:
    """The height in metres, or None if it is to be estimated (None or 0).

    Raises:
        TypeError: if it is no number; ValueError: if outside 0.5..2.5 m.
    """
    if subject_height is None:
        return None
    if not is_number(subject_height):
        raise TypeError(f"subject_height is {subject_height!r}, expected metres or None")
    height = float(subject_height)
    low, high = SUBJECT_HEIGHT_RANGE
    if height == 0:
        return None
    if not (math.isfinite(height) and low <= height <= high):
        raise ValueError(f"subject_height is {height} m, expected 0 or {low} to {high}")
    return height
