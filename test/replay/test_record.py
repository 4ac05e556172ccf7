"""A record comes back from its file as it was, and other files are refused."""

from __future__ import annotations

import json
import pickle
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records import a_record, a_track

from stsp_model.replay.record import Record, RecordError, Track, read_record, write_record


def assert_same(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, (Record, Track)):
        for field in fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name))
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


@pytest.mark.parametrize(
    "record",
    [
        a_record(),
        a_record(frames=0, K=None, trained=False, complete=False),
        a_record(
            tracks=(a_track("p1"), a_track("p2", ())),
            truth=(a_track("child_0", (0, 1, 2, 3), root=np.full((4, 3), np.nan, np.float32)),),
            outcome=np.array([0, 1, 2, 3], np.uint8),
            latency=np.array([0.1, np.nan, np.nan, np.nan]),
        ),
    ],
)
def test_what_is_written_is_read(tmp_path: Path, record: Record) -> None:
    write_record(tmp_path / "record.npz", record)
    assert_same(read_record(tmp_path / "record.npz"), record)
    assert [file.name for file in tmp_path.iterdir()] == ["record.npz"]


def written(path: Path, **changes: Any) -> Path:
    """A record's file with some of its arrays replaced, or left out where None."""
    write_record(path, a_record(tracks=(a_track(),)))
    with np.load(path) as archive:
        arrays = {**archive, **changes}
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"about": np.array("{}")}, "no record of a replay"),
        ({"about": np.array("[1]")}, "no record of a replay"),
        ({"about": None}, "no record of a replay"),
        ({"stamps": None}, "damaged.*stamps"),
        ({"stamps": np.array([4, 3, 2, 1])}, "stamps decrease"),
        ({"stamps": np.zeros(4)}, "stamps is .* of float64"),
        ({"outcome": np.full(4, 9, np.uint8)}, "outcome holds 9"),
        ({"K": np.eye(4)}, "K is"),
        ({"tracks.frames": np.array([0, 1, 4])}, "outside the 4 frames"),
        ({"tracks.frames": np.array([1, 1, 2])}, "of p1 do not increase"),
        ({"tracks.lengths": np.array([-3])}, "lengths holds -3"),
        ({"tracks.joints": np.zeros((3, 16, 3), np.float32)}, "tracks.joints is"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        read_record(written(tmp_path / "record.npz", **changes))


def test_facts_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "record.npz")
    with np.load(path) as archive:
        about = json.loads(str(archive["about"]))
    for name, value, message in (
        ("version", 2, "has version 2, this release reads 1"),
        ("trained", 1, "trained is 1"),
        ("image_size", [640], "image_size is"),
        ("ids", ["p1", "p2"], "tracks.lengths is"),
    ):
        with pytest.raises(RecordError, match=message):
            read_record(written(path, about=np.array(json.dumps(about | {name: value}))))


def test_other_files_are_refused_and_not_executed(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="does not exist"):
        read_record(tmp_path / "record.npz")

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "executed",)

    path = written(tmp_path / "record.npz")
    whole = path.read_bytes()
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, about=np.array([Trap()], dtype=object))
    for content in (b"", b"no zip", whole[: len(whole) // 2], pickle.dumps(Trap())):
        path.write_bytes(content)
        with pytest.raises(RecordError, match="no record of a replay, or a damaged one"):
            read_record(path)
    with pytest.raises(RecordError, match="without pickles"):
        read_record(pickled)
    assert not (tmp_path / "executed").exists()
