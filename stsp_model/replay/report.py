"""report.html: one file that shows a replay, opens offline and fetches nothing."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stsp_model.evaluation.report import number
from stsp_model.evaluation.scores import MEASURES
from stsp_model.files import replacing
from stsp_model.replay import charts
from stsp_model.replay.curves import (
    LONGEST_PAUSE,
    Curves,
    acceleration,
    bone_deviation,
    curves,
    elapsed,
    gaps,
    long_pauses,
    mean_known,
    peaks,
    period,
)
from stsp_model.replay.match import Match, match
from stsp_model.replay.page_data import page_data, pictures_of
from stsp_model.replay.record import Record
from stsp_model.replay.scores import scores
from stsp_model.skeleton import BONES, INDEX, JOINTS

FloatArray = npt.NDArray[np.float64]

_MOST_VIEWS = 30  # tracks to choose from
_MOMENTS = 6  # of each kind

_NOT = (
    "Skeletons are estimates. They are not a safety function, not a diagnosis and not an "
    "identification: ids name tracks, not people."
)


def write_report(
    path: str | Path,
    record: Record,
    images: Mapping[int, bytes] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write the report of a replay; the file appears only once complete.

    Args:
        path: of the HTML file.
        record: what the replay gave.
        images: pictures by the index of their frame, as JPEG. None: no picture is stored. They
            are made smaller, and then fewer, until all take less than page_data.PICTURE_BYTES.
        notes: sentences on the replay that a reader should know.

    Raises:
        PlotlyError: if plotly is missing.
        ValueError: for an image that is none, or of no frame of the record.
    """
    path = Path(path)
    script = charts.plotly("offline").get_plotlyjs()
    matches, measured = match(record), scores(record)
    views = _views(record, matches)
    moments = _moments(record, views[0])
    wanted = [frame for _, rows in moments for frame, *_ in rows]
    data = page_data(record, matches, views, pictures_of(record, images or {}, wanted))
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    player = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
    parts = {
        "TITLE": html.escape(f"Replay of {record.bag}"),
        "HEAD": _head(record, measured, notes),
        "TRUTH_KEY": _TRUTH_KEY if record.truth else "",
        "MOMENTS": _moments_html(moments),
        "JOINTS": _joints_html(record, views[0], measured),
        "SCORES": _scores_html(measured),
        "LATENCY": _latency_html(record),
        "FOOT": f"<p>{_NOT}</p>",
        # In a script element "<" could end it; in JSON it can always be escaped.
        "DATA": json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        "PLOTLY": script,
        "SCRIPT": player,
    }
    text = re.sub("@@([A-Z_]+)@@", lambda name: parts[name[1]], template)
    with replacing(path) as file:
        file.write(text.encode())


_TRUTH_KEY = (
    '<span><i class="dashed"></i>truth</span>'
    '<span><i class="thin" style="background:#ff5d73"></i>from joint to truth</span>'
)
Moment = tuple[int, str, str]  # frame, when, what


def _views(record: Record, matches: Sequence[Match]) -> list[Curves]:
    """Whose curves there are to choose from, of all tracks together first."""
    every = range(len(record.tracks))
    if len(every) <= 1:
        label = record.tracks[0].id if record.tracks else "nobody"
        return [curves(record, matches, label, every)]
    longest = sorted(every, key=lambda i: -len(record.tracks[i].frames))[:_MOST_VIEWS]
    return [
        curves(record, matches, "all", every),
        *(curves(record, matches, record.tracks[i].id, [i]) for i in sorted(longest)),
    ]


def _head(record: Record, measured: Mapping[str, Any], notes: Sequence[str]) -> str:
    e = html.escape
    time = elapsed(record)
    length = f"{time[-1]:.1f} s" if len(time) else "0 s"
    width, height = record.image_size
    weights = "trained" if record.trained else "<b>not trained</b>"
    told = ", ".join(
        f"{e(name.replace('_', ' '))} {e(_word(value))}"
        for name, value in record.settings.items()
        if value is not None
    )
    lines = [
        f"<h1>Replay of {e(record.bag)}</h1>",
        f"<p class='soft'>{len(time)} images of {width}×{height} px over {length}, "
        f"{1 / period(record):.4g} Hz, topic {e(record.image_topic)}, frame {e(record.frame_id)}."
        f" Model {e(record.model)} ({weights}; weights {e(record.weights_sha256[:12])}).</p>",
        f"<p class='soft'>Settings: {told or 'none'}.</p>",
    ]
    if not record.trained:
        lines.append(
            "<div class='banner' role='alert'>These weights are not trained: the skeletons mean "
            "nothing. What this shows is that the replay works, and how fast it is.</div>"
        )
    if not record.complete:
        lines.append(
            "<div class='banner' role='alert'>The replay was stopped before the bag's end: this "
            "shows the part up to there.</div>"
        )
    pauses = long_pauses(record)
    if pauses:
        notes = [
            *notes,
            f"{pauses} pause{'s' * (pauses > 1)} of more than {LONGEST_PAUSE} s, as where a clock "
            f"is set; times and plots here take each for {LONGEST_PAUSE} s.",
        ]
    if notes:
        lines.append(f"<ul class='notes'>{''.join(f'<li>{e(note)}</li>' for note in notes)}</ul>")
    lines.append(_tiles(record, measured))
    return "<header>" + "\n".join(lines) + "</header>"


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _tiles(record: Record, measured: Mapping[str, Any]) -> str:
    tiles: list[tuple[str, str, str]] = []
    truth, alone = measured["truth"], measured["tracks"]
    if truth is None:
        tiles.append(("truth", "unknown", ""))
    else:
        average = {} if truth["3d"] is None else truth["3d"]["average"]
        for name, key, unit in (
            ("MPJPE", "mpjpe", "mm"),
            ("PA-MPJPE", "pa_mpjpe", "mm"),
            ("PCK@150", "pck_150", "%"),
        ):
            tiles.append((name, number(average.get(key, math.nan)), unit))
        tiles.append(("truth with a skeleton", number(truth["coverage"]), "%"))
    tiles.append(("confidence", number(alone["confidence"], 2), ""))
    dropped = int((record.outcome != 0).sum())
    tiles.append(("images processed", str(len(record.outcome) - dropped), ""))
    tiles.append(("dropped", str(dropped), ""))
    tiles.append(("tracks", str(alone["count"]), ""))
    milliseconds = 1000 * record.latency[np.isfinite(record.latency)]
    if len(milliseconds):
        p50, p99 = np.percentile(milliseconds, [50, 99])
        tiles.append(("latency p50 / p99", f"{p50:.0f} / {p99:.0f}", "ms"))
    return (
        "<dl class='tiles'>"
        + "".join(
            f"<div><dt>{name}</dt><dd>{html.escape(value)} <small>{unit}</small></dd></div>"
            for name, value, unit in tiles
        )
        + "</dl>"
    )


def _moments(record: Record, view: Curves) -> list[tuple[str, list[Moment]]]:
    """The worst moments by kind, each with the frame it is to lead to."""

    def of(values: FloatArray, worst: FloatArray, text: Callable[[int, int], str]) -> list[Moment]:
        """The peaks of `values` (M,); the joint of the greatest `worst` (M, 17) is named."""
        return [
            (int(view.frames[i]), f"{view.time[i]:.2f} s", text(i, int(np.nanargmax(worst[i]))))
            for i in peaks(values, view.time, _MOMENTS)
        ]

    kinds: list[tuple[str, list[Moment]]] = []
    error, sure = 1000 * view.error, view.confidence
    shaking = acceleration(view, view.joints)
    name = [charts.title(joint) for joint in JOINTS]
    if record.truth:
        mean = mean_known(error)
        kinds.append(
            (
                "largest error",
                of(mean, error, lambda i, j: f"{mean[i]:.0f} mm; {name[j]} {error[i, j]:.0f}"),
            )
        )
    trust = mean_known(sure)
    kinds.append(
        (
            "least confidence",
            of(
                -trust,
                -sure,
                lambda i, j: f"{trust[i]:.2f}; {name[j]} {sure[i, j]:.2f}",
            ),
        )
    )
    shake = mean_known(shaking)
    kinds.append(
        (
            "strongest acceleration",
            of(shake, shaking, lambda i, j: f"{shake[i]:.0f} m/s²; {name[j]} {shaking[i, j]:.0f}"),
        )
    )
    time = elapsed(record)
    kinds.append(
        (
            "longest without a pose",
            [
                (gap.first, f"{time[gap.first]:.2f} s", f"for {gap.seconds:.2f} s")
                for gap in gaps(record, view)[:_MOMENTS]
            ],
        )
    )
    return kinds


def _moments_html(kinds: Sequence[tuple[str, Sequence[Moment]]]) -> str:
    columns = []
    for kind, rows in kinds:
        items = "".join(
            f"<li><a href='#frame={frame}'>{when}</a> {what}</li>" for frame, when, what in rows
        )
        columns.append(f"<div><h3>{kind}</h3><ol>{items or '<li>none</li>'}</ol></div>")
    return f"<h2>Worst moments</h2><div class='moments'>{''.join(columns)}</div>"


def _scores_html(measured: Mapping[str, Any]) -> str:
    """What metrics.json holds, as a table."""
    truth, alone = measured["truth"], measured["tracks"]
    rows: list[tuple[str, float, str]] = []
    if truth is not None:
        if truth["3d"] is not None:
            average = truth["3d"]["average"]
            rows += [(m.title, average[m.key], m.unit) for m in MEASURES]
        rows += [
            ("PCK@0.2 in the image", truth["2d"]["pck"], "%"),
            ("distance of the pelvis from its true place", truth["root_error"], "mm"),
            ("changes of id within a person", float(truth["id_switches"]), ""),
            ("frames with truth", float(truth["frames"]), ""),
        ]
    else:
        rows += [
            ("acc. deviation", alone["acceleration_std"], "mm/frame^2"),
            ("acc. deviation", alone["acceleration_std_si"], "m/s^2"),
            ("bone-length deviation", alone["bone_length_deviation"], "mm"),
        ]
    rows += [
        ("processed images with a skeleton", alone["seen"], "%"),
        ("times that a track broke off and went on", float(alone["breaks"]), ""),
        ("longest of these breaks", alone["longest_break_s"], "s"),
    ]
    height = ""
    if truth is not None:
        height = f"; the standing height was {html.escape(truth['height'])}"
    cells = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{_figure(value, unit)}</td>"
        f"<td class='text'>{unit.replace('^2', '²')}</td></tr>"
        for name, value, unit in rows
        if math.isfinite(value)
    )
    return (
        f"<div class='card'><h2>Scores <span class='soft'>– as in metrics.json{height}</span></h2>"
        f"<table>{cells}</table></div>"
    )


def _figure(value: float, unit: str) -> str:
    return str(int(value)) if not unit else number(value, 1 if unit in ("mm", "%", "ms") else 2)


def _joints_html(record: Record, view: Curves, measured: Mapping[str, Any]) -> str:
    """A table by joint."""
    truth = measured["truth"]
    scored = truth["3d"]["per_joint"] if truth is not None and truth["3d"] is not None else {}
    error, shaking = 1000 * view.error, acceleration(view, view.joints)
    bones = 100 * bone_deviation(view)
    by_child = {child: i for i, (_, child) in enumerate(BONES)}
    header = ["joint"]
    if record.truth:
        header += ["mean error, mm", "median", "95 % below", "PCK@150, %"]
    header += ["confidence", "acceleration, m/s²", "bone to its parent off, %"]
    means = mean_known(error.T)
    top = float(np.nanmax(means)) if np.isfinite(means).any() else 1.0
    rows = []
    for name, j in INDEX.items():
        cells = [f"<td class='text'>{charts.title(name)}</td>"]
        if record.truth:
            known = error[np.isfinite(error[:, j]), j]
            share = 0.0 if not len(known) or not top else 100 * float(known.mean()) / top
            cells.append(f"<td class='bar' style='--share:{share:.0f}%'>{_mean(known)}</td>")
            percentiles = np.percentile(known, [50, 95]).tolist() if len(known) else [math.nan] * 2
            cells += [f"<td>{number(value)}</td>" for value in percentiles]
            near = scored.get(name, {}).get("pck_150", math.nan)
            cells.append(f"<td>{number(near)}</td>")
        cells.append(f"<td>{_mean(view.confidence[:, j], 2)}</td>")
        cells.append(f"<td>{_mean(shaking[:, j])}</td>")
        bone = bones[:, by_child[j]] if j in by_child else np.empty(0)
        cells.append(f"<td>{_mean(bone)}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f"<th class='{'text' if not i else ''}'>{c}</th>" for i, c in enumerate(header))
    return f"<div class='card'><h2>By joint</h2><table><tr>{head}</tr>{''.join(rows)}</table></div>"


def _mean(values: npt.NDArray[np.float64], digits: int = 1) -> str:
    known = values[np.isfinite(values)]
    return number(float(known.mean()), digits) if len(known) else "–"


def _latency_html(record: Record) -> str:
    known = 1000 * record.latency[np.isfinite(record.latency)]
    if not len(known):
        return "<p>No image was processed.</p>"
    over = 100 * float((known > 1000 * period(record)).mean())
    return (
        f"<p class='soft'>PoseEstimator.step alone. {over:.1f} % took longer than "
        f"{1000 * period(record):.1f} ms, the time from image to image; the slowest percent is in "
        "the last bar.</p>"
    )
