"""Tracks go to the person they lie nearest to, frame by frame."""

from __future__ import annotations

import numpy as np
from records import a_record, a_track

from stsp_model.replay.match import match
from stsp_model.skeleton import JOINT_COUNT

FRAMES = (0, 1, 2, 3)


def standing(x: float, frames: tuple[int, ...] = FRAMES) -> np.ndarray:
    """Joints (M, 17, 2) on a line of 160 px downwards, about a pixel column."""
    one = np.stack([np.full(JOINT_COUNT, x), 100 + 10.0 * np.arange(JOINT_COUNT)], axis=-1)
    return np.repeat(one[None], len(frames), axis=0).astype(np.float32)


def test_two_people_who_swap_ids_are_told_apart() -> None:
    left, right = standing(100), standing(400)
    swapped = np.array([False, False, True, True])[:, None, None]
    record = a_record(
        tracks=(
            a_track("p1", FRAMES, joints_2d=np.where(swapped, right, left) + 3),
            a_track("p2", FRAMES, joints_2d=np.where(swapped, left, right) - 3),
        ),
        truth=(a_track("a", FRAMES, joints_2d=left), a_track("b", FRAMES, joints_2d=right)),
    )
    a, b = match(record)
    assert a.track.tolist() == [0, 0, 1, 1]
    assert b.track.tolist() == [1, 1, 0, 0]
    assert a.row.tolist() == b.row.tolist() == [0, 1, 2, 3]
    assert np.array_equal(a.seen(record).joints[2], record.tracks[1].joints[2])


def test_where_nobody_is_near_or_no_frame_is_common_nothing_is_matched() -> None:
    record = a_record(
        tracks=(
            a_track("p1", (0, 1), joints_2d=standing(100, (0, 1))),
            a_track("p2", (2,), joints_2d=standing(100 + 81, (2,))),  # half of 160 px is the limit
        ),
        truth=(a_track("a", (1, 2, 3), joints_2d=standing(100, (1, 2, 3))),),
    )
    (a,) = match(record)
    assert a.track.tolist() == [0, -1, -1]
    assert a.row.tolist() == [1, -1, -1]
    seen = a.seen(record)
    assert seen.frames.tolist() == [1, 2, 3]
    assert np.isnan(seen.joints[1:]).all()
    assert np.isnan(seen.height[1:]).all()


def test_without_truth_there_is_nothing_to_match() -> None:
    assert match(a_record(tracks=(a_track(),))) == []
