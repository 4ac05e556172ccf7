"""3D scores of many takes: averaged over actions, in which frames count alike, and over frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from stsp_model import metrics
from stsp_model.evaluation.measures import bone_length_deviation, bone_length_error, lag
from stsp_model.skeleton import JOINT_COUNT, JOINTS, JOINTS_14

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_PELVIS = 0
_NOWHERE = 1e6  # m; where a joint that was not found is taken to be where that counts as wrong
_LONGEST_GAP = 3  # frames; across a gap nothing that concerns time is measured, however long it is


@dataclass(frozen=True, eq=False)
class Take:
    """Poses of one person over T frames, and the truth.

    Args:
        name, action: the action is what scores are grouped by.
        prediction: (T, 17, 3) m, axes of the camera; NaN where there is none. From any origin: the
            pelvis is taken off.
        target: (T, 17, 3) m, likewise; NaN where unknown.
        stamps: (T,) s, rising.
        height, true_height: standing heights in metres, (T,) as estimated and the true one; None
            where the height was given or is not known.
        confidence: (T, 17) 0..1; variance: (T, 17, 3) m^2; height_variance: (T,) m^2; of the
            prediction, None where it does not say.

    Raises:
        ValueError: if the shapes do not fit.
    """

    name: str
    action: str
    prediction: FloatArray
    target: FloatArray
    stamps: FloatArray
    height: FloatArray | None = None
    true_height: float | None = None
    confidence: FloatArray | None = None
    variance: FloatArray | None = None
    height_variance: FloatArray | None = None

    def __post_init__(self) -> None:
        shape = (len(self.stamps), JOINT_COUNT, 3)
        for field in ("prediction", "target"):
            value = np.asarray(getattr(self, field), dtype=np.float64)
            if value.shape != shape:
                raise ValueError(f"{self.name}: {field} has shape {value.shape}, expected {shape}")
            object.__setattr__(self, field, value - value[:, :1])

    @property
    def known(self) -> BoolArray:
        """(T, 17): the joints of which the truth is known."""
        return np.asarray(np.isfinite(self.target).all(axis=-1))

    @property
    def height_error(self) -> FloatArray | None:
        """(T,) m, NaN where there is no estimate or the pose is unknown; None without any."""
        if self.height is None or self.true_height is None:
            return None
        return np.where(self.known.any(axis=-1), self.height - self.true_height, np.nan)


@dataclass(frozen=True, eq=False)
class _Frames:
    """A take on a regular grid of frames, ready to be measured.

    known (T, 17): of the truth. found (T, 17): of the truth and the prediction. Where these are
    False the joints are zero.
    """

    take: Take
    prediction: FloatArray
    target: FloatArray
    known: BoolArray
    found: BoolArray
    fps: float


@dataclass(frozen=True)
class Measure:
    """One column of the table.

    Args:
        key: in the JSON.
        title, unit: on screen.
        of: its value for one take.
        window: frames that it looks at together; weighs takes by how many there are.
        square: whether values are averaged as their squares, as deviations are.
        strict: whether joints that were not found count, as wrong.
    """

    key: str
    title: str
    unit: str
    of: Callable[[_Frames], float]
    window: int = 1
    square: bool = False
    strict: bool = False


def _plain(metric: Callable[..., float], **options: object) -> Callable[[_Frames], float]:
    """A metric over the joints that were found."""
    return lambda f: metric(f.prediction, f.target, f.found, **options)


def _strict(metric: Callable[..., float]) -> Callable[[_Frames], float]:
    """A metric for which joints that were not found are wrong."""

    def measured(f: _Frames) -> float:
        prediction = np.where(f.found[..., None], f.prediction, _NOWHERE)
        return metric(prediction, f.target, f.known)

    return measured


def _per_second(metric: Callable[..., float]) -> Callable[[_Frames], float]:
    return lambda f: metric(f.prediction, f.target, f.found, fps=f.fps)


def _height_error(f: _Frames) -> float:
    error = f.take.height_error
    if error is None or not np.isfinite(error).any():
        return float("nan")
    return float(1000 * np.nanmean(np.abs(error)))


MEASURES: tuple[Measure, ...] = (
    Measure("mpjpe", "MPJPE", "mm", _plain(metrics.mpjpe)),
    Measure("mpjpe_14", "MPJPE, 14 joints", "mm", _plain(metrics.mpjpe, joints=JOINTS_14)),
    Measure("n_mpjpe", "N-MPJPE", "mm", _plain(metrics.n_mpjpe)),
    Measure("pa_mpjpe", "PA-MPJPE", "mm", _plain(metrics.pa_mpjpe)),
    Measure("pck_150", "PCK@150", "%", _strict(metrics.pck_3d), strict=True),
    Measure("auc", "AUC", "%", _strict(metrics.auc_3d), strict=True),
    Measure("mpjve", "MPJVE", "mm/frame", _plain(metrics.mpjve), 2),
    Measure(
        "acceleration_error", "acc. error", "mm/frame^2", _plain(metrics.acceleration_error), 3
    ),
    Measure(
        "acceleration_error_si", "acc. error", "m/s^2", _per_second(metrics.acceleration_error), 3
    ),
    Measure(
        "acceleration_std",
        "acc. deviation",
        "mm/frame^2",
        lambda f: metrics.acceleration_std(f.prediction, f.found),
        3,
        True,
    ),
    Measure(
        "acceleration_std_si",
        "acc. deviation",
        "m/s^2",
        lambda f: metrics.acceleration_std(f.prediction, f.found, fps=f.fps),
        3,
        True,
    ),
    Measure(
        "true_acceleration_std",
        "acc. deviation of the truth",
        "mm/frame^2",
        lambda f: metrics.acceleration_std(f.target, f.found),
        3,
        True,
    ),
    Measure(
        "bone_length_error",
        "bone-length error",
        "mm",
        lambda f: bone_length_error(f.prediction, f.target, f.found),
    ),
    Measure(
        "bone_length_deviation",
        "bone-length deviation",
        "mm",
        lambda f: bone_length_deviation(f.prediction, f.found),
    ),
    Measure(
        "true_bone_length_deviation",
        "bone-length deviation of the truth",
        "mm",
        lambda f: bone_length_deviation(f.target, f.found),
    ),
    Measure("lag", "lag", "frames", lambda f: lag(f.prediction, f.target, f.found)),
    Measure("lag_ms", "lag", "ms", lambda f: 1000 / f.fps * lag(f.prediction, f.target, f.found)),
    Measure("height_error", "height error", "mm", _height_error),
)


@dataclass(frozen=True)
class Score3D:
    """What takes score. Values by `Measure.key`; NaN where nothing counts.

    average: over actions. overall: over all frames alike. per_action: by action. per_joint: MPJPE
    (mm) and PCK@150 (%) by joint, likewise. frames: with a known pose; found: of them with a
    predicted pose. fps: lowest and highest rate of the takes. unscored: joints that never were both
    known and predicted.
    """

    takes: int
    frames: int
    found: int
    fps: tuple[float, float]
    average: dict[str, float]
    overall: dict[str, float]
    per_action: dict[str, dict[str, float]]
    per_joint: dict[str, dict[str, float]]
    unscored: tuple[str, ...]


def score(takes: Iterable[Take]) -> Score3D:
    """Score takes, all by the same method.

    A joint that the method never predicts, in no take, is left out everywhere, unless it predicts
    none at all. Else a joint that was not found is wrong in PCK and AUC, and left out of the mean
    distances; how many frames were found says how much that flatters.

    Raises:
        ValueError: if there is no frame with a known pose.
    """
    framed = [_framed(take) for take in takes]
    frames = sum(int(f.known[:, _PELVIS].sum()) for f in framed)
    if not frames:
        raise ValueError("there is no frame with a known pose to score")
    ever = np.any([f.found.any(axis=0) for f in framed], axis=0)
    if not ever.any():
        ever = np.any([f.known.any(axis=0) for f in framed], axis=0)
    framed = [replace(f, known=f.known & ever) for f in framed]
    actions: dict[str, list[_Frames]] = {}
    for f in framed:
        actions.setdefault(f.take.action, []).append(f)
    per_action = {
        action: {measure.key: _weighted(measure, group) for measure in MEASURES}
        for action, group in sorted(actions.items())
    }
    average = {m.key: mean([row[m.key] for row in per_action.values()]) for m in MEASURES}
    return Score3D(
        takes=len(framed),
        frames=frames,
        found=sum(int(f.found[:, _PELVIS].sum()) for f in framed),
        fps=(min(f.fps for f in framed), max(f.fps for f in framed)),
        average=average,
        overall={measure.key: _weighted(measure, framed) for measure in MEASURES},
        per_action=per_action,
        per_joint={JOINTS[j]: _joint(framed, j) for j in range(JOINT_COUNT) if ever[j]},
        unscored=tuple(JOINTS[j] for j in range(JOINT_COUNT) if not ever[j]),
    )


def _framed(take: Take) -> _Frames:
    known = take.known
    found = known & np.asarray(np.isfinite(take.prediction).all(axis=-1))
    steps = np.diff(take.stamps)
    period = float(np.median(steps)) if len(steps) else 1.0
    # Frames that a camera dropped leave rows where nothing is known.
    places = np.clip(np.rint(steps / period), 1, _LONGEST_GAP).astype(int)
    index = np.concatenate([[0], np.cumsum(places)])

    def spread(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        rows = np.zeros((index[-1] + 1, *values.shape[1:]), values.dtype)
        rows[index] = values
        return rows

    prediction = np.where(found[..., None], take.prediction, 0.0)
    target = np.where(known[..., None], take.target, 0.0)
    return _Frames(
        take, spread(prediction), spread(target), spread(known), spread(found), 1 / period
    )


def _weighted(measure: Measure, group: Sequence[_Frames]) -> float:
    values, weights = [], []
    for f in group:
        counted = f.known if measure.strict else f.found
        together = counted
        for step in range(1, measure.window):
            together = together[:-1] & counted[step:]
        value = measure.of(f)
        if math.isfinite(value):
            values.append(value**2 if measure.square else value)
            weights.append(max(int(together.sum()), 1))
    if not values:
        return float("nan")
    weighted = float(np.average(values, weights=weights))
    return math.sqrt(weighted) if measure.square else weighted


def mean(values: Sequence[float]) -> float:
    """Of the scores that there are; NaN without any."""
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def _joint(framed: Sequence[_Frames], joint: int) -> dict[str, float]:
    def of_all(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(f, name)[:, joint] for f in framed])[:, None]

    prediction, target, found = of_all("prediction"), of_all("target"), of_all("found")
    strict = np.where(found[..., None], prediction, _NOWHERE)
    return {
        "mpjpe": metrics.mpjpe(prediction, target, found),
        "pck_150": metrics.pck_3d(strict, target, of_all("known")),
    }
