"""The batches of stage finetune: as many real images as rendered ones, and motion capture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset

from stsp_model.crop import crop, crop_box, to_crop, to_image, whole_image
from stsp_model.data.errors import DataError
from stsp_model.data.samples import BoolArray, FloatArray
from stsp_model.data.shards import RenderedClip
from stsp_model.epe import motion_saliency
from stsp_model.skeleton import FLIP
from stsp_model.training.augment import Image, crop_matrix, random_turn, spoil, warp_turned
from stsp_model.training.config import Augmentation
from stsp_model.training.config_3d import FinetuneConfig
from stsp_model.training.datasets import People
from stsp_model.training.epe_batches import (
    Crop,
    Crops,
    empty_crop,
    person_crop,
    stack_crops,
    usable,
    within,
)
from stsp_model.training.lift_batches import LiftBatch, LiftBatches
from stsp_model.training.plan import generator, item, places
from stsp_model.virtual_camera import virtual_camera

_LEAST_JOINTS = 3  # with fewer a frame shows nobody
# Deviations of a clip's boxes' place and of their size's logarithm, about those of a tracker: on
# rendered video one box in ten is too small or too large by a quarter.
_BOX_SHIFT, _BOX_SCALE = 0.06, 0.15
_LEAST_EXTENT = 1e-6  # standing heights squared: of a pose of which next to nothing is in sight
_MOST_DEPTH = 4.0  # half box sides; more comes of the scale of a joint or two
_MOST_SKIPPED = 2  # frames left out between two, at most


class ClipBatch(NamedTuple):
    """B clips of T frames, one person each.

    images (B, T, S, S, 3): uint8 BGR. saliency (B, T, 1, S/4, S/4). crop_boxes, boxes (B, T, 4):
    px of the image without distortion. K (B, 3, 3). stamps (B, T): s, float64. valid (B, T):
    whether anything is seen of the person. joints (B, T, 17, 2): px in the crop; labelled
    (B, T, 17): in the picture and within the crop, hidden or not. target (B, T, 17, 3): from the
    pelvis, camera axes, standing heights. height (B,): m.
    """

    images: Tensor
    saliency: Tensor
    crop_boxes: Tensor
    boxes: Tensor
    K: Tensor
    stamps: Tensor
    valid: Tensor
    joints: Tensor
    labelled: Tensor
    target: Tensor
    height: Tensor


class FinetuneBatch(NamedTuple):
    """A batch of stage finetune: real images, rendered video and, if there is any, mere motion."""

    crops: Crops
    clips: ClipBatch
    motion: LiftBatch | None


@dataclass(frozen=True, eq=False)
class Track:
    """One person in the chosen frames of a clip, lens distortion taken out.

    images: T, and `previous`, the picture before each of them or None. stamps (T,), gaps (T,): s
    since that. joints_2d (T, 17, 2), visible (T, 17), boxes (T, 4), K (3, 3), joints_3d (T, 17, 3),
    height: see RenderedClip. inside (T, 17): in the picture, hidden or not. turn (3, 3): from
    pixels of the images to those of the camera that all the rest belongs to; None if it took them.
    """

    images: list[Image]
    previous: list[Image | None]
    stamps: FloatArray
    gaps: FloatArray
    joints_2d: FloatArray
    visible: BoolArray
    boxes: FloatArray
    K: FloatArray
    joints_3d: FloatArray
    height: float
    inside: BoolArray
    turn: FloatArray | None = None


def follow(clip: RenderedClip, person: int, frames: npt.NDArray[np.int64]) -> Track:
    """One person in some frames of a clip, rising; each frame's previous one is the one before."""
    camera = clip.camera
    wanted = sorted({*frames.tolist(), *(max(frames[0] - 1, 0),)})
    decoded = {frame: _straight(clip, frame) for frame in wanted}
    before = [int(frames[0]) - 1, *frames[:-1].tolist()]
    joints, boxes = camera.undistort_people(
        clip.joints_2d[frames, person], clip.boxes[frames, person]
    )
    return Track(
        [decoded[frame] for frame in frames.tolist()],
        [decoded[frame] if frame >= 0 else None for frame in before],
        clip.stamps[frames],
        np.array(
            [clip.stamps[f] - clip.stamps[max(b, 0)] for f, b in zip(frames, before, strict=True)]
        ),
        joints,
        clip.visible[frames, person],
        boxes,
        camera.K.copy(),
        clip.joints_3d[frames, person],
        float(clip.heights[person]),
        within(joints, (camera.width, camera.height)),
    )


def _straight(clip: RenderedClip, frame: int) -> Image:
    camera, image = clip.camera, clip.image(frame)
    if camera.D is None:
        return image
    if camera.distortion_model == "equidistant":
        straight = cv2.fisheye.undistortImage(image, camera.K, camera.D, Knew=camera.K)
    else:
        straight = cv2.undistort(image, camera.K, camera.D)
    return np.asarray(straight, np.uint8)


def mirrored(track: Track) -> Track:
    """The same person and camera, not turned yet, in a mirror."""
    width = track.images[0].shape[1]
    swap = list(FLIP)
    boxes, K = track.boxes.copy(), track.K.copy()
    boxes[:, [0, 2]] = width - 1 - track.boxes[:, [2, 0]]
    K[0, 2] = width - 1 - K[0, 2]
    return replace(
        track,
        images=[_flipped(image) for image in track.images],
        previous=[None if image is None else _flipped(image) for image in track.previous],
        joints_2d=(track.joints_2d * (-1, 1) + (width - 1, 0))[:, swap],
        visible=track.visible[:, swap],
        boxes=boxes,
        K=K,
        joints_3d=(track.joints_3d * (-1, 1, 1))[:, swap],
        inside=track.inside[:, swap],
    )


def _flipped(image: Image) -> Image:
    # Copying NumPy's reversed view takes many times as long.
    return np.asarray(cv2.flip(image, 1), np.uint8)


def turned(track: Track, angle: float) -> Track:
    """The same person before a camera that is turned about its line of sight to him or her.

    The line goes through the middle of all boxes, so the person stays about where he or she is in
    the picture. A camera turned in place sees the same rays, so pixels move by a homography and all
    that is known of the scene stays exact. Only a body's outline is not known: the turned boxes
    reach as far beyond the joints in the picture, in the mean over the sides, as the boxes did.

    Args:
        track: not turned yet.
        angle: radians, clockwise as seen in the picture.
    """
    known = np.isfinite(track.boxes).all(axis=1) & (track.inside.sum(axis=1) >= _LEAST_JOINTS)
    if not known.any():
        return track
    corners = track.boxes[known]
    middle = (corners[:, :2] + corners[:, 2:]).mean(axis=0) / 2
    axis = np.linalg.solve(track.K, np.append(middle, 1.0))
    rotation = cv2.Rodrigues(angle * axis / np.linalg.norm(axis))[0]
    homography = track.K @ rotation @ np.linalg.inv(track.K)
    rays = track.joints_2d @ homography[:, :2].T + homography[:, 2]
    ahead = np.where(rays[..., 2:] > 0, rays, np.nan)  # others are behind the turned camera
    joints = ahead[..., :2] / ahead[..., 2:]
    before, after = (
        _extent(points[known], track.inside[known]) for points in (track.joints_2d, joints)
    )
    beyond = ((before - corners) * (1, 1, -1, -1)).mean(axis=1, keepdims=True)
    boxes = np.full_like(track.boxes, np.nan)
    boxes[known] = after + np.maximum(beyond, 0) * (-1, -1, 1, 1)
    return replace(
        track,
        joints_2d=joints,
        boxes=boxes,
        joints_3d=track.joints_3d @ rotation.T,
        turn=homography,
    )


def _extent(joints: FloatArray, which: BoolArray) -> FloatArray:
    """(T, 4) x0 y0 x1 y1 of some of joints (T, 17, 2) px; infinite where there are none."""
    known = which[..., None] & np.isfinite(joints)
    low, high = (np.where(known, joints, far) for far in (np.inf, -np.inf))
    return np.concatenate([low.min(axis=1), high.max(axis=1)], axis=1)


def observed(
    track: Track,
    side: int,
    rng: np.random.Generator | None = None,
    look: Augmentation | None = None,
) -> ClipBatch:
    """A track as a batch of one clip: crops as the estimator cuts them.

    Args:
        track: of T frames.
        side: of the crops.
        rng, look: for boxes that are a little off and an augmented look, the same in all frames;
            None: as it is.
    """
    known: BoolArray = np.asarray(np.isfinite(track.boxes).all(axis=1))
    height, width = track.images[0].shape[:2]
    boxes = np.where(known[:, None], track.boxes, whole_image(width, height))
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 2.0)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    seed = 0
    if rng is not None:
        centres = centres + rng.normal(0, _BOX_SHIFT, 2) * sides.max(axis=1, keepdims=True)
        sides = sides * np.exp(rng.normal(0, _BOX_SCALE))
        seed = int(rng.integers(2**32))
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    cut = crop_box(boxes, (side, side))
    size = np.array([side, side], np.float64)
    images, saliency = [], []
    for image, previous, box, gap in zip(
        track.images, track.previous, cut, track.gaps, strict=True
    ):
        now = _cut(image, box, side, track.turn)
        before = None if previous is None else _cut(previous, box, side, track.turn)
        saliency.append(motion_saliency(before, now, gap if before is not None else 1.0))
        if look is not None:
            now = spoil(np.random.default_rng(seed), now, look)
        images.append(now)
    joints = to_crop(track.joints_2d, cut[:, None], size)
    valid = known & (track.visible.sum(axis=1) >= _LEAST_JOINTS)
    labelled = track.inside & within(joints, (side, side))
    target = (track.joints_3d - track.joints_3d[:, :1]) / track.height
    return ClipBatch(
        torch.from_numpy(np.stack(images))[None],
        torch.from_numpy(np.stack(saliency)[None, :, None]),
        torch.from_numpy(cut.astype("f4"))[None],
        torch.from_numpy(boxes.astype("f4"))[None],
        torch.from_numpy(track.K.astype("f4"))[None],
        torch.from_numpy(track.stamps - track.stamps[0])[None],
        torch.from_numpy(valid)[None],
        torch.from_numpy(np.nan_to_num(joints).astype("f4"))[None],
        torch.from_numpy(labelled & valid[:, None])[None],
        torch.from_numpy(target.astype("f4"))[None],
        torch.tensor([track.height], dtype=torch.float32),
    )


def _cut(image: Image, box: FloatArray, side: int, turn: FloatArray | None) -> Image:
    """The part of a picture, as the turned camera sees it, in a box of that camera's pixels."""
    if turn is None:
        return crop(image, box, (side, side))
    matrix = np.concatenate([crop_matrix(box, side), [[0.0, 0.0, 1.0]]])
    return warp_turned(image, matrix @ turn, side)


def true_depths(clips: ClipBatch) -> Tensor:
    """What `gsr.Depth` is to read: (B, T, 17) from the pelvis, half box sides.

    Standing heights become half box sides by the scale at which the pose, as the virtual camera
    sees it, lies best over those of its 2D joints that are labelled (weak perspective).
    """
    size = clips.crop_boxes.new_tensor(clips.images.shape[2:4])
    joints = to_image(clips.joints, clips.crop_boxes.unsqueeze(2), size)
    seen, _, rotation = virtual_camera(joints, clips.boxes, clips.K.unsqueeze(1))
    pose = clips.target @ rotation
    known = clips.labelled.unsqueeze(-1)
    count = known.sum(dim=2, keepdim=True).clamp_min(1)
    flat, true = (
        torch.where(known, points - (points * known).sum(dim=2, keepdim=True) / count, 0.0)
        for points in (seen, pose[..., :2])
    )
    extent = true.square().sum(dim=(2, 3)).clamp_min(_LEAST_EXTENT)
    scale = (flat.square().sum(dim=(2, 3)) / extent).sqrt()
    return (pose[..., 2] * scale.unsqueeze(2)).clamp(-_MOST_DEPTH, _MOST_DEPTH)


@dataclass(frozen=True, eq=False)
class FinetuneBatches:
    """All batches of a run, each a function of its step's number alone.

    Args:
        config: of the stage.
        real: people in images; clips: rendered.
        motion: of motion capture, or None.
        side: of the crops.
    """

    config: FinetuneConfig
    real: People
    clips: ConcatDataset[RenderedClip]
    motion: LiftBatches | None
    side: int

    @property
    def counts(self) -> tuple[int, int]:
        """Real crops and clips in a batch: half of the crops are real; clips come in pairs."""
        half = self.config.optimisation.batch // 2
        return half, half // (2 * self.config.frames) * 2

    def batch(self, step: int, part: int, parts: int) -> FinetuneBatch:
        """One of `parts` equal parts of the batch of a step."""
        crops, clips = self.counts
        tracks = [self._clip(step, place) for place in places(clips, part, parts)]
        return FinetuneBatch(
            stack_crops([self._crop(step, place) for place in places(crops, part, parts)]),
            ClipBatch(*(torch.cat(fields) for fields in zip(*tracks, strict=True))),
            self.motion.batch(step, part, parts) if self.motion is not None else None,
        )

    def _crop(self, step: int, place: int) -> Crop:
        config = self.config
        seed, look = config.optimisation.seed, config.augmentation
        rng = generator(seed, "finetune crop", step, place)
        index = item(seed, "people", step * self.counts[0] + place, len(self.real))
        if rng.random() < config.negative_share:
            return empty_crop(rng, self.real.picture(index), self.side, look, config.moving_share)
        return person_crop(rng, usable(self.real, index), self.side, look, config.moving_share)

    def _clip(self, step: int, place: int) -> ClipBatch:
        seed = self.config.optimisation.seed
        rng = generator(seed, "finetune clip", step, place)
        position = step * self.counts[1] + place
        clip = self._usable(item(seed, "clips", position, len(self.clips)))
        person = int(rng.integers(len(clip.motions)))
        track = follow(clip, person, self._frames(rng, clip, person))
        if rng.random() < self.config.augmentation.flip:
            track = mirrored(track)
        # From numbers of its own, so that all others are the same without it.
        angle = random_turn(
            generator(seed, "finetune turn", step, place),
            self.config.clip_rotation_deg,
            self.config.clip_any_rotation,
        )
        if angle:
            track = turned(track, angle)
        return observed(track, self.side, rng, self.config.augmentation)

    def _usable(self, index: int) -> RenderedClip:
        """The first clip from `index` on that shows somebody for long enough."""
        for number in range(len(self.clips)):
            clip = self.clips[(index + number) % len(self.clips)]
            if clip.motions and len(clip.jpegs) >= self.config.frames:
                return clip
        raise DataError(f"no rendered clip shows anybody for {self.config.frames} frames")

    def _frames(
        self, rng: np.random.Generator, clip: RenderedClip, person: int
    ) -> npt.NDArray[np.int64]:
        """Frames of a clip at a random rate, of a stretch in which the person is seen."""
        wanted, there = self.config.frames, len(clip.jpegs)
        most = max((there - 1) // max(wanted - 1, 1), 1)
        stride = int(rng.integers(1, min(_MOST_SKIPPED + 1, most) + 1))
        frames = np.arange(wanted) * stride
        seen: BoolArray = np.asarray(np.isfinite(clip.boxes[:, person]).all(axis=1))
        starts = np.arange(there - frames[-1])
        best = seen[starts[:, None] + frames].sum(axis=1)
        good = starts[best == best.max()]
        return frames + int(good[rng.integers(len(good))])
