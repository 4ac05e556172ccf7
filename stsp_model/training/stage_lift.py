"""Stage lift: skeleton and temporal module from motion capture, the keypoint module as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from stsp_model.lifter import Lifted, Lifter
from stsp_model.losses import (
    acceleration_loss,
    bone_length_loss,
    bone_lengths,
    gaussian_nll,
    joint_angle_loss,
    known_bones,
    pose_loss,
    velocity_loss,
)
from stsp_model.metrics import mpjpe, n_mpjpe
from stsp_model.network import STSPNet
from stsp_model.skeleton import ANGLES
from stsp_model.training.bodies import children
from stsp_model.training.calibrate import calibrate_lifter
from stsp_model.training.config_3d import LiftConfig, LiftWeights
from stsp_model.training.datasets import MOTIONS, open_selection, open_training
from stsp_model.training.lift_batches import LiftBatch, LiftBatches, lift
from stsp_model.training.motions import collect
from stsp_model.training.stage import Group, Losses, Stage

if TYPE_CHECKING:
    from stsp_model.training.finetune_batches import ClipBatch

_VALIDATION_BATCH = 32


def lift_losses(
    lifted: Lifted,
    target: Tensor,
    height: Tensor,
    known: Tensor,
    stamps: Tensor,
    settings: LiftWeights,
) -> dict[str, Tensor]:
    """Losses of the lifter, by the names of `config_3d.LiftWeights`, not yet weighted.

    Args:
        lifted: of B clips of T frames.
        target: (B, T, 17, 3) from the pelvis, camera axes, standing heights.
        height: (B,) m. known: (B, T, 17). stamps: (B, T) s.
        settings: which forms of the losses.
    """
    frame, corrected = lifted.frame.joints, lifted.corrected
    # The pelvis is exactly 0; and the variances learn without a say in the poses.
    free, goal = known[..., 1:], target[..., 1:, :]
    likelihood = [
        gaussian_nll(joints[..., 1:, :].detach(), goal, log_variance[..., 1:, :].exp(), free)
        for joints, log_variance in (
            (frame, lifted.frame.log_variance),
            (corrected, lifted.corrected_log_variance),
        )
    ]
    seen = known.any(dim=-1)
    return {
        "frame": pose_loss(frame, target, known, settings.squared),
        "corrected": pose_loss(corrected, target, known, settings.squared),
        "bone": bone_length_loss(frame, bone_lengths(target), known),
        "angle": joint_angle_loss(frame, known),
        "velocity": velocity_loss(corrected, target, stamps, known, settings.literal),
        "acceleration": acceleration_loss(corrected, target, stamps, known, settings.literal),
        "likelihood": torch.stack(likelihood).mean(),
        "height": gaussian_nll(
            lifted.frame.height,
            height.unsqueeze(1).expand_as(seen),
            lifted.frame.height_log_variance.exp(),
            seen,
        ),
    }


def lift_counts(known: Tensor, settings: LiftWeights) -> dict[str, Tensor]:
    """How many joints, bones, ... each loss of `lift_losses` is a mean over."""
    angles = torch.tensor([(a.start, a.vertex, a.end) for a in ANGLES], device=known.device)
    step = known[:, 1:] & known[:, :-1]
    change = step[:, 1:] & step[:, :-1]
    return {
        "frame": known.sum(),
        "corrected": known.sum(),
        "bone": known_bones(known).sum(),
        "angle": known[..., angles].all(dim=-1).sum(),
        "velocity": (change if settings.literal else step).sum(),
        "acceleration": change.sum(),
        "likelihood": known[..., 1:].sum(),
        "height": known.any(dim=-1).sum(),
    }


class LiftLosses(Losses):
    """Losses of a batch of stage lift; see `config_3d.LiftWeights`."""

    def __init__(self, model: STSPNet, settings: LiftWeights) -> None:
        super().__init__()
        self.model = model
        self.settings = settings

    def counts(self, batch: LiftBatch) -> dict[str, Tensor]:
        """See `Losses`."""
        return lift_counts(joint_mask(batch), self.settings)

    def forward(self, batch: LiftBatch) -> dict[str, Tensor]:
        """See `Losses`."""
        with _reduced(self.model.lifter, batch.K.device.type):
            lifted = lift(self.model, batch)
        with torch.autocast(batch.K.device.type, enabled=False):
            return lift_losses(
                lifted, batch.target, batch.height, joint_mask(batch), batch.stamps, self.settings
            )


@contextmanager
def _reduced(lifter: Lifter, device: str) -> Iterator[None]:
    """Under mixed precision GSR and TMP compute in 16 bits, but not the geometry around them.

    Without mixed precision nothing changes. On two CPU cores with bfloat16 a step takes 0.4 of the
    time.
    """
    if not torch.is_autocast_enabled(device):
        yield
        return
    contexts: list[torch.autocast] = []

    def before(*_: Any) -> None:
        contexts.append(torch.autocast(device, dtype=torch.get_autocast_dtype(device)))
        contexts[-1].__enter__()

    def after(_module: nn.Module, _inputs: Any, outputs: Any) -> Any:
        contexts.pop().__exit__(None, None, None)
        if is_dataclass(outputs):
            single = {f.name: getattr(outputs, f.name).float() for f in fields(outputs)}
            return replace(outputs, **single)  # type: ignore[type-var]
        return tuple(part.float() for part in outputs)

    hooks = []
    for module in filter(None, (lifter.gsr, lifter.tmp)):
        hooks += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def joint_mask(clips: LiftBatch | ClipBatch) -> Tensor:
    """(B, T, 17): all joints of the frames that show somebody, seen or not."""
    return clips.valid.unsqueeze(-1).expand(clips.target.shape[:-1])


def training_clips(config: LiftConfig, data: Sequence[str], purpose: str, size: int) -> LiftBatches:
    """Batches of `size` clips of the motions of `data`, "FORMAT:PATH" each, for a purpose."""
    bodies = children()
    motions = collect(open_training(data, MOTIONS), bodies.shoulder.mean(axis=0))
    return LiftBatches(config, motions, bodies, purpose, size)


def validation_clips(
    config: LiftConfig, data: Sequence[str], select: Sequence[str]
) -> list[LiftBatch]:
    """The clips to select by, of `select` or else of the parts of `data` that are there for it."""
    shoulder = children().shoulder.mean(axis=0)
    motions = collect(open_selection(select, data, MOTIONS), shoulder)
    # Motions as they were captured.
    config = replace(config, clips=replace(config.clips, mixed=0.0, tumbled=0.0))
    size = min(_VALIDATION_BATCH, config.validation_clips)
    batches = LiftBatches(config, motions, children(validation=True), "lift validation", size)
    return [batches.batch(number, 0, 1) for number in range(-(-config.validation_clips // size))]


def lift_stage(
    model: STSPNet, config: LiftConfig, data: Sequence[str], select: Sequence[str] = ()
) -> Stage:
    """Stage lift on motion data.

    Args:
        model: to train.
        config: of this stage.
        data: "FORMAT:PATH" each, to train on.
        select: to select by; empty: the parts of `data` that are there for it.

    Raises:
        DataError, ConfigError: what does not fit.
    """
    batches = training_clips(config, data, "lift", config.optimisation.batch)
    clips = validation_clips(config, data, select)
    steps = config.optimisation.steps_per_epoch
    if not steps:
        seconds = config.clips.frames / float(np.mean(config.clips.rate)) * batches.size
        steps = max(round(batches.motions.durations.sum() / seconds), 1)
    # Single frames teach the temporal module nothing, and decay would shrink its weights.
    learning = model.lifter.gsr if config.clips.frames == 1 else model.lifter
    return Stage(
        losses=LiftLosses(model, config.weights),
        weights=config.weights.factors,
        groups=[Group(list(learning.parameters()))],
        batches=batches,
        steps_per_epoch=steps,
        shared=(batches.size,),
        evaluate=lambda network, _: lift_scores(network, clips),
        calibrate=lambda network: calibrate_lifter(network, clips),
        score="mpjpe_mm",
        higher=False,
    )


@torch.inference_mode()
def lift_scores(network: STSPNet, clips: Sequence[LiftBatch]) -> dict[str, float]:
    """MPJPE with the height given, N-MPJPE, both mm, and the mean error of the height, mm."""
    network.eval()
    device = next(network.parameters()).device
    found, heights = [], []
    for cpu in clips:
        batch = LiftBatch(*(part.to(device) for part in cpu))
        lifted = lift(network, batch, batch.height)
        found.append(lifted.joints)
        error = (lifted.frame.height - batch.height.unsqueeze(1)).abs()
        heights.append(error[batch.valid])
    return {**pose_scores(found, clips), "height_mm": float(torch.cat(heights).mean()) * 1000}


def pose_scores(
    found: Sequence[Tensor], clips: Sequence[LiftBatch] | Sequence[ClipBatch]
) -> dict[str, float]:
    """MPJPE and N-MPJPE, mm, of the joints (B, T, 17, 3) m that were found in each of the clips."""
    true = [clip.target * clip.height[:, None, None, None] for clip in clips]
    known = [joint_mask(clip) for clip in clips]
    joints, target, mask = (
        torch.cat([part.cpu().flatten(0, 1) for part in parts]) for parts in (found, true, known)
    )
    return {"mpjpe_mm": mpjpe(joints, target, mask), "n_mpjpe_mm": n_mpjpe(joints, target, mask)}
