"""ChildPlay: video clips of children and adults at play, with a CSV of head boxes for each.

There are no body joints: the set serves to look at results, and to choose children by `is_child`.
Layout: annotations/SPLIT/CLIP.csv beside clips/CLIP.mp4.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from stsp_model.data.errors import DataError
from stsp_model.data.samples import FloatArray
from stsp_model.data.splits import check_split
from stsp_model.sources import Frame, open_source

_LOGGER = logging.getLogger(__name__)
COLUMNS = (
    "clip",
    "frame",
    "person_id",
    "bbox_x",
    "bbox_y",
    "bbox_width",
    "bbox_height",
    "gaze_class",
    "gaze_x",
    "gaze_y",
    "is_child",
)
SPLITS = ("train", "val", "test")  # the set's own; their folders are named so
_TRUE, _FALSE = ("1", "1.0", "true"), ("0", "0.0", "false")


@dataclass(frozen=True, eq=False)
class Head:
    """An annotated head.

    Args:
        person: tells people of one clip apart.
        box: (4,) x0 y0 x1 y1 px around the head.
        is_child: whether it is a child's.
        gaze_class: such as "inside_visible".
        gaze: (2,) px that the person looks at; NaN unless `gaze_class` is "inside_visible".
    """

    person: str
    box: FloatArray
    is_child: bool
    gaze_class: str
    gaze: FloatArray


@dataclass(frozen=True)
class Clip:
    """A video clip and its annotations; both are read when asked for."""

    name: str
    annotations: Path
    video: Path

    @cached_property
    def heads(self) -> dict[int, tuple[Head, ...]]:
        """Heads by frame number, which counts from 0. Raises DataError for another file."""
        try:
            heads = self._read()
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{self.annotations} cannot be read as a CSV file: {error}") from None
        return {number: tuple(found) for number, found in heads.items()}

    def _read(self) -> dict[int, list[Head]]:
        heads: dict[int, list[Head]] = {}
        with self.annotations.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            lacking = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
            if lacking:
                raise DataError(
                    f"{self.annotations} lacks the columns {', '.join(lacking)}; expected "
                    f"{' '.join(COLUMNS)}"
                )
            for row in rows:
                try:
                    number, head = _head(row)
                except (TypeError, ValueError, OverflowError) as error:
                    raise DataError(
                        f"{self.annotations}, line {rows.line_num}: {error}; is it cut off?"
                    ) from None
                heads.setdefault(number, []).append(head)
        return heads

    def frames(self) -> Iterator[tuple[Frame, tuple[Head, ...]]]:
        """The clip's frames one by one, each with its heads."""
        for number, frame in enumerate(open_source(self.video).frames()):
            yield frame, self.heads.get(number, ())


def _head(row: dict[str, str]) -> tuple[int, Head]:
    x, y, width, height = (float(row[f"bbox_{name}"]) for name in ("x", "y", "width", "height"))
    flag = str(row["is_child"]).strip().lower()  # None in a line that is cut off
    if flag not in _TRUE + _FALSE:
        raise ValueError(f"is_child is {row['is_child']!r}, expected 0 or 1")
    seen = row["gaze_class"] == "inside_visible"
    gaze = np.array([float(row["gaze_x"]), float(row["gaze_y"])]) if seen else np.full(2, np.nan)
    head = Head(
        person=row["person_id"],
        box=np.array([x, y, x + width, y + height]),
        is_child=flag in _TRUE,
        gaze_class=row["gaze_class"],
        gaze=gaze,
    )
    return int(float(row["frame"])) - 1, head


class ChildPlay(Dataset[Clip]):
    """The clips of the set whose video is there.

    Its videos are fetched from YouTube one by one and some are gone, so clips without a video are
    left out with a warning.

    Args:
        path: the folder with annotations/ and clips/.
        split: "train", "val" or "test" of the set; None takes all.

    Raises:
        DataError: for another folder, or if no clip has its video.
    """

    def __init__(self, path: str | Path, split: str | None = None) -> None:
        path = Path(path)
        check_split(split, SPLITS)
        splits = SPLITS if split is None else (split,)
        files = [f for name in splits for f in sorted((path / "annotations" / name).glob("*.csv"))]
        if not files:
            raise DataError(
                f"{path} holds no annotations/{{{','.join(splits)}}}/*.csv, expected ChildPlay's "
                "folder"
            )
        clips = [Clip(f.stem, f, path / "clips" / f"{f.stem}.mp4") for f in files]
        self.clips = [clip for clip in clips if clip.video.exists()]
        if not self.clips:
            raise DataError(
                f"{path / 'clips'} holds none of the {len(clips)} clips; cut them from the videos "
                "with the set's extract-clips-from-videos.py"
            )
        if len(self.clips) < len(clips):
            absent = len(clips) - len(self.clips)
            _LOGGER.warning("%d of %d clips have no video and are left out", absent, len(clips))

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Clip:
        return self.clips[index]
