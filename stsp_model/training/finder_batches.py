"""The batches of stage finder: whole frames, and where people are in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stsp_model.training.augment import change_look
from stsp_model.training.config import FinderConfig
from stsp_model.training.datasets import People, Picture
from stsp_model.training.plan import generator, item, places
from stsp_model.training.scenes import finder_targets, scene


class Frames(NamedTuple):
    """N whole frames (N, h, w, 3) uint8 BGR, and what `scenes.finder_targets` says of each."""

    images: Tensor
    centres: Tensor
    distances: Tensor
    known: Tensor


@dataclass(frozen=True, eq=False)
class FinderBatches:
    """All batches of a run, each a function of its step's number alone.

    Args:
        config: of the stage.
        real, rendered: pictures to make frames of; None where there are no rendered ones.
    """

    config: FinderConfig
    real: People
    rendered: People | None

    def batch(self, step: int, part: int, parts: int) -> Frames:
        """One of `parts` equal parts of the batch of a step."""
        total = self.config.optimisation.batch
        pictures = [self.frame(step, place) for place in places(total, part, parts)]
        targets = [finder_targets(boxes) for _, boxes in pictures]
        centres, distances, known = (
            torch.from_numpy(np.stack(kind)) for kind in zip(*targets, strict=True)
        )
        images = torch.from_numpy(np.stack([image for image, _ in pictures]))
        return Frames(images, centres, distances, known)

    def frame(self, step: int, place: int) -> Picture:
        """The frame in one place of a step's batch."""
        config = self.config
        seed = config.optimisation.seed
        rng = generator(seed, "frame", step, place)
        count = int(rng.choice(len(config.people), p=config.people))
        most = len(config.people) - 1
        first = (step * config.optimisation.batch + place) * most

        def pick(number: int) -> Picture:
            people = self.real
            if self.rendered is not None and rng.random() < config.rendered_share:
                people = self.rendered
            return people.picture(item(seed, "frames", first + number, len(people)))

        image, boxes = scene(rng, count, pick)
        return change_look(rng, image, config.look), boxes
