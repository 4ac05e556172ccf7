"""Poses over time as the tracks of a record: of people seen, and of people who were there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from stsp_model.pose import Pose
from stsp_model.replay.record import Track

_SAME = 1_000_000  # ns; stamps no further apart are of one image


def track(id: str, frames: Sequence[int], poses: Sequence[Pose], *, true: bool = False) -> Track:
    """A person's poses in the frames of these increasing indices.

    The confidence is that of the joints in space, or, if the poses are the `true` ones, that of the
    joints in the image, which tells whether they can be seen.
    """

    def rows(name: str) -> npt.NDArray[np.float32]:
        return np.array([getattr(pose, name) for pose in poses], np.float32)

    return Track(
        id=id,
        frames=np.array(frames, np.int64),
        joints=rows("joints"),
        root=rows("root"),
        joints_2d=rows("joints_2d"),
        confidence=rows("confidence_2d" if true else "confidence"),
        variance=rows("variance"),
        box=rows("box"),
        height=rows("height"),
    )


def true_tracks(
    people: Mapping[str, Sequence[tuple[int, Pose]]], stamps: npt.NDArray[np.int64]
) -> tuple[tuple[Track, ...], int]:
    """The truth, given as stamps (ns) and poses by id, in the frames of these stamps (N,).

    Also how many of its poses have no frame within a millisecond. `stamps` do not decrease.
    """
    tracks, left_out = [], 0
    for id, rows in sorted(people.items()):
        placed: dict[int, Pose] = {}
        for stamp, pose in rows:
            frame = _nearest(stamps, stamp)
            if frame is None:
                left_out += 1
            else:
                placed.setdefault(frame, pose)
        if placed:
            frames = sorted(placed)
            tracks.append(track(id, frames, [placed[frame] for frame in frames], true=True))
    return tuple(tracks), left_out


def _nearest(stamps: npt.NDArray[np.int64], stamp: int) -> int | None:
    after = int(np.searchsorted(stamps, stamp))
    near = [i for i in (after, after - 1) if 0 <= i < len(stamps)]
    best = min(near, key=lambda i: abs(int(stamps[i]) - stamp), default=None)
    return best if best is not None and abs(int(stamps[best]) - stamp) <= _SAME else None
