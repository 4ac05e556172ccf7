"""Scores of made-up records are what they must be by construction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from records import a_record, a_track

from stsp_model.replay.record import OUTCOMES, Track
from stsp_model.replay.scores import scores
from stsp_model.skeleton import JOINT_COUNT

FRAMES = tuple(range(12))


def child(
    id: str, frames: tuple[int, ...] = FRAMES, column: float = 100.0, **changes: Any
) -> Track:
    """Somebody who stands still, 1.2 m tall, in a column of the image."""
    body = np.random.default_rng(5).uniform(-0.5, 0.5, (JOINT_COUNT, 3))
    body -= body[0]
    flat = np.stack([np.full(JOINT_COUNT, column), 100 + 10.0 * np.arange(JOINT_COUNT)], axis=-1)
    given = {
        "joints": body,
        "joints_2d": flat,
        "root": np.array([0.0, 0.0, 3.0]),
        "confidence": np.full(JOINT_COUNT, 0.8),
        "height": np.array(1.2),
    }
    rows = {
        name: np.repeat(np.asarray(changes.pop(name, value), np.float32)[None], len(frames), axis=0)
        for name, value in given.items()
    }
    return a_track(id, frames, **rows, **changes)


def moved(by: float) -> np.ndarray:
    """The child's joints, all but the pelvis `by` metres to the right."""
    joints = child("a").joints[0].astype(float)
    joints[1:, 0] += by
    return joints


def test_scores_against_the_truth() -> None:
    seen = FRAMES[:9]
    record = a_record(
        frames=12,
        settings={"subject_height": None},
        tracks=(
            child("p1", seen[:4], joints=moved(0.17), root=np.array([0.3, 0, 3.4]), height=1.25),
            child("p2", seen[4:], joints=moved(0.17), root=np.array([0.3, 0, 3.4]), height=1.25),
        ),
        truth=(child("a"),),
    )
    truth = scores(record)["truth"]
    assert (truth["people"], truth["frames"], truth["found"]) == (1, 12, 9)
    assert truth["coverage"] == pytest.approx(75)
    assert truth["id_switches"] == 1
    assert truth["root_error"] == pytest.approx(500, abs=1e-3)
    average = truth["3d"]["average"]
    assert average["mpjpe"] == pytest.approx(170 * 16 / 17, abs=1e-3)
    assert average["height_error"] == pytest.approx(50, abs=1e-3)
    # Only the pelvis is within 150 mm, in the frames with a pose.
    assert average["pck_150"] == pytest.approx(100 / 17 * 0.75)
    assert average["mpjve"] == pytest.approx(0, abs=1e-3)
    # Who is not found is wrong in the image, too.
    assert truth["2d"]["pck"] == pytest.approx(75)
    assert truth["height"] == "estimated"


def test_a_given_height_has_no_error() -> None:
    tracks, truth = (child("p1", height=1.3),), (child("a"),)
    given = a_record(frames=12, settings={"subject_height": 1.3}, tracks=tracks, truth=truth)
    score = scores(given)["truth"]
    assert score["height"] == "given"
    assert np.isnan(score["3d"]["average"]["height_error"])


def test_who_is_never_found_is_wrong_everywhere() -> None:
    record = a_record(frames=12, tracks=(child("p1", column=500),), truth=(child("a"),))
    truth = scores(record)["truth"]
    assert (truth["coverage"], truth["found"]) == (0, 0)
    average = truth["3d"]["average"]
    assert (average["pck_150"], average["auc"]) == (0, 0)
    assert np.isnan(average["mpjpe"])
    assert np.isnan(truth["root_error"])


def test_who_is_hidden_is_not_asked_for() -> None:
    hidden = child("a", confidence=np.zeros(JOINT_COUNT))
    record = a_record(frames=12, tracks=(child("p1"),), truth=(hidden,))
    truth = scores(record)["truth"]
    assert (truth["frames"], truth["3d"]) == (0, None)
    assert np.isnan([truth["coverage"], truth["root_error"], truth["2d"]["pck"]]).all()


def test_without_truth_there_is_what_can_be_known() -> None:
    outcome = np.zeros(12, np.uint8)
    outcome[[2, 9]] = OUTCOMES.index("superseded")
    # Missing at 2, which was not processed; at 5 and 6, which were.
    frames = (0, 1, 3, 4, 7, 8)
    found = scores(a_record(frames=12, outcome=outcome, tracks=(child("p1", frames),)))
    assert found["truth"] is None
    tracks = found["tracks"]
    assert tracks["count"] == 1
    assert tracks["seen"] == pytest.approx(100 * 6 / 10)
    assert tracks["confidence"] == pytest.approx(0.8)
    assert tracks["breaks"] == 1
    assert tracks["longest_break_s"] == pytest.approx(3 * 0.033333333)
    assert tracks["bone_length_deviation"] == pytest.approx(0, abs=1e-3)


def test_one_missed_image_is_a_break() -> None:
    record = a_record(frames=5, tracks=(child("p1", (0, 1, 3, 4)),))
    tracks = scores(record)["tracks"]
    assert tracks["breaks"] == 1
    assert tracks["longest_break_s"] == pytest.approx(2 * 0.033333333)


def test_where_nobody_was_seen_nothing_is_known() -> None:
    tracks = scores(a_record(frames=0))["tracks"]
    assert (tracks["count"], tracks["breaks"]) == (0, 0)
    assert np.isnan([tracks["seen"], tracks["confidence"], tracks["acceleration_std"]]).all()


def test_a_shaking_track_shows() -> None:
    shaking = child("p1")
    shaking.joints[:, 1:, 0] += 0.01 * np.where(np.arange(12) % 2, 1, -1)[:, None]
    tracks = scores(a_record(frames=12, tracks=(shaking,)))["tracks"]
    # Accelerations of 40 mm/frame^2 to and fro, of all joints but the pelvis.
    assert tracks["acceleration_std"] == pytest.approx(40 * (16 / 17) ** 0.5, rel=1e-3)
