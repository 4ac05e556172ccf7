"""The people of one frame: what the network sees in their crops, and their poses in metres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from . import tracking
from .camera import Camera
from .crop import whole_image
from .lifter import Keypoints, TrackState
from .network import joints_in_image
from .pose import Pose, TrackingState
from .root import solve_root
from .runtime.running import Network
from .skeleton import JOINT_COUNT
from .tracking import Candidate, Track

FloatArray = npt.NDArray[np.float64]

OUTSIDE_CONFIDENCE = 0.5  # factor for 2D joints beyond the image's border
_NEW = 0.75  # power of the least confidence for who is new: 0.4 where 0.3 keeps one in sight
_STRAY = 0.5  # of the image's size: how far a person's box may reach beyond its border


@dataclass(frozen=True)
class People:
    """N people seen in one frame: whose they are, and what was seen of them.

    keypoints: N, in pixels of the image as it came. confidence (N, 17): of the joints being right.
    boxes (N, 4): tight, in the same pixels.
    scores (N,): 0..1, of somebody being there.
    """

    candidates: list[Candidate]
    keypoints: Keypoints
    confidence: FloatArray
    boxes: FloatArray
    scores: FloatArray


def observe_people(
    network: Network,
    candidates: Sequence[Candidate],
    crops: Tensor,
    saliency: Tensor,
    crop_boxes: FloatArray,
    size: tuple[int, int],
    least_confidence: float,
) -> tuple[People, list[Track]]:
    """Look into the crops of candidates.

    Args:
        candidates: N. crops, saliency, crop_boxes: theirs, as the network takes them.
        size: width and height of the image.
        least_confidence: 0..1; where the score or the mean of the joints' confidences is less
            nobody is there, unless the candidate is trusted. Of somebody not seen until now more is
            asked, so that nobody comes and goes with the noise of one threshold.

    Returns:
        who is there, in the candidates' order, and the tracks that end here, because the network
        gave no numbers for them or because they lie on another person's, who was more to be
        expected there.
    """
    if not candidates:
        return _nobody(crops), []
    observation = network.observe(crops, saliency)
    # In NumPy: for the few numbers of a frame its calls cost a third of PyTorch's.
    joints, covariance = joints_in_image(
        observation.joints.numpy(),
        observation.covariance.numpy(),
        crop_boxes.astype(np.float32),
        np.array(crops.shape[:1:-1], np.float32),
    )
    places, confidence = joints.astype(np.float64), _doubles(observation.confidence)
    scores = _doubles(observation.present.sigmoid())
    edges, stray = whole_image(*size), _STRAY * np.array(size)
    edges = np.concatenate([edges[:2] - stray, edges[2:] + stray])
    kept: list[int] = []
    boxes: list[FloatArray] = []
    ended: list[Track | None] = []
    for i, candidate in enumerate(candidates):
        if not _finite(places[i], covariance[i], confidence[i], scores[i]):
            ended.append(candidate.track)
            continue
        box: FloatArray | None = candidate.box
        if not candidate.trusted:
            around = tracking.joints_box(places[i], confidence[i])
            box = tracking.clipped(candidate.unguided_box() if around is None else around, edges)
            least = least_confidence ** (_NEW if candidate.track is None else 1.0)
            if box is None or min(scores[i], confidence[i].mean()) < least:
                continue
            doubles = [
                n for n, j in enumerate(kept) if tracking.same_person(places[i], places[j], box)
            ]
            fits = [candidates[kept[n]].fit(boxes[n]) for n in doubles]
            if fits and (candidate.track is None or candidate.fit(box) <= max(fits)):
                ended.append(candidate.track)
                continue
            for n in reversed(doubles):  # who walks behind somebody sees that one's joints
                ended.append(candidates[kept.pop(n)].track)
                del boxes[n]
        assert box is not None
        kept.append(i)
        boxes.append(box)
    people = People(
        [candidates[i] for i in kept],
        Keypoints(
            torch.from_numpy(joints[kept]),
            torch.from_numpy(observation.mass.numpy()[kept]),
            torch.from_numpy(covariance[kept]),
            torch.from_numpy(observation.features.numpy()[kept]),
        ),
        confidence[kept],
        np.array(boxes).reshape(-1, 4),
        scores[kept],
    )
    return people, [track for track in ended if track is not None]


def lift_people(
    network: Network,
    people: People,
    ids: Sequence[str],
    stamp: float,
    camera: Camera,
    subject_height: float | None,
    max_gap: float,
) -> tuple[list[Pose | None], list[TrackState]]:
    """Poses of the people in metres, under these ids, and their tracks' new states.

    A pose is None where the network gave no numbers.
    """
    count = len(ids)
    if count == 0:
        return [], []
    seen = people.keypoints
    in_image = _doubles(seen.joints)
    like = seen.joints
    straight, boxes = camera.undistort_people(in_image, people.boxes)
    spread = camera.undistort_spread(straight, _doubles(seen.covariance))
    keypoints = replace(
        seen,
        joints=torch.from_numpy(straight).to(like),
        covariance=torch.from_numpy(spread).to(like),
    )
    K = torch.from_numpy(camera.K.copy()).to(like)
    tracks = [candidate.track for candidate in people.candidates]
    lifted, states = network.lift_frame(
        keypoints,
        torch.from_numpy(boxes).to(like),
        K,
        stamp,
        [TrackState.empty() if track is None else track.state for track in tracks],
        None if subject_height is None else like.new_full((count,), subject_height),
        max_gap,
    )
    joints, variance = _doubles(lifted.joints), _doubles(lifted.variance)
    confidence = _doubles(lifted.confidence)
    height, height_variance = _doubles(lifted.height), _doubles(lifted.height_variance)
    roots = root_variances = np.full((count, 3), np.nan)
    if not camera.assumed:
        roots, root_variances = solve_root(
            joints,
            straight,
            people.confidence,
            camera.K,
            spread,
            height,
            height_variance,
        )
    border = whole_image(camera.width, camera.height)
    outside = np.any((in_image < border[:2]) | (in_image > border[2:]), axis=-1)
    confidence_2d = np.where(outside, OUTSIDE_CONFIDENCE, 1.0) * people.confidence
    poses: list[Pose | None] = []
    for i in range(count):
        if not _finite(joints[i], variance[i], confidence[i], height[i], height_variance[i]):
            poses.append(None)
            continue
        poses.append(
            Pose(
                id=ids[i],
                tracking_state=TrackingState.OK,
                joints=joints[i].copy(),
                variance=variance[i].copy(),
                confidence=confidence[i].copy(),
                joints_2d=in_image[i].copy(),
                confidence_2d=confidence_2d[i].copy(),
                root=roots[i].copy(),
                root_variance=root_variances[i].copy(),
                height=float(height[i]),
                height_variance=float(height_variance[i]),
                height_given=subject_height is not None,
                box=people.boxes[i].copy(),
                score=float(people.scores[i]),
                frames_used=int(lifted.frames_used[i]),
            )
        )
    return poses, states


def _nobody(like: Tensor) -> People:
    points, pairs = like.new_zeros(0, JOINT_COUNT, 2), like.new_zeros(0, JOINT_COUNT, 2, 2)
    keypoints = Keypoints(points, points[..., 0], pairs)
    return People([], keypoints, np.empty((0, JOINT_COUNT)), np.empty((0, 4)), np.empty(0))


def _doubles(tensor: Tensor) -> FloatArray:
    return np.asarray(tensor.numpy(), np.float64)


def _finite(*values: Any) -> bool:
    return all(bool(np.isfinite(value).all()) for value in values)
