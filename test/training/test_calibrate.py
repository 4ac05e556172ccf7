"""Calibration: confidences become chances, variances become those of the errors."""

from __future__ import annotations

from dataclasses import replace

import minisets
import numpy as np
import pytest
import torch

from stsp_model.checkpoint import load_model, save
from stsp_model.data.errors import DataError
from stsp_model.evaluation.predictions import Prediction
from stsp_model.evaluation.video import Following, Footage, Person
from stsp_model.network import STSPNet
from stsp_model.skeleton import FLIP
from stsp_model.training import calibrate
from stsp_model.training.calibrate import (
    calibrate_chain,
    calibrate_keypoints,
    calibrate_lifter,
    fit_logistic,
)
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
    (batch,) = clips
    with torch.inference_mode():
        lifted, free = lift(network, batch, batch.height), lift(network, batch)
    error = lifted.joints - batch.target * batch.height[:, None, None, None]
    within = (error.square() <= lifted.variance)[batch.valid].float().mean(dim=0)
    within = (within + within[list(FLIP)]) / 2  # left and right are calibrated together
    np.testing.assert_allclose(within[1:], 0.683, atol=0.02)
    wrong = (free.height - batch.height.unsqueeze(1)).square()
    claimed = (wrong <= free.height_variance)[batch.valid].float().mean()
    assert float(claimed) == pytest.approx(0.683, abs=0.02)
    assert network.lifter.calibration[1] >= 0 >= network.lifter.calibration[2]
    # Again gives the same: it does not build on what was there.
    before = network.lifter.variance_scale.clone()
    calibrate_lifter(network, clips)
    torch.testing.assert_close(network.lifter.variance_scale, before)


FRAMES = 4000
# How many times larger than claimed the errors of each joint and axis are, left and right alike.
TIMES = np.random.default_rng(3).uniform(0.3, 3, (17, 3))
TIMES = (TIMES + TIMES[list(FLIP)]) / 2
HEIGHT_TIMES = 2.5


def filmed():
    """A video of one person, without pictures."""
    rng = np.random.default_rng(0)
    person = Person(
        name="p",
        action="jump",
        stamps=np.arange(FRAMES) / 30,
        joints=rng.normal(0, 0.4, (FRAMES, 17, 3)),
        joints_2d=rng.uniform(0, 100, (FRAMES, 17, 2)),
        visible=np.ones((FRAMES, 17), bool),
        height=1.3,
    )
    return Footage("film", lambda: iter(()), (person,))


def found_by_a_made_up_network(_network, footage, height_given):
    """Poses whose errors are `TIMES` as large as their variances say."""
    rng = np.random.default_rng(1)
    (person,) = footage.people
    sigma = rng.uniform(0.01, 0.1, (FRAMES, 17, 1)) * np.ones(3)
    error = rng.normal(0, sigma) * TIMES
    error[:, 0] = 0
    joints = person.joints + error
    joints[::7] = np.nan  # not found
    height_sigma = rng.uniform(0.05, 0.2, FRAMES)
    if height_given:
        given = Prediction(joints, None, None, np.full((FRAMES, 17), 0.6), sigma**2)
        return {"p": given}, Following()
    height = person.height + HEIGHT_TIMES * rng.normal(0, height_sigma)
    return {"p": Prediction(joints, height=height, height_variance=height_sigma**2)}, Following()


def test_what_the_whole_chain_says_of_video_is_set_right(monkeypatch):
    monkeypatch.setattr(calibrate, "predict", found_by_a_made_up_network)
    network = STSPNet(minisets.TINY).eval()
    epe = network.epe.calibration.clone()
    calibrate_chain(network, [filmed()])
    lifter = network.lifter
    np.testing.assert_allclose(lifter.variance_scale[1:].sqrt(), TIMES[1:], rtol=0.06)
    assert float(lifter.height_variance_scale.sqrt()) == pytest.approx(HEIGHT_TIMES, rel=0.06)
    offset, _, of_deviation = lifter.calibration.tolist()
    assert of_deviation < -1
    assert offset > 0  # at 60 mm of deviation most are within 150 mm
    assert torch.equal(network.epe.calibration, epe)


def test_a_network_that_finds_nobody_stays_as_it_was(monkeypatch):
    nobody = Prediction(
        np.full((FRAMES, 17, 3), np.nan),
        height=np.full(FRAMES, np.nan),
        confidence=np.full((FRAMES, 17), np.nan),
        variance=np.full((FRAMES, 17, 3), np.nan),
        height_variance=np.full(FRAMES, np.nan),
    )
    monkeypatch.setattr(calibrate, "predict", lambda *_: ({"p": nobody}, Following()))
    network = STSPNet(minisets.TINY).eval()
    network.lifter.calibration.copy_(torch.tensor([0.1, 0.2, -0.3]))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.warns(UserWarning, match="found nobody in the video"):
        calibrate_chain(network, [filmed()])
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_images_that_tell_nothing_leave_the_calibration_as_it_was(lspet):
    (selection,) = open_selection([], [lspet], IMAGES)
    hidden = [replace(selection[i], visible=np.zeros(17, bool)) for i in range(len(selection))]
    network = STSPNet(minisets.TINY).eval()
    network.epe.calibration.copy_(torch.tensor([0.1, 0.8]))
    with pytest.warns(UserWarning, match="not calibrated anew"):
        calibrate_keypoints(network, hidden)
    np.testing.assert_allclose(network.epe.calibration, [0.1, 0.8])


@pytest.mark.parametrize("half", [False, True])
def test_a_file_of_weights_is_calibrated_anew(tmp_path, lspet, films, monkeypatch, capsys, half):
    monkeypatch.setattr(calibrate, "predict", found_by_a_made_up_network)
    monkeypatch.setattr(calibrate, "footage_of", lambda specs: [filmed()] * len(specs))
    file = tmp_path / "weights.safetensors"
    save(STSPNet("edge"), file, "of another time", half=half)
    size = file.stat().st_size
    calibrate.main([str(file), lspet, films[1]])
    assert f"calibrated {file}" in capsys.readouterr().out
    assert file.stat().st_size == pytest.approx(size, abs=100)
    model = load_model(file)
    assert model.note == "of another time"
    assert model.epe.calibration.tolist() != [0, 1]
    np.testing.assert_allclose(model.lifter.variance_scale[1:].sqrt(), TIMES[1:], rtol=0.06)
    with pytest.raises(DataError, match="'bvh', expected one of lsp, lspet, coco, synth"):
        calibrate.main([str(file), lspet, "bvh:here"])
