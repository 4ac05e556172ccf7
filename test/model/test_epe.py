"""Soft-argmax finds known peaks, motion weighs what moves by itself, the finder's maps decode."""

import cv2
import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stsp_model.checkpoint import load_model
from stsp_model.epe import (
    EPE,
    MOTION_GAMMA,
    MOTION_LAMBDA,
    motion_saliency,
    motion_weights,
    soft_argmax,
)
from stsp_model.hrnet import HRNetSize
from stsp_model.skeleton import FLIP


def gaussian(x: float, y: float, deviation: float, size: tuple[int, int] = (40, 48)):
    """Logits (h, w) whose softmax is a Gaussian around cell (x, y)."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    squares = (columns - x) ** 2 + (rows - y) ** 2
    return torch.from_numpy(-squares / (2 * deviation**2)).float()


def test_a_single_hot_cell_gives_its_centre_in_crop_pixels():
    logits = torch.full((1, 1, 40, 48), -1e3)
    logits[0, 0, 3, 5] = 1e3
    joints, mass, covariance = soft_argmax(logits)
    # Cell 5 covers pixels 20 to 23, cell 3 pixels 12 to 15.
    torch.testing.assert_close(joints, torch.tensor([[[21.5, 13.5]]]))
    assert mass.item() == pytest.approx(1)
    assert covariance.abs().max() == 0


@given(
    x=st.floats(4, 43),
    y=st.floats(4, 35),
    deviation=st.floats(0.65, 0.8),
    window=st.booleans(),
)
def test_the_peak_of_a_gaussian_is_found_between_cells(x, y, deviation, window):
    joints, mass, covariance = soft_argmax(gaussian(x, y, deviation), window)
    # Truncating at three to four cells moves it by less than a hundredth of a cell.
    np.testing.assert_allclose(joints, [4 * x + 1.5, 4 * y + 1.5], atol=0.04)
    np.testing.assert_allclose(covariance, np.eye(2) * (4 * deviation) ** 2, atol=0.3)
    assert mass > 0.99


def test_of_two_modes_the_window_takes_one_and_the_global_form_the_middle():
    logits = torch.logaddexp(gaussian(10, 20, 0.7) + 0.2, gaussian(30, 20, 0.7))
    windowed, mass, _ = soft_argmax(logits)
    share = 1 / (1 + np.exp(-0.2))
    np.testing.assert_allclose(windowed, [4 * 10 + 1.5, 4 * 20 + 1.5], atol=0.01)
    assert mass.item() == pytest.approx(share, abs=1e-3)
    whole, one, _ = soft_argmax(logits, window=False)
    middle = share * 10 + (1 - share) * 30
    np.testing.assert_allclose(whole, [4 * middle + 1.5, 4 * 20 + 1.5], atol=0.01)
    assert one == 1


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.1, 1.0, 10.0, 100.0]))
def test_windowed_soft_argmax_agrees_with_plain_loops(seed, scale):
    logits = np.random.default_rng(seed).normal(0, scale, (9, 12)).astype(np.float32)
    shares = np.exp(logits.astype(np.float64) - logits.max())
    smooth = scipy.ndimage.gaussian_filter(shares, 1.5, mode="constant", truncate=9)
    row, column = np.unravel_index(smooth.argmax(), logits.shape)
    inside = [
        (x, y, shares[y, x])
        for y in range(max(row - 3, 0), min(row + 4, 9))
        for x in range(max(column - 3, 0), min(column + 4, 12))
    ]
    points = np.array([(4 * x + 1.5, 4 * y + 1.5) for x, y, _ in inside])
    weights = np.array([share for _, _, share in inside])
    place = np.average(points, axis=0, weights=weights)
    rows, columns = np.mgrid[:9, :12]
    everywhere = np.stack([4 * columns + 1.5, 4 * rows + 1.5], axis=-1)
    for _ in range(4):  # of mean shift, over the whole map
        away = np.square(everywhere - place).sum(axis=-1)
        pull = shares * np.exp(-away / (2 * 6**2))
        place = np.average(everywhere.reshape(-1, 2), axis=0, weights=pull.ravel())
    joints, mass, covariance = soft_argmax(torch.from_numpy(logits))
    np.testing.assert_allclose(joints, place, atol=1e-3)
    np.testing.assert_allclose(mass, weights.sum() / shares.sum(), atol=1e-5)
    expected = np.cov(points.T, aweights=weights, bias=True)
    np.testing.assert_allclose(covariance, expected, atol=1e-2)


def test_a_broad_hill_wins_over_a_higher_lone_cell():
    logits = gaussian(10, 20, 1.5).exp()
    logits[20, 30] = 1.5
    joints, _, _ = soft_argmax(logits.clamp_min(1e-9).log())
    np.testing.assert_allclose(joints, [4 * 10 + 1.5, 4 * 20 + 1.5], atol=0.01)


def test_two_cells_that_are_equal_but_for_rounding_give_one_place():
    hill = gaussian(10.5, 20, 1.5).clamp_min(-12)
    lean = torch.zeros_like(hill)
    lean[20, 10] = 1e-3
    left, right = (soft_argmax(hill + sign * lean)[0] for sign in (1, -1))
    assert 0 < (left - right).abs().max() < 0.1
    np.testing.assert_allclose(left, [4 * 10.5 + 1.5, 4 * 20 + 1.5], atol=0.1)


def test_soft_argmax_computes_in_single_precision_from_half():
    joints, mass, covariance = soft_argmax(gaussian(20.3, 10.7, 0.7).half())
    assert {joints.dtype, mass.dtype, covariance.dtype} == {torch.float32}
    np.testing.assert_allclose(joints, [4 * 20.3 + 1.5, 4 * 10.7 + 1.5], atol=0.05)


def test_soft_argmax_stays_in_single_precision_under_mixed_precision():
    expected = soft_argmax(gaussian(30.37, 21.61, 0.7))
    with torch.autocast("cpu", torch.bfloat16):
        for result, right in zip(soft_argmax(gaussian(30.37, 21.61, 0.7)), expected, strict=True):
            torch.testing.assert_close(result, right)


def test_weights_leave_still_features_as_they_are_unless_literal():
    saliency = torch.tensor([0.0, 0.25, 1.0])
    expected = 1 + MOTION_GAMMA * np.exp(MOTION_LAMBDA * saliency.numpy())
    np.testing.assert_allclose(motion_weights(saliency, literal=True), expected, rtol=1e-6)
    np.testing.assert_allclose(motion_weights(saliency), expected / expected[0], rtol=1e-6)
    assert motion_weights(saliency)[0] == 1


@torch.no_grad()
def test_features_are_read_as_the_equations_say():
    """Eq. 5 to 7 of given features: heat maps and pooled features of F', presence of F itself."""
    torch.manual_seed(0)
    epe = EPE(HRNetSize((8, 8, 8, 8), 8, 4, 1, (1, 1, 1), 1)).eval()
    epe.backbone.final_layer.weight.normal_()
    epe.present[-1].weight.normal_()
    epe.calibration.copy_(torch.tensor([0.7, 0.4]))
    features, saliency = torch.rand(2, 8, 12, 10), torch.rand(2, 1, 12, 10)
    seen = epe.read(features, saliency)
    weighted = features * (1 + torch.exp(4 * saliency)) / 2
    maps = epe.backbone.final_layer(weighted)
    torch.testing.assert_close(seen.heatmaps, maps)
    share = maps.flatten(2).softmax(dim=-1)
    torch.testing.assert_close(
        seen.features, torch.einsum("njp,ncp->njc", share, weighted.flatten(2))
    )
    torch.testing.assert_close(seen.mass, soft_argmax(maps)[1])
    mass = seen.mass.double().clamp(1e-4, 1 - 1e-4)
    confidence = torch.sigmoid(0.7 + 0.4 * torch.log(mass / (1 - mass))).float()
    torch.testing.assert_close(seen.confidence, confidence)
    summary = torch.cat([features.mean(dim=(2, 3)), features.flatten(2).max(dim=-1).values], dim=-1)
    torch.testing.assert_close(seen.present, epe.present(summary).squeeze(-1))


@pytest.fixture(scope="module")
def picture():
    """A textured grey picture, larger than a crop."""
    noise = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32)
    noise = cv2.resize(
        cv2.GaussianBlur(noise, (0, 0), 1), (256, 256), interpolation=cv2.INTER_CUBIC
    )
    return cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def test_a_moving_camera_is_not_salient(picture):
    saliency = motion_saliency(picture[30:222, 30:222], picture[34:226, 38:230], 1 / 30)
    assert saliency.shape == (48, 48)
    # 2 cells and 1 cell of shift would be 0.033.
    assert np.median(saliency) < 0.002


@pytest.mark.parametrize("interval", [1 / 60, 1 / 30, 0.2])
def test_a_moving_limb_is_salient_by_its_speed(picture, interval):
    before, after = picture[:192, :192].copy(), picture[:192, :192].copy()
    limb = picture[192:256, 64:128].copy()
    before[64:128, 64:128] = limb
    after[64:128, 72:136] = limb  # the camera moves, too: both crops shift by 4 pixels
    before, after = before[:, 4:], after[:, :-4]
    before, after = (np.ascontiguousarray(x[:188, :188]) for x in (before, after))
    saliency = motion_saliency(before, after, interval)
    # 8 pixels are 2 cells; the diagonal has 47 sqrt(2) cells.
    expected = 2 / (47 * 2**0.5) * (1 / 30) / interval
    assert np.median(saliency[19:28, 21:28]) == pytest.approx(expected, rel=0.15)
    assert np.median(saliency) < 0.1 * expected


def test_saliency_is_clipped_and_colours_serve_as_well(picture):
    first, second = picture[:192, :192].copy(), picture[:192, :192].copy()
    second[64:128, 72:136] = picture[64:128, 64:128]
    grey = motion_saliency(first, second, 1e-4)
    assert grey.max() == 1
    assert grey.min() >= 0
    assert grey.dtype == np.float32
    colour = motion_saliency(*(cv2.merge([x] * 3) for x in (first, second)), 1e-4)
    np.testing.assert_allclose(colour, grey, atol=0.2)


def test_without_a_previous_crop_nothing_is_salient(picture):
    saliency = motion_saliency(None, picture[:192, :128], 0.1)
    assert saliency.shape == (48, 32)
    assert not saliency.any()


def test_saliency_refuses_crops_that_do_not_match_and_time_that_stands(picture):
    with pytest.raises(ValueError, match="previous_crop has shape"):
        motion_saliency(picture[:192, :188], picture[:192, :192], 0.1)
    for interval in (0, -0.1, np.nan, np.inf):
        with pytest.raises(ValueError, match="interval"):
            motion_saliency(picture, picture, interval)


def test_what_looks_at_the_mirror_image_as_well_sees_both_alike(picture):
    """A mirrored crop then gives the mirrored heat maps; without, nearly so at best."""
    epe = load_model("edge").epe
    crop = np.stack([picture[:192, :192], picture[:192, 64:256], picture[64:256, :192]])
    crops = torch.from_numpy(crop[None] / 255).float()
    saliency = 0.1 * torch.rand(1, 1, 48, 48, generator=torch.Generator().manual_seed(0))

    def maps_of(mirrored):
        with torch.inference_mode():
            seen = epe(crops, saliency, mirrored)
            turned = epe(crops.flip(-1), saliency.flip(-1), mirrored)
        assert seen.features.shape == (1, 17, 32)
        back = turned.heatmaps.flip(-1)[:, list(FLIP)]
        return seen.heatmaps, back, (seen.heatmaps + back) / 2

    own, back, mean = maps_of(False)
    assert (own - back).abs().max() > 0.5
    both, again, _ = maps_of(True)
    torch.testing.assert_close(both, mean, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(both, again, atol=1e-3, rtol=1e-3)
