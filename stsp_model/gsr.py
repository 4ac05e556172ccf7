"""GSR, the skeleton module (eq. 10-14): from 2D joints of one frame to a 3D pose, by a graph."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .constants import SWAP, beside
from .epe import MASKED
from .losses import bone_lengths
from .skeleton import BONES, JOINT_COUNT

WIDTH = 256
HEADS = 8
LAYERS = 2  # of graph attention
CONTEXT_BLOCKS = 3
CONTEXT_WIDTH = 512
# x, y, log size, tilt, mass, two log deviations, correlation, depth, its log deviation, whether
# that is known, missing
JOINT_INPUTS = 12
DEPTH_WIDTH = 192
LOG_VARIANCE_RANGE = (-14.0, 2.0)  # standing heights squared: deviations from 1 mm to far off
HEIGHT_RANGE = (0.45, 2.25)  # metres, from infants to tall adults
_TYPICAL_DEVIATION = 0.06  # of a joint, in half box sides: one heat-map cell is about 0.06
# Of a depth and the logarithm of its deviation: as at the pelvis, give or take 0.1 half box sides.
_TYPICAL_DEPTH = torch.tensor([0.0, math.log(0.1)])
_DEPTH_LOG_DEVIATION_RANGE = (-6.0, 2.0)
_MIN_DEVIATION = 1e-3
_FIRST_DEVIATION = 0.05  # standing heights, and
_FIRST_HEIGHT_DEVIATION = 0.15  # metres: what an untrained network claims
# What a mirror does to what goes into a node, beside exchanging left and right, and to what is read
# from it: x and the correlation change their sign.
_MIRRORED_INPUTS = torch.tensor([-1.0, 1, 1, 1, 1, 1, 1, -1, 1, 1, 1, 1])
_MIRRORED_POSE = torch.tensor([-1.0, 1, 1, 1, 1, 1])


def adjacency() -> Tensor:
    """Eq. 10: the skeleton graph (J, J), True for joints that share a bone and for j itself."""
    linked = torch.eye(JOINT_COUNT, dtype=torch.bool)
    for parent, child in BONES:
        linked[parent, child] = linked[child, parent] = True
    return linked


@dataclass(frozen=True)
class Keypoints2D:
    """2D joints as GSR takes them, for N people.

    joints (N, J, 2): in the virtual camera, half box sides from the box's centre; 0 where missing.
    extras (N, 2): log of the box's half side, tilt of the view; of `virtual_camera`.
    mass (N, J): 0..1, how sure the detector is; 0 where missing.
    covariance (N, J, 2, 2): half box sides squared.
    missing (N, J): bool.
    features (N, J, C): visual features; anything finite where `seen` is False.
    seen (N,): bool, whether there are visual features.
    """

    joints: Tensor
    extras: Tensor
    mass: Tensor
    covariance: Tensor
    missing: Tensor
    features: Tensor
    seen: Tensor


@dataclass(frozen=True)
class FramePose:
    """A pose from one frame, in units of standing height.

    GSR gives it in the virtual camera's axes; the lifter turns all but `depth` to the real one's.

    joints (N, J, 3): relative to the pelvis, which is exactly 0.
    log_variance (N, J, 3): natural logarithm, heights squared.
    depth (N, J, 2): what the pictures alone say, see `Depth`; it means nothing without features.
    nodes (N, J, WIDTH): what the graph knows of each joint, for TMP's query.
    height (N,): metres, from the body's proportions.
    height_log_variance (N,): natural logarithm, metres squared.
    """

    joints: Tensor
    log_variance: Tensor
    depth: Tensor
    nodes: Tensor
    height: Tensor
    height_log_variance: Tensor


class GraphAttention(nn.Module):
    """Eq. 11-13: one layer of multi-head attention among linked joints (Velickovic et al. 2018)."""

    linked: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(WIDTH, WIDTH, bias=False)
        self.from_target = nn.Parameter(torch.empty(HEADS, WIDTH // HEADS))
        self.from_source = nn.Parameter(torch.empty(HEADS, WIDTH // HEADS))
        self.register_buffer("linked", adjacency(), persistent=False)
        nn.init.xavier_uniform_(self.from_target)
        nn.init.xavier_uniform_(self.from_source)

    def attention(self, nodes: Tensor) -> Tensor:
        """Weights (N, HEADS, J, J) of source joints (last) for each target joint.

        Eq. 11: e_ij = LeakyReLU(a . [W h_i || W h_j]). Eq. 12: alpha_i = softmax of e_i over the
        joints linked to i and i itself; rows sum to one, other joints get exactly zero.
        """
        return self._weights(self._projected(nodes))

    def forward(self, nodes: Tensor) -> Tensor:
        """Eq. 13: h_i' = ELU(sum_j alpha_ij W h_j), (N, J, WIDTH) to the same."""
        projected = self._projected(nodes)
        mixed = self._weights(projected) @ projected
        return nn.functional.elu(mixed.transpose(1, 2).reshape(-1, JOINT_COUNT, WIDTH))

    def _projected(self, nodes: Tensor) -> Tensor:
        """W h per head: (N, HEADS, J, WIDTH / HEADS)."""
        projected = self.project(nodes).reshape(-1, JOINT_COUNT, HEADS, WIDTH // HEADS)
        return projected.transpose(1, 2)

    def _weights(self, projected: Tensor) -> Tensor:
        target = (projected * self.from_target.unsqueeze(1)).sum(dim=-1)
        source = (projected * self.from_source.unsqueeze(1)).sum(dim=-1)
        scores = nn.functional.leaky_relu(target.unsqueeze(-1) + source.unsqueeze(-2), 0.2)
        return torch.where(self.linked, scores, MASKED).softmax(dim=-1)


class _Residual(nn.Module):
    """A block of an MLP beside a shortcut. Layer norm, as a live stream is a batch of one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, width)
        self.narrow = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = torch.relu(self.widen(self.norm(x)))
        return x + self.narrow(hidden)


class Depth(nn.Module):
    """How far behind the pelvis each joint looks to be, from the visual features of its place.

    The printed form puts visual features into the nodes as they are (h of eq. 11). Read out first,
    by what can be trained for this alone, they tell the same in numbers that a mirror leaves as
    they are and that the context vector can take as well: see docs/experiments.md.

    Args:
        channels: C of the visual features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.visual = nn.Linear(channels, DEPTH_WIDTH)
        self.joint = nn.Parameter(torch.empty(JOINT_COUNT, DEPTH_WIDTH).normal_(std=0.1))
        self.pose = nn.Linear(JOINT_COUNT * 2, DEPTH_WIDTH)
        self.own = nn.Linear(DEPTH_WIDTH, DEPTH_WIDTH)
        self.mean = nn.Linear(DEPTH_WIDTH, DEPTH_WIDTH)
        self.readout = nn.Linear(DEPTH_WIDTH, 2)
        nn.init.normal_(self.readout.weight, std=0.02)
        with torch.no_grad():
            self.readout.bias.copy_(_TYPICAL_DEPTH)

    def forward(self, keypoints: Keypoints2D) -> Tensor:
        """Depths of N people; nothing is read from a joint that is missing.

        Returns:
            (N, J, 2): depth relative to the pelvis along the virtual camera's axis, half box sides,
            and the natural logarithm of its mean absolute error.
        """
        missing = keypoints.missing.unsqueeze(-1)
        pose = self.pose(torch.where(missing, 0.0, keypoints.joints).flatten(1)).unsqueeze(1)
        hidden = torch.relu(self.visual(self.norm(keypoints.features)) + self.joint + pose)
        hidden = torch.where(missing, 0.0, hidden)
        mean = self.mean(hidden.mean(dim=1, keepdim=True))
        depth, log_deviation = self.readout(torch.relu(self.own(hidden) + mean)).split(1, dim=-1)
        log_deviation = log_deviation.clamp(*_DEPTH_LOG_DEVIATION_RANGE)
        return torch.cat([depth - depth[:, :1], log_deviation], dim=-1)


class GSR(nn.Module):
    """2D joints to a 3D pose, its variance and the person's height.

    As printed (eq. 10-13), two layers of attention among neighbours cannot carry a wrist's place
    to the pelvis. By default a context vector, made from the whole 2D pose by a residual MLP, is
    added to every node; measured on motion capture with exact 2D this takes the error from 60 to
    41 mm.

    Args:
        channels: C of the visual features.
        context: False for the printed form.
        layers: of graph attention. 0: no graph; an MLP takes each joint's place in 3D from its own
            2D joint and its depth, if that is read, and with `context` from the whole pose.
    """

    def __init__(self, channels: int, context: bool = True, layers: int = LAYERS) -> None:
        super().__init__()
        self.embed = nn.Linear(JOINT_INPUTS, WIDTH)
        self.joint = nn.Parameter(torch.empty(JOINT_COUNT, WIDTH).normal_(std=0.1))
        self.depth = Depth(channels)
        self.context: nn.Module | None = None
        if context:
            self.context = nn.Sequential(
                nn.Linear(JOINT_COUNT * JOINT_INPUTS, CONTEXT_WIDTH),
                *(_Residual(CONTEXT_WIDTH) for _ in range(CONTEXT_BLOCKS)),
                nn.LayerNorm(CONTEXT_WIDTH),
                nn.Linear(CONTEXT_WIDTH, WIDTH),
            )
        self.layers = nn.ModuleList(GraphAttention() for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(layers + 1))
        self.alone: nn.Module | None = None
        if not layers:
            self.alone = nn.Sequential(*(_Residual(WIDTH) for _ in range(LAYERS)))
        # Each joint reads its own x, y, z and log-variances from its node.
        self.readout = nn.Parameter(torch.empty(JOINT_COUNT, WIDTH, 6))
        self.readout_bias = nn.Parameter(torch.zeros(JOINT_COUNT, 6))
        nn.init.normal_(self.readout, std=0.02)
        with torch.no_grad():
            self.readout_bias[:, 3:] = 2 * math.log(_FIRST_DEVIATION)
        last = nn.Linear(128, 2)
        self.stature = nn.Sequential(nn.Linear(WIDTH + len(BONES), 128), nn.ReLU(), last)
        with torch.no_grad():
            last.bias.copy_(torch.tensor([0.0, 2 * math.log(_FIRST_HEIGHT_DEVIATION)]))

    def forward(self, keypoints: Keypoints2D) -> FramePose:
        """The 3D pose; outside of training the mean of what the joints and their mirror image give.

        What is learnt of people is nearly the same left and right, but never quite. On held-out
        motion this takes 2 to 4 % off the error, for 0.2 ms of the 8.5 of a frame.
        """
        depth = self.depth(keypoints)
        inputs = _joint_inputs(keypoints, depth)
        if self.training:
            nodes, pose, stature = self._read(inputs)
        else:
            swap = beside(SWAP, inputs)
            other = inputs[:, swap] * beside(_MIRRORED_INPUTS, inputs)
            nodes, pose, stature = self._read(torch.cat([inputs, other]))
            nodes = nodes.reshape(2, -1, JOINT_COUNT, WIDTH)[0]
            own, other = pose.reshape(2, -1, JOINT_COUNT, 6)
            pose = (own + other[:, swap] * beside(_MIRRORED_POSE, pose)) / 2
            stature = stature.reshape(2, -1, 2).mean(dim=0)
        height, height_log_variance = stature.unbind(dim=-1)
        return FramePose(pose[..., :3], pose[..., 3:], depth, nodes, height, height_log_variance)

    def _read(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Eq. 14: the 3D pose as a linear regression of every node after the layers of attention.

        The height is read from the mean node and the pose's bone lengths, which are shares of
        standing height: heads are larger and legs shorter the younger the child.

        Args:
            inputs: (N, J, JOINT_INPUTS).

        Returns:
            nodes (N, J, WIDTH), joints and log-variances (N, J, 6), and height and its log-variance
            (N, 2); see FramePose.
        """
        nodes = self.embed(inputs) + self.joint
        if self.context is not None:
            nodes = nodes + self.context(inputs.flatten(1)).unsqueeze(1)
        if self.alone is not None:
            nodes = self.alone(nodes)
        for layer, norm in zip(self.layers, self.norms, strict=False):
            nodes = nodes + layer(norm(nodes))
        nodes = self.norms[-1](nodes)

        out = torch.einsum("njw,jwo->njo", nodes, self.readout) + self.readout_bias
        joints = out[..., :3] - out[:, :1, :3]
        pose = torch.cat([joints, out[..., 3:].clamp(*LOG_VARIANCE_RANGE)], dim=-1)
        proportions = torch.cat([nodes.mean(dim=1), bone_lengths(joints)], dim=-1)
        height, height_log_variance = self.stature(proportions).split(1, dim=-1)
        low, high = HEIGHT_RANGE
        stature = [
            low + (high - low) * torch.sigmoid(height),
            height_log_variance.clamp(*LOG_VARIANCE_RANGE),
        ]
        return nodes, pose, torch.cat(stature, dim=-1)


def _joint_inputs(keypoints: Keypoints2D, depth: Tensor) -> Tensor:
    """(N, J, JOINT_INPUTS), each of order one; all zero but the flag where a joint is missing."""
    seen = keypoints.seen[:, None, None].expand(-1, JOINT_COUNT, 1)
    depth = depth - beside(_TYPICAL_DEPTH, depth)
    covariance = keypoints.covariance.reshape(-1, JOINT_COUNT, 4)
    variance = covariance[..., ::3].clamp_min(_MIN_DEVIATION**2)
    correlation = covariance[..., 1:2] * torch.rsqrt(variance.prod(dim=-1, keepdim=True))
    values = [
        keypoints.joints,
        keypoints.extras.unsqueeze(1).repeat(1, JOINT_COUNT, 1),
        keypoints.mass.unsqueeze(-1),
        0.5 * torch.log(variance / _TYPICAL_DEVIATION**2),
        correlation.clamp(-1, 1),
        torch.where(seen, depth, 0.0),
        seen.to(depth.dtype),
    ]
    missing = keypoints.missing.unsqueeze(-1)
    there = torch.where(missing, 0.0, torch.cat(values, dim=-1))
    return torch.cat([there, missing.to(there.dtype)], dim=-1)
