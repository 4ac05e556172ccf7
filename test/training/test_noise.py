"""The noise model: applying it and finding it again."""

from __future__ import annotations

from dataclasses import replace

import minisets
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from stsp_model.evaluation import pck
from stsp_model.network import STSPNet
from stsp_model.skeleton import FLIP, INDEX
from stsp_model.training import noise, noise_fit
from stsp_model.training.config_3d import Noise
from stsp_model.training.config_file import build, load_config
from stsp_model.training.datasets import IMAGES, open_selection

MODEL = load_config("edge", "lift").noise
CLEAN = replace(
    MODEL, deviation=(0.0,), spread=0.0, outlier_rate=(0.0,), miss_rate=(0.0,), swap_rate=0.0,
    given_share=0.0,
)  # fmt: skip


def clips(count=60, frames=60, seed=0, fps=30.0):
    """Poses at random places (B, T, 17, 2), stamps, half sides and draws."""
    rng = np.random.default_rng(seed)
    joints = np.repeat(rng.uniform(100, 300, (count, 1, 17, 2)), frames, axis=1).astype("f4")
    stamps = np.tile(np.arange(frames) / fps, (count, 1))
    half = np.full((count, frames), 100.0, "f4")
    draws = noise.draw([np.random.default_rng([seed, i]) for i in range(count)], frames)
    return joints, stamps, half, draws


def test_without_noise_the_joints_are_exact():
    joints, stamps, half, draws = clips(3, 5)
    found, mass, covariance = noise.distort(CLEAN, draws, joints, stamps, half)
    np.testing.assert_array_equal(found, joints)
    assert (mass > 0).all()
    assert (np.linalg.eigvalsh(covariance) > 0).all()


@given(st.floats(0.001, 0.5))
def test_quantiles_are_those_of_the_normal_distribution(rate):
    assert noise.quantile(rate) == pytest.approx(norm.ppf(rate), rel=1e-5)


def test_noise_lasts_as_long_as_it_says_at_any_frame_rate():
    for fps in (10.0, 60.0):
        white = np.random.default_rng(0).standard_normal((400, 60, 4)).astype("f4")
        stamps = np.tile(np.arange(60) / fps, (400, 1))
        lasting = noise.lasting(white, stamps, 0.3)
        assert lasting.std() == pytest.approx(1, abs=0.05)
        frames = round(0.3 * fps)
        alike = (lasting[:, frames:] * lasting[:, :-frames]).mean()
        assert alike == pytest.approx(np.exp(-1), abs=0.06)


@pytest.mark.parametrize("rate", [0.02, 0.1])
def test_misses_and_swaps_happen_at_their_rates(rate):
    joints, stamps, half, draws = clips(150)
    found, mass, _ = noise.distort(replace(CLEAN, miss_rate=(rate,)), draws, joints, stamps, half)
    missed = np.isnan(found).any(axis=-1)
    assert missed.mean() == pytest.approx(rate, rel=0.25)
    assert ((mass == 0) == missed).all()
    found, _, _ = noise.distort(replace(CLEAN, swap_rate=rate), draws, joints, stamps, half)
    wrist = INDEX["left_wrist"]
    swapped = (found[:, :, wrist] == joints[:, :, FLIP[wrist]]).all(axis=-1)
    assert swapped.mean() == pytest.approx(rate, rel=0.5)
    assert (found[:, :, INDEX["thorax"]] == joints[:, :, INDEX["thorax"]]).all()


def test_joints_from_elsewhere_come_without_mass_and_covariance():
    joints, stamps, half, draws = clips(5, 5)
    found, mass, covariance = noise.distort(
        replace(MODEL, given_share=1.0), draws, joints, stamps, half
    )
    assert (mass[np.isfinite(found).all(axis=-1)] == 1).all()
    np.testing.assert_allclose(covariance[..., 0, 0], 9.0, rtol=1e-5)  # 0.03 half sides of 100 px


def test_joints_from_elsewhere_are_where_their_mass_of_1_says():
    joints, stamps, half, draws = clips(20, 10)
    model = replace(CLEAN, outlier_rate=(0.2,), swap_rate=0.2, miss_rate=(0.1,), given_share=1.0)
    found, mass, _ = noise.distort(model, draws, joints, stamps, half)
    there = mass > 0
    assert 0.8 < there.mean() < 0.99
    np.testing.assert_array_equal(found[there], joints[there])


TRUE = replace(
    MODEL,
    deviation=tuple(np.linspace(0.03, 0.1, 17)),
    correlated=0.6,
    correlation_time=0.3,
    spread=0.0,
    outlier_rate=(0.05,),
    outlier_deviation=1.0,
    miss_rate=(0.04,),
    swap_rate=0.03,
    mass=(1.5, 0.5),
    mass_wrong=(-0.5, 0.5),
    reported=(0.12, 0.2),
    given_share=0.0,
)


def test_a_fit_finds_the_model_that_made_the_errors():
    joints, stamps, half, draws = clips(150)
    found, mass, covariance = noise.distort(TRUE, draws, joints, stamps, half)
    errors = noise_fit.Errors(
        found=found.reshape(-1, 17, 2).astype(float),
        true=joints.reshape(-1, 17, 2).astype(float),
        known=np.ones((150 * 60, 17), bool),
        mass=mass.reshape(-1, 17).astype(float),
        deviation=np.sqrt(covariance[..., 0, 0]).reshape(-1, 17).astype(float),
        half=half.reshape(-1).astype(float),
        stamps=stamps.reshape(-1),
    )
    missed = errors.mass == 0
    errors = replace(errors, found=np.where(missed[..., None], errors.true, errors.found))
    fitted = noise_fit.fit(errors, MODEL)
    np.testing.assert_allclose(fitted.deviation, TRUE.deviation, rtol=0.12)
    assert np.mean(fitted.outlier_rate) == pytest.approx(0.05, abs=0.015)
    assert np.mean(fitted.miss_rate) == pytest.approx(0.04, abs=0.01)
    assert fitted.swap_rate == pytest.approx(0.03, abs=0.015)
    assert fitted.outlier_deviation == pytest.approx(1.0, rel=0.2)
    assert fitted.correlated == pytest.approx(0.6, abs=0.1)
    assert fitted.correlation_time == pytest.approx(0.3, rel=0.3)
    assert fitted.spread < 0.15
    np.testing.assert_allclose(fitted.mass, TRUE.mass, atol=0.1)
    np.testing.assert_allclose(fitted.mass_wrong, TRUE.mass_wrong, atol=0.15)
    np.testing.assert_allclose(fitted.reported, TRUE.reported, atol=0.03)
    # It is a model that can be trained with.
    noise.distort(fitted, draws, joints, stamps, half)


def test_single_images_leave_the_times_as_they_were():
    joints, stamps, half, draws = clips(300, 1)
    found, mass, covariance = noise.distort(
        replace(TRUE, miss_rate=(0.0,)), draws, joints, stamps, half
    )
    errors = noise_fit.Errors(
        found[:, 0].astype(float), joints[:, 0].astype(float), np.ones((300, 17), bool),
        mass[:, 0].astype(float), np.sqrt(covariance[:, 0, :, 0, 0]).astype(float),
        half[:, 0].astype(float),
    )  # fmt: skip
    fitted = noise_fit.fit(errors, MODEL)
    assert (fitted.correlated, fitted.correlation_time) == (
        MODEL.correlated,
        MODEL.correlation_time,
    )
    np.testing.assert_allclose(fitted.deviation, TRUE.deviation, rtol=0.3)


def test_a_fit_wants_enough_joints():
    nothing = noise_fit.Errors(
        np.zeros((3, 17, 2)), np.zeros((3, 17, 2)), np.ones((3, 17), bool), np.ones((3, 17)),
        np.ones((3, 17)), np.ones(3),
    )  # fmt: skip
    with pytest.raises(ValueError, match="51 joints are known"):
        noise_fit.fit(nothing, MODEL)


def test_the_errors_of_a_network_are_measured_in_half_boxes(lspet, monkeypatch, capsys):
    network = STSPNet(minisets.TINY).eval()
    people = open_selection([], [lspet], IMAGES)[0]
    errors = noise_fit.measure(network, people)
    assert errors.found.shape == errors.true.shape == (len(people), 17, 2)
    pose = people[0]
    assert errors.half[0] == pytest.approx((pose.box[2:] - pose.box[:2]).max() / 2)
    expected = pck.detect(network, people).joints
    np.testing.assert_allclose(errors.found, expected, atol=1e-3)
    monkeypatch.setattr(noise_fit, "load_model", lambda _: network)
    noise_fit.main(["own", lspet])
    printed = yaml.safe_load(capsys.readouterr().out)["noise"]
    assert build(Noise, printed).event_time == MODEL.event_time
