"""Two replays of the same bags: which is better, and whether that could be chance.

Frames are paired by stamp and people by the id that the truth gives them, so both runs are judged
on the very same moments. A distance counts where both runs have a pose; what is missing shows in
the shares (PCK, truth with a skeleton), for which every true frame counts. Intervals: bootstrap.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stsp_model import metrics
from stsp_model.evaluation.video import asked_for
from stsp_model.replay.bootstrap import BLOCK, draws, interval
from stsp_model.replay.curves import period
from stsp_model.replay.match import match
from stsp_model.replay.record import ROWS, Record, Track, read_record
from stsp_model.skeleton import JOINT_COUNT, JOINTS

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_SAME_TRUTH = 1e-3  # m
_NOWHERE = 1e6  # m or px; where what was not found is taken to be


class CompareError(ValueError):
    """Two runs that cannot be compared, and why."""


@dataclass(frozen=True, eq=False)
class _Window:
    """Up to three consecutive frames (T, 17, ...) of one person, as a measure sees them."""

    joints: FloatArray
    true: FloatArray
    joints_2d: FloatArray
    true_2d: FloatArray
    visible: BoolArray
    height: float
    true_height: float


@dataclass(frozen=True)
class Measure:
    """A row of the table. `of` gives its value for a window of `frames` frames.

    strict: counts wherever the truth is known, whether a pose was found or not.
    """

    key: str
    title: str
    unit: str
    of: Callable[[_Window], float]
    frames: int = 1
    strict: bool = False
    more_is_better: bool = False


def _found(window: _Window) -> bool:
    return bool(np.isfinite(window.joints).all())


MEASURES: tuple[Measure, ...] = (
    Measure("mpjpe", "MPJPE", "mm", lambda w: metrics.mpjpe(w.joints, w.true)),
    Measure("n_mpjpe", "N-MPJPE", "mm", lambda w: metrics.n_mpjpe(w.joints, w.true)),
    Measure("pa_mpjpe", "PA-MPJPE", "mm", lambda w: metrics.pa_mpjpe(w.joints, w.true)),
    Measure(
        "pck_150",
        "PCK@150",
        "%",
        lambda w: metrics.pck_3d(np.nan_to_num(w.joints, nan=_NOWHERE), w.true),
        strict=True,
        more_is_better=True,
    ),
    Measure(
        "pck_2d",
        "PCK@0.2, 2D",
        "%",
        lambda w: metrics.pck_2d(
            np.nan_to_num(w.joints_2d, nan=_NOWHERE), np.nan_to_num(w.true_2d), w.visible
        ),
        strict=True,
        more_is_better=True,
    ),
    Measure(
        "coverage",
        "truth with a skeleton",
        "%",
        lambda w: 100.0 * _found(w),
        strict=True,
        more_is_better=True,
    ),
    Measure("mpjve", "MPJVE", "mm/frame", lambda w: metrics.mpjve(w.joints, w.true), 2),
    Measure(
        "acceleration_error",
        "acc. error",
        "mm/frame^2",
        lambda w: metrics.acceleration_error(w.joints, w.true),
        3,
    ),
    Measure("height_error", "height error", "mm", lambda w: 1000 * abs(w.height - w.true_height)),
)
MAIN = MEASURES[0].key


@dataclass(frozen=True)
class Row:
    """One difference, B less A, with its interval. better: "a", "b", or "" if it may be chance."""

    key: str
    title: str
    unit: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    better: str


@dataclass(frozen=True)
class Comparison:
    """Rows by measure, and of the MPJPE by joint.

    frames: of the truth, in which both runs had an image. blocks: how many stretches of `block`
    seconds these make; fewer than bootstrap.FEW_BLOCKS tell little.
    """

    frames: int
    block: float
    blocks: int
    rows: tuple[Row, ...]
    joints: tuple[Row, ...]

    def row(self, key: str) -> Row:
        """Of one measure. Raises CompareError where the runs do not have it."""
        for row in self.rows:
            if row.key == key:
                return row
        raise CompareError(
            f"the runs have no {key} in common; there is {', '.join(r.key for r in self.rows)}"
        )


def records(run: str | Path) -> dict[str, Record]:
    """The records in a run's folder by the name of the folder they lie in; or one record.npz.

    Raises:
        CompareError: if there is none. RecordError: if one is damaged.
    """
    run = Path(run)
    if run.is_file():
        return {"": read_record(run)}
    if (run / "record.npz").exists():
        return {"": read_record(run / "record.npz")}
    found = sorted(run.glob("*/record.npz"))
    if not found:
        raise CompareError(
            f"{run} holds no record.npz, neither itself nor in a folder within; expected what "
            "`stsp replay -o` wrote"
        )
    return {file.parent.name: read_record(file) for file in found}


def compare(pairs: Sequence[tuple[Record, Record]]) -> Comparison:
    """Compare runs A and B of one or several bags, (A, B) for each bag.

    Raises:
        CompareError: if the two of a pair have no truth, another one, or no stamps in common.
    """
    parts = [_series(a, b) for a, b in pairs]
    length = max(round(BLOCK / float(np.median([period(a) for a, _ in pairs]))), 1)
    series = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    frames = int(series["frames"].sum())
    if not frames:
        raise CompareError(
            "there is no frame with truth in which both runs had an image: nothing to compare"
        )
    starts = draws(len(series["frames"]), length)
    rows = [_row(m, m.key, m.title, series[m.key], starts, length) for m in MEASURES]
    joints = [
        _row(MEASURES[0], name, name, series["joints"][:, j], starts, length)
        for j, name in enumerate(JOINTS)
        if j  # the pelvis is the origin
    ]
    return Comparison(
        frames,
        BLOCK,
        starts.shape[1],
        tuple(row for row in rows if row is not None),
        tuple(row for row in joints if row is not None),
    )


def is_worse(comparison: Comparison, key: str = MAIN) -> bool:
    """Whether B's interval lies wholly on the wrong side."""
    return comparison.row(key).better == "a"


def _row(
    measure: Measure,
    key: str,
    title: str,
    series: FloatArray,
    starts: npt.NDArray[np.int64],
    length: int,
) -> Row | None:
    """None where nothing counts."""
    a, b, count = series.sum(axis=0).tolist()
    if not count:
        return None
    low, high = interval(series, starts, length)
    if measure.unit == "%" and low > -math.inf:
        low, high = max(low, -100.0), min(high, 100.0)  # of few blocks Student's t allows for more
    better = ""
    if low > 0 or high < 0:
        better = "b" if (low > 0) == measure.more_is_better else "a"
    a, b = a / count, b / count
    return Row(key, title, measure.unit, a, b, b - a, low, high, better)


def _series(a: Record, b: Record) -> dict[str, FloatArray]:
    """By measure (T, 3): over the common stamps, sums of A and of B, and how many count.

    "joints" (T, 17, 3) likewise by joint; "frames" (T,): how many true people there are.
    """
    _check(a, b)
    stamps, at_a, at_b = np.intersect1d(a.stamps, b.stamps, return_indices=True)
    row_a, row_b = _rows(a, at_a), _rows(b, at_b)
    shapes: dict[str, tuple[int, ...]] = {m.key: (3,) for m in MEASURES}
    shapes |= {"joints": (JOINT_COUNT, 3), "frames": ()}
    series = {key: np.zeros((len(stamps), *shape)) for key, shape in shapes.items()}
    one = period(a)
    people_b = {m.truth.id: m for m in match(b)}
    for found_a in match(a):
        found_b = people_b[found_a.truth.id]
        truth = _aligned(found_a.truth, row_a, len(stamps))
        seen = [
            _aligned(found_a.seen(a), row_a, len(stamps)),
            _aligned(found_b.seen(b), row_b, len(stamps)),
        ]
        visible = np.isfinite(truth.joints_2d).all(axis=-1) & (truth.confidence > 0)
        known = np.isfinite(truth.joints).all(axis=(1, 2)) & asked_for(visible)
        paired = known & np.all([np.isfinite(s.joints).all(axis=(1, 2)) for s in seen], axis=0)
        series["frames"] += known
        for i in range(2):
            error = 1000 * np.linalg.norm(seen[i].joints - truth.joints, axis=-1)
            series["joints"][paired, :, i] += error[paired]
        series["joints"][paired, :, 2] += 1
        together = {1: known, **_consecutive(stamps, one, paired)}
        for measure in MEASURES:
            where = known if measure.strict else together[measure.frames] & paired
            for t in np.flatnonzero(where).tolist():
                span = slice(t - measure.frames + 1, t + 1)
                values = [measure.of(_window(s, truth, visible, span)) for s in seen]
                if np.isfinite(values).all():
                    series[measure.key][t] += [*values, 1]
    return series


def _check(a: Record, b: Record) -> None:
    for name, record in (("A", a), ("B", b)):
        if not record.truth:
            raise CompareError(
                f"run {name} (bag {record.bag}) has no ground truth to compare by; replay a bag "
                "with ground_truth/skeletons, or with --ground-truth FILE"
            )
    if not np.isin(a.stamps, b.stamps).any():
        raise CompareError(
            f"the runs have no image stamps in common: A is of bag {a.bag}, B of bag {b.bag}; "
            "compare two replays of the same bag"
        )
    ids = [sorted(person.id for person in record.truth) for record in (a, b)]
    if ids[0] != ids[1]:
        raise CompareError(
            f"the runs have other people in their truth: A (bag {a.bag}) {', '.join(ids[0])}, "
            f"B (bag {b.bag}) {', '.join(ids[1])}; compare two replays of the same bag"
        )
    theirs = {person.id: person for person in b.truth}
    for person in a.truth:
        other = theirs[person.id]
        _, one, two = np.intersect1d(
            a.stamps[person.frames], b.stamps[other.frames], return_indices=True
        )
        if not np.allclose(person.joints[one], other.joints[two], atol=_SAME_TRUTH, equal_nan=True):
            raise CompareError(
                f"the runs have another truth for {person.id}: A is of bag {a.bag}, B of bag "
                f"{b.bag}; compare two replays of the same bag with the same truth"
            )


def _rows(record: Record, at: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(N,): the place of each of the record's frames among the common stamps, or -1."""
    rows = np.full(len(record.stamps), -1, np.int64)
    rows[at] = np.arange(len(at))
    return rows


def _aligned(track: Track, rows: npt.NDArray[np.int64], count: int) -> Track:
    """The track's rows at the common stamps, NaN where it has none."""
    place = rows[track.frames]
    inside = place >= 0
    values: dict[str, Any] = {}
    for name in ROWS:
        rows_of = getattr(track, name)
        values[name] = np.full((count, *rows_of.shape[1:]), np.nan)
        values[name][place[inside]] = rows_of[inside]
    return Track(track.id, np.arange(count), **values)


def _consecutive(
    stamps: npt.NDArray[np.int64], one: float, paired: BoolArray
) -> dict[int, BoolArray]:
    """By number of frames: where that many paired frames, one period apart, end."""
    near = np.append(False, np.diff(stamps) / 1e9 <= 1.5 * one)
    pairs = near & paired & np.append(False, paired[:-1])
    return {2: pairs, 3: pairs & np.append(False, pairs[:-1])}


def _window(seen: Track, truth: Track, visible: BoolArray, span: slice) -> _Window:
    def part(values: npt.NDArray[Any]) -> FloatArray:
        return np.asarray(values[span], np.float64)

    return _Window(
        joints=part(seen.joints),
        true=part(truth.joints),
        joints_2d=part(seen.joints_2d),
        true_2d=part(truth.joints_2d),
        visible=visible[span],
        height=float(part(seen.height)[-1]),
        true_height=float(part(truth.height)[-1]),
    )
