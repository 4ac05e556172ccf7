"""Stage finetune: all modules together on rendered video with 3D, held to real images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from operator import itemgetter
from typing import Any, TypeVar

import torch
from torch import Tensor

from stsp_model.crop import to_image
from stsp_model.epe import Observation, soft_argmax
from stsp_model.hrnet import STRIDE
from stsp_model.lifter import Keypoints, Lifted, mapped
from stsp_model.losses import depth_loss, presence_loss, trajectory_loss
from stsp_model.network import STSPNet, image_keypoints
from stsp_model.training.augment import rgb
from stsp_model.training.calibrate import calibrate_chain, calibrate_keypoints, footage_of
from stsp_model.training.config import ConfigError
from stsp_model.training.config_3d import FinetuneConfig, LiftConfig
from stsp_model.training.config_file import load_config
from stsp_model.training.datasets import (
    IMAGES,
    MOTIONS,
    RENDERED,
    SELECTED,
    TRAINED,
    People,
    of_format,
    open_clips,
    open_selection,
    open_training,
)
from stsp_model.training.finetune_batches import (
    ClipBatch,
    FinetuneBatch,
    FinetuneBatches,
    follow,
    observed,
    true_depths,
)
from stsp_model.training.stage import Group, Losses, Stage
from stsp_model.training.stage_epe import heatmap_loss, keypoint_scores
from stsp_model.training.stage_lift import (
    LiftLosses,
    joint_mask,
    lift_counts,
    lift_losses,
    lift_scores,
    pose_scores,
    training_clips,
    validation_clips,
)

Data = TypeVar("Data")

_VALIDATION_FRAMES = 32


class FinetuneLosses(Losses):
    """Losses of a batch of stage finetune: eq. 23, with the parts that `config` weighs."""

    def __init__(self, model: STSPNet, config: FinetuneConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.motion = LiftLosses(model, config.weights)

    def counts(self, batch: FinetuneBatch) -> dict[str, Tensor]:
        """See `Losses`."""
        crops, clips, motion = batch
        labelled = clips.labelled
        return {
            **lift_counts(joint_mask(clips), self.config.weights),
            **(_of_motion(self.motion.counts(motion)) if motion is not None else {}),
            "heatmap": crops.known.sum() + labelled.sum(),
            "present": crops.present.new_tensor(len(crops.present), dtype=torch.long),
            "trajectory": (labelled[:, 1:] & labelled[:, :-1]).sum(),
            "depth": labelled[::2].sum(),
        }

    def forward(self, batch: FinetuneBatch) -> dict[str, Tensor]:
        """See `Losses`."""
        crops, clips, motion = batch
        real = len(crops.images)
        images = rgb(torch.cat([crops.images, clips.images.flatten(0, 1)]))
        saliency = torch.cat([crops.saliency, clips.saliency.flatten(0, 1)])
        observation = self.model.observe(images, saliency)
        of_motion = _of_motion(self.motion(motion)) if motion is not None else {}
        with torch.autocast(images.device.type, enabled=False):
            observation = mapped(observation, lambda x: x.float())
            joints = torch.cat([crops.joints, clips.joints.flatten(0, 1)])
            known = torch.cat([crops.known, clips.labelled.flatten(0, 1)])
            film = mapped(observation, lambda x: x[real:])
            lifted = self._lift(film, clips)
            return {
                **lift_losses(
                    lifted,
                    clips.target,
                    clips.height,
                    joint_mask(clips),
                    clips.stamps,
                    self.config.weights,
                ),
                "heatmap": heatmap_loss(observation.heatmaps, joints, known, self.config.heatmaps),
                "present": presence_loss(observation.present[:real], crops.present),
                "trajectory": _trajectory(film, clips, self.config.weights.literal),
                "depth": _depth(lifted, clips),
                **of_motion,
            }

    def _lift(self, film: Observation, clips: ClipBatch) -> Lifted:
        """Every other clip without visual features: motion capture and `lift` have none."""
        keypoints = clip_keypoints(film, clips)
        without = Keypoints(keypoints.joints, keypoints.mass, keypoints.covariance)
        parts = []
        for first, points in enumerate((keypoints, without)):
            chosen = mapped(points, itemgetter(slice(first, None, 2)))
            own = _every_other(clips, first)
            parts.append(self.model.lifter.clip(chosen, own.boxes, own.K, own.stamps, own.valid))
        return _interleaved(*parts)


def clip_keypoints(film: Observation, clips: ClipBatch) -> Keypoints:
    """2D joints (B, T, ...) in pixels of the image, of what was seen in B * T crops."""
    flat = image_keypoints(film, clips.crop_boxes.flatten(0, 1))
    return mapped(flat, lambda x: x.unflatten(0, clips.stamps.shape))


def _trajectory(film: Observation, clips: ClipBatch, literal: bool) -> Tensor:
    """Eq. 8 of the global soft-argmax, in half sides of the clip's mean crop."""
    side = film.heatmaps.shape[-1] * STRIDE
    size = clips.crop_boxes.new_tensor([side, side])
    boxes = clips.crop_boxes.unsqueeze(2)
    half = (clips.crop_boxes[..., 2] - clips.crop_boxes[..., 0]).mean(dim=1) / 2
    found = soft_argmax(film.heatmaps, window=False)[0].unflatten(0, clips.stamps.shape)
    joints, target = (
        to_image(points, boxes, size) / half[:, None, None, None]
        for points in (found, clips.joints)
    )
    return trajectory_loss(joints, target, clips.stamps, clips.labelled, literal)


def _depth(lifted: Lifted, clips: ClipBatch) -> Tensor:
    """How far off the depths are that GSR reads from pictures, of the clips with features."""
    own = _every_other(clips)
    return depth_loss(lifted.frame.depth[::2], true_depths(own), own.labelled)


def _every_other(clips: ClipBatch, first: int = 0) -> ClipBatch:
    return ClipBatch(*(field[first::2] for field in clips))


def _of_motion(values: dict[str, Data]) -> dict[str, Data]:
    """What concerns motion capture, told from the same of rendered video by its names."""
    return {f"motion_{name}": value for name, value in values.items()}


def _interleaved(first: Data, second: Data) -> Data:
    """Two dataclasses of tensors as one, rows in turn, however deep they lie."""
    values = {}
    for field in fields(first):  # type: ignore[arg-type]
        a, b = getattr(first, field.name), getattr(second, field.name)
        if is_dataclass(a):
            values[field.name] = _interleaved(a, b)
        else:
            values[field.name] = torch.stack([a, b], dim=1).flatten(0, 1)
    return type(first)(**values)


def finetune_stage(
    model: STSPNet, config: FinetuneConfig, data: Sequence[str], select: Sequence[str] = ()
) -> Stage:
    """Stage finetune on real images and rendered video.

    Args:
        model: to train; its keypoint module and lifter are trained already.
        config: of this stage.
        data: "FORMAT:PATH" each: images, "synth:DIR" of split "train", and motion capture, so that
            the lifter does not forget what stage lift taught it.
        select: to select by: "synth:DIR" of split "validation", and images and motion capture
            unless those of `data` have a part for it.

    Raises:
        DataError, ConfigError: what does not fit.
    """
    if not model.trained:
        raise ConfigError("finetune goes on from stages finder, epe and lift: give their --weights")
    images, films = of_format(data, IMAGES), of_format(data, (RENDERED,))
    captured = of_format(data, MOTIONS)
    unknown = [spec for spec in data if spec not in (*images, *films, *captured)]
    people = People(tuple(open_training(unknown or images, IMAGES)))
    clips = open_clips(films, TRAINED)
    chosen = of_format(select, (RENDERED,))
    moved = of_format(select, MOTIONS)
    rest = [spec for spec in select if spec not in (*chosen, *moved)]
    selection = People(tuple(open_selection(rest, images, IMAGES)))
    held_out = open_clips(chosen, SELECTED)
    side = model.preset.crop
    motion, motion_to_score = None, []
    lift = load_config(config.preset, "lift")
    assert isinstance(lift, LiftConfig)
    if captured:
        motion = training_clips(lift, captured, "finetune motion", config.motion_clips)
    if captured or moved:
        motion_to_score = validation_clips(lift, captured, moved)
    batches = FinetuneBatches(config, people, clips, motion, side)
    steps = config.optimisation.steps_per_epoch
    if not steps:
        steps = max(len(people) // batches.counts[0], 1)
    films_to_score = _validation(held_out, config.validation_clips, side)

    def evaluate(network: STSPNet, _: int) -> dict[str, float]:
        return {
            **film_scores(network, films_to_score),
            **keypoint_scores(network, selection, side),
            **(_of_motion(lift_scores(network, motion_to_score)) if motion_to_score else {}),
        }

    def calibrate(network: STSPNet) -> None:
        calibrate_keypoints(network, selection)
        calibrate_chain(network, footage_of(chosen, config.validation_clips))

    return Stage(
        losses=FinetuneLosses(model, config),
        weights=_weights(config, motion is not None),
        groups=[
            Group(list(model.lifter.parameters())),
            Group(list(model.epe.parameters()), config.epe_rate),
        ],
        batches=batches,
        steps_per_epoch=steps,
        # Clips come in pairs, with visual features and without.
        shared=(batches.counts[0], batches.counts[1] // 2, motion.size if motion else 0),
        evaluate=evaluate,
        calibrate=calibrate,
        score="mpjpe_mm",
        higher=False,
        guard=("pck", config.guard),
        frozen_norm=True,
    )


def _weights(config: FinetuneConfig, with_motion: bool) -> dict[str, float]:
    """Of all losses, by name: those of their module (eq. 23) times their own."""
    epe, gsr, tmp = config.total
    of_tmp = ("corrected", "velocity", "acceleration")
    weights = {
        name: value * (tmp if name in of_tmp else gsr)
        for name, value in config.weights.factors.items()
    }
    if with_motion:
        weights |= _of_motion(weights)
    return weights | {
        "heatmap": epe,
        "present": epe * config.present,
        "trajectory": epe * config.trajectory,
        "depth": epe * config.depth,
    }


def _validation(clips: Any, most: int, side: int) -> list[ClipBatch]:
    """The first person of each validation clip, as a batch of one."""
    found = []
    for index in range(min(len(clips), most)):
        clip = clips[index]
        if clip.motions:
            frames = torch.arange(min(len(clip.jpegs), _VALIDATION_FRAMES)).numpy()
            found.append(observed(follow(clip, 0, frames), side))
    return found


@torch.inference_mode()
def film_scores(network: STSPNet, clips: Sequence[ClipBatch]) -> dict[str, float]:
    """MPJPE with the height given, and N-MPJPE, mm, of the whole network on rendered video."""
    network.eval()
    device = next(network.parameters()).device
    found = []
    for cpu in clips:
        batch = ClipBatch(*(part.to(device) for part in cpu))
        film = network.observe(rgb(batch.images.flatten(0, 1)), batch.saliency.flatten(0, 1))
        lifted = network.lifter.clip(
            clip_keypoints(film, batch),
            batch.boxes,
            batch.K,
            batch.stamps,
            batch.valid,
            batch.height,
        )
        found.append(lifted.joints)
    return pose_scores(found, clips)
