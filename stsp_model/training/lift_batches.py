"""The batches of stage lift: children's bodies perform motion capture before random cameras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stsp_model.data.samples import FloatArray
from stsp_model.lifter import Keypoints, Lifted
from stsp_model.network import STSPNet
from stsp_model.skeleton import FLIP
from stsp_model.training import noise, views
from stsp_model.training.bodies import Bodies
from stsp_model.training.config_3d import LiftConfig
from stsp_model.training.motions import (
    PARTS,
    TURNS,
    Moments,
    Motions,
    bent,
    between,
    perform,
    with_part_of,
)
from stsp_model.training.plan import generator, places

_LEAST_JOINTS = 3  # with fewer a frame shows nobody
_BOX_SHIFT, _BOX_SCALE = 0.04, 0.08  # deviations of a box's place and of its size's logarithm
_BOX_TIME = 0.5  # s that a box's error lasts
_CAPTURED_LEG = 0.82  # m, hip to ankle, of the adults who were captured
_LENGTHS = 7  # factors of `Bodies.varied`


class LiftBatch(NamedTuple):
    """B clips of T frames as a detector sees them, and the truth.

    joints (B, T, 17, 2): px, NaN where missed; mass (B, T, 17); covariance (B, T, 17, 2, 2): px^2.
    boxes (B, T, 4): px. K (B, 3, 3). stamps (B, T): s, float64. valid (B, T): False where hardly
    anything is seen. target (B, T, 17, 3): from the pelvis, camera axes, standing heights.
    height (B,): m.
    """

    joints: Tensor
    mass: Tensor
    covariance: Tensor
    boxes: Tensor
    K: Tensor
    stamps: Tensor
    valid: Tensor
    target: Tensor
    height: Tensor


def lift(network: STSPNet, batch: LiftBatch, height: Tensor | None = None) -> Lifted:
    """What the lifter makes of a batch; geometry in single precision, whatever runs around it."""
    with torch.autocast(batch.K.device.type, enabled=False):
        return network.lifter.clip(
            Keypoints(batch.joints, batch.mass, batch.covariance),
            batch.boxes,
            batch.K,
            batch.stamps,
            batch.valid,
            height,
        )


@dataclass(frozen=True, eq=False)
class LiftBatches:
    """All batches of a run, each a function of its step's number alone.

    Args:
        config: of the stage.
        motions, bodies: to combine at random.
        purpose: other clips than those of another purpose.
        size: clips in a batch.
    """

    config: LiftConfig
    motions: Motions
    bodies: Bodies
    purpose: str
    size: int

    def batch(self, step: int, part: int, parts: int) -> LiftBatch:
        """One of `parts` equal parts of the batch of a step."""
        seed = self.config.optimisation.seed
        generators = [
            generator(seed, self.purpose, step, place) for place in places(self.size, part, parts)
        ]
        clips, cameras = self.config.clips, self.config.cameras
        uniform = np.stack([rng.random(8 + clips.frames) for rng in generators])
        mix = np.stack([rng.random(1 + 3 * len(PARTS)) for rng in generators])
        lens = np.stack([rng.random(views.UNIFORM) for rng in generators])
        normal = np.stack([rng.standard_normal(views.NORMAL) for rng in generators])
        lengths = np.stack([rng.standard_normal(_LENGTHS) for rng in generators])
        shake = np.stack([rng.standard_normal((clips.frames, 3), "f4") for rng in generators])
        draws = noise.draw(generators, clips.frames)
        turns = np.stack([rng.standard_normal((TURNS, 3)) for rng in generators])
        tumbling = np.stack([rng.random(2) for rng in generators])

        rows = np.minimum((uniform[:, 0] * len(self.bodies)).astype(int), len(self.bodies) - 1)
        bodies = self.bodies[rows].varied(np.exp(clips.proportions * lengths))
        stamps, pace = self._times(uniform, bodies)
        moments = self._moments(uniform[:, 2], uniform[:, 6], stamps, pace)
        # Of a mixed clip each limb moves, as often as not, as in a motion of its own.
        for i, limb in enumerate(PARTS):
            whether, which, start = mix[:, 1 + 3 * i : 4 + 3 * i].T
            chosen = (mix[:, 0] < clips.mixed) & (whether < 0.5)
            others = self._moments(which[chosen], start[chosen], stamps[chosen], pace[chosen])
            moments = with_part_of(limb, moments, others, chosen)
        # It is bent, too, and any clip may be the wrong way up.
        axis = turns[:, 0] / np.linalg.norm(turns[:, 0], axis=-1, keepdims=True)
        turns *= np.radians(clips.bent_deg) * (mix[:, 0] < clips.mixed)[:, None, None]
        turns[:, 0] = np.pi * tumbling[:, 1:] * axis * (tumbling[:, :1] < clips.tumbled)
        moments = bent(moments, turns)
        joints, pelvis = perform(moments, bodies)
        mirrored = uniform[:, 1] < clips.mirrored
        joints[mirrored] = joints[mirrored][:, :, list(FLIP)] * np.array([-1, 1, 1], "f4")
        pelvis[mirrored] *= np.array([-1, 1, 1], "f4")

        reach = np.linalg.norm(joints, axis=-1).max(axis=(1, 2))
        seen = views.random_views(cameras, lens, normal, pelvis, reach, stamps, bodies.height)
        target = np.einsum("btij,btkj->btki", seen.rotation, joints)
        root = np.einsum("btij,btj->bti", seen.rotation, pelvis - seen.position)
        flat = views.project(target + root[:, :, None], seen.K)
        low, high = flat.min(axis=2), flat.max(axis=2)
        half = (high - low).max(axis=-1) / 2
        found, mass, covariance = noise.distort(self.config.noise, draws, flat, stamps, half)
        # What lies outside the image is seen by nobody.
        inside = (flat > -0.5).all(axis=-1) & (flat < seen.size[:, None, None] - 0.5).all(axis=-1)
        there = inside & (mass > 0)
        found = np.where(there[..., None], found, np.nan)
        mass = np.where(there, mass, 0)
        boxes = self._boxes(flat, found, there, shake, stamps, half)
        return LiftBatch(
            torch.from_numpy(found.astype("f4")),
            torch.from_numpy(mass.astype("f4")),
            torch.from_numpy(covariance),
            torch.from_numpy(boxes.astype("f4")),
            torch.from_numpy(seen.K.astype("f4")),
            torch.from_numpy(stamps),
            torch.from_numpy(there.sum(axis=-1) >= _LEAST_JOINTS),
            torch.from_numpy(target),
            torch.from_numpy(bodies.height.astype("f4")),
        )

    def _times(self, uniform: FloatArray, bodies: Bodies) -> tuple[FloatArray, FloatArray]:
        """Stamps (B, T) of the clips, s, and the pace (B,) at which the bodies move.

        Smaller bodies move faster: time goes with the root of the leg (equal Froude numbers).
        """
        clips = self.config.clips
        rate = np.exp(np.log(clips.rate[0]) + uniform[:, 3] * np.log(clips.rate[1] / clips.rate[0]))
        pace = clips.speed ** (2 * uniform[:, 4] - 1) / np.sqrt(bodies.leg / _CAPTURED_LEG)
        # Frames arrive at the camera's rate, and some are lost.
        lost = uniform[:, 8:] < clips.dropped * uniform[:, 5, None] * 2
        stamps = np.cumsum((1 + lost) / rate[:, None], axis=1)
        stamps -= stamps[:, :1]
        return stamps, pace

    def _moments(
        self, which: FloatArray, start: FloatArray, stamps: FloatArray, pace: FloatArray
    ) -> Moments:
        """Stretches of the motions: `which` and `start` (B,), 0..1, choose takes and places."""
        motions = self.motions
        # A take is chosen by its length, so every captured second is as likely.
        ends = np.cumsum(motions.durations)
        chosen = np.searchsorted(ends, which * ends[-1], side="right")
        take = np.minimum(chosen, len(ends) - 1)
        # A take shorter than the clip is gone through more slowly.
        pace = np.minimum(pace, motions.durations[take] / np.maximum(stamps[:, -1], 1e-6))
        start = start * (motions.durations[take] - pace * stamps[:, -1])
        moments = start[:, None] + pace[:, None] * stamps
        frames = np.empty(stamps.shape, np.int64)
        for row, k in enumerate(take):
            first, stop = motions.starts[k], motions.starts[k + 1]
            after = np.searchsorted(motions.stamps[first:stop], moments[row], side="right")
            frames[row] = first + np.clip(after - 1, 0, stop - first - 2)
        gap = motions.stamps[frames + 1] - motions.stamps[frames]
        return between(motions, frames, np.clip((moments - motions.stamps[frames]) / gap, 0, 1))

    def _boxes(
        self,
        flat: npt.NDArray[np.float32],
        found: npt.NDArray[np.float32],
        there: npt.NDArray[np.bool_],
        shake: npt.NDArray[np.float32],
        stamps: FloatArray,
        half: npt.NDArray[np.float32],
    ) -> npt.NDArray[np.float32]:
        """Boxes (B, T, 4) around what was found, a little off as those of a tracker are."""
        points = found.copy()  # NaN where nothing is there
        nothing = ~there.any(axis=-1)
        points[nothing] = flat[nothing]
        low, high = np.nanmin(points, axis=2), np.nanmax(points, axis=2)
        off = noise.lasting(shake, stamps, _BOX_TIME)
        centre = (low + high) / 2 + _BOX_SHIFT * off[..., :2] * half[..., None]
        # A lone joint has no extent; a box has.
        sides = np.maximum((high - low) / 2, 0.05 * half[..., None])
        sides = sides * np.exp(_BOX_SCALE * off[..., 2:])
        return np.concatenate([centre - sides, centre + sides], axis=-1)
