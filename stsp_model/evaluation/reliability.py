"""The reliability diagram: confidences beside what was right, variances beside the errors."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from stsp_model.evaluation.calibration import (
    SIGMAS,
    Calibration,
    calibration_error,
    coverage,
    nominal,
    reliability,
)

try:
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter
except ImportError as error:
    raise ImportError(
        f"{error}; the reliability diagram needs Matplotlib: pip install '.[report]' in stsp's "
        "checkout"
    ) from None

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIDE = 5.0  # inches
_DPI = 120
_TITLE = 60  # characters beside each other above a panel
_WITHIN = np.linspace(0, 3.5, 351)  # standard deviations
_HISTOGRAM = np.linspace(0, 1, 21)
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")  # Okabe & Ito 2008: for all eyes
_GREY = "0.45"


def draw_reliability(path: Path, calibration: Calibration, title: str) -> None:
    """Write a PNG: on the left what confidences are worth, on the right what variances are.

    Only one of them where the other is missing.

    Raises:
        ValueError: if both are. OSError: if the file cannot be written.
    """
    panels = [bool(calibration.claims), bool(calibration.errors())]
    if not any(panels):
        raise ValueError("there is neither a confidence nor a variance to draw")
    # A Figure of its own, without pyplot, is drawn by Agg and needs no display.
    figure = Figure(figsize=(_SIDE * sum(panels) + 0.4, _SIDE + 1.4), layout="constrained")
    lines = wrap(title, _TITLE * sum(panels))  # Matplotlib itself breaks lines at spaces alone
    figure.suptitle("\n".join(lines), fontsize="medium")
    grid = figure.add_gridspec(2, sum(panels), height_ratios=(4, 1))
    if calibration.claims:
        upper = figure.add_subplot(grid[0, 0])
        _confidences(upper, figure.add_subplot(grid[1, 0], sharex=upper), calibration)
    if calibration.errors():
        _variances(figure.add_subplot(grid[:, -1]), calibration)
    figure.savefig(path, format="png", dpi=_DPI)


def _confidences(upper: Axes, lower: Axes, calibration: Calibration) -> None:
    """Reliability above, how many joints have which confidence below."""
    upper.plot((0, 1), (0, 1), "--", color=_GREY, linewidth=1, label="as claimed")
    for colour, (name, claims) in zip(_COLOURS, calibration.claims.items(), strict=False):
        confidence, right, count = reliability(claims)
        error = 100 * calibration_error(claims)
        upper.errorbar(
            confidence,
            right,
            2 * np.sqrt(right * (1 - right) / count),
            fmt="o-",
            color=colour,
            markersize=4,
            linewidth=1.2,
            elinewidth=0.8,
            label=f"{name}: {len(claims)} joints, ECE {error:.1f} %",
        )
        lower.hist(claims.confidence, _HISTOGRAM.tolist(), histtype="step", color=colour)
    upper.set_title("Confidence", fontsize="medium")
    upper.set_ylabel("share of joints that are right")
    upper.legend(loc="upper left", fontsize="small")
    _unit_square(upper)
    upper.tick_params(labelbottom=False)
    lower.set_xlabel("confidence")
    lower.set_ylabel("joints")
    lower.grid(alpha=0.3)


def _variances(axes: Axes, calibration: Calibration) -> None:
    """Share of errors within so many deviations, beside that of a normal distribution."""
    expected = np.array([nominal(within) for within in _WITHIN.tolist()])
    axes.plot((0, 1), (0, 1), "--", color=_GREY, linewidth=1, label="as claimed")
    errors = calibration.errors()
    for colour, (name, one) in zip(_COLOURS, errors.items(), strict=False):
        (first, *_) = errors
        axes.plot(
            expected,
            coverage(one, _WITHIN),
            color=colour,
            linewidth=2 if name == first else 1,
            label=f"{name}: {100 * float(coverage(one, 1)):.1f} % within 1 sigma",
        )
    for sigma in SIGMAS:
        axes.axvline(nominal(sigma), color=_GREY, linewidth=0.8, linestyle=":")
        axes.text(
            nominal(sigma), 0.02, f" {sigma} sigma", fontsize="small", color=_GREY, ha="right"
        )
    axes.set_title("Variance of 3D joints", fontsize="medium")
    axes.set_xlabel("share that a normal distribution of this variance has")
    axes.set_ylabel("share of errors within the same deviation")
    axes.legend(loc="upper left", fontsize="small")
    _unit_square(axes)


def _unit_square(axes: Axes) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)
