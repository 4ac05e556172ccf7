"""The batches of stage epe: crops of people and of nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stsp_model.data.errors import DataError
from stsp_model.data.samples import ImagePose
from stsp_model.hrnet import STRIDE
from stsp_model.skeleton import FLIP, JOINT_COUNT
from stsp_model.training.augment import (
    BoolArray,
    FloatArray,
    Image,
    move_points,
    random_matrix,
    spoil,
    still_saliency,
    warp,
)
from stsp_model.training.config import Augmentation, EPEConfig
from stsp_model.training.datasets import People, Picture
from stsp_model.training.plan import generator, item, places
from stsp_model.training.scenes import nobody


class Crops(NamedTuple):
    """N crops of side S, of people and of nobody.

    images (N, S, S, 3): uint8 BGR. saliency (N, 1, S/4, S/4). joints (N, 17, 2): px in the crop.
    known (N, 17): bool, in the picture and within the crop, hidden or not. present (N,): bool,
    somebody is there.
    """

    images: Tensor
    saliency: Tensor
    joints: Tensor
    known: Tensor
    present: Tensor


Crop = tuple[Image, npt.NDArray[np.float32], FloatArray, BoolArray, bool]


def within(joints: FloatArray, size: Sequence[int]) -> BoolArray:
    """Which joints (..., 2) lie in a picture of a width and height; NaN lies nowhere."""
    return np.asarray(((joints >= -0.5) & (joints <= np.array(size) - 0.5)).all(axis=-1))


def person_crop(
    rng: np.random.Generator, pose: ImagePose, side: int, look: Augmentation, moving: float
) -> Crop:
    """An augmented crop of an annotated person; `moving`: how likely a previous frame is.

    Returns:
        image (S, S, 3), saliency (S/4, S/4), joints (17, 2) px, known (17,), whether one is there.
    """
    matrix, flip = random_matrix(rng, pose.box, side, look)
    joints = move_points(pose.joints, matrix, flip)
    # A hidden joint has its place, too, where the data says so: a pose needs it.
    labelled = pose.visible | within(pose.joints, pose.image.shape[1::-1])
    labelled = labelled[list(FLIP)] if flip else labelled
    known = labelled & within(joints, (side, side))
    image = warp(pose.image, matrix, (side, side))
    saliency = np.zeros((side // STRIDE, side // STRIDE), np.float32)
    if rng.random() < moving:
        saliency = still_saliency(rng, image, joints, known)
    return spoil(rng, image, look), saliency, np.nan_to_num(joints), known, True


def empty_crop(
    rng: np.random.Generator, picture: Picture, side: int, look: Augmentation, moving: float
) -> Crop:
    """An augmented crop that shows nobody; returns as `person_crop`."""
    image = nobody(rng, picture, (side, side))
    joints, known = np.zeros((JOINT_COUNT, 2)), np.zeros(JOINT_COUNT, dtype=bool)
    saliency = np.zeros((side // STRIDE, side // STRIDE), np.float32)
    if rng.random() < moving:
        saliency = still_saliency(rng, image, joints, known)
    return spoil(rng, image, look), saliency, joints, known, False


def stack_crops(crops: list[Crop]) -> Crops:
    """Crops of one size as a batch."""
    images, saliency, joints, known, present = zip(*crops, strict=True)
    return Crops(
        torch.from_numpy(np.stack(images)),
        torch.from_numpy(np.stack(saliency)[:, None].astype(np.float32)),
        torch.from_numpy(np.stack(joints).astype(np.float32)),
        torch.from_numpy(np.stack(known)),
        torch.tensor(present),
    )


def usable(people: People, index: int) -> ImagePose:
    """The first person from `index` on whose box has an extent: some have one joint or none."""
    for number in range(len(people)):
        pose = people[(index + number) % len(people)]
        if (pose.box[2:] > pose.box[:2]).all():
            return pose
    raise DataError("nobody in the training images has two joints")


@dataclass(frozen=True, eq=False)
class EPEBatches:
    """All batches of a run, each a function of its step's number alone.

    Args:
        config: of the stage.
        real, rendered: people to learn from; None where there are no rendered ones.
        steps_per_epoch: to know the crops' size, which grows with the epochs.
    """

    config: EPEConfig
    real: People
    rendered: People | None
    steps_per_epoch: int

    @staticmethod
    def crops_of(config: EPEConfig, rendered: bool) -> tuple[int, int, int]:
        """How many crops of a batch show nobody, rendered people and real people."""
        batch = config.optimisation.batch
        nobody_ = round(batch * config.negative_share)
        drawn = int(batch * config.rendered_share) if rendered else 0
        return nobody_, drawn, batch - nobody_ - drawn

    def side(self, step: int) -> int:
        """The crops' side at a step, pixels."""
        epoch = step // self.steps_per_epoch
        return [side for first, side in self.config.sizes if first <= epoch][-1]

    def batch(self, step: int, part: int, parts: int) -> Crops:
        """One of `parts` equal parts of the batch of a step."""
        total = self.config.optimisation.batch
        return stack_crops([self._crop(step, place) for place in places(total, part, parts)])

    def _crop(self, step: int, place: int) -> Crop:
        config, side = self.config, self.side(step)
        rng = generator(config.optimisation.seed, "crop", step, place)
        nobody_, drawn, real = self.crops_of(config, self.rendered is not None)
        if place < nobody_:
            position = step * nobody_ + place
            index = item(config.optimisation.seed, "negatives", position, len(self.real))
            picture = self.real.picture(index)
            return empty_crop(rng, picture, side, config.augmentation, config.moving_share)
        people, position = self.real, step * real + place - nobody_ - drawn
        if place < nobody_ + drawn and self.rendered is not None:
            people, position = self.rendered, step * drawn + place - nobody_
        index = item(config.optimisation.seed, f"people {len(people)}", position, len(people))
        pose = usable(people, index)
        return person_crop(rng, pose, side, config.augmentation, config.moving_share)
