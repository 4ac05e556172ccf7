"""One bag through PoseEstimator, image by image: skeletons, markers, a record, scores, a report."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from stsp_model.bag import (
    CAMERA_INFO_TYPE,
    JOINT_STATE_TYPE,
    MARKERS_TYPE,
    SKELETONS_TYPE,
    BagError,
    BagReader,
    BagWriter,
    camera_info_topic,
    header,
    image_topic,
    joint_angles_message,
    message_types,
)
from stsp_model.camera import Camera
from stsp_model.camera_source import CameraSource
from stsp_model.drawing import shrink_to_width
from stsp_model.estimator import LateFrameError, PoseEstimator, Settings, warm_up
from stsp_model.evaluation.report import plain
from stsp_model.evaluation.video import TRUTH_TOPIC, true_poses
from stsp_model.markers import skeleton_markers
from stsp_model.messages import skeletons_message
from stsp_model.network import STSPNet
from stsp_model.outcomes import BAD_IMAGE, LATE, PROCESSED, SUPERSEDED
from stsp_model.pose import Pose, TrackingState
from stsp_model.replay.beside import Beside, Work, announcing, beside
from stsp_model.replay.charts import PlotlyError
from stsp_model.replay.frames import Frame, prepared
from stsp_model.replay.live import MEASURED, Live
from stsp_model.replay.record import OUTCOMES, Record, write_record
from stsp_model.replay.report import write_report
from stsp_model.replay.scores import scores
from stsp_model.replay.tracks import track, true_tracks
from stsp_model.runtime import AUTO
from stsp_model.runtime.backends import chosen, load, open_network
from stsp_model.runtime.exported import Exported
from stsp_model.runtime.running import Network
from stsp_model.sources import BagImage

# The live node's.
SKELETONS_TOPIC, MARKERS_TOPIC = "/stsp/skeletons", "/stsp/markers"
ANGLES_TOPIC = "/stsp/joint_angles"
# What a run's folder holds.
SKELETONS, RECORD, REPORT, METRICS = "skeletons", "record.npz", "report.html", "metrics.json"

_SECOND = 1_000_000_000  # ns
_LATE_INFO = 0.5  # s between the first image and the first camera info that are worth a word
_PICTURE_WIDTH, _PICTURE_QUALITY = 640, 75  # of the pictures for the report


class ReplayError(ValueError):
    """A replay that cannot be done as asked; the sentence says why."""


@dataclass(frozen=True)
class Options:
    """How bags are replayed.

    model: preset, file of weights, or folder that `stsp export` wrote. device: where it runs.
    backend: what runs it, see runtime.open_network.
    subject_height, max_people, rectified: as the node's parameters of those names.
    image_topic, camera_info_topic: which of the bag's, where there is a choice.
    live: None: every image, in the order of stamps. Milliseconds that a node would work on each
        image, or "measured": images are dropped as there.
    ground_truth: a bag that holds the truth about all bags; None: each bag's own.
    copy_images: into the bag of skeletons. images: into the report.
    """

    model: str = "edge"
    device: str = "cpu"
    backend: str = AUTO
    subject_height: float | None = None
    max_people: int = 1
    rectified: bool = False
    image_topic: str | None = None
    camera_info_topic: str | None = None
    live: Live = None
    ground_truth: str | None = None
    copy_images: bool = False
    images: bool = False

    def __post_init__(self) -> None:
        try:
            checked = Settings(self.subject_height, self.max_people)
        except (TypeError, ValueError) as error:
            raise ReplayError(str(error)) from None
        object.__setattr__(self, "subject_height", checked.subject_height)


def weights_sha256(model: STSPNet | Exported) -> str:
    """A checksum of a network's weights."""
    if isinstance(model, Exported):
        return model.sha256
    checksum = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        checksum.update(name.encode())
        checksum.update(value.detach().cpu().contiguous().numpy().tobytes())
    return checksum.hexdigest()


def _load(options: Options) -> tuple[STSPNet | Exported, str]:
    """The network and what is to run it. Raises ReplayError if there is none such."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is untrained, the notes say
            model = load(options.model, options.device)
        return model, chosen(options.backend, torch.device(options.device), model)
    except (ValueError, OSError) as error:
        raise ReplayError(str(error)) from None


def _facts(bag: Path, options: Options, model: STSPNet | Exported, backend: str) -> dict[str, Any]:
    """What the result of a replay depends on, as metrics.json has it."""
    files = [bag] if bag.is_file() else sorted(file for file in bag.iterdir() if file.is_file())
    return plain(
        {
            "bag": bag.name,
            "bag_bytes": sum(file.stat().st_size for file in files),
            "model": Path(options.model).name,
            "weights_sha256": weights_sha256(model),
            "settings": {
                **{k: v for k, v in asdict(options).items() if k != "model"},
                "backend": backend,
            },
        }
    )


def finished(out: Path, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The metrics of a replay that is complete in the folder `out`; None if there is none.

    What a stopped replay has left there is then removed. Raises ReplayError for a folder that
    holds other files, or a complete replay of something else.
    """
    if not out.exists():
        return None
    ours = (SKELETONS, RECORD, REPORT, METRICS)
    found = [entry.name for entry in out.iterdir()] if out.is_dir() else [out.name]
    foreign = [name for name in sorted(found) if not name.lstrip(".").startswith(ours)]
    if foreign:
        raise ReplayError(
            f"{out} holds other files ({', '.join(foreign[:3])}); choose an empty folder"
        )
    metrics = _read_json(out / METRICS)
    if metrics.get("complete") is True:
        other = _differing(facts, metrics)
        if other:
            raise ReplayError(
                f"{out} holds a complete replay that differs in {', '.join(other)}; choose another "
                "folder, or remove that one"
            )
        return metrics
    for name in found:
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return None


def _differing(facts: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    """Names of the facts that are others in the metrics."""
    settings, found = facts["settings"], metrics.get("settings")
    found = found if isinstance(found, Mapping) else {}
    return [
        *(key for key in facts if key != "settings" and metrics.get(key) != facts[key]),
        *(key for key in settings if found.get(key) != settings[key]),
    ]


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a file; an empty one where there is none or it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def replay(
    bag: Path,
    out: Path,
    options: Options,
    *,
    stopped: Callable[[], bool] = lambda: False,
    bar: bool = False,
) -> dict[str, Any]:
    """Replay a bag into the folder `out`, unless it holds a complete replay already.

    The same bag, weights and options give the same bytes in the bag of skeletons on the same
    machine, but for `live` "measured".

    Args:
        stopped: asked before each image whether to stop; what there is then is written.
        bar: whether to show a progress bar.

    Returns:
        the content of metrics.json, which is written last. `complete` is False after a stop.

    Raises:
        ReplayError, BagError, DataError: with a sentence. After damage in the middle of a bag what
            there is then is written first.
    """
    model, backend = _load(options)
    with BagReader(bag) as reader:
        facts = _facts(bag, options, model, backend)
        done = finished(out, facts)
        if done is not None:
            return done
        topic = image_topic(reader, options.image_topic)
        info_topic = camera_info_topic(reader, topic, options.camera_info_topic)
        count = reader.topics[topic].count
        infos = sum(t.type == CAMERA_INFO_TYPE and t.count > 0 for t in reader.topics.values())
    truth_file = Path(options.ground_truth or bag)
    truth = true_poses(truth_file)
    if options.ground_truth and not truth:
        raise ReplayError(f"bag {truth_file} has nobody on a topic {TRUTH_TOPIC}")
    notes = []
    if info_topic is None:
        notes.append(
            f"there is camera info on {infos} topics, none of them beside {topic}: distances are "
            "unknown; say with --camera-info-topic which one belongs to it"
            if infos
            else "there is no camera info: 60 degrees field of view are assumed, and distances are "
            "unknown"
        )
    out.mkdir(parents=True, exist_ok=True)
    damage = None
    with (
        BagWriter(out / SKELETONS) as writer,
        beside() as thread,
        prepared(bag, topic, info_topic, options.live, lambda: run.took, thread) as frames,
    ):
        run = _Run(options, open_network(model, backend, options.device), writer, thread)
        with tqdm(total=count, desc=bag.name, unit=" images", disable=not bar) as progress:
            began = time.perf_counter()
            try:
                while not stopped() and (frame := next(frames, None)) is not None:
                    run.process(frame)
                    progress.update()
            except BagError as error:
                damage = error
            run.finish_writing()
            seconds = time.perf_counter() - began
    complete = damage is None and len(run.stamps) == count
    record, pictures, left_out = run.record(facts, topic, truth, complete)
    notes += run.notes()
    if complete and left_out:
        notes.append(f"{left_out} true poses are at the stamp of no image, and are left out")
    if not complete:
        why = f"at damage: {damage}" if damage else "on demand"
        notes.append(f"stopped {why}, after {len(run.stamps)} of {count} images")
    write_record(out / RECORD, record)
    try:
        write_report(out / REPORT, record, pictures if options.images else None, notes)
    except PlotlyError as error:
        notes.append(f"there is no report: {error}")
    if not model.trained:  # which the report says by itself
        notes.insert(0, "the network is not trained: its skeletons mean nothing")
    metrics = _metrics(record, facts, notes, seconds)
    write_json(out / METRICS, metrics)
    if damage is not None:
        raise damage
    return metrics


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


class _Run:
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
        )
        self._cameras = CameraSource()
        self._outcomes: list[str] = []
        self._latencies: list[float] = []
        self._people: dict[str, list[tuple[int, Pose]]] = {}
        self._pictures: dict[int, bytes] = {}
        self._notes: dict[str, str] = {}  # by what they are about: the first of each counts
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
        markers = skeleton_markers(types, seen.poses, own, seen.camera)
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
                self._notes["camera info"] = (
                    f"the first camera info comes {late:.1f} s after the first image; it is taken "
                    "for the images before it as well"
                )

    def notes(self) -> list[str]:
        """What a user should know of it."""
        counts = Counter(self._outcomes)
        return [
            f"{counts[about]} of {len(self.stamps)} images {note}" if about in OUTCOMES else note
            for about, note in self._notes.items()
        ]

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


def _metrics(
    record: Record, about: Mapping[str, Any], notes: Sequence[str], seconds: float
) -> dict[str, Any]:
    counts = np.bincount(record.outcome, minlength=len(OUTCOMES)).tolist()
    processed = counts[OUTCOMES.index(PROCESSED)]
    known = 1000 * record.latency[np.isfinite(record.latency)]
    span = record.stamps[[0, -1]] if len(record.stamps) else np.zeros(2, np.int64)
    return plain(
        {
            **about,
            "trained": record.trained,
            "complete": record.complete,
            "notes": list(notes),
            "image_topic": record.image_topic,
            "image_size": list(record.image_size),
            "images": len(record.stamps),
            "seconds": float(np.diff(span)[0] / _SECOND),
            "outcomes": dict(zip(OUTCOMES, counts, strict=True)),
            "latency_ms": {
                f"p{q}": float(np.percentile(known, q)) if len(known) else math.nan
                for q in (50, 99)
            },
            "replay": {"seconds": seconds, "images_per_second": processed / seconds},
            **scores(record),
        }
    )


def write_json(path: Path, value: Any) -> None:
    """Write a file of JSON, which appears only once complete."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)
