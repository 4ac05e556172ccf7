"""The losses of training: pure functions of predictions, truth and masks.

Shapes: B batch, T frames, J joints, D 2 or 3 coordinates. Every loss is a mean over what its mask
admits, so neither batch size nor missing joints change its scale; with nothing admitted it is zero.
Truth that is masked out may be NaN. Rates of change are expressed per 1/30 s, so that at 30 frames
per second they are plain differences between frames, and at any other rate mean the same motion.

The paper's equations 8, 19 and 20 as printed act on the prediction alone and so punish real motion;
by default they act on the difference to the truth, and `literal=True` gives the printed form. The
weighted sums of eq. 9, 22 and 23 are made where a stage trains, by its configuration's weights.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from .constants import beside
from .epe import REFERENCE_INTERVAL
from .skeleton import ANGLES, BONES

_MIN_BONE = 1e-6  # metres; a shorter bone has no direction
_MIN_VARIANCE = 1e-8
_PARENTS, _CHILDREN = torch.tensor(BONES).unbind(1)


def masked_mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of `values` where `mask`, of the start of their shape, is True; zero if nowhere."""
    if mask is None:
        return values.mean() if values.numel() else values.sum()
    if mask.shape != values.shape[: mask.ndim]:
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}, expected {tuple(values.shape)} or the start of it"
        )
    mask = mask.bool().reshape(*mask.shape, *(1,) * (values.ndim - mask.ndim)).expand_as(values)
    # Selecting by where keeps NaN of masked entries out of the sum and out of the gradient.
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp_min(1)


def _difference(prediction: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    if prediction.shape != target.shape:
        raise ValueError(
            f"target has shape {tuple(target.shape)}, expected that of the prediction, "
            f"{tuple(prediction.shape)}"
        )
    difference = prediction - target
    if mask is None:
        return difference
    mask = mask.bool().reshape(*mask.shape, *(1,) * (difference.ndim - mask.ndim))
    return torch.where(mask, difference, 0.0)


def heatmap_mse(heatmaps: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error of heat maps (eq. 6): (..., J, h, w) each, mask (..., J)."""
    return masked_mean(_difference(heatmaps, target, mask).square().mean((-2, -1)), mask)


def heatmap_cross_entropy(logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Cross-entropy between the softmax over the map and the target made to sum to one.

    Learns much faster than `heatmap_mse`, whose gradient vanishes on a map that is all but empty.

    Args:
        logits, target: (..., J, h, w); target not negative. A target without any mass (its joint
            lies outside the crop) does not count.
        mask: (..., J).
    """
    if logits.shape != target.shape:
        raise ValueError(
            f"target has shape {tuple(target.shape)}, expected {tuple(logits.shape)} as the logits"
        )
    mass = target.sum((-2, -1))
    known = mass > 0 if mask is None else (mass > 0) & mask.bool()
    share = torch.where(known[..., None], (target / mass[..., None, None]).flatten(-2), 0.0)
    loss = -(share * functional.log_softmax(logits.flatten(-2), dim=-1)).sum(-1)
    return masked_mean(loss, known)


def trajectory_loss(
    joints: Tensor,
    target: Tensor,
    stamps: Tensor,
    mask: Tensor | None = None,
    literal: bool = False,
) -> Tensor:
    """Local trajectory constraint (eq. 8): squared displacement from frame to frame.

    Args:
        joints, target: (B, T, J, D), any unit.
        stamps: (B, T) seconds, increasing.
        mask: (B, T, J); a step counts when both its ends do.
        literal: displacement of the prediction itself, as printed, not of its error.
    """
    moving = joints if literal else _difference(joints, target, mask)
    return _mean_square(*_rate(moving, _steps(stamps), mask))


def pose_loss(
    joints: Tensor, target: Tensor, mask: Tensor | None = None, squared: bool = True
) -> Tensor:
    """3D regression loss (eq. 14): mean squared distance, m^2, or with squared=False distance, m.

    Args:
        joints, target: (..., J, 3) metres.
        mask: (..., J).
    """
    distance = torch.linalg.vector_norm(_difference(joints, target, mask), dim=-1)
    return masked_mean(distance.square() if squared else distance, mask)


def bone_vectors(joints: Tensor) -> Tensor:
    """Bones (..., 16, D) of joints (..., 17, D) from parent to child, in the order of BONES."""
    return joints[..., beside(_CHILDREN, joints), :] - joints[..., beside(_PARENTS, joints), :]


def bone_lengths(joints: Tensor) -> Tensor:
    """Lengths (..., 16) of the bones of joints (..., 17, D), in the order of skeleton.BONES."""
    return torch.linalg.vector_norm(bone_vectors(joints), dim=-1)


def known_bones(known: Tensor) -> Tensor:
    """Which bones (..., 16) have both their ends among the known joints (..., 17)."""
    parents, children = beside(_PARENTS, known), beside(_CHILDREN, known)
    return known[..., parents].bool() & known[..., children].bool()


def bone_length_loss(joints: Tensor, lengths: Tensor, mask: Tensor | None = None) -> Tensor:
    """Bone-length constraint (eq. 15): mean squared deviation from the reference, m^2.

    Args:
        joints: (..., 17, 3) metres.
        lengths: (..., 16) metres, the sample's own: `bone_lengths` of its truth. Children of every
            size have no common length.
        mask: (..., 17); a bone counts when both its ends do.
    """
    known = None if mask is None else known_bones(mask)
    return masked_mean(_difference(bone_lengths(joints), lengths, known).square(), known)


def included_angles(joints: Tensor) -> Tensor:
    """Angles (..., A) in radians, 0..pi, of joints (..., 17, 3), in the order of skeleton.ANGLES.

    NaN where one of the two bones has no length.
    """
    ends = {name: [getattr(a, name) for a in ANGLES] for name in ("start", "vertex", "end")}
    first = joints[..., ends["start"], :] - joints[..., ends["vertex"], :]
    second = joints[..., ends["end"], :] - joints[..., ends["vertex"], :]
    lengths = torch.stack([first.norm(dim=-1), second.norm(dim=-1)])
    degenerate = (lengths.amin(0) < _MIN_BONE) | ~lengths.isfinite().all(0)
    axis = torch.zeros_like(first)
    axis[..., 0] = 1
    first = torch.where(degenerate[..., None], axis, first)
    second = torch.where(degenerate[..., None], axis, second)
    # Unlike the arccosine, this has a finite slope up to the straight limb.
    cross = torch.linalg.cross(first, second)
    angles = torch.atan2(torch.linalg.vector_norm(cross, dim=-1), (first * second).sum(-1))
    return torch.where(degenerate, torch.nan, angles)


def joint_angle_loss(joints: Tensor, mask: Tensor | None = None) -> Tensor:
    """Joint-angle constraint (eq. 16): mean squared excess over skeleton.ANGLES, radians^2.

    Args:
        joints: (..., 17, 3), any unit.
        mask: (..., 17); an angle counts when its three joints do.
    """
    low = joints.new_tensor([math.radians(a.min_deg) for a in ANGLES])
    high = joints.new_tensor([math.radians(a.max_deg) for a in ANGLES])
    angles = included_angles(joints)
    known = ~angles.isnan()
    if mask is not None:
        ends = torch.tensor([(a.start, a.vertex, a.end) for a in ANGLES], device=joints.device)
        known = known & mask.bool()[..., ends].all(-1)
    angles = torch.where(known, angles, (low + high) / 2)
    excess = functional.relu(low - angles) + functional.relu(angles - high)
    return masked_mean(excess.square(), known)


def velocity_loss(
    joints: Tensor,
    target: Tensor,
    stamps: Tensor,
    mask: Tensor | None = None,
    literal: bool = False,
) -> Tensor:
    """Velocity constraint (eq. 19): mean squared error of velocity, m^2 per (1/30 s)^2.

    Args:
        joints, target: (B, T, J, 3) metres.
        stamps: (B, T) seconds, increasing.
        mask: (B, T, J); a velocity counts when both its frames do.
        literal: the change of the prediction's own velocity, which is the quantity of eq. 20.
    """
    if literal:
        return acceleration_loss(joints, target, stamps, mask, literal=True)
    return _mean_square(*_rate(_difference(joints, target, mask), _steps(stamps), mask))


def acceleration_loss(
    joints: Tensor,
    target: Tensor,
    stamps: Tensor,
    mask: Tensor | None = None,
    literal: bool = False,
) -> Tensor:
    """Acceleration constraint (eq. 20): mean squared error of acceleration, m^2 per (1/30 s)^4.

    Arguments as for `velocity_loss`; literal: the prediction's own acceleration. Zero for fewer
    than three frames.
    """
    moving = joints if literal else _difference(joints, target, mask)
    if stamps.shape[1] < 3:
        return masked_mean(moving[:, :0])
    steps = _steps(stamps)
    velocity, known = _rate(moving, steps, mask)
    between = (steps[:, 1:] + steps[:, :-1]) / 2  # velocities stand in the middle of their steps
    return _mean_square(*_rate(velocity, between, known))


def centre_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss of the person-centre map (Zhou et al., Objects as Points, 2019, eq. 1).

    Args:
        logits: (N, h, w) before the sigmoid.
        target: (N, h, w) in 0..1: Gaussians whose peak, at a person's centre, is exactly 1.

    Returns:
        The sum over all cells divided by the number of people (by 1 if there is none).
    """
    if logits.shape != target.shape:
        raise ValueError(
            f"target has shape {tuple(target.shape)}, expected {tuple(logits.shape)} as the logits"
        )
    score = logits.sigmoid()
    peak = target == 1
    hit = (1 - score).square() * functional.logsigmoid(logits)
    miss = (1 - target) ** 4 * score.square() * functional.logsigmoid(-logits)
    return -torch.where(peak, hit, miss).sum() / peak.sum().clamp_min(1)


def size_loss(sizes: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error of the logarithms of sizes: a tenth too large costs alike for all people.

    Args:
        sizes, target: (N, C, h, w) positive: a box's C measures, in pixels.
        mask: (N, h, w), True in the cells that hold a person.
    """
    safe = torch.where(mask.bool().unsqueeze(1), target, 1.0)
    error = (sizes.log() - safe.log()).abs().movedim(1, -1)
    return masked_mean(error, mask)


def presence_loss(logits: Tensor, present: Tensor) -> Tensor:
    """Binary cross-entropy of the crops' person-present outputs (N,) against 0 or 1."""
    return functional.binary_cross_entropy_with_logits(logits, present.to(logits.dtype))


def depth_loss(depth: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error of what is read from pictures, and how well it is known to be off.

    Args:
        depth: (..., J, 2) depths and logarithms of their mean absolute errors, see `gsr.Depth`.
        target: (..., J) depths in the same unit. mask: (..., J), which are known.

    Returns:
        the mean of |error|, and with a tenth of the weight of the negative log-likelihood under
        Laplace errors, without its constant.
    """
    value, log_deviation = depth.unbind(dim=-1)
    if value.shape != target.shape:
        raise ValueError(
            f"target has shape {tuple(target.shape)}, expected {tuple(value.shape)} as the depths"
        )
    error = (value - target).abs()
    likelihood = error * torch.exp(-log_deviation) + log_deviation
    return masked_mean(error + 0.1 * likelihood, mask)


def gaussian_nll(
    prediction: Tensor, target: Tensor, variance: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Negative log-likelihood under normal errors, without its constant: what makes variance mean.

    Args:
        prediction, target, variance: one shape: joints (..., J, 3) or heights (...,); m and m^2.
        mask: that shape, or the start of it.
    """
    error = _difference(prediction, target, mask)
    variance = variance.clamp_min(_MIN_VARIANCE)
    return masked_mean((variance.log() + error.square() / variance) / 2, mask)


def _steps(stamps: Tensor) -> Tensor:
    """Durations (B, T - 1) between stamps (B, T), in units of 1/30 s."""
    # Stamps in float32 seconds since 1970 would be minutes apart: differences come first.
    steps = stamps.diff(dim=1) / REFERENCE_INTERVAL
    if not bool((steps > 0).all()):
        raise ValueError("stamps do not increase along dimension 1")
    return steps


def _rate(values: Tensor, steps: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Change per 1/30 s (B, T - 1, J, D) of values (B, T, J, D), and where both ends are known."""
    if values.ndim != 4 or steps.shape != (values.shape[0], values.shape[1] - 1):
        raise ValueError(
            f"joints have shape {tuple(values.shape)} and stamps {steps.shape[1] + 1} frames, "
            "expected joints (B, T, J, D) and stamps (B, T)"
        )
    rate = values.diff(dim=1) / steps[..., None, None].to(values.dtype)
    return rate, None if mask is None else mask[:, 1:].bool() & mask[:, :-1].bool()


def _mean_square(values: Tensor, mask: Tensor | None) -> Tensor:
    return masked_mean(values.square().sum(-1), mask)
