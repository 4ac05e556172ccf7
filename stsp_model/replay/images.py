"""One image of a bag after the other through PoseEstimator: messages, and what a record holds."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from stsp_model.bag import (
    JOINT_STATE_TYPE,
    MARKERS_TYPE,
    SKELETONS_TYPE,
    BagWriter,
    header,
    joint_angles_message,
    message_types,
    stamp_nanoseconds,
)
from stsp_model.camera import Camera
from stsp_model.camera_source import CameraSource
from stsp_model.drawing import shrink_to_width
from stsp_model.estimator import LateFrameError, PoseEstimator, warm_up
from stsp_model.markers import skeleton_markers
from stsp_model.messages import skeletons_message
from stsp_model.outcomes import BAD_IMAGE, LATE, PROCESSED, SUPERSEDED
from stsp_model.pose import Pose, TrackingState
from stsp_model.replay.beside import Beside, Work, announcing
from stsp_model.replay.frames import Frame
from stsp_model.replay.live import MEASURED
from stsp_model.replay.options import Options
from stsp_model.replay.record import OUTCOMES, Record
from stsp_model.replay.tracks import track, true_tracks
from stsp_model.runtime.running import Network
from stsp_model.sources import BagImage

# The live node's.
SKELETONS_TOPIC, MARKERS_TOPIC = "/stsp/skeletons", "/stsp/markers"
ANGLES_TOPIC = "/stsp/joint_angles"

_SECOND = 1_000_000_000  # ns
_LATE_INFO = 0.5  # s between the first image and the first camera info that are worth a word
_PICTURE_WIDTH, _PICTURE_QUALITY = 640, 75  # of the pictures for the report


@dataclass(frozen=True)
class _Seen:
    """What the estimator saw: of which image, and by which camera its poses are drawn."""

    number: int
    pixels: npt.NDArray[np.uint8]
    poses: Sequence[Pose]
    camera: Camera


@dataclass(frozen=True)
class _Outcome:
    """What became of an image.

    trouble: what went wrong. latency: s of the estimator's step. seen: None where it took no step.
    """

    name: str
    trouble: str = ""
    latency: float = math.nan
    seen: _Seen | None = None


class Run:
    """What has been made of the bag so far."""

    def __init__(
        self, options: Options, network: Network, writer: BagWriter, thread: Beside
    ) -> None:
        self.stamps: list[int] = []
        self.took = 0.0  # s that work on the latest image took
        self._options = options
        self._writer = writer
        writer.add_topic(SKELETONS_TOPIC, SKELETONS_TYPE)
        writer.add_topic(MARKERS_TOPIC, MARKERS_TYPE)
        writer.add_topic(ANGLES_TOPIC, JOINT_STATE_TYPE)
        warm_up(network, options.max_people)
        self._thread = thread
        self._written: Work[None] | None = None  # of the latest image
        self._estimator = PoseEstimator(
            announcing(network, thread),
            subject_height=options.subject_height,
            max_people=options.max_people,
            image_rotation=options.image_rotation,
        )
        self._cameras = CameraSource()
        self._outcomes: list[str] = []
        self._latencies: list[float] = []
        self._people: dict[str, list[tuple[int, Pose]]] = {}
        self._pictures: dict[int, bytes] = {}
        self._notes: dict[str, str] = {}  # by what they are about: the first of each counts
        self._unset_stamps = 0
        self._size = (0, 0)
        self._K: npt.NDArray[np.float64] | None = None
        self._frame_id = ""
        self._copied: Any = None  # the camera info written last

    def process(self, frame: Frame) -> None:
        """Do with an image what the node would, and keep what becomes of it."""
        began = time.perf_counter()
        if not self.stamps:
            self._frame_id = frame.image.message.header.frame_id
            self._look_at_info(frame.image)
        self._unset_stamps += not stamp_nanoseconds(frame.image.message)
        outcome = self._outcome(frame)
        if outcome.trouble:
            when = frame.image.stamp / _SECOND
            note = f"{outcome.name}, first at {when:.3f} s: {outcome.trouble}"
            self._notes.setdefault(outcome.name, note)
        self._write(frame.image, outcome)
        self.stamps.append(frame.image.stamp)
        self._outcomes.append(outcome.name)
        self._latencies.append(outcome.latency)
        self.took = frame.seconds + time.perf_counter() - began

    def _outcome(self, frame: Frame) -> _Outcome:
        if frame.pixels is None:
            return _Outcome(SUPERSEDED)
        if isinstance(frame.pixels, str):
            return _Outcome(BAD_IMAGE, frame.pixels)
        image, pixels = frame.image, frame.pixels
        height, width = pixels.shape[:2]
        if image.info is not None:
            self._cameras.receive(image.info[1])
        camera = self._cameras.camera(width, height, rectified=self._options.rectified)
        if self._cameras.problem:
            self._notes.setdefault("camera info", self._cameras.problem)
        elif camera is None and image.info is not None:
            self._notes.setdefault(
                "camera info",
                "the camera info is uncalibrated (all zeros): 60 degrees field of view are "
                "assumed, and distances are unknown",
            )
        seconds, nanoseconds = divmod(image.stamp, _SECOND)
        began = time.perf_counter()
        try:
            poses = self._estimator.step(pixels, seconds + 1e-9 * nanoseconds, camera=camera)
        except LateFrameError as error:
            return _Outcome(LATE, str(error))
        except ValueError as error:  # too small, too large ...
            return _Outcome(BAD_IMAGE, str(error))
        latency = time.perf_counter() - began
        if self._size == (0, 0):
            self._size, self._K = (width, height), None if camera is None else camera.K
        elif self._size != (width, height):
            before = "{}x{}".format(*self._size)
            self._notes.setdefault(
                "size",
                f"the images change from {before} px to {width}x{height} px at "
                f"{image.stamp / _SECOND:.3f} s: in the report's pictures, skeletons of any but "
                "the first size are out of place",
            )
        number = len(self.stamps)
        for pose in poses:
            if pose.tracking_state == TrackingState.OK:
                self._people.setdefault(pose.id, []).append((number, pose))
        seen = _Seen(number, pixels, poses, camera or Camera.guess(width, height))
        return _Outcome(PROCESSED, latency=latency, seen=seen)

    def _write(self, image: BagImage, outcome: _Outcome) -> None:
        """Have the messages about an image written beside the network's work on the next."""
        self.finish_writing()
        self._written = self._thread.add(partial(self._write_now, image, outcome))
        if self._options.live == MEASURED:  # writing is part of what a node's work takes
            self.finish_writing()

    def finish_writing(self) -> None:
        """Wait until all messages are written. Raises what writing raised."""
        if self._written is not None:
            self._written.result()

    def _write_now(self, image: BagImage, outcome: _Outcome) -> None:
        if self._options.copy_images:
            self._copy(image)
        seen = outcome.seen
        if seen is None:
            return
        if self._options.images:
            self._pictures[seen.number] = _picture(seen.pixels)
        types, log_time = message_types(), image.record.log_time
        own = header(image.stamp, image.message.header.frame_id)
        skeletons = skeletons_message(types, seen.poses, own, math.nan)
        self._writer.write_message(SKELETONS_TOPIC, log_time, skeletons)
        markers = skeleton_markers(
            types,
            seen.poses,
            own,
            seen.camera,
            image_rotation=self._options.image_rotation,
        )
        self._writer.write_message(MARKERS_TOPIC, log_time, markers)
        angles = joint_angles_message(seen.poses, own)
        self._writer.write_message(ANGLES_TOPIC, log_time, angles)

    def _copy(self, image: BagImage) -> None:
        records = [image.record]
        if image.info is not None and image.info[0] is not self._copied:
            self._copied = image.info[0]
            records.insert(0, self._copied)
        for record in records:
            self._writer.add_topic(record.topic, record.type)
            self._writer.write(record.topic, record.log_time, record.data)

    def _look_at_info(self, first: BagImage) -> None:
        if first.info is not None:
            late = (first.info[0].log_time - first.record.log_time) / _SECOND
            if late > _LATE_INFO:
                self._notes["late camera info"] = (
                    f"the first camera info comes {late:.1f} s after the first image; it is taken "
                    "for the images before it as well"
                )

    def notes(self) -> list[str]:
        """What a user should know of it."""
        counts, total = Counter(self._outcomes), len(self.stamps)
        notes = [
            f"{counts[about]} of {total} images {note}" if about in OUTCOMES else note
            for about, note in self._notes.items()
        ]
        if self._unset_stamps:
            notes.append(
                f"{self._unset_stamps} of {total} images have a zero stamp; the time of recording "
                "replaces it"
            )
        return notes

    def record(
        self,
        about: Mapping[str, Any],
        topic: str,
        truth: Mapping[str, Sequence[tuple[int, Pose]]],
        complete: bool,
    ) -> tuple[Record, dict[int, bytes], int]:
        """The record, pictures by its frames, and how many true poses have no frame in it."""
        # Late images, and those after a jump back, stand where their stamps belong.
        order = np.argsort(np.array(self.stamps, np.int64), kind="stable")
        stamps = np.array(self.stamps, np.int64)[order]
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        tracks = []
        for id, rows in self._people.items():
            placed = sorted((int(place[number]), i) for i, (number, _) in enumerate(rows))
            poses = [rows[i][1] for _, i in placed]
            tracks.append(track(id, [frame for frame, _ in placed], poses))
        true, left_out = true_tracks(truth, stamps)
        record = Record(
            bag=about["bag"],
            image_topic=topic,
            frame_id=self._frame_id,
            model=about["model"],
            weights_sha256=about["weights_sha256"],
            trained=self._estimator.model.trained,
            image_size=self._size,
            K=self._K,
            settings=about["settings"],
            complete=complete,
            stamps=stamps,
            outcome=np.array([OUTCOMES.index(name) for name in self._outcomes], np.uint8)[order],
            latency=np.array(self._latencies, np.float64)[order],
            tracks=tuple(tracks),
            truth=true,
        )
        return record, {int(place[i]): jpeg for i, jpeg in self._pictures.items()}, left_out


def _picture(pixels: npt.NDArray[np.uint8]) -> bytes:
    small, _ = shrink_to_width(pixels, _PICTURE_WIDTH)
    return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _PICTURE_QUALITY])[1])
