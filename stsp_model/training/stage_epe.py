"""Stage epe: the keypoint module and its person-present output, from single images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from stsp_model.checkpoint import load_model
from stsp_model.data.samples import ImagePose
from stsp_model.evaluation import pck
from stsp_model.hrnet import STRIDE
from stsp_model.losses import heatmap_cross_entropy, heatmap_mse, presence_loss
from stsp_model.network import STSPNet
from stsp_model.training.augment import rgb
from stsp_model.training.calibrate import calibrate_keypoints
from stsp_model.training.config import ConfigError, EPEConfig, Heatmaps
from stsp_model.training.datasets import (
    IMAGES,
    RENDERED,
    People,
    open_people,
    open_selection,
)
from stsp_model.training.epe_batches import Crops, EPEBatches
from stsp_model.training.stage import Group, Losses, Stage


def gaussians(joints: Tensor, size: int, sigma: float) -> Tensor:
    """Target heat maps (..., size, size): Gaussians with their peak of 1 at joints (..., 2) px."""
    cells = torch.arange(size, device=joints.device)
    centres = (joints + 0.5) / STRIDE - 0.5
    x, y = (torch.exp(-0.5 * ((cells - centres[..., i, None]) / sigma).square()) for i in (0, 1))
    return y[..., :, None] * x[..., None, :]


def heatmap_loss(heatmaps: Tensor, joints: Tensor, known: Tensor, settings: Heatmaps) -> Tensor:
    """The chosen loss of heat maps (N, J, h, h) for joints (N, J, 2) px where known (N, J)."""
    target = gaussians(joints, heatmaps.shape[-1], settings.sigma)
    loss = heatmap_cross_entropy if settings.loss == "cross_entropy" else heatmap_mse
    return loss(heatmaps.float(), target, known)


class EPELosses(Losses):
    """Losses of a batch of stage epe; see `config.EPEWeights`.

    Args:
        model: to train.
        settings: of the heat maps.
        teacher: a trained network whose heat maps are learnt too.
    """

    def __init__(self, model: STSPNet, settings: Heatmaps, teacher: STSPNet | None = None) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        # In a tuple it is no submodule: its weights are neither trained, averaged nor stored.
        self._teacher = () if teacher is None else (teacher.eval().requires_grad_(False),)

    def counts(self, batch: Crops) -> dict[str, Tensor]:
        """See `Losses`."""
        return {
            "heatmap": batch.known.sum(),
            "present": batch.present.new_tensor(len(batch.present), dtype=torch.long),
            "distil": batch.present.sum(),
        }

    def forward(self, batch: Crops) -> dict[str, Tensor]:
        """See `Losses`."""
        images = rgb(batch.images)
        observation = self.model.observe(images, batch.saliency)
        with torch.autocast(images.device.type, enabled=False):
            heatmaps = observation.heatmaps.float()
            losses = {
                "heatmap": heatmap_loss(heatmaps, batch.joints, batch.known, self.settings),
                "present": presence_loss(observation.present.float(), batch.present),
            }
            for teacher in self._teacher:
                losses["distil"] = self._distil(teacher, images, batch, heatmaps)
        return losses

    def _distil(self, teacher: STSPNet, images: Tensor, batch: Crops, heatmaps: Tensor) -> Tensor:
        """Cross-entropy with the teacher's heat maps, of all joints where somebody is there."""
        resize = torch.nn.functional.interpolate
        side = teacher.input_size[0]
        with torch.no_grad():
            teacher.to(images.device)
            seen = teacher.observe(
                resize(images, (side, side), mode="bilinear"),
                resize(batch.saliency, (side // STRIDE, side // STRIDE), mode="bilinear"),
            )
            target = resize(seen.heatmaps.float(), heatmaps.shape[-2:], mode="bilinear")
            target = target.flatten(-2).softmax(dim=-1).view_as(heatmaps)
        known = batch.present[:, None].expand(heatmaps.shape[:2])
        return heatmap_cross_entropy(heatmaps, target, known)


def epe_stage(
    model: STSPNet, config: EPEConfig, data: Sequence[str], select: Sequence[str] = ()
) -> Stage:
    """Stage epe on data sets.

    Args:
        model: to train.
        config: of this stage and the model's preset.
        data: "FORMAT:PATH" each, to train on.
        select: to select by; empty: the parts of `data` that are there for it.

    Raises:
        DataError, ConfigError: what does not fit.
    """
    if config.sizes[-1][1] != model.preset.crop:
        raise ConfigError(
            f"sizes ends with {config.sizes[-1][1]} px, expected the preset's {model.preset.crop}"
        )
    people, rendered = open_people(data)
    selection = People(tuple(open_selection(select, data, (*IMAGES, RENDERED))))
    steps = config.optimisation.steps_per_epoch
    if not steps:
        real = EPEBatches.crops_of(config, rendered is not None)[2]
        steps = max(len(people) // real, 1)
    batches = EPEBatches(config, people, rendered, steps)
    teacher = load_model(config.teacher) if config.teacher else None
    if teacher is not None and not teacher.trained:
        raise ConfigError(f"teacher {config.teacher!r} is not trained")
    weights = asdict(config.weights)
    if teacher is None:
        del weights["distil"]
    return Stage(
        losses=EPELosses(model, config.heatmaps, teacher),
        weights=weights,
        groups=[Group(list(model.epe.parameters()))],
        batches=batches,
        steps_per_epoch=steps,
        shared=(config.optimisation.batch,),
        evaluate=lambda network, epoch: keypoint_scores(
            network, selection, batches.side(epoch * steps)
        ),
        calibrate=lambda network: calibrate_keypoints(network, selection),
        score="pck",
        higher=True,
        changes=frozenset(epoch for epoch, _ in config.sizes),
    )


def keypoint_scores(
    network: STSPNet, selection: Sequence[ImagePose] | People, side: int
) -> dict[str, float]:
    """PCK@0.2 of the selection images, at the size of crops that is being trained."""
    size = network.input_size
    network.input_size = (side, side)
    try:
        return {"pck": pck.score(pck.detect(network, selection)).pck}
    finally:
        network.input_size = size
