"""What the report draws over time, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from figure import PERIOD, figure
from hypothesis import given
from hypothesis import strategies as st
from records import a_record, a_track

from stsp_model.replay.curves import (
    acceleration,
    bone_deviation,
    curves,
    gaps,
    mean_known,
    peaks,
    period,
)
from stsp_model.replay.match import match
from stsp_model.skeleton import BONES, INDEX, JOINT_COUNT

FRAMES = tuple(range(6))


def moved(x: list[float], frames: tuple[int, ...] = FRAMES) -> np.ndarray:
    """Joints (M, 17, 3) that are all at x metres, but for the pelvis."""
    joints = np.zeros((len(frames), JOINT_COUNT, 3), np.float32)
    joints[:, 1:, 0] = np.array(x)[:, None]
    return joints


def test_error_is_taken_to_the_true_person_that_the_pose_belongs_to() -> None:
    record = figure(20, people=2, error=0.0, bias=0.05)
    for view in (
        curves(record, match(record), "p1", [0]),
        curves(record, match(record), "p2", [1]),
    ):
        assert np.allclose(view.error[:, 1:], 0.05, atol=1e-6)
        assert np.allclose(view.error[:, 0], 0)


def test_of_several_poses_at_a_time_the_surest_is_shown() -> None:
    low, high = (np.full((6, JOINT_COUNT), c, np.float32) for c in (0.3, 0.6))
    record = a_record(
        8,
        tracks=(
            a_track("p1", FRAMES, confidence=low),
            a_track("p2", (2, 3, 4, 5, 6, 7), confidence=high),
        ),
    )
    view = curves(record, [], "all", [0, 1])
    assert view.frames.tolist() == list(range(8))
    assert view.track.tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    assert np.isnan(view.error).all()


def test_acceleration_of_a_fall_is_gravity_also_where_a_frame_is_missing() -> None:
    frames = (0, 1, 2, 4, 5, 6)
    seconds = np.array(frames) * PERIOD / 1e9
    joints = moved((9.81 * seconds**2 / 2).tolist(), frames)
    record = replace(
        a_record(7, tracks=(a_track("p1", frames, joints=joints),)),
        stamps=np.arange(7, dtype=np.int64) * PERIOD,
    )
    view = curves(record, [], "p1", [0])
    result = acceleration(view, view.joints)
    assert np.isnan(result[[0, -1]]).all()
    assert np.allclose(result[1:-1, 1:], 9.81, atol=0.01)


def test_nothing_is_accelerated_from_one_track_to_the_next_or_across_a_pause() -> None:
    record = a_record(
        6,
        tracks=(
            a_track("p1", (0, 1, 2), joints=moved([0, 0, 0], (0, 1, 2))),
            a_track("p2", (3, 4, 5), joints=moved([9, 9, 9], (3, 4, 5))),
        ),
    )
    view = curves(record, [], "all", [0, 1])
    assert np.isnan(acceleration(view, view.joints)[2:4]).all()
    paused = record.stamps + np.where(np.arange(6) > 1, 600_000_000, 0)
    view = curves(replace(record, stamps=paused), [], "all", [0, 1])
    assert np.isnan(acceleration(view, view.joints)[:3]).all()


def test_bones_are_measured_against_their_own_median() -> None:
    joints = np.zeros((5, JOINT_COUNT, 3), np.float32)
    joints[:, INDEX["right_hip"], 0] = [0.1, 0.1, 0.1, 0.1, 0.12]
    record = a_record(5, tracks=(a_track("p1", (0, 1, 2, 3, 4), joints=joints),))
    deviation = bone_deviation(curves(record, [], "p1", [0]))
    hip = BONES.index((0, INDEX["right_hip"]))
    assert np.allclose(deviation[:, hip], [0, 0, 0, 0, 0.2], atol=1e-6)
    head = BONES.index((INDEX["nose"], INDEX["head_top"]))  # a bone without length says nothing
    assert np.isnan(deviation[:, head]).all()


def test_a_gap_is_where_images_were_processed_and_nobody_seen() -> None:
    outcome = np.zeros(12, np.uint8)
    outcome[[2, 3, 9]] = 1  # dropped: no gap of their own, but a part of one around them
    record = a_record(12, outcome=outcome, tracks=(a_track("p1", (0, 1, 4, 7, 11)),))
    view = curves(record, [], "p1", [0])
    assert [(g.first, g.last) for g in gaps(record, view)] == [(8, 10), (5, 6)]
    assert np.isclose(gaps(record, view)[0].seconds, 3 * PERIOD / 1e9)


def test_with_truth_a_gap_is_only_where_somebody_is_there() -> None:
    record = a_record(10, tracks=(a_track("p1", (0, 1)),), truth=(a_track("a", (0, 1, 2, 3)),))
    (gap,) = gaps(record, curves(record, [], "p1", [0]))
    assert (gap.first, gap.last) == (2, 3)


def test_a_record_without_frames_or_tracks_has_no_curves() -> None:
    for record in (a_record(0), a_record(1), a_record(3)):
        view = curves(record, [], "nobody", [])
        assert len(view.frames) == 0
        assert acceleration(view, view.joints).shape == (0, JOINT_COUNT)
        assert bone_deviation(view).shape == (0, len(BONES))
    assert period(a_record(1)) == 1 / 30
    assert len(gaps(a_record(3), curves(a_record(3), [], "nobody", []))) == 1


@given(
    st.lists(st.floats(0, 100) | st.just(float("nan")), min_size=1, max_size=60),
    st.integers(0, 8),
)
def test_peaks_are_the_highest_and_apart(values: list[float], count: int) -> None:
    array, time = np.array(values), np.arange(len(values)) * 0.1
    chosen = peaks(array, time, count, apart=0.45)
    assert len(chosen) <= count
    assert all(abs(time[i] - time[j]) >= 0.45 for i in chosen for j in chosen if i != j)
    if count and np.isfinite(array).any():
        assert array[chosen[0]] == np.nanmax(array)
    assert sorted((array[i] for i in chosen), reverse=True) == [array[i] for i in chosen]


def test_the_mean_leaves_out_what_is_unknown() -> None:
    nan = float("nan")
    assert np.array_equal(
        mean_known(np.array([[1.0, 3.0], [nan, 5.0], [nan, nan]])), [2, 5, nan], equal_nan=True
    )
