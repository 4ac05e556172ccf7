"""Stage finder: where people are in whole frames; everything else is left alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from stsp_model import tracking
from stsp_model.crop import whole_image
from stsp_model.estimator import Settings
from stsp_model.finder import CENTRE_BIAS
from stsp_model.losses import centre_loss, size_loss
from stsp_model.network import STSPNet
from stsp_model.perception import find_people
from stsp_model.runtime import TORCH
from stsp_model.runtime.backends import open_network
from stsp_model.training.augment import rgb
from stsp_model.training.config import FinderConfig
from stsp_model.training.datasets import (
    IMAGES,
    RENDERED,
    People,
    open_people,
    open_selection,
)
from stsp_model.training.finder_batches import FinderBatches, Frames
from stsp_model.training.stage import Group, Losses, Stage

FOUND = 0.5  # overlap of a box with a person's from which the person is found
_FIRST_CHANCE = 0.01  # of a person's centre lying in a cell, before anything is learnt
_MOST_PICTURES = 400  # of each selection set that are looked at, evenly spread


class FinderLosses(Losses):
    """Losses of a batch of stage finder; see `config.FinderWeights`."""

    def __init__(self, model: STSPNet) -> None:
        super().__init__()
        self.model = model

    def counts(self, batch: Frames) -> dict[str, Tensor]:
        """See `Losses`."""
        return {"centre": (batch.centres == 1).sum(), "size": batch.known.sum()}

    def forward(self, batch: Frames) -> dict[str, Tensor]:
        """See `Losses`."""
        centres, distances = self.model.find_people(rgb(batch.images))
        with torch.autocast(centres.device.type, enabled=False):
            return {
                "centre": centre_loss(centres.float(), batch.centres),
                "size": size_loss(distances.float(), batch.distances, batch.known),
            }


def finder_stage(
    model: STSPNet, config: FinderConfig, data: Sequence[str], select: Sequence[str] = ()
) -> Stage:
    """Stage finder on data sets.

    Args:
        model: to train.
        config: of this stage.
        data: "FORMAT:PATH" each, to train on.
        select: to select by; empty: the parts of `data` that are there for it.

    Raises:
        DataError: what does not fit.
    """
    _expect_few_people(model)
    real, rendered = open_people(data)
    selection = [People((part,)) for part in open_selection(select, data, (*IMAGES, RENDERED))]
    settings = config.optimisation
    return Stage(
        losses=FinderLosses(model),
        weights=asdict(config.weights),
        groups=[Group(list(model.finder.parameters()))],
        batches=FinderBatches(config, real, rendered),
        steps_per_epoch=settings.steps_per_epoch or max(len(real) // settings.batch, 1),
        shared=(settings.batch,),
        evaluate=lambda network, _: finder_scores(network, selection),
        calibrate=lambda _: None,
        score="found",
        higher=True,
    )


def _expect_few_people(model: STSPNet) -> None:
    """Let an untrained finder see hardly anybody, where it saw somebody in every cell.

    Else the first hundred steps are spent on its false alarms (Lin et al., Focal Loss, 2017, 4.1).
    """
    bias = model.finder.head.bias
    assert bias is not None
    if bias[0].item() == CENTRE_BIAS:
        with torch.no_grad():
            bias[0] = math.log(_FIRST_CHANCE / (1 - _FIRST_CHANCE))


@torch.inference_mode()
def finder_scores(network: STSPNet, selection: Sequence[People]) -> dict[str, float]:
    """How well people are found in whole pictures, the mean over the sets.

    As many boxes are taken of a picture as people are known in it, the best ones.

    Returns:
        found: percentage of people whose box one of these overlaps by FOUND or more (intersection
        over union); overlap: the mean of the largest overlaps, in per cent.
    """
    opened = open_network(network, TORCH)
    scores = []
    for people in selection:
        step = math.ceil(len(people) / _MOST_PICTURES)
        overlaps: list[float] = []
        for index in range(0, len(people), step):
            image, boxes = people.picture(index)
            whole = whole_image(image.shape[1], image.shape[0])
            inside = [tracking.clipped(box, whole) for box in boxes]
            known = np.array([box for box in inside if box is not None]).reshape(-1, 4)
            found = find_people(opened, image, whole, len(known) or 1, Settings().min_confidence)
            best = tracking.overlaps(known, found[: len(known)])
            overlaps += best.max(axis=1, initial=0.0).tolist()
        scores.append((np.mean(np.array(overlaps) >= FOUND), np.mean(overlaps)))
    found, overlap = 100 * np.mean(scores, axis=0)
    return {"found": float(found), "overlap": float(overlap)}
