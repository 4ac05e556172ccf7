"""What a report draws over time: poses beside the truth, what they say of themselves, gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stsp_model.lifter import MAX_GAP
from stsp_model.outcomes import PROCESSED
from stsp_model.replay.match import Match
from stsp_model.replay.record import OUTCOMES, Record
from stsp_model.skeleton import BONES, JOINT_COUNT

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LONGEST_PAUSE = 10  # s; a clock that is set may leave years between two images


@dataclass(frozen=True, eq=False)
class Curves:
    """Poses in M frames, one a frame, of one track or of several that are taken for one person.

    label: for a person to read. tracks: indices into the record's.
    frames (M,): indices, increasing. time (M,): s, as `elapsed`.
    track (M,): which track each pose is of.
    joints, truth (M, 17, 3): m from the pelvis; the truth NaN where unknown.
    confidence (M, 17).
    """

    label: str
    tracks: tuple[int, ...]
    frames: IntArray
    time: FloatArray
    track: IntArray
    joints: FloatArray
    truth: FloatArray
    confidence: FloatArray

    @property
    def error(self) -> FloatArray:
        """(M, 17) m; NaN where unknown."""
        return np.asarray(np.linalg.norm(self.joints - self.truth, axis=-1))


def elapsed(record: Record) -> FloatArray:
    """Seconds (N,) since the first stamp, in which no pause takes longer than LONGEST_PAUSE."""
    steps = np.diff(record.stamps, prepend=record.stamps[:1])
    return np.asarray(np.cumsum(np.minimum(steps, LONGEST_PAUSE * 10**9)) / 1e9)


def long_pauses(record: Record) -> int:
    """How many pauses `elapsed` shortens."""
    return int((np.diff(record.stamps) > LONGEST_PAUSE * 10**9).sum())


def period(record: Record) -> float:
    """Seconds from image to image at the median; 1/30 where there are not two."""
    steps = np.diff(elapsed(record))
    return float(np.median(steps[steps > 0])) if (steps > 0).any() else 1 / 30


def curves(record: Record, matches: Sequence[Match], label: str, tracks: Sequence[int]) -> Curves:
    """Of these tracks. Where there are several at a time, the pose of highest mean confidence."""
    rows = [
        (frame, i, row, float(np.nanmean(np.append(record.tracks[i].confidence[row], 0))))
        for i in tracks
        for row, frame in enumerate(record.tracks[i].frames.tolist())
    ]
    best: dict[int, tuple[int, int, float]] = {}
    for frame, i, row, trust in rows:
        if frame not in best or trust > best[frame][2]:
            best[frame] = (i, row, trust)
    frames = np.array(sorted(best), np.int64)
    chosen = [best[frame][:2] for frame in frames.tolist()]
    shape = (len(frames), JOINT_COUNT, 3)
    joints, truth = np.full(shape, np.nan), np.full(shape, np.nan)
    confidence = np.full(shape[:2], np.nan)
    true = {
        (i, row): match.truth.joints[at]
        for match in matches
        for at, (i, row) in enumerate(zip(match.track.tolist(), match.row.tolist(), strict=True))
        if i >= 0
    }
    for at, (i, row) in enumerate(chosen):
        joints[at], confidence[at] = record.tracks[i].joints[row], record.tracks[i].confidence[row]
        truth[at] = true.get((i, row), np.nan)
    time = elapsed(record)[frames]
    of = np.array([i for i, _ in chosen], np.int64)
    return Curves(label, tuple(tracks), frames, time, of, joints, truth, confidence)


def bone_deviation(curves: Curves) -> FloatArray:
    """(M, 16): by which share each bone is off its own median length within its track."""
    parents, children = ([bone[i] for bone in BONES] for i in (0, 1))
    lengths = np.linalg.norm(curves.joints[:, children] - curves.joints[:, parents], axis=-1)
    deviation = np.full_like(lengths, np.nan)
    for i in np.unique(curves.track):
        here = curves.track == i
        known = np.isfinite(lengths[here]).any(axis=0)
        median = np.full(len(BONES), np.nan)
        median[known] = np.nanmedian(lengths[here][:, known], axis=0)
        median[~(median > 0)] = np.nan
        deviation[here] = np.abs(lengths[here] / median - 1)
    return deviation


def acceleration(curves: Curves, joints: FloatArray) -> FloatArray:
    """(M, 17) m/s^2, of joints (M, 17, 3), from three poses of one track; NaN elsewhere.

    Intervals are those of the stamps; across more than MAX_GAP seconds there is none.
    """
    result = np.full(joints.shape[:2], np.nan)
    steps = np.diff(curves.time)
    if len(steps) < 2:
        return result
    one = (np.diff(curves.track) == 0) & (steps > 0) & (steps <= MAX_GAP)
    steps = np.where(one, steps, np.nan)[:, None, None]
    velocity = np.diff(joints, axis=0) / steps
    change = np.diff(velocity, axis=0) / ((steps[1:] + steps[:-1]) / 2)
    result[1:-1] = np.linalg.norm(change, axis=-1)
    return result


@dataclass(frozen=True)
class Gap:
    """Frames first to last (both included), processed, in which nobody is seen."""

    first: int
    last: int
    seconds: float


def gaps(record: Record, curves: Curves) -> list[Gap]:
    """Where no pose is although images were processed, the longest first.

    With truth only frames count in which somebody is there. Dropped images make no gap.
    """
    wanted = record.outcome == OUTCOMES.index(PROCESSED)
    if record.truth:
        there = np.zeros(len(wanted), bool)
        for person in record.truth:
            there[person.frames] = True
        wanted &= there
    seen = np.zeros(len(wanted), bool)
    seen[curves.frames] = True
    index = np.flatnonzero(wanted)
    lacking = np.concatenate([[False], ~seen[index], [False]]).astype(int)
    starts, ends = np.flatnonzero(np.diff(lacking) == 1), np.flatnonzero(np.diff(lacking) == -1) - 1
    time, one = elapsed(record), period(record)
    found = [
        Gap(int(index[a]), int(index[b]), float(time[index[b]] - time[index[a]]) + one)
        for a, b in zip(starts.tolist(), ends.tolist(), strict=True)
    ]
    return sorted(found, key=lambda gap: (-gap.seconds, gap.first))


def peaks(values: FloatArray, time: FloatArray, count: int, apart: float = MAX_GAP) -> list[int]:
    """Indices of the highest values (M,), at least `apart` seconds from each other; NaN is none."""
    chosen: list[int] = []
    for i in np.argsort(-values, kind="stable").tolist():
        if not np.isfinite(values[i]) or len(chosen) == count:
            break
        if all(abs(time[i] - time[j]) >= apart for j in chosen):
            chosen.append(i)
    return chosen


def mean_known(values: FloatArray) -> FloatArray:
    """Mean over the last axis of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
