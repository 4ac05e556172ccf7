"""TMP, the temporal module (eq. 17, 18, 21): correct a pose by the poses before it.

Eq. 19 and 20, constraints on velocity and acceleration, stand in losses.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .epe import MASKED
from .gsr import LOG_VARIANCE_RANGE, WIDTH
from .skeleton import JOINT_COUNT

TAU = 5  # past poses
HEADS = 8
ENCODER_LAYERS = 2
_AGE_SCALES = (1 / 60, 1 / 15, 1 / 4, 1.0)  # s: from one frame of a fast camera to max_gap and on
_TYPICAL_MOVE = 0.05  # standing heights, of a joint from one frame to the next


@dataclass(frozen=True)
class History:
    """GSR's poses of the past frames of N people, oldest first, camera axes, standing heights.

    Of the last TAU frames, or of another number.

    joints, log_variance (N, TAU, J, 3); age (N, TAU): seconds before the current frame;
    known (N, TAU): bool. Where it is False the values are never looked at.
    """

    joints: Tensor
    log_variance: Tensor
    age: Tensor
    known: Tensor


def _attention(query: Tensor, key: Tensor, known: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)), (N, HEADS, Q, T); keys (N, T, WIDTH) that aren't known get 0.

    The mask is finite: where nothing is known at all every key gets the same, never NaN.
    """
    query, key = _heads(query), _heads(key)
    scores = query @ key.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5
    return torch.where(known[:, None, None, :], scores, MASKED).softmax(dim=-1)


def _heads(x: Tensor) -> Tensor:
    """(N, T, WIDTH) to (N, HEADS, T, WIDTH / HEADS)."""
    return x.reshape(-1, x.shape[1], HEADS, WIDTH // HEADS).transpose(1, 2)


def _mixed(weights: Tensor, value: Tensor) -> Tensor:
    """Values (N, T, WIDTH) under each head's weights (N, HEADS, Q, T): (N, Q, WIDTH)."""
    return (weights @ _heads(value)).transpose(1, 2).reshape(-1, weights.shape[2], WIDTH)


class _EncoderLayer(nn.Module):
    """Self-attention among the past frames and an MLP, each beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH)
        )

    def forward(self, tokens: Tensor, known: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm1(tokens)).split(WIDTH, dim=-1)
        tokens = tokens + self.out(_mixed(_attention(query, key, known), value))
        return tokens + self.mlp(self.norm2(tokens))


class TMP(nn.Module):
    """A residual on GSR's pose from past poses; exactly zero when there are none."""

    age_scales: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embed_pose = nn.Linear(2 * 3 * JOINT_COUNT, WIDTH)
        self.register_buffer("age_scales", torch.tensor(_AGE_SCALES), persistent=False)
        self.embed_age = nn.Linear(2 * len(_AGE_SCALES), WIDTH)
        self.encoder = nn.ModuleList(_EncoderLayer() for _ in range(ENCODER_LAYERS))
        self.encoder_norm = nn.LayerNorm(WIDTH)
        self.embed_joint = nn.Linear(WIDTH + 6, WIDTH)
        self.to_query = nn.Linear(WIDTH, WIDTH)
        self.to_key = nn.Linear(WIDTH, WIDTH)
        self.to_value = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(2 * WIDTH)
        self.widen = nn.Linear(2 * WIDTH + 3 * HEADS, WIDTH)
        self.last = nn.Linear(WIDTH + 3 * HEADS, 6)
        # Training starts from GSR's own pose.
        nn.init.normal_(self.last.weight, std=1e-3)
        nn.init.zeros_(self.last.bias)

    def forward(
        self, nodes: Tensor, joints: Tensor, log_variance: Tensor, history: History
    ) -> tuple[Tensor, Tensor]:
        """Correct the current pose.

        Eq. 17: the past poses, one token each with its age in seconds, go through a temporal
        encoder. Eq. 18: cross-attention A_t = softmax(Q K^T / sqrt(d)) V from one query per joint,
        made of the current frame, to those tokens. Eq. 21: the prediction head. A_t alone holds
        history only, so the head sees the query beside it, and it gives a residual on GSR's pose.

        A token holds a whole pose, from which a head shared by all joints can hardly read where
        its own joint was. So the head also gets that joint's way back to its past places, under
        the same attention weights: what a smoothing filter would add up.

        Args:
            nodes: (N, J, WIDTH) of GSR.
            joints, log_variance: (N, J, 3) GSR's pose, camera axes, units of standing height.
            history: GSR's past poses.

        Returns:
            joints and log_variance (N, J, 3) in the same units; the arguments themselves, to the
            bit, where nothing of the history is known.
        """
        weights, value, query = self._attended(nodes, joints, log_variance, history)
        way = (history.joints - joints.unsqueeze(1)) / _TYPICAL_MOVE  # (N, TAU, J, 3)
        way = torch.where(history.known[..., None, None], way, 0.0)
        # (N, J, HEADS, TAU) x (N, J, TAU, 3)
        back = (weights.transpose(1, 2) @ way.transpose(1, 2)).flatten(2)
        seen = self.norm(torch.cat([_mixed(weights, value), query], dim=-1))
        hidden = torch.relu(self.widen(torch.cat([seen, back], dim=-1)))
        residual = self.last(torch.cat([hidden, back], dim=-1))
        gate = history.known.any(dim=1)[:, None, None]
        residual = torch.where(gate, residual, 0.0)
        moved = joints + residual[..., :3]
        corrected = (log_variance + residual[..., 3:]).clamp(*LOG_VARIANCE_RANGE)
        # The pelvis is the origin.
        return moved - moved[:, :1], torch.where(gate, corrected, log_variance)

    def _attended(
        self, nodes: Tensor, joints: Tensor, log_variance: Tensor, history: History
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Weights (N, HEADS, J, TAU) of eq. 18, values (N, TAU, WIDTH), queries (N, J, WIDTH)."""
        known = history.known
        past = torch.cat([history.joints, torch.exp(0.5 * history.log_variance)], dim=-1).flatten(2)
        age = history.age.unsqueeze(-1) / self.age_scales
        # Saturating and growing shares tell 1/60 s from 1/30 s as well as 0.1 s from 2 s.
        age = torch.cat([torch.exp(-age), torch.log1p(age)], dim=-1)
        # Zero first: 0 times what an unknown frame holds need not be 0.
        tokens = self.embed_pose(torch.where(known[..., None], past, 0.0))
        tokens = tokens + self.embed_age(torch.where(known[..., None], age, 0.0))
        for layer in self.encoder:
            tokens = layer(tokens, known)
        tokens = self.encoder_norm(tokens)

        current = torch.cat([nodes, joints, torch.exp(0.5 * log_variance)], dim=-1)
        query = self.embed_joint(current)
        key, value = self.to_key(tokens), self.to_value(tokens)
        return _attention(self.to_query(query), key, known), value, query
