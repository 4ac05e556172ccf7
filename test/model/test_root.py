"""The root agrees with geometry, and is unknown where nothing determines it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

from stsp_model.root import solve_root

K = np.array([[600.0, 0, 319.5], [0, 590.0, 239.5], [0, 0, 1]])


def skeleton(rng, place):
    """Root-relative joints and their exact pixels at a place."""
    joints = rng.normal(scale=0.4, size=(17, 3))
    joints[0] = 0
    pixels = (joints + place) @ K.T
    return joints, pixels[:, :2] / pixels[:, 2:]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_root_of_exact_joints_is_exact(seed):
    rng = np.random.default_rng(seed)
    place = np.array([rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(2, 8)])
    joints, pixels = skeleton(rng, place)
    root, variance = solve_root(joints, pixels, np.ones(17), K)
    np.testing.assert_allclose(root, place, atol=1e-8)
    assert (variance < 1e-12).all()


def test_root_equals_scipy_on_noisy_weighted_joints():
    rng = np.random.default_rng(3)
    joints, pixels = skeleton(rng, [0.3, -0.2, 4])
    pixels = pixels + rng.normal(scale=3, size=pixels.shape)
    weights = rng.uniform(0.1, 1, size=17)
    rays = (pixels - K[:2, 2]) / K[[0, 1], [0, 1]]
    rows, target = [], []
    for joint, ray, weight in zip(joints, rays, weights, strict=True):
        for axis in range(2):
            row = np.zeros(3)
            row[axis], row[2] = 1, -ray[axis]
            rows.append(np.sqrt(weight) * row)
            target.append(np.sqrt(weight) * (ray[axis] * joint[2] - joint[axis]))
    expected = lsq_linear(np.array(rows), np.array(target)).x
    root, _ = solve_root(joints, pixels, weights, K)
    np.testing.assert_allclose(root, expected, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-200, 1e-12, 1e9])
def test_only_the_ratios_of_weights_count(scale):
    rng = np.random.default_rng(4)
    joints, pixels = skeleton(rng, [0.3, -0.2, 4])
    pixels = pixels + rng.normal(scale=3, size=pixels.shape)
    weights = rng.uniform(0.1, 1, size=17)
    expected = solve_root(joints, pixels, weights, K)
    found = solve_root(joints, pixels, scale * weights, K)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_root_variance_matches_the_scatter_of_many_draws():
    rng = np.random.default_rng(5)
    joints, pixels = skeleton(rng, [0.3, -0.2, 4])
    draws = pixels + rng.normal(scale=2, size=(2000, 17, 2))
    covariance = np.broadcast_to(4 * np.eye(2), (2000, 17, 2, 2))
    many = np.broadcast_to(joints, (2000, 17, 3))
    root, by_residual = solve_root(many, draws, np.ones((2000, 17)), K)
    spread = root.var(axis=0)
    # The residuals alone tell the whole variance; covariance given besides doubles it.
    np.testing.assert_allclose(by_residual.mean(0), spread, rtol=0.15)
    _, both = solve_root(many, draws, np.ones((2000, 17)), K, covariance)
    np.testing.assert_allclose(both.mean(0), 2 * spread, rtol=0.15)


def by_the_book(joints, pixels, weights, K):
    """The root, and the rows of its equations (2 J, 3), by a general solver."""
    rays = (pixels - K[:2, 2]) / K[[0, 1], [0, 1]]
    rows = np.zeros((17, 2, 3))
    rows[:, 0, 0] = rows[:, 1, 1] = 1
    rows[..., 2] = -rays
    target = rays * joints[:, 2:] - joints[:, :2]
    scale = np.sqrt(weights)[:, None]
    A, b = (rows * scale[..., None]).reshape(-1, 3), (target * scale).ravel()
    return np.linalg.lstsq(A, b, rcond=None)[0], rows.reshape(-1, 3)


def test_root_variance_is_that_of_the_least_squares_for_small_errors_of_the_pixels():
    """Where pixels are not square, errors are correlated, and depths lie far apart."""
    rng = np.random.default_rng(9)
    K = np.array([[800.0, 0, 319.5], [0, 400.0, 239.5], [0, 0, 1]])
    joints = rng.normal(scale=0.4, size=(17, 3))
    joints[:, 2] = np.linspace(-1, 1, 17)  # 2 to 4 m from the camera
    place = np.array([0.3, -0.2, 3])
    pixels = (joints + place) @ K.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    weights = rng.uniform(0.1, 1, size=17)
    weights[4] = 0
    along = rng.normal(scale=3, size=(17, 2))
    covariance = along[:, :, None] * along[:, None, :] + np.diag([0.3, 2.0])
    expected, step = np.zeros(3), 1e-3
    for joint in range(17):
        jacobian = np.empty((3, 2))
        for axis in range(2):
            shift = np.zeros((17, 2))
            shift[joint, axis] = step
            after, _ = by_the_book(joints, pixels + shift, weights, K)
            before, _ = by_the_book(joints, pixels - shift, weights, K)
            jacobian[:, axis] = (after - before) / (2 * step)
        expected += np.diag(jacobian @ covariance[joint] @ jacobian.T)
    root, variance = solve_root(joints, pixels, weights, K, covariance)
    np.testing.assert_allclose(root, place, atol=1e-9)
    np.testing.assert_allclose(variance, expected, rtol=1e-6)


@pytest.mark.parametrize("count", [4, 5, 17])
def test_root_variance_by_residuals_is_the_textbooks_however_few_the_joints(count):
    """Of 2 J equations with three unknowns: the residuals' squares over 2 J - 3."""
    rng = np.random.default_rng(10)
    joints, pixels = skeleton(rng, [0.3, -0.2, 4])
    pixels = pixels + rng.normal(scale=3, size=pixels.shape)
    weights = np.where(np.arange(17) < count, 0.7, 0.0)
    place, rows = by_the_book(joints, pixels, weights, K)
    rays = (pixels - K[:2, 2]) / K[[0, 1], [0, 1]]
    target = (rays * joints[:, 2:] - joints[:, :2]).ravel()
    A, b = rows[: 2 * count], target[: 2 * count]
    error = ((A @ place - b) ** 2).sum() / (2 * count - 3)
    root, variance = solve_root(joints, pixels, weights, K)
    np.testing.assert_allclose(root, place, rtol=1e-9)
    np.testing.assert_allclose(variance, error * np.diag(np.linalg.inv(A.T @ A)), rtol=1e-8)


def test_root_scales_with_height_and_its_variance_adds_up():
    rng = np.random.default_rng(6)
    joints, pixels = skeleton(rng, [0.4, -0.2, 4])
    root, _ = solve_root(1.5 * joints, pixels, np.ones(17), K)
    np.testing.assert_allclose(root, [0.6, -0.3, 6], atol=1e-8)
    _, variance = solve_root(
        joints, pixels, np.ones(17), K, None, np.array(1.2), np.array(0.0144)
    )  # 10 % of the height is 10 % of the place
    np.testing.assert_allclose(variance, [0.0016, 0.0004, 0.16], atol=1e-9)


def test_joints_without_weight_or_place_do_not_count():
    rng = np.random.default_rng(7)
    joints, pixels = skeleton(rng, [0, 0, 3])
    weights = np.ones(17)
    pixels[2], weights[2] = (5000, 5000), 0
    pixels[3] = np.nan
    joints[4] = np.nan
    root, variance = solve_root(joints, pixels, weights, K)
    np.testing.assert_allclose(root, [0, 0, 3], atol=1e-8)
    assert np.isfinite(variance).all()


def test_root_is_known_of_somebody_small_and_unknown_of_a_mere_dot():
    rng = np.random.default_rng(11)
    for away, known in ((100, True), (1e6, False)):  # of 3 mrad, and of a thousandth of a pixel
        root, _ = solve_root(*skeleton(rng, [0, 0, away]), np.ones(17), K)
        assert (root[2] == pytest.approx(away)) == known
        assert np.isnan(root).any() != known


def test_root_is_unknown_when_nothing_determines_it():
    rng = np.random.default_rng(8)
    joints, pixels = skeleton(rng, [0, 0, 3])
    few = np.zeros(17)
    few[:3] = 1
    mirrored = joints * [-1, -1, 1]  # fits only behind the camera
    together = np.full((17, 2), 200.0)
    root, variance = solve_root(
        np.stack([joints, mirrored, joints, joints]),
        np.stack([pixels, pixels, together, pixels]),
        np.stack([few, np.ones(17), np.ones(17), np.ones(17)]),
        K,
    )
    assert np.isnan(root).all(axis=-1).tolist() == [True, True, True, False]
    assert np.isnan(variance).all(axis=-1).tolist() == [True, True, True, False]
