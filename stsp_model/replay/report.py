"""report.html: one file that shows a replay, opens offline and fetches nothing."""

from __future__ import annotations

import base64
import html
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from stsp_model.drawing import SIDE_COLOURS, shrink_to_width
from stsp_model.evaluation.report import number
from stsp_model.evaluation.scores import MEASURES
from stsp_model.lifter import MAX_GAP
from stsp_model.replay import charts
from stsp_model.replay.curves import (
    Curves,
    acceleration,
    bone_deviation,
    curves,
    elapsed,
    gaps,
    mean_known,
    peaks,
    period,
)
from stsp_model.replay.match import Match, match
from stsp_model.replay.record import OUTCOMES, Record, Track
from stsp_model.replay.scores import scores
from stsp_model.skeleton import BONES, INDEX, JOINTS, SIDES

FloatArray = npt.NDArray[np.float64]

PICTURE_BYTES = 4_500_000  # of all pictures together: a minute's report stays below 15 MB
_PICTURE_WIDTHS = (640, 480, 320, 240)  # px; the first at which all fit
_PICTURE_QUALITY = 60
_MOST_VIEWS = 30  # tracks to choose from
_MOMENTS = 6  # of each kind
_UNKNOWN = -(2**15)

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
            are made smaller, and then fewer, until all take less than PICTURE_BYTES.
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
    data = _data(record, matches, views, _pictures(record, images or {}, wanted))
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
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


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


def _data(
    record: Record, matches: Sequence[Match], views: Sequence[Curves], pictures: dict[int, str]
) -> dict[str, Any]:
    """What page.js draws."""
    slots = _slots(record.tracks)
    spacing = 1.1
    far = [np.nanmax(np.linalg.norm(t.joints, axis=-1), axis=1) for t in record.tracks]
    reach = 2.6 * _percentile(far, 95, 0.8) + spacing * max(slots, default=0)
    roots = np.concatenate([np.empty((0, 3)), *(track.root for track in record.tracks)])
    roots = roots[np.isfinite(roots).all(axis=1)]
    centre = np.median(roots, axis=0) if len(roots) else np.zeros(3)
    away = np.linalg.norm(roots - centre, axis=1) if len(roots) else np.zeros(1)
    lowest = [np.nanmax(t.joints[..., 1], axis=1) for t in record.tracks]
    width, height = record.image_size if all(record.image_size) else (640, 480)
    latency = charts.latency(record)
    return {
        "bones": [(a, b, SIDES[b] if SIDES[b] != "middle" else SIDES[a]) for a, b in BONES],
        "sides": SIDES,
        "joints": JOINTS,
        "colours": SIDE_COLOURS,
        "width": width,
        "height": height,
        "first": str(int(record.stamps[0])) if len(record.stamps) else "0",
        "time": _numbers(elapsed(record), "f8"),
        "outcome": _numbers(record.outcome, "u1"),
        "outcomes": [name if not i else f"dropped: {name}" for i, name in enumerate(OUTCOMES)],
        "tracks": [
            _person(track, slots[i], _matched(i, track, matches))
            for i, track in enumerate(record.tracks)
        ],
        "truth": [_person(m.truth, _slot_of(m, slots), None) for m in matches],
        "views": [_view(record, view) for view in views],
        "latency": None if latency is None else json.loads(latency.to_json()),
        "pictures": pictures,
        "hold": MAX_GAP,
        "spacing": spacing,
        "middle": spacing * max(slots, default=0) / 2,
        "reach": reach,
        "centre": [float(value) for value in centre],
        "span": float(2 * np.percentile(away, 98) + 1.8),
        "floor": _percentile(lowest, 90, 0.6),
        "rooted": bool(len(roots)),
        "labels": len(set(slots)) > 1,
    }


def _percentile(parts: Sequence[npt.NDArray[np.floating]], share: float, default: float) -> float:
    """Of all parts' numbers together; `default` where there are none."""
    values = np.concatenate([np.empty(0), *parts])
    values = values[np.isfinite(values)]
    return float(np.percentile(values, share)) if len(values) else default


def _numbers(values: npt.NDArray[Any], kind: str) -> dict[str, Any]:
    """For unpack() of page.js: little-endian bytes as base64."""
    array = np.ascontiguousarray(values, dtype=f"<{kind}")
    return {"dtype": kind, "bdata": base64.b64encode(array.tobytes()).decode("ascii")}


def _packed(values: npt.NDArray[np.floating]) -> dict[str, Any]:
    """In 16 bits each: steps so fine that the greatest value fits."""
    known = np.isfinite(values)
    greatest = float(np.abs(values[known]).max()) if known.any() else 0.0
    step = max(greatest, 1e-6) / 32_000
    steps = np.where(known, np.rint(np.where(known, values, 0) / step), _UNKNOWN)
    return {**_numbers(steps, "i2"), "step": step}


def _person(track: Track, slot: int, matched: npt.NDArray[np.integer] | None) -> dict[str, Any]:
    # Joints far out of the image only need to be told from those within.
    flat = np.where(np.isfinite(track.joints_2d), np.clip(track.joints_2d, -8000, 8000), np.nan)
    return {
        "id": track.id,
        "slot": slot,
        "frames": _numbers(track.frames, "i4"),
        "joints": _packed(track.joints),
        "root": _packed(track.root),
        "flat": _packed(flat),
        "confidence": _packed(track.confidence),
        "match": None if matched is None else _numbers(matched, "i4"),
    }


def _matched(i: int, track: Track, matches: Sequence[Match]) -> npt.NDArray[np.int64]:
    """Which true person each row of a track belongs to, -1 for none."""
    people = np.full(len(track.frames), -1, np.int64)
    for person, found in enumerate(matches):
        people[found.row[found.track == i]] = person
    return people


def _slots(tracks: Sequence[Track]) -> list[int]:
    """A spot for each track, so that no two are on one spot at a time; as few as possible."""
    slots = [0] * len(tracks)
    free_from: list[int] = []  # by slot: the first frame at which it is free
    for i in sorted(range(len(tracks)), key=lambda i: tracks[i].frames[:1].tolist()):
        if not len(tracks[i].frames):
            continue
        first, last = int(tracks[i].frames[0]), int(tracks[i].frames[-1])
        slot = next((s for s, free in enumerate(free_from) if free <= first), len(free_from))
        free_from[slot : slot + 1] = [last + 1]
        slots[i] = slot
    return slots


def _slot_of(found: Match, slots: Sequence[int]) -> int:
    """Where most of the poses stand that belong to a true person."""
    there = [slots[i] for i in found.track.tolist() if i >= 0]
    return max(set(there), key=there.count) if there else 0


def _view(record: Record, view: Curves) -> dict[str, Any]:
    error, confidence = (np.full(len(record.stamps), np.nan) for _ in range(2))
    error[view.frames] = mean_known(view.error)
    confidence[view.frames] = mean_known(view.confidence)
    return {
        "label": view.label,
        "tracks": view.tracks,
        "figure": json.loads(charts.over_time(record, view).to_json()),
        "error": _packed(error),
        "confidence": _packed(confidence),
    }


def _pictures(record: Record, images: Mapping[int, bytes], wanted: Sequence[int]) -> dict[int, str]:
    """As data URIs by frame, in order; the `wanted` ones are the last to be left out."""
    strange = [frame for frame in images if not 0 <= frame < len(record.stamps)]
    if strange:
        raise ValueError(
            f"images has frame {strange[0]}, but the record has {len(record.stamps)} frames"
        )
    frames = sorted(images)
    if not frames:
        return {}
    sample = frames[:: max(len(frames) // 12, 1)]
    for width in _PICTURE_WIDTHS:
        size = float(np.mean([len(_jpeg(frame, images[frame], width)) for frame in sample]))
        if size * len(frames) <= PICTURE_BYTES:
            break
    count = min(len(frames), int(PICTURE_BYTES / size))
    spread = np.unique(np.linspace(0, len(frames) - 1, max(count - len(wanted), 1)).astype(int))
    kept = {frames[i] for i in spread} | (set(wanted) & set(frames))
    if count == len(frames):
        kept = set(frames)
    return {
        frame: "data:image/jpeg;base64,"
        + base64.b64encode(_jpeg(frame, images[frame], width)).decode("ascii")
        for frame in sorted(kept)
    }


def _jpeg(frame: int, picture: bytes, width: int) -> bytes:
    image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"images[{frame}] is no picture that can be decoded, expected a JPEG")
    small, _ = shrink_to_width(np.asarray(image, np.uint8), width)
    options = [cv2.IMWRITE_JPEG_QUALITY, _PICTURE_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    return cv2.imencode(".jpg", small, options)[1].tobytes()


# ---- what is read, not drawn ---------------------------------------------------------------------


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
            f"<li title='{what}'><a href='#frame={frame}'>{when}</a> {what}</li>"
            for frame, when, what in rows
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
