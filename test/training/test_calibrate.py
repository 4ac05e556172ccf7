"""Calibration: confidences become chances, variances become those of the errors."""

from __future__ import annotations

import minisets
import numpy as np
import pytest
import torch

from stsp_model.network import STSPNet
from stsp_model.skeleton import JOINT_COUNT
from stsp_model.training import calibrate
from stsp_model.training.calibrate import calibrate_keypoints, calibrate_lifter, fit_logistic
from stsp_model.training.datasets import IMAGES, open_selection
from stsp_model.training.stage_lift import lift, lift_stage


def test_a_logistic_regression_finds_its_own_weights():
    rng = np.random.default_rng(0)
    inputs = rng.normal(0, 1.5, (20000, 2))
    chance = 1 / (1 + np.exp(-(0.5 + inputs @ (1.5, -2.0))))
    found = fit_logistic(inputs, rng.random(20000) < chance)
    np.testing.assert_allclose(found, (0.5, 1.5, -2.0), atol=0.12)


def test_a_regression_of_nothing_but_right_joints_is_finite():
    found = fit_logistic(np.random.default_rng(0).normal(size=(50, 1)), np.ones(50, bool))
    assert np.isfinite(found).all()
    assert found[0] > 2


def test_confidence_becomes_the_share_of_right_joints(lspet):
    network = STSPNet(minisets.TINY).eval()
    (selection,) = open_selection([], [lspet], IMAGES)
    calibrate_keypoints(network, selection)
    found = calibrate.detect(network, selection)
    # An untrained network is nearly always wrong, and now says so.
    assert found.confidence[found.visible].mean() < 0.15
    assert network.epe.calibration[1] >= 0


def test_the_lifter_s_variance_becomes_that_of_its_errors(cmu):
    network = STSPNet(minisets.TINY).eval()
    config = minisets.lift_config(steps_per_epoch=1)
    stage = lift_stage(network, config, [cmu])
    clips = [stage.batches.batch(0, 0, 1)]
    calibrate_lifter(network, clips)
    with torch.inference_mode():
        lifted = lift(network, clips[0])
        error = (lifted.corrected - clips[0].target)[..., 1:, :].square()
        claimed = lifted.corrected_log_variance[..., 1:, :].exp() * network.lifter.variance_scale
    seen = clips[0].valid
    assert float((error[seen] / claimed[seen]).mean()) == pytest.approx(1, rel=1e-3)
    assert lifted.confidence.shape[-1] == JOINT_COUNT
    assert network.lifter.calibration[1] >= 0 >= network.lifter.calibration[2]
    # Again gives the same: it does not build on what was there.
    before = network.lifter.variance_scale.clone()
    calibrate_lifter(network, clips)
    torch.testing.assert_close(network.lifter.variance_scale, before)
