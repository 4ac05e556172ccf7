"""Lag and bone lengths of motions whose answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stsp_model.evaluation.measures import (
    LAG_JOINTS,
    MAX_LAG,
    bone_length_deviation,
    bone_length_error,
    lag,
)
from stsp_model.skeleton import BONES, INDEX, JOINT_COUNT

ALL = np.ones((200, JOINT_COUNT), bool)


def movement(times, seed=0):
    """Joints (T, 17, 3) m at `times` (frames): sums of slow waves, of any sub-frame time."""
    rng = np.random.default_rng(seed)
    waves = rng.uniform(0.02, 0.2, (4, JOINT_COUNT, 3))  # radians a frame
    phases = rng.uniform(0, 2 * np.pi, waves.shape)
    sizes = rng.uniform(0.05, 0.2, waves.shape)
    return (sizes * np.sin(np.asarray(times)[:, None, None, None] * waves + phases)).sum(axis=1)


FRAMES = np.arange(200.0)


@given(st.integers(0, 50))
def test_the_truth_has_no_lag_at_all(seed):
    truth = movement(FRAMES, seed)
    assert lag(truth, truth, ALL) == 0


@given(st.integers(0, 50), st.floats(-6, 6))
def test_a_known_shift_is_found_between_frames_too(seed, shift):
    truth, late = movement(FRAMES, seed), movement(FRAMES - shift, seed)
    assert lag(late, truth, ALL) == pytest.approx(shift, abs=0.06)


def test_lag_ignores_offset_scale_and_masked_frames():
    truth, late = movement(FRAMES), movement(FRAMES - 2.5)
    mask = ALL.copy()
    mask[40:60] = False
    mask[:, LAG_JOINTS[0]] = False
    late = 0.7 * late + 0.3
    late[40:60] = 1e3
    late[:, LAG_JOINTS[0]] = 1e3
    assert lag(late, truth, mask) == pytest.approx(2.5, abs=0.1)


def test_only_wrists_and_ankles_tell():
    truth = movement(FRAMES)
    other = movement(FRAMES, seed=1)
    other[:, LAG_JOINTS] = movement(FRAMES - 3)[:, LAG_JOINTS]
    assert set(LAG_JOINTS) == {
        INDEX[name] for name in ("left_wrist", "right_wrist", "left_ankle", "right_ankle")
    }
    assert lag(other, truth, ALL) == pytest.approx(3, abs=0.06)


def test_lag_is_unknown_where_nothing_moves_or_nothing_fits():
    truth = movement(FRAMES)
    assert np.isnan(lag(truth, np.zeros_like(truth), ALL))
    assert np.isnan(lag(np.zeros_like(truth), truth, ALL))
    assert np.isnan(lag(movement(FRAMES - 2 * MAX_LAG), truth, ALL))
    assert np.isnan(lag(truth[:8], truth[:8], ALL[:8]))
    # Who trembles by millimetres, and who is later than can be told.
    assert np.isnan(lag(0.01 * truth, 0.01 * truth, ALL))
    slow = movement(FRAMES / 20)
    assert np.isnan(lag(movement((FRAMES - MAX_LAG - 3) / 20), slow, ALL))
    assert lag(movement((FRAMES - MAX_LAG + 3) / 20), slow, ALL) == pytest.approx(12, abs=0.1)


def test_lengthening_every_bone_by_a_tenth_is_an_error_of_a_tenth():
    truth = movement(FRAMES)
    lengths = np.stack([np.linalg.norm(truth[:, c] - truth[:, p], axis=-1) for p, c in BONES])
    assert bone_length_error(1.1 * truth, truth, ALL) == pytest.approx(100 * lengths.mean())
    assert bone_length_error(truth, truth, ALL) == 0


def test_bone_lengths_count_where_both_ends_are_known():
    truth, moved = movement(FRAMES), movement(FRAMES)
    moved[:, INDEX["left_wrist"]] = np.nan
    mask = ALL.copy()
    mask[:, INDEX["left_wrist"]] = False
    assert bone_length_error(moved, truth, mask) == 0
    assert np.isfinite(bone_length_deviation(moved, mask))
    assert np.isnan(bone_length_error(truth, truth, ~ALL))
    assert np.isnan(bone_length_deviation(truth, ~ALL))


def test_one_breathing_bone_is_its_deviation_shared_by_sixteen():
    joints = np.zeros((4, JOINT_COUNT, 3))
    joints[:, INDEX["left_wrist"], 0] = [0.10, 0.14, 0.10, 0.14]  # deviation 20 mm
    assert bone_length_deviation(joints, ALL[:4]) == pytest.approx(20 / 16)
    once = ALL[:4].copy()  # a bone that is known once has no deviation
    once[1:, INDEX["head_top"]] = False
    assert bone_length_deviation(joints, once) == pytest.approx(20 / 15)
