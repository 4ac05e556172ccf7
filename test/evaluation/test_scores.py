"""3D scores of many takes: known offsets, weights, gaps, joints that are not found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stsp_model import metrics
from stsp_model.evaluation.report import text_3d
from stsp_model.evaluation.scores import MEASURES, Take, score
from stsp_model.skeleton import INDEX, JOINT_COUNT, JOINTS

ZERO_FOR_TRUTH = (
    "mpjpe",
    "mpjpe_14",
    "n_mpjpe",
    "pa_mpjpe",
    "mpjve",
    "acceleration_error",
    "acceleration_error_si",
    "bone_length_error",
    "lag",
    "lag_ms",
)


def poses(seed=0, frames=60):
    rng = np.random.default_rng(seed)
    waves, phases = rng.uniform(0.05, 0.2, (2, JOINT_COUNT, 3)), rng.uniform(0, 6, (17, 3))
    return 0.3 * np.sin(np.arange(frames)[:, None, None] * waves[0] + phases) + waves[1]


def take(prediction, target, action="walk", fps=30.0, **more):
    return Take(action, action, prediction, target, np.arange(len(target)) / fps, **more)


def offset(joint, metres):
    shift = np.zeros((JOINT_COUNT, 3))
    shift[INDEX[joint], 0] = metres
    return shift


@given(st.integers(0, 30))
def test_truth_against_itself_is_zero_millimetres_and_a_hundred_per_cent(seed):
    truth = poses(seed)
    truth[3, 5] = np.nan
    scored = score([take(truth, truth)])
    for key in ZERO_FOR_TRUTH:
        assert scored.average[key] == pytest.approx(0, abs=1e-9), key
    assert scored.average["mpjpe"] == scored.average["n_mpjpe"] == scored.average["lag"] == 0
    assert scored.average["pck_150"] == scored.average["auc"] == 100
    assert scored.average["acceleration_std"] == scored.average["true_acceleration_std"] > 0
    assert (scored.frames, scored.found, scored.unscored) == (60, 60, ())


def test_a_known_offset_is_the_offset():
    truth = poses()
    scored = score([take(truth + offset("left_wrist", 0.17), truth)])
    assert scored.average["mpjpe"] == pytest.approx(170 / 17)
    assert scored.per_joint["left_wrist"] == {"mpjpe": pytest.approx(170), "pck_150": 0}
    assert scored.per_joint["left_elbow"] == {"mpjpe": 0, "pck_150": 100}
    assert scored.average["pck_150"] == pytest.approx(100 * 16 / 17)
    assert scored.average["mpjve"] == pytest.approx(0, abs=1e-9)


def test_where_the_pelvis_is_said_to_be_does_not_matter():
    truth = poses()
    scored = score([take(truth + np.array([1, 2, 3]), truth - np.array([4, 5, 6]))])
    assert scored.average["mpjpe"] == pytest.approx(0, abs=1e-9)


def test_takes_weigh_by_their_frames_within_an_action_and_actions_alike():
    truth = poses(frames=40)

    def off(action, frames, metres):
        return take(truth[:frames] + offset("nose", 17 * metres), truth[:frames], action)

    scored = score([off("walk", 40, 0.01), off("walk", 10, 0.06), off("jump", 10, 0.03)])
    assert scored.per_action["walk"]["mpjpe"] == pytest.approx((40 * 10 + 10 * 60) / 50)
    assert scored.per_action["jump"]["mpjpe"] == pytest.approx(30)
    assert scored.average["mpjpe"] == pytest.approx((20 + 30) / 2)
    assert scored.overall["mpjpe"] == pytest.approx((40 * 10 + 10 * 60 + 10 * 30) / 60)


def test_one_frame_that_jerks_gives_its_accelerations_by_hand():
    truth = np.zeros((11, JOINT_COUNT, 3))
    jerk = truth.copy()
    jerk[5, INDEX["nose"], 0] = 0.017  # accelerations +17, -34, +17 mm/frame^2 of one joint
    scored = score([take(jerk, truth, fps=10.0)])
    assert scored.average["acceleration_error"] == pytest.approx((17 + 34 + 17) / (9 * 17))
    assert scored.average["acceleration_error_si"] == pytest.approx(
        scored.average["acceleration_error"] * 10**2 / 1000
    )
    assert scored.average["mpjve"] == pytest.approx(2 * 17 / (10 * 17))
    assert scored.fps == (pytest.approx(10), pytest.approx(10))


def test_nothing_is_measured_across_a_gap_in_time():
    truth = poses(frames=20)
    moved = truth.copy()
    moved[10:] += offset("nose", 0.5)
    stamps = np.arange(20) / 30
    stamps[10:] += 4.0
    scored = score([Take("a", "a", moved, truth, stamps)])
    assert scored.average["mpjve"] == pytest.approx(0, abs=1e-9)
    assert scored.average["acceleration_error"] == pytest.approx(0, abs=1e-9)
    assert scored.frames == 20
    assert scored.fps == (pytest.approx(30), pytest.approx(30))


def test_takes_weigh_by_what_is_measured_of_them():
    """Accelerations by three frames on end, deviations by their squares, joints where found."""
    still = np.zeros((11, JOINT_COUNT, 3))
    jerk = still.copy()
    jerk[5, INDEX["nose"], 0] = 0.017
    alone, both = (
        score([take(jerk, still), *more]).overall for more in ([], [take(still[:5], still[:5])])
    )
    assert both["acceleration_error"] == pytest.approx(alone["acceleration_error"] * 9 / 12)
    assert both["mpjve"] == pytest.approx(alone["mpjve"] * 10 / 14)
    share = np.sqrt(9 / 12)
    assert alone["acceleration_std"] == pytest.approx(metrics.acceleration_std(jerk))
    assert both["acceleration_std"] == pytest.approx(alone["acceleration_std"] * share)
    assert both["acceleration_std_si"] == pytest.approx(alone["acceleration_std_si"] * share)
    half = still + offset("nose", 0.017)
    half[5:] = np.nan
    whole = still + offset("nose", 0.051)
    scored = score([take(half, still), take(whole, still)])
    assert scored.overall["mpjpe"] == pytest.approx((5 * 1 + 11 * 3) / 16)


def test_what_was_not_found_is_wrong_in_pck_and_absent_from_mpjpe():
    truth = poses(frames=10)
    found = truth + offset("nose", 0.017)
    found[5:] = np.nan
    scored = score([take(found, truth)])
    assert (scored.frames, scored.found) == (10, 5)
    assert scored.average["mpjpe"] == pytest.approx(1)
    assert scored.average["pck_150"] == pytest.approx(50)
    assert scored.per_joint["nose"]["pck_150"] == pytest.approx(50)
    both = score([take(found, truth), take(np.full_like(truth, np.nan), truth)])
    assert both.average["pck_150"] == pytest.approx(25)


def test_a_joint_that_a_method_does_not_have_is_left_out_and_named():
    truth = poses()
    found = truth.copy()
    found[:, [INDEX["nose"], INDEX["head_top"]]] = np.nan
    scored = score([take(found, truth)])
    assert scored.unscored == ("nose", "head_top")
    assert scored.average["pck_150"] == 100
    assert set(scored.per_joint) == set(JOINTS) - {"nose", "head_top"}


def test_frames_without_a_known_pelvis_do_not_count():
    truth = poses(frames=10)
    truth[4, 0] = np.nan
    assert score([take(poses(frames=10), truth)]).frames == 9


def test_the_heights_error_is_that_of_estimates():
    truth = poses(frames=4)
    estimated = take(truth, truth, height=np.array([1.2, 1.3, np.nan, 1.3]), true_height=1.25)
    assert score([estimated]).average["height_error"] == pytest.approx(50)
    assert np.isnan(score([take(truth, truth, true_height=1.25)]).average["height_error"])


def test_a_scaled_pose_has_no_n_mpjpe_and_a_turned_one_no_pa_mpjpe():
    truth = poses()
    scored = score([take(1.3 * truth, truth)])
    assert scored.average["n_mpjpe"] == pytest.approx(0, abs=1e-9)
    assert scored.average["mpjpe"] > 50
    turned = truth @ np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0.0]])
    assert score([take(turned, truth)]).average["pa_mpjpe"] == pytest.approx(0, abs=1e-9)


def test_a_single_frame_has_scores_but_none_of_time():
    truth = poses(frames=1)
    scored = score([take(truth, truth)])
    assert scored.average["mpjpe"] == 0
    assert np.isnan(scored.average["mpjve"])
    assert np.isnan(scored.average["lag"])


def test_nothing_to_score_is_said():
    truth = poses(frames=4)
    nothing = np.full_like(truth, np.nan)
    with pytest.raises(ValueError, match="no frame with a known pose"):
        score([take(truth, nothing)])
    with pytest.raises(ValueError, match=r"walk: prediction has shape \(3, 17, 3\)"):
        take(truth[:3], truth)


def test_who_finds_nobody_is_wrong_everywhere():
    truth = poses(frames=4)
    scored = score([take(np.full_like(truth, np.nan), truth)])
    assert (scored.frames, scored.found) == (4, 0)
    assert scored.average["pck_150"] == scored.average["auc"] == 0
    assert scored.per_joint["nose"]["pck_150"] == 0
    assert np.isnan(scored.average["mpjpe"])
    assert "PCK@150" in text_3d(scored)


def test_every_measure_has_a_key_of_its_own():
    keys = [measure.key for measure in MEASURES]
    assert len(set(keys)) == len(keys)
