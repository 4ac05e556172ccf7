"""Video with ground truth, run through PoseEstimator.step: bags and rendered clips."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stsp_model.bag import SKELETONS_TYPE, BagReader, bag_name, is_bag, stamp_nanoseconds
from stsp_model.camera import Camera
from stsp_model.camera_info import camera_from_info
from stsp_model.data.errors import DataError
from stsp_model.data.shards import RenderedClip, clip_files, load_clip
from stsp_model.estimator import LateFrameError, PoseEstimator
from stsp_model.evaluation.pck import Detections
from stsp_model.evaluation.predictions import PER_FRAME, Prediction
from stsp_model.evaluation.scores import Take
from stsp_model.network import SUBJECT_HEIGHT_RANGE
from stsp_model.pose import Pose, TrackingState
from stsp_model.runtime.running import Network
from stsp_model.skeleton import JOINT_COUNT, JOINTS
from stsp_model.sources import open_source

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Picture = tuple[float, npt.NDArray[np.uint8], Camera | None]  # stamp in seconds, image, camera

TRUTH_TOPIC = "ground_truth/skeletons"
_SECOND = 1e9  # ns
_SCALE_GIVEN = 1  # Skeleton3D.SCALE_GIVEN
# Of the true box's longer side: mean 2D distance beyond which a pose is someone else's, and up to
# which it lies on a person.
_ASTRAY, _ON = 0.5, 0.2


def asked_for(visible: BoolArray) -> BoolArray:
    """Which frames (...) of a person a method is asked for, of visible joints (..., 17).

    Where fewer than four show, nothing that it says of the person counts.
    """
    return np.asarray(visible.sum(axis=-1) >= 4)


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

    def check(self, values: FloatArray) -> None:
        """Raise DataError if predicted values, a row per frame, are of other frames."""
        if len(values) != len(self.stamps):
            raise DataError(
                f"the prediction for {self.name} has {len(values)} frames, not {len(self.stamps)}"
            )

    def take(self, prediction: Prediction) -> Take:
        """Beside what a method made of it. Raises DataError if that has other frames."""
        joints = np.full_like(self.joints, np.nan)
        if prediction.joints is not None:
            joints = prediction.joints
        self.check(joints)
        target = np.where(asked_for(self.visible)[:, None, None], self.joints, np.nan)
        return Take(
            self.name,
            self.action,
            joints,
            target,
            self.stamps,
            prediction.height,
            self.height,
            prediction.confidence,
            prediction.variance,
            prediction.height_variance,
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
        DataError: if there is none, or one without truth or with another joint order, or two of
            one name.
        BagError, SourceError: if a bag is damaged.
    """
    path = Path(path)
    found = [path]
    if not path.exists():
        raise DataError(f"{path} does not exist, expected a bag or a folder of bags")
    if path.is_dir() and not is_bag(path):
        found = [entry for entry in sorted(path.iterdir()) if is_bag(entry)]
    if not found:
        raise DataError(f"{path} holds no bag")
    named: dict[str, Path] = {}
    for bag in found:
        other = named.setdefault(bag_name(bag), bag)
        if other != bag:
            raise DataError(f"{other} and {bag} have one name, by which people are told apart")
    for bag in found:
        people = bag_people(bag)
        if not people:
            raise DataError(
                f"bag {bag} has nobody on a topic {TRUTH_TOPIC}: there is no truth to score against"
            )
        yield Footage(bag_name(bag), partial(_bag_pictures, bag), people)


def _bag_pictures(path: Path) -> Iterator[Picture]:
    for frame in open_source(path).frames():
        height, width = frame.image.shape[:2]
        info = frame.camera_info
        try:
            camera = None if info is None else camera_from_info(info, width, height)
        except ValueError as error:
            raise DataError(f"bag {path}: {error}") from None
        yield frame.stamp / _SECOND, frame.image, camera


def bag_people(path: str | Path) -> tuple[Person, ...]:
    """The people in a bag's ground truth, by their ids; none where it holds no such topic.

    Raises:
        DataError: if there are several such topics, or its skeletons are not as ours.
        BagError: if the bag is damaged.
    """
    path = Path(path)
    rows = true_poses(path)
    return tuple(_bag_person(bag_name(path), id, rows[id]) for id in sorted(rows))


def true_poses(path: str | Path) -> dict[str, list[tuple[int, Pose]]]:
    """Of each person in a bag's ground truth, by id, the stamps (ns) and poses; as `bag_people`.

    By rising stamps. Of messages of one stamp the last one counts, and those that only say that
    somebody is gone do not.
    """
    rows: dict[str, dict[int, Pose]] = {}
    with BagReader(path) as reader:
        topics = [
            topic.name
            for topic in reader.topics.values()
            if topic.type == SKELETONS_TYPE and topic.name.endswith(TRUTH_TOPIC)
        ]
        if len(topics) > 1:
            raise DataError(f"bag {path} has {len(topics)} topics {TRUTH_TOPIC}, expected one")
        for message in map(reader.decode, reader.records(topics)):
            if list(message.joint_names) != list(JOINTS):
                raise DataError(f"bag {path}: the truth has joints {list(message.joint_names)}")
            stamp = stamp_nanoseconds(message)
            try:
                poses = poses_of(message)
            except ValueError as error:
                raise DataError(
                    f"bag {path}: the truth at {stamp / _SECOND:.3f} s: {error}"
                ) from None
            for pose in poses:
                if pose.tracking_state == TrackingState.OK:
                    rows.setdefault(pose.id, {})[stamp] = pose
    return {id: sorted(poses.items(), key=lambda row: row[0]) for id, poses in rows.items()}


def poses_of(message: Any) -> list[Pose]:
    """The poses that a stsp/Skeleton3DArray holds. Raises ValueError where joints lack."""
    for s in message.skeletons:
        for name in ("joints", "joints_2d"):
            if len(getattr(s, name)) != JOINT_COUNT:
                raise ValueError(
                    f"{s.id} has {len(getattr(s, name))} {name}, expected {JOINT_COUNT}"
                )
    return [
        Pose(
            id=s.id,
            tracking_state=TrackingState(s.tracking_state),
            joints=np.array([(j.offset.x, j.offset.y, j.offset.z) for j in s.joints], np.float64),
            variance=np.array([j.variance for j in s.joints], np.float64),
            confidence=np.array([j.confidence for j in s.joints], np.float64),
            joints_2d=np.array([(j.u, j.v) for j in s.joints_2d], np.float64),
            confidence_2d=np.array([j.confidence for j in s.joints_2d], np.float64),
            root=np.array([s.root.x, s.root.y, s.root.z], np.float64),
            root_variance=np.array(s.root_variance, np.float64),
            height=float(s.height),
            height_variance=float(s.height_variance),
            height_given=s.scale_source == _SCALE_GIVEN,
            box=np.array(s.box, np.float64),
            score=float(s.confidence),
            frames_used=int(s.frames_used),
        )
        for s in message.skeletons
    ]


def _bag_person(bag: str, id: str, rows: Sequence[tuple[int, Pose]]) -> Person:
    poses = [pose for _, pose in rows]
    flat = np.stack([pose.joints_2d for pose in poses])
    shown = np.stack([pose.confidence_2d for pose in poses]) > 0
    return Person(
        name=f"{bag}/{id}",
        action=bag,
        stamps=np.array([stamp / _SECOND for stamp, _ in rows]),
        joints=np.stack([pose.joints for pose in poses]),
        joints_2d=flat,
        visible=np.isfinite(flat).all(axis=-1) & shown,
        height=float(np.median([pose.height for pose in poses])),
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


@dataclass(frozen=True)
class Following:
    """How people were followed through video, in the counts of CLEAR MOT.

    Source: Bernardin and Stiefelhagen, Evaluating Multiple Object Tracking Performance, 2008.

    frames: pictures that count. people: whom they show, once per picture, where `asked_for`. seen:
    those with a pose that lies on them. false_positives: poses that lie on nobody. switches: poses
    under another id than the same person's last one.
    """

    frames: int = 0
    people: int = 0
    seen: int = 0
    false_positives: int = 0
    switches: int = 0

    def __add__(self, other: Following) -> Following:
        return Following(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def predict(
    network: Network, footage: Footage, height_given: bool
) -> tuple[dict[str, Prediction], Following]:
    """What PoseEstimator makes of a video, for each of its people.

    The estimator finds and follows people by itself. A pose counts for whom it lies nearest to in
    the image, within half a box; frames without one are NaN. As the estimator can be told one
    height, people of different heights are followed in a run for each height.

    Raises:
        DataError: if a height is to be given that is not known, or that nobody has; or if no
            picture has the stamp of a true pose.
    """
    if not height_given or not footage.people:
        steps = _steps(network, footage, None)
        return assigned(footage.people, steps), followed(footage.people, footage.people, steps)
    result: dict[str, Prediction] = {}
    following = Following()
    low, high = SUBJECT_HEIGHT_RANGE
    for height in sorted({person.height for person in footage.people}):
        if not low <= height <= high:
            raise DataError(
                f"{footage.name} has somebody of {height:.3g} m, expected {low} to {high}; score "
                "it with the height estimated"
            )
        steps = _steps(network, footage, height)
        found = assigned(footage.people, steps)
        those = [person for person in footage.people if person.height == height]
        for person in those:
            result[person.name] = replace(found[person.name], height=None, height_variance=None)
        following += followed(footage.people, those, steps)
    return result, following


def _steps(
    network: Network, footage: Footage, height: float | None
) -> list[tuple[float, list[Pose]]]:
    """Stamp and poses of every picture but those that come late.

    Raises DataError if none of them has the stamp of a true pose.
    """
    most = max(len(footage.people), 1)
    estimator = PoseEstimator(network, subject_height=height, max_people=most)
    steps = []
    for stamp, image, camera in footage.pictures():
        with suppress(LateFrameError):
            steps.append((stamp, estimator.step(image, stamp, camera)))
    true = {stamp for person in footage.people for stamp in person.stamps.tolist()}
    if steps and true and true.isdisjoint(stamp for stamp, _ in steps):
        raise DataError(
            f"{footage.name}: no picture has the stamp of a true pose; the first picture is of "
            f"{steps[0][0]:.9f} s, the first true pose of {min(true):.9f} s"
        )
    return steps


def _matched(
    people: Sequence[Person], frames: Iterable[tuple[float, Sequence[Pose]]], within: float
) -> Iterator[tuple[list[tuple[Person, int]], list[Pose], list[tuple[int, int]]]]:
    """Of each picture the people whose truth is known, with their rows, the poses, the pairs.

    Pairs of indices into poses and people, by `nearest_pairs`; poses of people in sight alone.
    """
    rows = {p.name: {stamp: i for i, stamp in enumerate(p.stamps.tolist())} for p in people}
    for stamp, all_poses in frames:
        poses = [pose for pose in all_poses if pose.tracking_state == TrackingState.OK]
        present = [(p, rows[p.name][stamp]) for p in people if stamp in rows[p.name]]
        places = [person.joints_2d[row] for person, row in present]
        yield present, poses, nearest_pairs([pose.joints_2d for pose in poses], places, within)


def assigned(
    people: Sequence[Person], frames: Iterable[tuple[float, Sequence[Pose]]]
) -> dict[str, Prediction]:
    """To each of the people the poses that belong to them, by `nearest_pairs`.

    `frames` are stamps in seconds, equal to those of the people, and the poses then. Where nobody
    is near, all is NaN.
    """
    # A Pose calls alike whatever a Prediction takes of it.
    found = {
        p.name: {
            name: np.full((len(p.stamps), *shape), np.nan) for name, shape in PER_FRAME.items()
        }
        for p in people
    }
    for present, poses, pairs in _matched(people, frames, _ASTRAY):
        for i, j in pairs:
            person, row = present[j]
            for field, values in found[person.name].items():
                values[row] = getattr(poses[i], field)
    return {name: Prediction(**values) for name, values in found.items()}


def followed(
    people: Sequence[Person],
    asked: Sequence[Person],
    frames: Sequence[tuple[float, Sequence[Pose]]],
) -> Following:
    """How some of the people in a video were followed; `frames` as in `assigned`.

    A pose lies on somebody if its joints are off by a fifth of a box or less in the mean. Pictures
    for which the truth names nobody do not count, unless the whole video is of nobody.
    """
    total = Following()
    ids: dict[str, list[str]] = {person.name: [] for person in asked}
    for present, poses, pairs in _matched(people, frames, _ON):
        if people and not present:
            continue
        owners = {present[j][0].name: poses[i].id for i, j in pairs}
        shown = [p for p, row in present if p in asked and asked_for(p.visible[row])]
        for name in ids.keys() & owners.keys():
            ids[name].append(owners[name])
        total += Following(
            frames=1,
            people=len(shown),
            seen=sum(p.name in owners for p in shown),
            false_positives=len(poses) - len(pairs),
        )
    return total + Following(switches=sum(map(id_switches, ids.values())))


def id_switches(ids: Iterable[Hashable]) -> int:
    """How often a person gets another id, of the ids in the pictures where there is one."""
    return sum(before != after for before, after in pairwise(ids))


def nearest_pairs(
    found: Sequence[npt.NDArray[np.floating]],
    places: Sequence[npt.NDArray[np.floating]],
    within: float = _ASTRAY,
) -> list[tuple[int, int]]:
    """Which of the joints (17, 2) found in an image belong to which true ones, nearest first.

    Pairs of indices into both; each index at most once. A pose whose joints are off by more than
    `within` of a box's longer side in the mean belongs to nobody.
    """
    costs = []
    for i, joints in enumerate(found):
        for j, target in enumerate(places):
            known = np.isfinite(target).all(axis=1)
            if not known.any():
                continue
            side = float(np.ptp(target[known], axis=0).max())
            distance = float(np.linalg.norm(joints - target, axis=1)[known].mean())
            if distance <= within * side:
                costs.append((distance, i, j))
    pairs: dict[int, int] = {}
    for _, i, j in sorted(costs):
        if i not in pairs and j not in pairs.values():
            pairs[i] = j
    return list(pairs.items())


def detections(people: Sequence[Person], predictions: Mapping[str, Prediction]) -> Detections:
    """The 2D joints of videos beside the truth, a row per person and frame.

    Visible joints are those of frames that are asked for.

    Raises DataError if a prediction has other frames.
    """

    def found(field: str, shape: tuple[int, ...]) -> FloatArray:
        rows = []
        for person in people:
            values = getattr(predictions.get(person.name), field, None)
            if values is None:
                values = np.full((len(person.stamps), *shape), np.nan)
            person.check(values)
            rows.append(values)
        return np.concatenate(rows)

    target = [person.joints_2d for person in people]
    return Detections(
        tuple(f"{person.name}/{i}" for person in people for i in range(len(person.stamps))),
        found("joints_2d", (JOINT_COUNT, 2)),
        found("confidence_2d", (JOINT_COUNT,)),
        np.concatenate(target),
        np.concatenate([p.visible & asked_for(p.visible)[:, None] for p in people]),
    )
