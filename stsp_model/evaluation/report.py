"""Scores as tables on a screen and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from stsp_model.evaluation.calibration import (
    SIGMAS,
    Calibration,
    calibration_error,
    coverage,
    nominal,
)
from stsp_model.evaluation.pck import Score2D
from stsp_model.evaluation.scores import MEASURES, Score3D
from stsp_model.evaluation.video import Following

# What stands in the table by action; the rest is shown for the average alone.
_BY_ACTION = (
    "mpjpe",
    "n_mpjpe",
    "pa_mpjpe",
    "pck_150",
    "auc",
    "mpjve",
    "acceleration_error",
    "bone_length_error",
    "lag",
)
_DIGITS = 6  # of JSON, after the point: nanometres


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns under their titles, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *rest]).rstrip()

    return "\n".join([line(header), "  ".join("-" * width for width in widths), *map(line, rows)])


def number(value: float, digits: int = 1) -> str:
    """A score on screen; a dash where there is none."""
    # Adding zero makes an ordinary zero of a negative one.
    return f"{round(value, digits) + 0.0:.{digits}f}" if math.isfinite(value) else "-"


def text_2d(scores: Mapping[str, Score2D]) -> str:
    """Tables of 2D scores by what they are of, such as "true box"."""
    one = next(iter(scores.values()))
    rows = [
        ["PCK@0.2, 14 joints", *(number(s.pck, 2) for s in scores.values())],
        ["PCK@0.2, 12 limb joints", *(number(s.pck_limbs, 2) for s in scores.values())],
        ["PCKh@0.5", *(number(s.pckh, 2) for s in scores.values())],
        *(
            [f"  {joint}", *(number(s.per_joint[joint], 1) for s in scores.values())]
            for joint in one.per_joint
        ),
    ]
    skipped = f", {one.skipped} without a torso left out" if one.skipped else ""
    return f"2D: {one.images} people{skipped}\n\n" + table(["%", *scores], rows)


def text_3d(score: Score3D) -> str:
    """Tables of a 3D score: by action, the average of all measures, by joint."""
    columns = [measure for measure in MEASURES if measure.key in _BY_ACTION]
    rows = [
        [action, *(number(values[m.key], _digits(m.unit)) for m in columns)]
        for action, values in score.per_action.items()
    ]
    average, overall = (
        [number(values[m.key], _digits(m.unit)) for m in columns]
        for values in (score.average, score.overall)
    )
    low, high = score.fps
    rate = f"{low:.4g}" if high - low < 0.05 else f"{low:.4g} to {high:.4g}"
    parts = [
        f"3D: {score.takes} takes, {score.frames} frames at {rate} Hz, a pose in {score.found} "
        f"({100 * score.found / score.frames:.1f} %)",
        table(
            ["action", *(f"{m.title} {m.unit}" for m in columns)],
            [*rows, ["average over actions", *average], ["all frames alike", *overall]],
        ),
        table(
            ["", "average over actions", "all frames alike", "unit"],
            [
                [
                    m.title,
                    number(score.average[m.key], _digits(m.unit)),
                    number(score.overall[m.key], _digits(m.unit)),
                    m.unit,
                ]
                for m in MEASURES
                if math.isfinite(score.average[m.key])
            ],
        ),
        table(
            ["joint", "MPJPE mm", "PCK@150 %"],
            [
                [joint, number(values["mpjpe"]), number(values["pck_150"])]
                for joint, values in score.per_joint.items()
            ],
        ),
    ]
    if score.unscored:
        parts.append(f"not scored, as never known and predicted: {', '.join(score.unscored)}")
    return "\n\n".join(parts)


def text_following(following: Following) -> str:
    """A table of how people were followed."""
    f = following
    rows = [
        ["with a pose on them, %", number(100 * f.seen / f.people if f.people else math.nan)],
        ["poses on nobody, per picture", number(f.false_positives / f.frames, 3)],
        ["ID switches", str(f.switches)],
    ]
    return table(["following", f"{f.people} people in {f.frames} pictures"], rows)


def text_calibration(calibration: Calibration) -> str:
    """Tables of what confidences and standard deviations are worth, as far as there are any."""
    parts = []
    if calibration.claims:
        rows = [
            [
                title,
                str(len(claims)),
                number(100 * float(claims.confidence.mean())),
                number(100 * float(claims.right.mean())),
                number(100 * calibration_error(claims)),
            ]
            for title, claims in calibration.claims.items()
        ]
        header = ["confidence", "joints", "mean %", "right %", "expected calibration error %"]
        parts.append(table(header, rows))
    errors = calibration.errors()
    if errors:
        rows = [
            [f"{sigma} sigma", *(number(100 * float(coverage(e, sigma))) for e in errors.values())]
            for sigma in SIGMAS
        ]
        for sigma, row in zip(SIGMAS, rows, strict=True):
            row.append(number(100 * nominal(sigma)))
        parts.append(table(["errors within, %", *errors, "nominal"], rows))
    return "\n\n".join(parts)


def _digits(unit: str) -> int:
    return 1 if unit in ("mm", "%", "ms") else 2


def plain(value: Any) -> Any:
    """Values for JSON: floats rounded to six digits, None for those that are not finite."""
    if isinstance(value, float):
        return round(value, _DIGITS) + 0.0 if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
