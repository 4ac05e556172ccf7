"""What one replay of one bag gave, and the file that keeps it: record.npz."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stsp_model.archive import load_arrays, save_arrays
from stsp_model.outcomes import BAD_IMAGE, FAILED, LATE, PROCESSED, SUPERSEDED
from stsp_model.skeleton import JOINT_COUNT

FORMAT = "stsp-replay"
VERSION = 1
OUTCOMES = (PROCESSED, SUPERSEDED, LATE, BAD_IMAGE, FAILED)

# Of a track, per frame: the shape of a row.
ROWS: Mapping[str, tuple[int, ...]] = {
    "joints": (JOINT_COUNT, 3),
    "root": (3,),
    "joints_2d": (JOINT_COUNT, 2),
    "confidence": (JOINT_COUNT,),
    "variance": (JOINT_COUNT, 3),
    "box": (4,),
    "height": (),
}


class RecordError(ValueError):
    """A file that holds no record of a replay, or a damaged one."""


@dataclass(frozen=True, eq=False)
class Track:
    """One person in M of a record's N frames. Unknown is NaN.

    id: as in the messages; not an identity.
    frames (M,) int64: indices of the frames, increasing.
    joints (M, 17, 3): m from the pelvis, camera axes; variance (M, 17, 3): m^2.
    root (M, 3): the pelvis in the camera frame, m.
    joints_2d (M, 17, 2): px of the image. box (M, 4): x0 y0 x1 y1 px.
    confidence (M, 17): 0..1; of the truth 0 where a joint is hidden.
    height (M,): standing, m.

    All but `frames` are float32.
    """

    id: str
    frames: npt.NDArray[np.int64]
    joints: npt.NDArray[np.float32]
    root: npt.NDArray[np.float32]
    joints_2d: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    variance: npt.NDArray[np.float32]
    box: npt.NDArray[np.float32]
    height: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Record:
    """What a replay made of a bag's N images, by their stamps.

    bag: its name. image_topic, frame_id: of its images.
    model: preset or file of the weights; weights_sha256: of their values; trained: whether they
        come from training, without which all of this means nothing.
    image_size: width and height of the first image, px; zeros if none could be decoded.
    K (3, 3): of the camera, for that size; None if unknown.
    settings: what the replay was told, as for JSON.
    complete: False if it was stopped; then the frames are those up to there.
    stamps (N,) int64: ns, not decreasing.
    outcome (N,) uint8: index into OUTCOMES.
    latency (N,) float64: s of PoseEstimator.step; NaN where the image was not processed.
    tracks: who was seen. truth: who was there; empty if unknown.
    """

    bag: str
    image_topic: str
    frame_id: str
    model: str
    weights_sha256: str
    trained: bool
    image_size: tuple[int, int]
    K: npt.NDArray[np.float64] | None
    settings: dict[str, Any]
    complete: bool
    stamps: npt.NDArray[np.int64]
    outcome: npt.NDArray[np.uint8]
    latency: npt.NDArray[np.float64]
    tracks: tuple[Track, ...]
    truth: tuple[Track, ...]


_FACTS = (
    *("bag", "image_topic", "frame_id", "model", "weights_sha256", "trained"),
    *("image_size", "settings", "complete"),
)
_KINDS: Mapping[str, type] = {
    **dict.fromkeys(("bag", "image_topic", "frame_id", "model", "weights_sha256"), str),
    **dict.fromkeys(("trained", "complete"), bool),
    "image_size": list,
    "settings": dict,
    "ids": list,
    "truth_ids": list,
}


def write_record(path: str | Path, record: Record) -> None:
    """Write a record; the file appears only once complete."""
    about = {
        "format": FORMAT,
        "version": VERSION,
        **{name: getattr(record, name) for name in _FACTS},
        "ids": [track.id for track in record.tracks],
        "truth_ids": [track.id for track in record.truth],
    }
    arrays: dict[str, npt.NDArray[Any]] = {
        "about": np.array(json.dumps(about)),
        "stamps": np.asarray(record.stamps, np.int64),
        "outcome": np.asarray(record.outcome, np.uint8),
        "latency": np.asarray(record.latency, np.float64),
        **_stacked("tracks", record.tracks),
        **_stacked("truth", record.truth),
    }
    if record.K is not None:
        arrays["K"] = np.asarray(record.K, np.float64)
    save_arrays(path, arrays)


def _stacked(prefix: str, tracks: Sequence[Track]) -> dict[str, npt.NDArray[Any]]:
    """All tracks' rows one below the other, and how many each has."""
    none = np.empty(0, np.int64)
    arrays: dict[str, npt.NDArray[Any]] = {
        f"{prefix}.lengths": np.array([len(track.frames) for track in tracks], np.int64),
        f"{prefix}.frames": np.concatenate([none, *(track.frames for track in tracks)]),
    }
    for name, row in ROWS.items():
        rows = [np.asarray(getattr(track, name), np.float32) for track in tracks]
        arrays[f"{prefix}.{name}"] = np.concatenate([np.empty((0, *row), np.float32), *rows])
    return arrays


def read_record(path: str | Path) -> Record:
    """Read a record. Nothing in the file is executed.

    Raises:
        RecordError: if there is no such file, or it is foreign, damaged or of another version.
    """
    path = Path(path)
    if not path.is_file():
        raise RecordError(f"record {path} does not exist; `stsp replay` writes it")
    try:
        arrays = load_arrays(path)
        about = json.loads(str(arrays["about"]))
        if about["format"] != FORMAT:
            raise KeyError("format")
        version = about["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(
            f"{path} is no record of a replay, or a damaged one ({error}); run `stsp replay` again"
        ) from None
    if version != VERSION:
        raise RecordError(
            f"{path} has version {version}, this release reads {VERSION}; run `stsp replay` again"
        )
    try:
        return _record(about, arrays)
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path} is damaged: {error}; run `stsp replay` again") from None


def _record(about: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Record:
    for name, kind in _KINDS.items():
        if type(about[name]) is not kind:
            raise ValueError(f"{name} is {about[name]!r}")
    size = about["image_size"]
    if len(size) != 2 or not all(type(side) is int for side in size):
        raise ValueError(f"image_size is {size!r}")
    stamps = arrays["stamps"]
    _check("stamps", stamps, (len(stamps),), "i")
    _check("outcome", arrays["outcome"], (len(stamps),), "u")
    _check("latency", arrays["latency"], (len(stamps),), "f")
    if (np.diff(stamps) < 0).any():
        raise ValueError("stamps decrease")
    if (arrays["outcome"] >= len(OUTCOMES)).any():
        raise ValueError(f"outcome holds {arrays['outcome'].max()}")
    K = arrays.get("K")
    if K is not None:
        _check("K", K, (3, 3), "f")
    facts = {name: about[name] for name in _FACTS} | {"image_size": (size[0], size[1])}
    return Record(
        **facts,
        K=K,
        stamps=stamps.astype(np.int64),
        outcome=arrays["outcome"].astype(np.uint8),
        latency=arrays["latency"].astype(np.float64),
        tracks=_tracks(about["ids"], arrays, "tracks", len(stamps)),
        truth=_tracks(about["truth_ids"], arrays, "truth", len(stamps)),
    )


def _tracks(
    ids: Sequence[Any], arrays: Mapping[str, npt.NDArray[Any]], prefix: str, frames: int
) -> tuple[Track, ...]:
    lengths, index = arrays[f"{prefix}.lengths"], arrays[f"{prefix}.frames"]
    _check(f"{prefix}.lengths", lengths, (len(ids),), "i")
    if (lengths < 0).any():
        raise ValueError(f"{prefix}.lengths holds {lengths.min()}")
    _check(f"{prefix}.frames", index, (int(lengths.sum()),), "i")
    if ((index < 0) | (index >= frames)).any():
        raise ValueError(f"{prefix}.frames lies outside the {frames} frames")
    for name, row in ROWS.items():
        _check(f"{prefix}.{name}", arrays[f"{prefix}.{name}"], (len(index), *row), "f")
    tracks = []
    ends = np.cumsum(lengths).tolist()
    for id, end, length in zip(ids, ends, lengths.tolist(), strict=True):
        part = slice(end - length, end)
        if (np.diff(index[part]) <= 0).any():
            raise ValueError(f"{prefix}.frames of {id} do not increase")
        rows = {name: arrays[f"{prefix}.{name}"][part].astype(np.float32) for name in ROWS}
        tracks.append(Track(str(id), index[part].astype(np.int64), **rows))
    return tuple(tracks)


def _check(name: str, array: npt.NDArray[Any], shape: tuple[int, ...], kind: str) -> None:
    if array.shape != shape or array.dtype.kind != kind:
        raise ValueError(f"{name} is {array.shape} of {array.dtype}, expected {shape}")
