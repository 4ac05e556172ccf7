"""Metrics agree with numbers worked out by hand and with SciPy, and have their invariances."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.transform import Rotation

from stsp_model import metrics
from stsp_model.skeleton import INDEX, JOINTS_14

seeds = st.integers(0, 2**32 - 1)
POSE_METRICS = (metrics.mpjpe, metrics.n_mpjpe, metrics.pa_mpjpe, metrics.mpjve)


def poses(seed, frames=5):
    joints = np.random.default_rng(seed).normal(scale=0.4, size=(frames, 17, 3))
    return joints - joints[:, :1]


@given(seeds)
def test_truth_against_itself_is_perfect(seed):
    truth = poses(seed)
    for metric in (*POSE_METRICS, metrics.acceleration_error):
        assert metric(truth, truth) == pytest.approx(0, abs=1e-9)
    assert metrics.pck_3d(truth, truth) == 100
    assert metrics.auc_3d(truth, truth) == 100
    assert metrics.pck_2d(truth[..., :2], truth[..., :2]) == 100


def test_a_known_offset_is_the_offset():
    truth = poses(1)
    moved = truth + np.array([0.03, 0, 0.04])
    assert metrics.mpjpe(moved, truth) == pytest.approx(50)
    assert metrics.pa_mpjpe(moved, truth) == pytest.approx(0, abs=1e-9)
    assert metrics.mpjve(moved, truth) == pytest.approx(0, abs=1e-9)
    assert metrics.pck_3d(moved, truth) == 100
    # Just below 50 mm: right for the thresholds 50, 55, ... 150, 21 of 31.
    assert metrics.auc_3d(truth + np.array([0.03, 0, 0.0399]), truth) == pytest.approx(
        100 * 21 / 31
    )


def test_fourteen_joints_leave_out_the_rest():
    truth = poses(1)
    moved = truth.copy()
    moved[:, INDEX["nose"]] += [0.17, 0, 0]
    assert metrics.mpjpe(moved, truth) == pytest.approx(10)
    assert metrics.mpjpe(moved, truth, joints=JOINTS_14) == 0
    assert metrics.pck_3d(moved, truth) == pytest.approx(100 * 16 / 17)


def test_masked_joints_do_not_count_whatever_they_hold():
    truth = poses(2)
    wrong = truth + np.array([0.01, 0, 0])
    mask = np.ones(truth.shape[:2], bool)
    mask[1, 3] = mask[2, 0] = False
    wrong[1, 3], truth[2, 0] = np.nan, np.inf
    assert metrics.mpjpe(wrong, truth, mask) == pytest.approx(10)
    assert metrics.pa_mpjpe(wrong, truth, mask) == pytest.approx(0, abs=1e-9)
    assert math.isfinite(metrics.n_mpjpe(wrong, truth, mask))
    assert metrics.mpjve(wrong, truth, mask) == pytest.approx(0, abs=1e-9)
    assert metrics.acceleration_error(wrong, truth, mask) == pytest.approx(0, abs=1e-9)


@given(seeds, st.floats(0.2, 5))
def test_n_mpjpe_is_blind_to_scale(seed, scale):
    predicted, truth = poses(seed), poses(seed ^ 1)
    expected = metrics.n_mpjpe(predicted, truth)
    assert metrics.n_mpjpe(scale * predicted, truth) == pytest.approx(expected)
    assert metrics.n_mpjpe(scale * truth, truth) == pytest.approx(0, abs=1e-9)


def test_n_mpjpe_by_hand():
    truth, predicted = np.zeros((1, 2, 3)), np.zeros((1, 2, 3))
    truth[0, :, 0] = (0, 2)
    predicted[0, :, 0] = (1, 1)  # overlap 2 over size 2: scale 1
    assert metrics.n_mpjpe(predicted, truth) == pytest.approx(1000)
    predicted[0, :, 0] = (0, 1)
    assert metrics.n_mpjpe(predicted, truth) == pytest.approx(0)


def by_scipy(predicted, truth):
    """PA-MPJPE of one frame; reflections are undone in the way of Umeyama (1991)."""
    a, b = predicted - predicted.mean(0), truth - truth.mean(0)
    rotation, trace = orthogonal_procrustes(a, b)
    if np.linalg.det(rotation) > 0:
        scale = trace / (a**2).sum()
        return np.linalg.norm(scale * a @ rotation - b, axis=1).mean() * 1000
    rotation, _ = Rotation.align_vectors(b, a)
    turned = rotation.apply(a)
    scale = (turned * b).sum() / (a**2).sum()
    return np.linalg.norm(scale * turned - b, axis=1).mean() * 1000


@given(seeds)
def test_pa_mpjpe_equals_scipy(seed):
    truth = poses(seed)
    predicted = truth + np.random.default_rng(seed).normal(scale=0.1, size=truth.shape)
    expected = np.mean([by_scipy(p, t) for p, t in zip(predicted, truth, strict=True)])
    assert metrics.pa_mpjpe(predicted, truth) == pytest.approx(expected)


@given(seeds)
def test_pa_mpjpe_does_not_mirror(seed):
    truth = poses(seed)
    mirrored = truth * [-1, 1, 1]
    expected = np.mean([by_scipy(p, t) for p, t in zip(mirrored, truth, strict=True)])
    assert expected > 10
    assert metrics.pa_mpjpe(mirrored, truth) == pytest.approx(expected, rel=1e-6)


@given(seeds, st.floats(0.2, 5))
@settings(max_examples=50)
def test_pa_mpjpe_is_blind_to_similarity(seed, scale):
    predicted, truth = poses(seed), poses(seed ^ 1)
    rng = np.random.default_rng(seed)
    moved = scale * predicted @ Rotation.random(random_state=seed % 1000).as_matrix()
    moved = moved + rng.normal(size=3)
    assert metrics.pa_mpjpe(moved, truth) == pytest.approx(metrics.pa_mpjpe(predicted, truth))


def test_degenerate_poses_have_finite_scores():
    truth = poses(3)
    for metric in (metrics.n_mpjpe, metrics.pa_mpjpe):
        assert metric(np.zeros_like(truth), truth) > 0


def test_velocity_and_acceleration_by_hand():
    truth = np.zeros((4, 2, 3))
    predicted = truth.copy()
    predicted[:, 0, 1] = [0, 0.001, 0.003, 0.003]  # mm: velocities 1 2 0, accelerations 1 -2
    assert metrics.mpjve(predicted, truth) == pytest.approx(3 / 6)
    assert metrics.acceleration_error(predicted, truth) == pytest.approx(3 / 4)
    # 0.75 mm/frame^2 at 20 frames a second is 0.75e-3 * 400 m/s^2.
    assert metrics.acceleration_error(predicted, truth, fps=20) == pytest.approx(0.3)
    # Deviations of 1 and -2 from -0.5: 1.5 and -1.5; the other joint has none.
    assert metrics.acceleration_std(predicted) == pytest.approx(math.sqrt(2 * 2.25 / 4))
    assert metrics.acceleration_std(predicted, fps=20) == pytest.approx(0.4 * math.sqrt(1.125))


@given(seeds)
def test_acceleration_std_is_blind_to_constant_acceleration(seed):
    t = np.arange(6)[:, None, None] * 0.1
    g = np.random.default_rng(seed).normal(size=(17, 3))
    shaky = poses(seed, 6)
    expected = metrics.acceleration_std(shaky)
    assert metrics.acceleration_std(shaky + g * t**2) == pytest.approx(expected)
    assert metrics.acceleration_std(g * t**2) == pytest.approx(0, abs=1e-9)


def test_a_hole_in_the_mask_takes_the_differences_across_it():
    truth = np.zeros((5, 1, 3))
    predicted = truth.copy()
    predicted[2] = 1.0
    mask = np.ones((5, 1), bool)
    mask[2] = False
    assert metrics.mpjve(predicted, truth, mask) == 0
    assert math.isnan(metrics.acceleration_error(predicted, truth, mask))
    assert math.isnan(metrics.acceleration_std(predicted, mask))


def test_pck_2d_by_hand():
    truth = np.zeros((1, 17, 2))
    truth[0, INDEX["right_shoulder"]] = (0, 0)
    truth[0, INDEX["left_hip"]] = (60, 80)  # a torso of 100 px, so a limit of 20
    predicted = truth.copy()
    predicted[0, INDEX["nose"]] += (0, 19.9)
    predicted[0, INDEX["left_knee"]] += (20.1, 0)
    assert metrics.pck_2d(predicted, truth) == pytest.approx(100 * 16 / 17)
    assert metrics.pck_2d(predicted, truth, joints=[INDEX["left_knee"]]) == 0
    assert math.isnan(metrics.pck_2d(truth * 0, truth * 0))  # a torso of no length


def test_a_joint_at_the_threshold_is_right():
    truth = np.zeros((1, 17, 3))
    truth[0, INDEX["left_hip"], 0] = 100.0  # the torso
    moved = truth + np.array([25.0, 0, 0])
    assert metrics.pck_3d(moved, truth, threshold=25) == 100
    assert metrics.pck_2d(moved[..., :2], truth[..., :2], threshold=0.25) == 100


def test_pck_2d_falls_back_to_the_other_diagonal_and_else_skips():
    truth = np.zeros((2, 17, 2))
    truth[:, INDEX["left_hip"]] = (1000, 0)
    truth[:, INDEX["right_hip"]] = (100, 0)
    predicted = truth + np.array([30.0, 0])
    mask = np.ones((2, 17), bool)
    assert metrics.pck_2d(predicted, truth, mask) == 100
    mask[:, INDEX["left_hip"]] = False
    assert metrics.pck_2d(predicted, truth, mask) == 0  # 30 px of a torso of 100
    mask[:, INDEX["right_hip"]] = False
    assert math.isnan(metrics.pck_2d(predicted, truth, mask))
    mask[0] = True
    assert metrics.pck_2d(predicted, truth, mask) == 100


def test_tensors_score_as_arrays_do():
    predicted, truth = poses(1), poses(2)
    mask = np.random.default_rng(0).random((5, 17)) < 0.8
    tensors = tuple(torch.from_numpy(values) for values in (predicted, truth, mask))
    for metric in (*POSE_METRICS, metrics.pck_3d, metrics.auc_3d, metrics.acceleration_error):
        assert metric(*tensors) == metric(predicted, truth, mask)


def test_tensors_of_mixed_precision_are_scored():
    predicted = torch.from_numpy(poses(1)).bfloat16().requires_grad_()
    truth = torch.from_numpy(poses(2))
    expected = metrics.mpjpe(predicted.detach().double(), truth)
    assert metrics.mpjpe(predicted, truth) == expected


def test_nothing_to_score_is_nan():
    truth = poses(1)
    nothing = np.zeros((5, 17), bool)
    for metric in (*POSE_METRICS, metrics.pck_3d, metrics.auc_3d, metrics.acceleration_error):
        assert math.isnan(metric(truth, truth, nothing))
    assert math.isnan(metrics.mpjve(truth[:1], truth[:1]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.mpjpe(poses(1), poses(1)[:4]), "prediction has shape"),
        (lambda: metrics.mpjpe(poses(1)[0], poses(1)[0]), r"target has shape \(17, 3\)"),
        (lambda: metrics.mpjpe(poses(1), poses(1), np.ones(17)), "mask has shape"),
        (lambda: metrics.mpjpe(poses(1) * np.nan, poses(1)), "prediction is not finite at frame 0"),
        (lambda: metrics.pck_2d(poses(1)[:, :14, :2], poses(1)[:, :14, :2]), "14 joints"),
        (lambda: metrics.acceleration_error(poses(1), poses(1), fps=0), "fps is 0"),
    ],
)
def test_wrong_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
