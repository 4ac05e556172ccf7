"""Poses become tracks; the truth finds the images it belongs to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stsp_model.pose import Pose, terminated
from stsp_model.replay.tracks import track, true_tracks
from stsp_model.skeleton import JOINT_COUNT

MS = 1_000_000  # ns


def a_pose(height: float) -> Pose:
    return replace(
        terminated("p1"),
        joints=np.full((JOINT_COUNT, 3), height),
        confidence=np.full(JOINT_COUNT, 0.9),
        confidence_2d=np.zeros(JOINT_COUNT),
        height=height,
    )


def test_a_track_holds_its_poses() -> None:
    found = track("p1", [2, 5], [a_pose(1.0), a_pose(1.5)])
    assert found.frames.tolist() == [2, 5]
    assert found.height.tolist() == [1.0, 1.5]
    assert found.joints.shape == (2, JOINT_COUNT, 3)
    assert (found.joints[1] == 1.5).all()
    assert np.isnan(found.root).all()
    assert found.confidence == pytest.approx(np.full((2, JOINT_COUNT), 0.9))
    # Of the truth, whether a joint can be seen.
    assert (track("a", [2], [a_pose(1.0)], true=True).confidence == 0).all()


def test_true_poses_go_to_the_images_of_their_stamps() -> None:
    stamps = np.array([0, 33, 66, 100]) * MS
    people = {
        "b": [(66 * MS + 900_000, a_pose(1.2)), (33 * MS - 900_000, a_pose(1.1))],
        "a": [(100 * MS, a_pose(1.0)), (102 * MS, a_pose(9.0)), (-2 * MS, a_pose(9.0))],
        "c": [(50 * MS, a_pose(9.0))],
    }
    tracks, left_out = true_tracks(people, stamps)
    assert [one.id for one in tracks] == ["a", "b"]
    assert [one.frames.tolist() for one in tracks] == [[3], [1, 2]]
    assert tracks[1].height == pytest.approx([1.1, 1.2])
    assert left_out == 3


def test_without_images_all_is_left_out() -> None:
    assert true_tracks({"a": [(0, a_pose(1.0))]}, np.empty(0, np.int64)) == ((), 1)
