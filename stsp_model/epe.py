"""EPE, the keypoint module (eq. 2-7): motion-weighted features, heat maps, 2D joints.

Heat-map cell (x, y) covers 4x4 pixels of the crop, so its centre is pixel (4x + 1.5, 4y + 1.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .constants import SWAP, beside
from .hrnet import STRIDE, HRNet, HRNetSize, Normalise
from .skeleton import JOINT_COUNT

REFERENCE_INTERVAL = 1 / 30  # s; saliency is motion during this time
MOTION_GAMMA = 1.0  # how much weight motion can claim
MOTION_LAMBDA = 4.0  # how fast it claims it: a limb crossing 1/20 of the crop gets W = 1.11
MODE_SIGMA = 1.5  # cells, as of the targets that heat maps are trained on
WINDOW_RADIUS = 3  # cells around the mode: a 7x7 window
MODE_STEPS = 4  # of mean shift, from the window's mean
MASKED = -1e4  # instead of -inf, which turns into NaN where all is masked
PRESENT_BIAS = 4.0  # an untrained network takes every crop for a person, beyond doubt


def motion_saliency(
    previous_crop: npt.NDArray[np.uint8] | None,
    crop: npt.NDArray[np.uint8],
    interval: float,
) -> npt.NDArray[np.float32]:
    """Eq. 2 and 3: optical flow between two crops of the same box, and how salient the motion is.

    Flow (u, v) comes from OpenCV's DIS on grey pictures of the features' resolution. Its median
    over the crop, the camera's own motion, is taken off. S = |(u, v)| over the crop's diagonal,
    scaled to 1/30 s whatever the frame rate, clipped to 0..1.

    Args:
        previous_crop: the previous frame, cut with the current frame's box; None if there is none.
        crop: (H, W, 3) BGR or (H, W) grey, uint8, H and W multiples of 4.
        interval: seconds between the two frames.

    Returns:
        S (H/4, W/4); zeros without a previous frame.

    Raises:
        ValueError: if the crops differ in shape or the interval is not positive.
    """
    height, width = crop.shape[:2]
    size = (width // STRIDE, height // STRIDE)
    if previous_crop is None:
        return np.zeros(size[::-1], np.float32)
    if previous_crop.shape != crop.shape:
        raise ValueError(f"previous_crop has shape {previous_crop.shape}, crop {crop.shape}")
    if not (np.isfinite(interval) and interval > 0):
        raise ValueError(f"interval is {interval} s, expected more than 0")
    create: Any = cv2.DISOpticalFlow_create  # type: ignore[attr-defined]  # old OpenCV's name, too
    dis = create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    flow = dis.calc(_small_grey(previous_crop, size), _small_grey(crop, size), None)
    # In plain steps, for each component on its own: np.median and np.hypot take twice as long.
    ways = np.ascontiguousarray(flow.reshape(-1, 2).T)
    middle = (ways.shape[1] - 1) // 2, ways.shape[1] // 2
    ways -= np.partition(ways, middle, axis=1)[:, middle].mean(axis=1, keepdims=True)
    length: npt.NDArray[np.float32] = np.sqrt((ways * ways).sum(axis=0)).reshape(size[::-1])
    length *= np.float32(REFERENCE_INTERVAL / interval / np.hypot(*size))
    return np.clip(length, 0, 1, out=length)


def _small_grey(crop: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY) if small.ndim == 3 else small
    return np.asarray(grey, np.uint8)


def motion_weights(saliency: Tensor, literal: bool = False) -> Tensor:
    """Eq. 4: weights W of the features from saliency S in 0..1, of the same shape.

    As printed W = 1 + gamma exp(lambda S), which multiplies a still picture by 1 + gamma. The
    default divides that out: W = (1 + gamma exp(lambda S)) / (1 + gamma), so W = 1 where nothing
    moves. `literal` gives the printed form.
    """
    weights = 1 + MOTION_GAMMA * torch.exp(MOTION_LAMBDA * saliency)
    return weights if literal else weights / (1 + MOTION_GAMMA)


def cells_to_pixels(cells: Tensor) -> Tensor:
    """Heat-map cells to pixels of the crop, for points of any shape."""
    return cells * STRIDE + (STRIDE - 1) / 2


def soft_argmax(heatmaps: Tensor, window: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. 7: where each joint is, as the mean of a softmax over its heat map; in float32.

    The printed global form averages two modes, such as a left/right swap, into a point between
    them; it serves the loss. With `window` the mean is taken over the 7x7 cells around the mode,
    which is where most of the softmax lies nearby: the largest cell of the smoothed map. The
    largest cell of the map itself can be a lone one beside a broad hill, and is a matter of
    rounding where a hill is flat; on Leeds Sports Pose it costs 0.7 points of PCK@0.2. From that
    mean, mean shift with the same Gaussian (Comaniciu and Meer, 2002, eq. 17) climbs on to where
    the hill itself has its middle, so that where the window lay no longer matters.

    Args:
        heatmaps: (..., h, w) logits.
        window: False for the printed form.

    Returns:
        joints (..., 2) in pixels of the crop; mass (...,), the share of the global softmax within
        the window (1 for the global form); covariance (..., 2, 2) in pixels squared of the softmax
        within the window.
    """
    height, width = heatmaps.shape[-2:]
    maps = heatmaps.float().flatten(-2).softmax(dim=-1).unflatten(-1, (height, width))
    across, down = _cells(width, maps), _cells(height, maps)
    if window:
        peak = _smoothed(maps).flatten(-2).argmax(dim=-1)
        near_across = _within(peak % width, width)
        near_down = _within(peak.div(width, rounding_mode="floor"), height)
    else:
        near_across, near_down = torch.ones_like(across), torch.ones_like(down)
    columns = _columns(maps, near_across, near_down)
    rows = _columns(maps.transpose(-1, -2), near_down, near_across)
    mass = columns.sum(dim=-1, keepdim=True) if window else torch.ones_like(columns[..., :1])
    columns, rows = columns / mass, rows / mass
    mean = torch.stack([(columns * across).sum(dim=-1), (rows * down).sum(dim=-1)], dim=-1)
    dx, dy = across - mean[..., :1], down - mean[..., 1:]
    xx, yy = (columns * dx.square()).sum(dim=-1), (rows * dy.square()).sum(dim=-1)
    # What each column has of the distances up and down.
    leaning = _columns(maps, near_across, near_down * dy)
    xy = (leaning / mass * dx).sum(dim=-1)
    covariance = torch.stack([xx, xy, xy, yy], dim=-1).unflatten(-1, (2, 2)) * STRIDE**2
    if window:
        for _ in range(MODE_STEPS):
            mean = _shifted(mean, maps)
    return cells_to_pixels(mean), mass.squeeze(-1), covariance


def _columns(maps: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """What each column of maps (..., h, w) has under weights of columns (..., w) and rows (..., h).

    Of the transposed maps and with the weights exchanged: what each row has.
    """
    if maps.is_meta:  # which knows no autocast, and where shapes alone count
        return maps[..., 0, :]
    # In float32 whatever runs around it: mixed precision would multiply in 16 bits.
    with torch.autocast(maps.device.type, enabled=False):
        return (down.unsqueeze(-2) @ maps).squeeze(-2) * across


def _smoothed(maps: Tensor) -> Tensor:
    """Maps (..., h, w) under a Gaussian of MODE_SIGMA cells, in float32 whatever runs around it."""
    down, across = (_nearness(_cells(size, maps), size) for size in maps.shape[-2:])
    if maps.is_meta:  # as above
        return maps
    with torch.autocast(maps.device.type, enabled=False):
        return down @ maps @ across


def _shifted(mean: Tensor, maps: Tensor) -> Tensor:
    """A step of mean shift from cells (..., 2) on maps (..., h, w) that sum to one."""
    height, width = maps.shape[-2:]
    x, y = _cells(width, maps), _cells(height, maps)
    across, down = _nearness(mean[..., 0], width), _nearness(mean[..., 1], height)
    columns = _columns(maps, across, down)
    rows = _columns(maps.transpose(-1, -2), down, across)
    # Never nothing: the start lies in the window, and there most of the softmax is nearby.
    whole = columns.sum(dim=-1)
    return torch.stack([(columns * x).sum(dim=-1) / whole, (rows * y).sum(dim=-1) / whole], dim=-1)


def _cells(count: int, like: Tensor) -> Tensor:
    return torch.arange(count, device=like.device).float()


def _within(places: Tensor, count: int) -> Tensor:
    """(..., count): 1 for cells of a line in the window around `places` (...), else 0."""
    return ((_cells(count, places) - places.unsqueeze(-1)).abs() <= WINDOW_RADIUS).float()


def _nearness(places: Tensor, count: int) -> Tensor:
    """(..., count): a Gaussian of how far each cell of a line is from `places` (...)."""
    away = _cells(count, places) / MODE_SIGMA - (places / MODE_SIGMA).unsqueeze(-1)
    return torch.exp(-0.5 * away.square())


def mass_logit(mass: Tensor) -> Tensor:
    """Logit of a heat map's mass, kept within +-9.2 where the mass is next to 0 or 1."""
    return torch.logit(mass, eps=1e-4)


@dataclass(frozen=True)
class Observation:
    """What the keypoint module sees in N crops.

    joints (N, J, 2): pixels of the crop.
    mass (N, J): share of the heat map's softmax in the window around its mode, 0..1.
    covariance (N, J, 2, 2): of that window, pixels squared.
    confidence (N, J): calibrated probability of the joint being right, 0..1.
    features (N, J, C): motion-weighted features, pooled with the heat map's softmax.
    present (N,): logit of a person being in the crop.
    heatmaps (N, J, H/4, W/4): logits.
    """

    joints: Tensor
    mass: Tensor
    covariance: Tensor
    confidence: Tensor
    features: Tensor
    present: Tensor
    heatmaps: Tensor


class EPE(nn.Module):
    """Eq. 1-7: from a crop and its motion saliency to 2D joints.

    Args:
        size: of the backbone.
        literal_motion: eq. 4 as printed.
    """

    calibration: Tensor

    def __init__(self, size: HRNetSize, literal_motion: bool = False) -> None:
        super().__init__()
        self.literal_motion = literal_motion
        self.normalise = Normalise()
        self.backbone = HRNet(size, JOINT_COUNT)
        channels = size.widths[0]
        last = nn.Linear(64, 1)
        self.present = nn.Sequential(
            nn.LayerNorm(2 * channels), nn.Linear(2 * channels, 64), nn.ReLU(), last
        )
        nn.init.normal_(last.weight, std=0.01)
        nn.init.constant_(last.bias, PRESENT_BIAS)
        # Offset and slope on the mass's logit: (0, 1) takes the mass itself for the probability.
        self.register_buffer("calibration", torch.tensor([0.0, 1.0]))

    def forward(self, crops: Tensor, saliency: Tensor, mirrored: bool = False) -> Observation:
        """See the joints of one person per crop.

        Eq. 1: F = HRNet(I). Eq. 5: F' = W * F, with W of eq. 4 for every channel. Eq. 6: the heat
        maps H are a 1x1 convolution of F'. Eq. 7: the joints are the soft-argmax of H. The visual
        feature of a joint is F' averaged with the softmax of its heat map.

        Args:
            crops: (N, 3, H, W) RGB, 0..1.
            saliency: (N, 1, H/4, W/4), 0..1.
            mirrored: look at each crop's mirror image as well and take the mean of the heat maps:
                fewer errors for twice the work, and what is left and what right no longer
                depends on which way round somebody is seen.
        """
        return self.read(self.look(crops, mirrored), saliency, mirrored)

    def look(self, crops: Tensor, mirrored: bool = False) -> Tensor:
        """Eq. 1, nearly all of the work: features (N, C, H/4, W/4), with mirror images 2 N."""
        if mirrored:
            crops = torch.cat([crops, crops.flip(-1)])
        features: Tensor = self.backbone(self.normalise(crops))
        return features

    def read(self, features: Tensor, saliency: Tensor, mirrored: bool = False) -> Observation:
        """Eq. 5 to 7, of what `look` gave."""
        if mirrored:
            saliency = torch.cat([saliency, saliency.flip(-1)])
        weighted = features * motion_weights(saliency, self.literal_motion)
        heatmaps = self.backbone.final_layer(weighted)
        if mirrored:
            (features, _), (weighted, _), (heatmaps, other) = (
                seen.unflatten(0, (2, -1)).unbind() for seen in (features, weighted, heatmaps)
            )
            heatmaps = (heatmaps + other.flip(-1)[:, beside(SWAP, other)]) / 2
        joints, mass, covariance = soft_argmax(heatmaps)
        share = heatmaps.float().flatten(2).softmax(dim=-1).to(weighted.dtype)
        pooled = share @ weighted.flatten(2).transpose(1, 2)
        # Whether somebody is there must not depend on whether he or she moves.
        summary = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=-1)
        present = self.present(summary).squeeze(-1)
        confidence = torch.sigmoid(self.calibration[0] + self.calibration[1] * mass_logit(mass))
        return Observation(joints, mass, covariance, confidence, pooled, present, heatmaps)
