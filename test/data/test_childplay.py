"""ChildPlay: heads by frame beside the video, children told from adults."""

from __future__ import annotations

import csv
import logging

import cv2
import numpy as np
import pytest

from stsp_model.data.childplay import COLUMNS, ChildPlay
from stsp_model.data.errors import DataError

NAME = "1Ab4vLMMAbY_2354-2356"
ROWS = [
    # frame, person, x, y, width, height, gaze class, gaze, child
    (1, 0, 10, 5, 8, 9, "inside_visible", 30, 20, 1),
    (1, 1, 30, 5, 8, 9, "outside_frame", -1, -1, 0),
    (3, 0, 12, 5, 8, 9, "gaze_shift", -1, -1, 1),
]


def write_csv(root, name=NAME, split="test", columns=COLUMNS, rows=ROWS):
    path = root / "annotations" / split / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows((name, *row) for row in rows)
    return path


def write_video(root, name=NAME, frames=3):
    (root / "clips").mkdir(exist_ok=True)
    path = str(root / "clips" / f"{name}.mp4")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"mp4v"), 25, (64, 48))
    for i in range(frames):
        writer.write(np.full((48, 64, 3), 40 * i, np.uint8))
    writer.release()


@pytest.fixture
def root(tmp_path):
    write_csv(tmp_path)
    write_video(tmp_path)
    return tmp_path


def test_heads_come_with_their_frames(root):
    data = ChildPlay(root)
    assert len(data) == 1
    clip = data[0]
    assert clip.name == NAME
    seen = list(clip.frames())
    assert [len(heads) for _, heads in seen] == [2, 0, 1]  # frames count from 1 in the file
    assert [frame.image.shape for frame, _ in seen] == [(48, 64, 3)] * 3
    child, adult = seen[0][1]
    assert (child.is_child, adult.is_child) == (True, False)
    assert child.box.tolist() == [10, 5, 18, 14]
    assert child.gaze.tolist() == [30, 20]
    assert np.isnan(adult.gaze).all()
    assert (child.person, adult.gaze_class) == ("0", "outside_frame")


def test_the_sets_own_splits(root):
    assert len(ChildPlay(root, "test")) == 1
    with pytest.raises(DataError, match=r"holds no annotations/\{train\}"):
        ChildPlay(root, "train")
    with pytest.raises(DataError, match="split is 'report', expected one of train, val, test"):
        ChildPlay(root, "report")


def test_clips_whose_video_is_gone_are_left_out_with_a_warning(root, caplog):
    write_csv(root, "other_1-2", "train")
    with caplog.at_level(logging.WARNING):
        assert len(ChildPlay(root)) == 1
    assert "1 of 2 clips have no video" in caplog.text


def test_without_any_video_it_is_told(tmp_path):
    with pytest.raises(DataError, match="expected ChildPlay's folder"):
        ChildPlay(tmp_path)
    write_csv(tmp_path)
    with pytest.raises(DataError, match=r"holds none of the 1 clips; .*extract-clips-from-videos"):
        ChildPlay(tmp_path)


def test_other_columns_are_told(root):
    write_csv(root, columns=[name.replace("is_child", "child") for name in COLUMNS])
    with pytest.raises(DataError, match="lacks the columns is_child; expected clip frame"):
        _ = ChildPlay(root)[0].heads


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ((1, 0, 10), r"line 2: .*is it cut off"),
        ((1, 0, "x", 5, 8, 9, "inside_visible", 30, 20, 1), "could not convert"),
        ((1, 0, 10, 5, 8, 9, "inside_visible", 30, 20, 7), "is_child is '7', expected 0 or 1"),
        ((1, 0, 10, 5, 8, 9, "inside_visible", 30, 20), "is_child is None, .*is it cut off"),
        (("inf", 0, 10, 5, 8, 9, "inside_visible", 30, 20, 1), "line 2: cannot convert"),
        (
            (1, "x" * 200_000, 10, 5, 8, 9, "", 30, 20, 1),
            "cannot be read as a CSV file: field larger",
        ),
    ],
)
def test_a_damaged_line_is_told(root, row, told):
    write_csv(root, rows=[row])
    with pytest.raises(DataError, match=told):
        _ = ChildPlay(root)[0].heads


def test_annotations_that_are_no_text_are_told(root):
    clip = ChildPlay(root)[0]
    clip.annotations.write_bytes(b"\x1f\x8b\x08\xff" * 50)
    with pytest.raises(DataError, match="cannot be read as a CSV file: 'utf-8'"):
        _ = clip.heads
    other = ChildPlay(root)[0]
    other.annotations.unlink()
    with pytest.raises(DataError, match=r"cannot be read as a CSV file: .*No such file"):
        _ = other.heads
