"""The plots of a report, as plotly figures."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stsp_model.angles import ANGLE_NAMES, joint_angles
from stsp_model.lifter import MAX_GAP
from stsp_model.metrics import PCK_3D_THRESHOLD
from stsp_model.outcomes import PROCESSED
from stsp_model.replay.curves import (
    Curves,
    acceleration,
    bone_deviation,
    elapsed,
    mean_known,
    period,
)
from stsp_model.replay.record import OUTCOMES, Record, Track
from stsp_model.skeleton import JOINTS

FloatArray = npt.NDArray[np.float64]

# The sides' colours of drawing.py, darker, as these lines lie on white.
_LINES = {"left": "#1287b8", "right": "#d0690a", "middle": "#4d565e"}
_TRUTH = "#9aa2a9"
# By outcome, in the order of OUTCOMES.
_OUTCOMES = ("#b9c4cc", "#e39a2c", "#8a5fbf", "#c22f3d", "#5a1016")
_ANGLE_ROWS = ("knee", "hip", "elbow", "shoulder", "trunk")
_INK, _GRID = "#1e2327", "#e6e9eb"
_MARGIN = {"l": 96, "r": 64, "t": 24, "b": 40}
_SPACE, _LABELS = 30, 16  # px between plots, and for the labels of a time axis
_TALL = 200  # px; a plot as high as that has a time axis of its own


class PlotlyError(ImportError):
    """The package that draws reports is missing."""


def plotly(module: str) -> Any:
    """A module of plotly, which is needed for reports alone. Raises PlotlyError without it."""
    try:
        return importlib.import_module(f"plotly.{module}")
    except ImportError as error:
        raise PlotlyError(
            f"a report is drawn by plotly, which cannot be imported ({error}): "
            "pip install '.[report]' in stsp's checkout"
        ) from error


def title(joint: str) -> str:
    """As people write it: left knee."""
    return joint.replace("_", " ")


def over_time(record: Record, curves: Curves) -> Any:
    """All that goes over time, one plot above the other with one time axis."""
    time, breaks = _with_breaks(record, curves)
    truth = bool(record.truth)

    def spread(values: FloatArray) -> FloatArray:
        """With unknown rows where the line is to break."""
        return np.insert(values.astype(np.float32), breaks, np.nan, axis=0)

    parts: list[tuple[str, int, list[Any]]] = []  # title, height in px, traces
    if truth:
        error = 1000 * curves.error
        parts.append(
            (
                "Mean error of the joints, mm",
                110,
                [_line(time, spread(mean_known(error)), "error", "#a3161f", "%{y:.0f} mm")],
            )
        )
        parts.append(
            (
                "Error by joint, mm",
                265,
                [_map(time, spread(error), 1000 * PCK_3D_THRESHOLD, "YlOrRd", "%{z:.0f} mm")],
            )
        )
    parts.append(
        (
            "Confidence by joint",
            265,
            [_map(time, spread(curves.confidence), 1.0, "Viridis", "confidence %{z:.2f}")],
        )
    )
    parts.append(("Who is seen", 24 + 18 * min(len(record.tracks), 8), _spans(record)))
    parts.append(("Images a second, by what became of them", 80, _outcomes(record)))
    parts.append(
        (
            "Time for one image, ms",
            80,
            [
                _line(
                    elapsed(record)[np.isfinite(record.latency)],
                    1000 * record.latency[np.isfinite(record.latency)],
                    "latency",
                    _LINES["middle"],
                    "%{y:.1f} ms",
                )
            ],
        )
    )
    parts.append(
        (
            "Bone lengths off their median, %",
            80,
            [
                _line(
                    time,
                    spread(100 * mean_known(bone_deviation(curves))),
                    "bones",
                    _LINES["middle"],
                    "%{y:.1f} %",
                )
            ],
        )
    )
    jitter = [
        _line(
            time,
            spread(mean_known(acceleration(curves, curves.joints))),
            "acceleration",
            _LINES["middle"],
            "%{y:.1f} m/s²",
        )
    ]
    if truth:
        true = spread(mean_known(acceleration(curves, curves.truth)))
        jitter.insert(0, _line(time, true, "true acceleration", _TRUTH, "%{y:.1f} m/s²", "dot"))
    parts.append(("Acceleration, mean of the joints, m/s² (jitter)", 80, jitter))
    parts += _angles(time, spread, curves, truth)
    return _stacked(parts, float(elapsed(record)[-1]) if len(record.stamps) else 0.0)


def _angles(time: FloatArray, spread: Any, curves: Curves, truth: bool) -> list[Any]:
    ours, true = (
        spread(np.degrees(joint_angles(joints))) for joints in (curves.joints, curves.truth)
    )
    parts = []
    for part in _ANGLE_ROWS:
        traces = []
        for i, name in enumerate(ANGLE_NAMES):
            if not name.endswith(part):
                continue
            side = name.split("_")[0] if "_" in name else "middle"
            if truth:
                label = f"true {title(name)}"
                traces.append(_line(time, true[:, i], label, _LINES[side], "%{y:.0f}°", "dot"))
            traces.append(_line(time, ours[:, i], title(name), _LINES[side], "%{y:.0f}°"))
        sides = "" if part == "trunk" else ", left blue, right orange"
        dotted = ", truth dotted" if truth else ""
        parts.append((f"{part.capitalize()} angle, degrees{sides}{dotted}", 100, traces))
    return parts


def _with_breaks(record: Record, curves: Curves) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Times at which to draw, and before which of the curves' rows unknown ones go in.

    Two go in wherever an image was processed without a pose, or the bag paused.
    """
    frames, time, one = curves.frames, curves.time, period(record)
    processed = np.cumsum(record.outcome == OUTCOMES.index(PROCESSED))
    between = processed[frames[1:]] - processed[frames[:-1]] - 1
    at = np.flatnonzero((between > 0) | (np.diff(time) > MAX_GAP)) + 1
    filled = np.stack([time[at - 1] + one, time[at] - one], axis=-1)
    return np.insert(time, np.repeat(at, 2), filled.ravel()), np.repeat(at, 2)


def _line(
    x: FloatArray, y: FloatArray, name: str, colour: str, hover: str, dash: str = "solid"
) -> Any:
    return plotly("graph_objects").Scatter(
        x=np.asarray(x, np.float32),
        y=np.asarray(y, np.float32),
        name=name,
        mode="lines",
        line={"color": colour, "width": 1.5, "dash": dash},
        opacity=0.75 if dash == "dot" else 1.0,
        hovertemplate=hover,
    )


def _map(time: FloatArray, values: FloatArray, top: float, scale: str, hover: str) -> Any:
    return plotly("graph_objects").Heatmap(
        x=np.asarray(time, np.float32),
        y=[title(joint) for joint in JOINTS],
        z=np.ascontiguousarray(np.asarray(values, np.float32).T),
        zmin=0,
        zmax=top,
        colorscale=scale,
        name="",
        hovertemplate="%{y} at %{x:.2f} s: " + hover + "<extra></extra>",
    )


def _runs(
    frames: npt.NDArray[np.int64], time: FloatArray, period: float
) -> tuple[FloatArray, FloatArray]:
    """Starts and ends (R,) in seconds of what has no break of more than MAX_GAP.

    It lasts for one `period` beyond the last frame, or a single frame would not show.
    """
    cut = np.flatnonzero(np.diff(time[frames]) > MAX_GAP)
    starts, ends = np.append(0, cut + 1), np.append(cut, len(frames) - 1)
    return time[frames[starts]], time[frames[ends]] + period


def _spans(record: Record) -> list[Any]:
    go = plotly("graph_objects")
    time, interval = elapsed(record), period(record)
    traces = []

    def add(person: Track, colour: str, dash: str) -> None:
        if not len(person.frames):
            return
        starts, ends = _runs(person.frames, time, interval)
        x = np.stack([starts, ends, np.full_like(starts, np.nan)], axis=-1).ravel()
        line = {"color": colour, "width": 2 if dash == "dot" else 6, "dash": dash}
        traces.append(
            go.Scatter(
                x=x,
                y=[person.id] * len(x),
                name=person.id,
                mode="lines",
                line=line,
                hovertemplate="%{x:.2f} s",
            )
        )

    for person in record.truth:
        add(person, _TRUTH, "dot")
    for person in record.tracks:
        add(person, _LINES["middle"], "solid")
    return traces


def _outcomes(record: Record) -> list[Any]:
    go = plotly("graph_objects")
    time = elapsed(record)
    # Half a period on, lest 29 and 31 be counted where stamps lie on the seconds, more or less.
    second, place = np.unique(np.floor(time + period(record) / 2), return_inverse=True)
    # The last second is seldom whole: its rate is that of the part which is there.
    width = np.ones(len(second))
    if len(time):
        width[-1] = min(time[-1] + period(record) - second[-1], 1.0)
    traces = []
    for i, (name, colour) in enumerate(zip(OUTCOMES, _OUTCOMES, strict=True)):
        count = np.bincount(place[record.outcome == i], minlength=len(second))
        if count.any():
            traces.append(
                go.Bar(
                    x=second + width / 2,
                    y=count / width,
                    width=width,
                    name=name,
                    marker={"color": colour, "line": {"width": 0}},
                    hovertemplate="%{y:.3g}",
                )
            )
    return traces


def _stacked(parts: Sequence[tuple[str, int, list[Any]]], end: float) -> Any:
    """One figure of plots one above the other, each of its height in px."""
    go = plotly("graph_objects")
    spaces = [_SPACE + (_LABELS if height > _TALL else 0) for _, height, _ in parts[:-1]] + [0]
    inner = sum(height for _, height, _ in parts) + sum(spaces)
    figure = go.Figure()
    layout: dict[str, Any] = {}
    notes = []
    top = float(inner)
    for i, (name, height, traces) in enumerate(parts):
        n = "" if i == 0 else str(i + 1)
        bottom = top - height
        layout[f"xaxis{n}"] = {
            "anchor": f"y{n}",
            "matches": None if i == 0 else "x",
            "showticklabels": i == len(parts) - 1 or height > _TALL,
            "range": [0, max(end, 1e-3)],
            "gridcolor": _GRID,
            "zeroline": False,
            "ticks": "outside",
            "ticklen": 3,
            "title": {"text": "s since the first image"} if i == len(parts) - 1 else None,
        }
        layout[f"yaxis{n}"] = {
            "anchor": f"x{n}",
            "domain": [max(bottom / inner, 0), min(top / inner, 1)],
            "gridcolor": _GRID,
            "zeroline": False,
            "nticks": 5 if height < _TALL else None,
            "fixedrange": True,
            "tickfont": {"size": 10 if height > _TALL else 11},
            "ticklabelstandoff": 3,
        }
        if any(trace.type == "heatmap" for trace in traces) or name == "Who is seen":
            layout[f"yaxis{n}"] |= {"autorange": "reversed", "nticks": None, "showgrid": False}
        if name == "Who is seen":
            layout[f"yaxis{n}"] |= {"type": "category"}
        elif not any(trace.type == "heatmap" for trace in traces):
            layout[f"yaxis{n}"] |= {"rangemode": "normal" if "angle" in name else "tozero"}
        for trace in traces:
            trace.update(xaxis=f"x{n}", yaxis=f"y{n}")
            if trace.type == "heatmap":
                trace.update(
                    colorbar={
                        "y": (top + bottom) / 2 / inner,
                        "len": height / inner,
                        "thickness": 11,
                        "x": 1.01,
                        "outlinewidth": 0,
                        "tickfont": {"size": 10},
                    }
                )
            figure.add_trace(trace)
        notes.append(
            {
                "text": name,
                "x": 0,
                "y": top / inner,
                "xref": "paper",
                "yref": "paper",
                "xanchor": "left",
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"size": 12.5, "color": _INK},
            }
        )
        top = bottom - spaces[i]
    figure.update_layout(
        **layout,
        **_plain(inner + _MARGIN["t"] + _MARGIN["b"]),
        margin=_MARGIN,
        annotations=notes,
        hovermode="x",
        barmode="stack",
        bargap=0,
    )
    return figure


def latency(record: Record) -> Any:
    """How long images took: a histogram; None where none was processed."""
    go = plotly("graph_objects")
    values = 1000 * record.latency[np.isfinite(record.latency)]
    if not len(values):
        return None
    # The slowest percent goes into the last bar, or one hiccup squeezes the rest together.
    top = float(np.percentile(values, 99)) * 1.15
    counts, edges = np.histogram(np.minimum(values, top), bins=40)
    figure = go.Figure(
        go.Bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts,
            width=np.diff(edges),
            marker={"color": "#7d98ab", "line": {"width": 0}},
            hovertemplate="%{x:.1f} ms: %{y} images<extra></extra>",
        )
    )
    for share in (50, 99):
        at = float(np.percentile(values, share))
        figure.add_vline(at, line={"color": _INK, "width": 1, "dash": "dot"})
        figure.add_annotation(
            x=at, y=1, yref="paper", yanchor="bottom", text=f"p{share} {at:.1f}", showarrow=False
        )
    figure.update_layout(
        **_plain(260),
        margin={"l": 50, "r": 20, "t": 24, "b": 42},
        xaxis={"title": {"text": "ms for one image"}, "gridcolor": _GRID, "rangemode": "tozero"},
        yaxis={"title": {"text": "images"}, "gridcolor": _GRID},
    )
    return figure


def _plain(height: int) -> dict[str, Any]:
    return {
        "template": "none",
        "height": height,
        "font": {"family": "system-ui, Segoe UI, Liberation Sans, Arial, sans-serif", "size": 12},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "dragmode": "zoom",
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#9aa2a9", "activecolor": _INK},
    }
