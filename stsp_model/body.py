"""What of a tracked body lasts: its bone lengths and its height, as running medians."""

from __future__ import annotations

import torch
from torch import Tensor

from .constants import beside
from .gsr import FramePose
from .losses import bone_lengths, bone_vectors
from .skeleton import BONE_COUNT, BONES, JOINT_COUNT

BODY_FRAMES = 60  # past frames, the current one included, behind bone lengths and height
BODY_VALUES = BONE_COUNT + 2  # bone lengths, height, log-variance of the height
_MIN_BONE = 1e-6  # standing heights; a shorter bone has no direction


def body_of(frame: FramePose) -> Tensor:
    """(N, BODY_VALUES): what single frames say of the body that lasts."""
    rest = torch.stack([frame.height, frame.height_log_variance], dim=-1)
    return torch.cat([bone_lengths(frame.joints), rest], dim=-1)


def running_median(values: Tensor, known: Tensor) -> Tensor:
    """Median over the window of values (M, W, F) where known (M, W); at least one must be."""
    ordered = torch.where(known.unsqueeze(-1), values, torch.inf).sort(dim=1).values
    count = known.sum(dim=1)
    middle = torch.stack([count - 1, count], dim=1).div(2, rounding_mode="trunc")
    return ordered.gather(1, middle.unsqueeze(-1).expand(-1, -1, values.shape[-1])).mean(dim=1)


def _bones_to_joints() -> Tensor:
    """(J, 16): 1 where a bone lies between the pelvis and the joint."""
    paths = torch.zeros(JOINT_COUNT, BONE_COUNT)
    for bone, (parent, child) in enumerate(BONES):
        paths[child] = paths[parent]
        paths[child, bone] = 1
    return paths


_PATHS = _bones_to_joints()


def with_bone_lengths(joints: Tensor, lengths: Tensor) -> Tensor:
    """Poses (..., J, 3) with the directions of their bones kept and `lengths` (..., 16)."""
    bones = bone_vectors(joints)
    own = torch.linalg.vector_norm(bones, dim=-1).clamp_min(_MIN_BONE)
    scaled = bones * (lengths / own).unsqueeze(-1)
    return beside(_PATHS, joints) @ scaled
