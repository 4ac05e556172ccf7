"""Which track of a replay belongs to which true person, frame by frame."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stsp_model.evaluation.video import nearest_pairs
from stsp_model.replay.record import ROWS, Record, Track


@dataclass(frozen=True, eq=False)
class Match:
    """What was seen of one true person, in each of the M frames of `truth`.

    track (M,) int64: index into the record's tracks, -1 where nobody's pose belongs to the person.
    row (M,) int64: of that track, -1 likewise.
    """

    truth: Track
    track: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]

    def seen(self, record: Record) -> Track:
        """The rows of the tracks beside those of the truth: M frames, NaN where there is none."""
        found = self.track >= 0
        rows: dict[str, npt.NDArray[np.float32]] = {}
        for name in ROWS:
            values = np.full_like(getattr(self.truth, name), np.nan)
            for i in np.unique(self.track[found]):
                here = self.track == i
                values[here] = getattr(record.tracks[i], name)[self.row[here]]
            rows[name] = values
        return Track(self.truth.id, self.truth.frames, **rows)


def match(record: Record) -> list[Match]:
    """For each true person, by the nearest joints in the image; see `nearest_pairs`."""
    seen: dict[int, list[tuple[int, int]]] = defaultdict(list)  # by frame: track and row
    there: dict[int, list[tuple[int, int]]] = defaultdict(list)  # by frame: person and row
    for people, rows in ((record.tracks, seen), (record.truth, there)):
        for i, track in enumerate(people):
            for row, frame in enumerate(track.frames.tolist()):
                rows[frame].append((i, row))
    matches = [
        Match(person, *(np.full(len(person.frames), -1, np.int64) for _ in range(2)))
        for person in record.truth
    ]
    for frame in sorted(seen.keys() & there.keys()):
        found = [record.tracks[i].joints_2d[row] for i, row in seen[frame]]
        places = [record.truth[i].joints_2d[row] for i, row in there[frame]]
        for a, b in nearest_pairs(found, places):
            person, at = there[frame][b]
            matches[person].track[at], matches[person].row[at] = seen[frame][a]
    return matches
