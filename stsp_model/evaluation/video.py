"""Video with ground truth, run through PoseEstimator.step: bags and rendered clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stsp_model.bag import SKELETONS_TYPE, BagReader, stamp_nanoseconds
from stsp_model.camera import Camera
from stsp_model.camera_info import camera_from_info
from stsp_model.data.errors import DataError
from stsp_model.data.shards import RenderedClip, clip_files, load_clip
from stsp_model.estimator import LateFrameError, PoseEstimator
from stsp_model.evaluation.pck import Detections
from stsp_model.evaluation.predictions import Prediction
from stsp_model.evaluation.scores import Take
from stsp_model.network import SUBJECT_HEIGHT_RANGE, STSPNet
from stsp_model.pose import TrackingState
from stsp_model.skeleton import JOINT_COUNT, JOINTS
from stsp_model.sources import open_source

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Picture = tuple[float, npt.NDArray[np.uint8], Camera | None]  # stamp in seconds, image, camera

TRUTH_TOPIC = "ground_truth/skeletons"
MIN_VISIBLE = 4  # joints; a frame in which a person shows less is not asked for
_SECOND = 1e9  # ns
_ASTRAY = 0.5  # of the true box's longer side: mean 2D distance beyond which it is someone else


@dataclass(frozen=True, eq=False)
class Person:
    """The truth about one person in T pictures of a video.

    name: of the person within the data set; action: what scores are grouped by.
    stamps (T,): s. joints (T, 17, 3): m, camera axes. joints_2d (T, 17, 2): px of the image.
    visible (T, 17): which joints can be seen. height: standing, m.
    """

    name: str
    action: str
    stamps: FloatArray
    joints: FloatArray
    joints_2d: FloatArray
    visible: BoolArray
    height: float

    def take(self, prediction: Prediction) -> Take:
        """Beside what a method made of it. Raises DataError if that has other frames."""
        frames = len(self.stamps)
        joints = np.full_like(self.joints, np.nan)
        if prediction.joints is not None:
            joints = prediction.joints
        if len(joints) != frames:
            raise DataError(
                f"the prediction for {self.name} has {len(joints)} frames, not {frames}"
            )
        asked = self.visible.sum(axis=1) >= MIN_VISIBLE
        target = np.where(asked[:, None, None], self.joints, np.nan)
        return Take(
            self.name, self.action, joints, target, self.stamps, prediction.height, self.height
        )


@dataclass(frozen=True, eq=False)
class Footage:
    """A video: its pictures, as often as they are asked for, and the people in it."""

    name: str
    pictures: Callable[[], Iterator[Picture]]
    people: tuple[Person, ...]


def bags(path: str | Path) -> Iterator[Footage]:
    """The bag at `path`, or those in a folder of bags, by name, that hold ground truth.

    Raises:
        DataError: if there is none, or one without truth or with another joint order.
        BagError, SourceError: if a bag is damaged.
    """
    path = Path(path)
    found = [path]
    if not path.exists():
        raise DataError(f"{path} does not exist, expected a bag or a folder of bags")
    if path.is_dir() and not (path / "metadata.yaml").exists():
        found = [
            entry
            for entry in sorted(path.iterdir())
            if entry.suffix in (".mcap", ".db3") or (entry / "metadata.yaml").exists()
        ]
    if not found:
        raise DataError(f"{path} holds no bag")
    for bag in found:
        yield Footage(bag.stem, partial(_bag_pictures, bag), _bag_people(bag))


def _bag_pictures(path: Path) -> Iterator[Picture]:
    for frame in open_source(path).frames():
        height, width = frame.image.shape[:2]
        info = frame.camera_info
        camera = None if info is None else camera_from_info(info, width, height)
        yield frame.stamp / _SECOND, frame.image, camera


def _bag_people(path: Path) -> tuple[Person, ...]:
    rows: dict[str, list[tuple[float, Any]]] = {}
    with BagReader(path) as reader:
        topics = [
            topic.name
            for topic in reader.topics.values()
            if topic.type == SKELETONS_TYPE and topic.name.endswith(TRUTH_TOPIC)
        ]
        if len(topics) != 1:
            raise DataError(
                f"bag {path} has {len(topics)} topics {TRUTH_TOPIC}, expected one, with the truth "
                "to score against"
            )
        for record in reader.records(topics):
            message = reader.decode(record)
            if list(message.joint_names) != list(JOINTS):
                raise DataError(f"bag {path}: the truth has joints {list(message.joint_names)}")
            stamp = stamp_nanoseconds(message) / _SECOND
            for skeleton in message.skeletons:
                rows.setdefault(skeleton.id, []).append((stamp, skeleton))
    if not rows:
        raise DataError(f"bag {path} has nobody in its truth")
    return tuple(_bag_person(path.stem, id, rows[id]) for id in sorted(rows))


def _bag_person(bag: str, id: str, rows: Sequence[tuple[float, Any]]) -> Person:
    skeletons = [skeleton for _, skeleton in rows]
    solid = [[(j.offset.x, j.offset.y, j.offset.z) for j in s.joints] for s in skeletons]
    flat = np.array([[(j.u, j.v) for j in s.joints_2d] for s in skeletons], dtype=np.float64)
    shown = np.array([[j.confidence for j in s.joints_2d] for s in skeletons], dtype=np.float64)
    return Person(
        name=f"{bag}/{id}",
        action=bag,
        stamps=np.array([stamp for stamp, _ in rows]),
        joints=np.array(solid, dtype=np.float64),
        joints_2d=flat,
        visible=np.isfinite(flat).all(axis=-1) & (shown > 0),
        height=float(np.median([s.height for s in skeletons])),
    )


def rendered(folder: str | Path, split: str | None = None) -> Iterator[Footage]:
    """The clips of a folder that `stsp synth` wrote. Raises DataError as `clip_files` does."""
    for file in clip_files(folder, split):
        clip = load_clip(file)
        people = tuple(
            Person(
                name=f"{clip.name}[{i}]",
                action=clip.motions[i],
                stamps=clip.stamps,
                joints=clip.joints_3d[:, i],
                joints_2d=clip.joints_2d[:, i],
                visible=clip.visible[:, i],
                height=float(clip.heights[i]),
            )
            for i in range(len(clip.motions))
        )
        yield Footage(clip.name, partial(_clip_pictures, clip), people)


def _clip_pictures(clip: RenderedClip) -> Iterator[Picture]:
    for frame, stamp in enumerate(clip.stamps.tolist()):
        yield stamp, clip.image(frame), clip.camera


def predict(model: STSPNet, footage: Footage, height_given: bool) -> dict[str, Prediction]:
    """What PoseEstimator makes of a video, for each of its people.

    The estimator finds and follows people by itself. A pose counts for whom it lies nearest to in
    the image, within half a box; frames without one are NaN. As the estimator can be told one
    height, people of different heights are followed in a run for each height.

    Raises:
        DataError: if a height is to be given that is not known, or that nobody has.
    """
    if not height_given:
        return _followed(model, footage, footage.people, None)
    result: dict[str, Prediction] = {}
    low, high = SUBJECT_HEIGHT_RANGE
    for height in sorted({person.height for person in footage.people}):
        if not low <= height <= high:
            raise DataError(
                f"{footage.name} has somebody of {height:.3g} m, expected {low} to {high}; score "
                "it with the height estimated"
            )
        people = [person for person in footage.people if person.height == height]
        result |= _followed(model, footage, people, height)
    return result


def _followed(
    model: STSPNet, footage: Footage, wanted: Sequence[Person], height: float | None
) -> dict[str, Prediction]:
    estimator = PoseEstimator(model, subject_height=height, max_people=len(footage.people))
    rows = {p.name: {stamp: i for i, stamp in enumerate(p.stamps.tolist())} for p in footage.people}
    joints = {p.name: np.full_like(p.joints, np.nan) for p in wanted}
    joints_2d = {p.name: np.full_like(p.joints_2d, np.nan) for p in wanted}
    heights = {p.name: np.full(len(p.stamps), np.nan) for p in wanted}
    for stamp, image, camera in footage.pictures():
        try:
            poses = estimator.step(image, stamp, camera)
        except LateFrameError:
            continue
        poses = [pose for pose in poses if pose.tracking_state == TrackingState.OK]
        present = [p for p in footage.people if stamp in rows[p.name]]
        places = [p.joints_2d[rows[p.name][stamp]] for p in present]
        for i, nearest in nearest_pairs([pose.joints_2d for pose in poses], places):
            pose, name = poses[i], present[nearest].name
            if name in joints:
                row = rows[name][stamp]
                joints[name][row], joints_2d[name][row] = pose.joints, pose.joints_2d
                heights[name][row] = pose.height
    return {
        p.name: Prediction(
            joints[p.name], joints_2d[p.name], heights[p.name] if height is None else None
        )
        for p in wanted
    }


def nearest_pairs(
    found: Sequence[npt.NDArray[np.floating]], places: Sequence[npt.NDArray[np.floating]]
) -> list[tuple[int, int]]:
    """Which of the joints (17, 2) found in an image belong to which true ones, nearest first.

    Pairs of indices into both; each index at most once. A pose whose joints lie half a box away in
    the mean belongs to nobody.
    """
    costs = []
    for i, joints in enumerate(found):
        for j, target in enumerate(places):
            known = np.isfinite(target).all(axis=1)
            if not known.any():
                continue
            side = float(np.ptp(target[known], axis=0).max())
            distance = float(np.linalg.norm(joints - target, axis=1)[known].mean())
            if distance <= _ASTRAY * side:
                costs.append((distance, i, j))
    pairs: dict[int, int] = {}
    for _, i, j in sorted(costs):
        if i not in pairs and j not in pairs.values():
            pairs[i] = j
    return list(pairs.items())


def detections(people: Sequence[Person], predictions: Mapping[str, Prediction]) -> Detections:
    """The 2D joints of videos beside the truth, a row per person and frame."""
    found = []
    for person in people:
        joints = predictions.get(person.name, Prediction()).joints_2d
        found.append(np.full_like(person.joints_2d, np.nan) if joints is None else joints)
    joints_2d = np.concatenate(found).reshape(-1, JOINT_COUNT, 2)
    return Detections(
        tuple(f"{person.name}/{i}" for person in people for i in range(len(person.stamps))),
        joints_2d,
        np.isfinite(joints_2d).all(axis=-1).astype(float),
        np.concatenate([person.joints_2d for person in people]),
        np.concatenate([person.visible for person in people]),
    )
