"""What page.js draws of a replay, as it stands in the report: numbers and pictures."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from stsp_model.drawing import SIDE_COLOURS, shrink_to_width
from stsp_model.lifter import MAX_GAP
from stsp_model.replay import charts
from stsp_model.replay.curves import Curves, elapsed, mean_known
from stsp_model.replay.match import Match
from stsp_model.replay.record import OUTCOMES, Record, Track
from stsp_model.skeleton import BONES, JOINTS, SIDES

PICTURE_BYTES = 4_500_000  # of all pictures together: a minute's report stays below 15 MB
_PICTURE_WIDTHS = (640, 480, 320, 240)  # px; the first at which all fit
_PICTURE_QUALITY = 60
_UNKNOWN = -(2**15)


def page_data(
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
        "stamps": _numbers(record.stamps, "i8"),
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


def pictures_of(
    record: Record, images: Mapping[int, bytes], wanted: Sequence[int]
) -> dict[int, str]:
    """Pictures as data URIs by frame, in order; the `wanted` ones are the last to be left out.

    Raises ValueError for an image that is none, or of no frame of the record.
    """
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
