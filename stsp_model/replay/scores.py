"""What a replay is worth: against the truth where it is known, and by itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from stsp_model.evaluation import pck, video
from stsp_model.evaluation.predictions import Prediction
from stsp_model.evaluation.scores import Take, score
from stsp_model.outcomes import PROCESSED
from stsp_model.replay.match import Match, match
from stsp_model.replay.record import OUTCOMES, Record, Track
from stsp_model.skeleton import INDEX

FloatArray = npt.NDArray[np.float64]


def _from_pelvis(track: Track) -> FloatArray:
    joints = track.joints.astype(np.float64)
    return np.asarray(joints - joints[:, [INDEX["pelvis"]]])


def scores(record: Record) -> dict[str, Any]:
    """The part of metrics.json on how good the skeletons are; NaN where nothing counts.

    `tracks` is known of every replay; `truth` is None where the bag has none.
    """
    return {"tracks": _alone(record), "truth": _against_truth(record) if record.truth else None}


def _alone(record: Record) -> dict[str, Any]:
    """What can be told without the truth."""
    processed = record.outcome == OUTCOMES.index(PROCESSED)
    seen = np.zeros(len(record.stamps), bool)
    for track in record.tracks:
        seen[track.frames] = True
    breaks, longest = _breaks(record, processed)
    confidence = np.concatenate([np.empty(0), *(t.confidence.ravel() for t in record.tracks)])
    motion = dict.fromkeys(
        ("bone_length_deviation", "acceleration_std", "acceleration_std_si"), float("nan")
    )
    if record.tracks:
        # Scored against itself, of which the errors mean nothing and the rest is known.
        takes = [_take(record, track, _from_pelvis(track)) for track in record.tracks]
        average = score(takes).average
        motion = {key: average[key] for key in motion}
    return {
        "count": len(record.tracks),
        "seen": _share(seen[processed]),
        "confidence": float(np.nanmean(confidence)) if np.isfinite(confidence).any() else np.nan,
        "breaks": breaks,
        "longest_break_s": longest,
        **motion,
    }


def _breaks(record: Record, processed: npt.NDArray[np.bool_]) -> tuple[int, float]:
    """How often a track misses processed frames, and for how many seconds at most."""
    count, longest = 0, 0.0
    order = np.cumsum(processed)
    for track in record.tracks:
        missed = np.diff(order[track.frames]) > 1
        spans = np.diff(record.stamps[track.frames])[missed] / 1e9
        count += int(missed.sum())
        longest = max(longest, float(spans.max(initial=0.0)))
    return count, longest


def _take(record: Record, track: Track, target: FloatArray) -> Take:
    stamps = record.stamps[track.frames] / 1e9
    return Take(track.id, record.bag, _from_pelvis(track), target, stamps)


def _share(true: npt.NDArray[np.bool_]) -> float:
    return float(100 * true.mean()) if len(true) else float("nan")


def _against_truth(record: Record) -> dict[str, Any]:
    given = record.settings.get("subject_height") is not None
    matches = match(record)
    people, predictions = [], {}
    for m in matches:
        person, seen = _person(record, m.truth), m.seen(record)
        people.append(person)
        predictions[person.name] = Prediction(
            joints=seen.joints.astype(np.float64),
            joints_2d=seen.joints_2d.astype(np.float64),
            height=None if given else seen.height.astype(np.float64),
        )
    takes = [person.take(predictions[person.name]) for person in people]
    asked = np.concatenate([video.asked_for(person.visible) for person in people])
    found = np.concatenate([m.track >= 0 for m in matches])
    try:
        in_space: dict[str, Any] | None = asdict(score(takes))
    except ValueError:  # nobody is to be seen
        in_space = None
    return {
        "people": len(people),
        "frames": int(asked.sum()),
        "found": int((found & asked).sum()),
        "coverage": _share(found[asked]),
        "id_switches": sum(video.id_switches(m.track[m.track >= 0].tolist()) for m in matches),
        "height": "given" if given else "estimated",
        "root_error": _root_error(record, matches, asked),
        "3d": in_space,
        "2d": asdict(pck.score(video.detections(people, predictions))),
    }


def _person(record: Record, truth: Track) -> video.Person:
    flat = truth.joints_2d.astype(np.float64)
    return video.Person(
        name=truth.id,
        action=record.bag,
        stamps=record.stamps[truth.frames] / 1e9,
        joints=truth.joints.astype(np.float64),
        joints_2d=flat,
        visible=np.isfinite(flat).all(axis=-1) & (truth.confidence > 0),
        height=float(np.median(truth.height)),
    )


def _root_error(record: Record, matches: list[Match], asked: npt.NDArray[np.bool_]) -> float:
    """Mean distance of the pelvis in the camera frame from its true place, mm, where asked for."""
    distances = np.concatenate(
        [np.linalg.norm(m.seen(record).root - m.truth.root, axis=-1) for m in matches]
    )
    known = np.isfinite(distances) & asked
    return float(1000 * distances[known].mean()) if known.any() else float("nan")
