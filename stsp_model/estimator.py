"""PoseEstimator: images in, poses out. Finds people, follows them, and keeps their past."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from . import tracking
from .camera import Camera
from .checks import (
    checked_boxes,
    checked_camera,
    checked_image,
    checked_region,
    checked_stamp,
    is_number,
)
from .crop import crop_box
from .lifter import MAX_GAP
from .network import STSPNet, checked_height
from .people import lift_people, observe_people
from .perception import (
    PreviousFrame,
    crops_motion,
    find_people,
    network_images,
    person_crops,
)
from .pose import Pose, TrackingState, terminated
from .runtime import AUTO
from .runtime.backends import open_network
from .runtime.exported import Exported
from .runtime.running import Network
from .tracking import Candidate, Track
from .turns import TURNS, turned_boxes, turned_camera, turned_image, turned_pose, turned_size

__all__ = [
    "LateFrameError",
    "Pose",
    "PoseEstimator",
    "Settings",
    "Timings",
    "TrackingState",
    "warm_up",
]

FloatArray = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]

SEARCH_EVERY = 5  # frames from one look for further people to the next, while somebody is in sight
MOST_PEOPLE = 20  # as the node's parameter max_people
_PROPOSED = 2 / 3  # of min_confidence: the score of the finder's boxes, as a closer look decides
_WARM_UP_SIZE = (480, 640)  # height and width


class LateFrameError(ValueError):
    """A frame that is not newer than the one before it: to be dropped and counted."""


@dataclass(frozen=True)
class Settings:
    """What may change between two images; see PoseEstimator."""

    subject_height: float | None = None
    max_people: int = 1
    max_gap: float = MAX_GAP
    min_confidence: float = 0.3
    image_rotation: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "subject_height", checked_height(self.subject_height))
        if isinstance(self.max_people, bool) or not isinstance(self.max_people, (int, np.integer)):
            raise TypeError(f"max_people is {self.max_people!r}, expected a whole number")
        if not 1 <= self.max_people <= MOST_PEOPLE:
            raise ValueError(f"max_people is {self.max_people}, expected 1 to {MOST_PEOPLE}")
        for name in ("max_gap", "min_confidence", "image_rotation"):
            value = getattr(self, name)
            if not is_number(value):
                raise TypeError(f"{name} is {value!r}, expected a number")
        if not (math.isfinite(self.max_gap) and self.max_gap > 0):
            raise ValueError(f"max_gap is {self.max_gap} s, expected more than 0")
        if not 0 <= self.min_confidence <= 1:
            raise ValueError(f"min_confidence is {self.min_confidence}, expected 0 to 1")
        if self.image_rotation not in TURNS:
            turns = ", ".join(map(str, TURNS))
            raise ValueError(f"image_rotation is {self.image_rotation}, expected one of {turns}")
        object.__setattr__(self, "image_rotation", int(self.image_rotation))


@dataclass(frozen=True)
class Timings:
    """Seconds of the last step: finder, crops, their flow, 2D network, lifter and root, all.

    What checks and turns an image counts as `find`.
    """

    find: float = 0.0
    crop: float = 0.0
    flow: float = 0.0
    observe: float = 0.0
    lift: float = 0.0
    total: float = 0.0


class PoseEstimator:
    """Turns a stream of images into poses of people with stable ids.

    People are found by the network's finder over the whole frame and then followed by their
    keypoints. Per frame there is at most one finder pass and `max_people` crops; while somebody is
    in sight beyond doubt, but fewer than `max_people`, the finder runs on every SEARCH_EVERY-th
    frame only. In wide and in tall images it looks at all and at either end in turn, to see people
    larger.

    Args:
        model: the network; left as it is, and what becomes of it later does not reach here.
        device: where to compute; None: where the model is.
        backend: what computes: auto, torch, onnxruntime, openvino or tensorrt; see
            `runtime.open_network`. On the CPU it takes as many threads as PyTorch has now.
        subject_height: standing height in metres of everybody seen, 0.5 to 2.5; None or 0:
            estimated from the body's proportions.
        max_people: how many people to follow at most.
        max_gap: seconds between frames after which the past counts for nothing, after which a
            person out of sight is given up, and by which a frame may be late to be refused.
        min_confidence: 0..1; where the score or the mean of the 2D joints' confidences is below it
            a person counts as not there; who was not seen until now needs more, 0.4 where it is
            0.3.
        image_rotation: degrees clockwise, 0, 90, 180 or 270, that turn the images upright. Images,
            cameras, boxes and poses stay those of the camera as it hangs.

    Attributes:
        model: as above. network: the same on its backend. last_timings: of the last step.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.
    """

    def __init__(
        self,
        model: STSPNet | Exported | Network,
        *,
        device: torch.device | str | None = None,
        backend: str = AUTO,
        subject_height: float | None = Settings.subject_height,
        max_people: int = Settings.max_people,
        max_gap: float = Settings.max_gap,
        min_confidence: float = Settings.min_confidence,
        image_rotation: int = Settings.image_rotation,
    ) -> None:
        self._settings = Settings(
            subject_height, max_people, max_gap, min_confidence, image_rotation
        )
        self.model = model
        self.network = open_network(model, backend, device)
        self.last_timings = Timings()
        self._ever_seen = 0  # ids count on after a reset
        self.reset()

    @property
    def settings(self) -> Settings:
        """What is in force now; `configure` changes it."""
        return self._settings

    def configure(self, **changes: Any) -> None:
        """Change settings, by their names in the constructor, from the next image on.

        Raises:
            TypeError, ValueError: naming the setting that does not fit; then none is changed.
        """
        self._settings = replace(self._settings, **changes)

    def reset(self) -> None:
        """Forget all people and all that was seen of them; nobody is reported as terminated."""
        self._tracks: list[Track] = []
        self._previous: PreviousFrame | None = None
        self._turn = 0  # of the previous frame, degrees
        self._unsearched = 0  # frames since the finder last ran
        self._frames = 0  # counted, so that the finder looks at one part after the other

    @torch.inference_mode()
    def step(
        self,
        image: Image,
        stamp: float,
        camera: Camera | None = None,
        boxes: npt.ArrayLike | None = None,
        region: npt.ArrayLike | None = None,
    ) -> list[Pose]:
        """Poses of the people in one image.

        Args:
            image: (H, W, 3) uint8 BGR, 64 to 4096 pixels a side; may be read-only and strided,
                and is not kept.
            stamp: seconds; increases from image to image. After a jump back by `max_gap` or more
                everybody is terminated and the image is taken for the first.
            camera: for an image of this size. None: 60 degrees field of view are assumed, and
                where people stand remains unknown.
            boxes: (P, 4) x0 y0 x1 y1 pixels, tight around people, who are then neither searched
                nor doubted; P may exceed `max_people`. Ids go by overlap with the boxes before.
            region: (4,) x0 y0 x1 y1 pixels; who is centred outside is neither found nor followed.

        Returns:
            one pose per person seen, in the order of `boxes` where given, then one TERMINATE for
            each person given up.

        Raises:
            LateFrameError: for a stamp that is not newer than the last, by less than `max_gap`.
            TypeError, ValueError: naming the argument that does not fit. An error changes nothing.
        """
        clock = [time.perf_counter()]
        image = checked_image(image)
        height, width = image.shape[:2]
        stamp = checked_stamp(stamp)
        view = checked_camera(camera, width, height)
        settings = self._settings
        given = None if boxes is None else checked_boxes(boxes, width, height)
        limits = checked_region(region, width, height)
        turn = settings.image_rotation
        if turn:  # all below is of the upright image, until its poses are turned back
            came = width, height
            image, view = turned_image(image, turn), turned_camera(view, turn)
            given = None if given is None else turned_boxes(given, turn, came)
            limits = turned_boxes(limits, turn, came)
            width, height = turned_size(came, turn)

        tracks, previous = self._past(stamp, (width, height))
        if given is None:
            tracks = [t for t in tracks if tracking.centred(t.box_at(stamp), limits)]
            candidates, unsearched = self._candidates(image, stamp, tracks, limits)
        else:
            candidates = tracking.given_candidates(tracks, given, stamp)
            unsearched = self._unsearched + 1
        clock.append(time.perf_counter())

        size = self.network.input_size
        crop_boxes = crop_box(np.array([c.box for c in candidates]).reshape(-1, 4), size)
        cut = person_crops(image, crop_boxes, size)
        crops = network_images(cut, size)
        self.network.begin(crops)
        clock.append(time.perf_counter())
        motion = torch.from_numpy(crops_motion(cut, crop_boxes, size, previous, stamp))
        latest = PreviousFrame.of(image, stamp)
        clock.append(time.perf_counter())
        people, ended = observe_people(
            self.network,
            candidates,
            crops,
            motion,
            crop_boxes,
            (width, height),
            settings.min_confidence,
        )
        clock.append(time.perf_counter())
        ids, ever_seen = self._ids(people.candidates)
        poses, states = lift_people(
            self.network, people, ids, stamp, view, settings.subject_height, settings.max_gap
        )
        clock.append(time.perf_counter())

        now: dict[str, Track] = {}
        for i, (pose, candidate) in enumerate(zip(poses, people.candidates, strict=True)):
            track, box = candidate.track, people.boxes[i]
            if pose is None and track is not None:
                ended.append(track)
            elif pose is not None and track is None:
                now[ids[i]] = Track(ids[i], box, stamp, states[i], np.zeros(2), stamp)
            elif pose is not None and track is not None:
                sure = candidate.trusted or tracking.sure(people.scores[i], people.confidence[i])
                now[ids[i]] = track.seen(box, stamp, states[i], sure, settings.max_gap)
        gone = {track.id for track in ended}
        tracks = [now.pop(track.id, track) for track in tracks if track.id not in gone]
        tracks = self._within_limits([*tracks, *now.values()], stamp, given is not None)

        alive = {track.id for track in tracks}
        lost = [terminated(track.id) for track in self._tracks if track.id not in alive]
        self._previous, self._turn = latest, turn
        self._tracks, self._ever_seen, self._unsearched = tracks, ever_seen, unsearched
        self._frames += 1
        find, crop, flow, observe, lift = np.diff(clock).tolist()
        total = time.perf_counter() - clock[0]
        self.last_timings = Timings(find, crop, flow, observe, lift, total)
        seen = [pose for pose in poses if pose is not None and pose.id in alive]
        return [turned_pose(pose, -turn, (width, height)) if turn else pose for pose in seen] + lost

    def _past(
        self, stamp: float, size: tuple[int, int]
    ) -> tuple[list[Track], PreviousFrame | None]:
        """The tracks and the previous frame, as far as they mean anything for a frame like this."""
        previous, max_gap = self._previous, self._settings.max_gap
        if previous is None:
            return self._tracks, None
        interval = stamp - previous.stamp
        if -max_gap < interval <= 0:
            raise LateFrameError(
                f"stamp is {stamp:.6f} s, expected more than the last one, {previous.stamp:.6f} s"
            )
        if interval <= 0 or size != previous.size or self._turn != self._settings.image_rotation:
            return [], None
        return self._tracks, previous if interval <= max_gap else None

    def _candidates(
        self, image: Image, stamp: float, tracks: Sequence[Track], limits: FloatArray
    ) -> tuple[list[Candidate], int]:
        """Where to look for people, and for how many frames the finder has not run then.

        Where a crop leaves doubts whether anybody is there the finder is asked as well.
        """
        most = self._settings.max_people
        last = -math.inf if self._previous is None else self._previous.stamp
        in_sight = sum(track.stamp == last for track in tracks)
        doubted = any(track.doubted for track in tracks if track.stamp == last)
        found, unsearched = np.empty((0, 4)), self._unsearched + 1
        if in_sight == 0 or doubted or (in_sight < most and unsearched >= SEARCH_EVERY):
            least = _PROPOSED * self._settings.min_confidence
            found = find_people(self.network, image, limits, most, least, self._frames)
            unsearched = 0
        return tracking.followed_candidates(tracks, found, stamp, last, most), unsearched

    def _ids(self, candidates: Sequence[Candidate]) -> tuple[list[str], int]:
        """Ids of the candidates, new ones for new people, and how many were ever given."""
        ids, count = [], self._ever_seen
        for candidate in candidates:
            if candidate.track is None:
                count += 1
            ids.append(f"p{count}" if candidate.track is None else candidate.track.id)
        return ids, count

    def _within_limits(self, tracks: list[Track], stamp: float, any_number: bool) -> list[Track]:
        """Tracks less those out of sight or doubted for too long, and too many of them.

        Of too many those go that were not seen for longest.
        """
        longest = self._settings.max_gap
        tracks = [t for t in tracks if stamp - t.stamp <= longest and t.stamp - t.sure <= longest]
        if any_number:
            return tracks
        latest = sorted(tracks, key=lambda track: -track.stamp)[: self._settings.max_people]
        return [track for track in tracks if track in latest]


def warm_up(network: Network, most_people: int = 1) -> None:
    """Run an opened network with 1, 2, 4 ... people: libraries allocate and tune at first use."""
    height, width = _WARM_UP_SIZE
    blank = np.zeros((height, width, 3), np.uint8)
    estimator = PoseEstimator(network)
    estimator.step(blank, 0.0)  # the finder, and then
    box = np.array([[0.0, 0.0, width, height]])  # all behind it
    for i in range((most_people - 1).bit_length() + 1):
        people = min(1 << i, most_people)
        estimator.step(blank, (i + 1) / 10, boxes=box.repeat(people, axis=0))
