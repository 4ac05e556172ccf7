"""Cameras undistort what they distort; the virtual camera agrees with geometry."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from stsp_model.camera import Camera
from stsp_model.virtual_camera import virtual_camera

K = np.array([[600.0, 0, 319.5], [0, 590.0, 239.5], [0, 0, 1]])
LENSES = {
    "plumb_bob": [-0.3, 0.1, 0.001, -0.001, 0.0],
    "rational_polynomial": [0.2, -0.05, 0.0005, 0.0003, 0.01, 0.5, 0.01, 0.02],
    "equidistant": [0.02, -0.01, 0.003, -0.001],
}


def camera(model="plumb_bob"):
    return Camera(K, 640, 480, LENSES[model], model)


@pytest.mark.parametrize("model", LENSES)
def test_distort_inverts_undistort_over_the_whole_image(model):
    u, v = np.meshgrid(np.linspace(0, 639, 9), np.linspace(0, 479, 7))
    points = np.stack([u, v], axis=-1)
    straight = camera(model).undistort(points)
    assert np.abs(straight - points).max() > 5
    np.testing.assert_allclose(camera(model).distort(straight), points, atol=2e-3)


def test_plumb_bob_by_hand():
    # One radial term: r = 0.5 goes to 0.5 (1 - 0.2 * 0.25) = 0.475.
    lens = Camera(K, 640, 480, [-0.2, 0, 0, 0], "plumb_bob")
    np.testing.assert_allclose(lens.distort([319.5 + 300, 239.5]), [319.5 + 285, 239.5])
    np.testing.assert_allclose(lens.undistort([319.5 + 285, 239.5]), [319.5 + 300, 239.5])


def test_equidistant_by_hand():
    # Without coefficients the fisheye's radius is the angle itself.
    lens = Camera(K, 640, 480, np.zeros(4), "equidistant")
    angle = np.pi / 6
    expected = [319.5 + 600 * np.tan(angle), 239.5]
    np.testing.assert_allclose(lens.undistort([319.5 + 600 * angle, 239.5]), expected, rtol=1e-9)


def test_unknown_points_stay_unknown_and_shape_is_kept():
    points = np.array([[[100.0, 50.0], [np.nan, 20.0]]])
    straight = camera().undistort(points)
    assert straight.shape == (1, 2, 2)
    assert np.isfinite(straight[0, 0]).all()
    assert np.isnan(straight[0, 1]).all()


def test_a_ray_the_lens_cannot_see_is_nan():
    # r (1 - 0.3 r^2) turns back at r = 1.05: 1.5 would land where 0.53 belongs.
    lens = Camera(K, 640, 480, [-0.3, 0, 0, 0])
    assert np.isnan(lens.distort([319.5 + 600 * 1.5, 239.5])).all()
    assert np.isfinite(lens.distort([319.5 + 600 * 0.53, 239.5])).all()


def test_a_lens_that_bends_much_is_undone_at_every_pixel():
    """OpenCV's iteration swings around the answer in a ring of this lens."""
    K = np.array([[200.0, 0, 130], [0, 200, 128], [0, 0, 1]])
    lens = Camera(K, 560, 256, np.array([-0.2957, 0.0535, 0, 0, 0]))
    points = np.stack(np.meshgrid(np.arange(130, 390), [128.0]), axis=-1)
    straight = lens.undistort(points)
    radius = (straight[0, :, 0] - 130) / 200
    bent = radius * (1 - 0.2957 * radius**2 + 0.0535 * radius**4)
    np.testing.assert_allclose(130 + 200 * bent, points[0, :, 0], atol=0.02)
    assert (np.diff(radius) > 0).all()
    np.testing.assert_allclose(lens.distort(straight), points, atol=0.02)


def test_where_a_lens_folds_the_picture_nothing_is_made_up():
    """k1 = -0.3 bends rays back from 1.05 focal lengths on, where the picture ends at 0.7."""
    K = np.array([[200.0, 0, 130], [0, 200, 128], [0, 0, 1]])
    lens = Camera(K, 560, 256, np.array([-0.3, 0.02, 0, 0, 0]))
    assert np.isfinite(lens.undistort([130 + 200 * 0.7, 128])).all()
    assert np.isnan(lens.undistort([130 + 200 * 0.9, 128])).all()


def test_beyond_the_fold_nothing_is_made_up_where_the_picture_widens_again_either():
    """The cubic term lets this lens' rays turn outwards once more, where the iteration ends."""
    k1, k2, k3 = -0.414, -0.023, 0.022
    K = np.array([[300.0, 0, 319.5], [0, 300, 239.5], [0, 0, 1]])
    lens = Camera(K, 640, 480, np.array([k1, k2, 0, 0, k3]))
    turning = np.roots([7 * k3, 5 * k2, 3 * k1, 1])
    fold = np.sqrt(turning[(turning.imag == 0) & (turning.real > 0)].real.min())
    edge = 300 * fold * (1 + k1 * fold**2 + k2 * fold**4 + k3 * fold**6)
    points = np.stack(np.meshgrid(np.arange(0, 640, 20.0), np.arange(0, 480, 20.0)), axis=-1)
    away = np.linalg.norm(points - K[:2, 2], axis=-1)
    straight = lens.undistort(points)
    assert np.isnan(straight[away > edge + 1]).all()
    radius = np.linalg.norm(straight[away < edge - 1] - K[:2, 2], axis=-1) / 300
    assert (radius < fold).all()
    np.testing.assert_array_equal(lens.undistort(K[:2, 2]), K[:2, 2])


@pytest.mark.parametrize("count", [4, 5, 8])
def test_an_equidistant_lens_may_come_with_any_number_of_zeros(count):
    lens = Camera(K, 640, 480, np.zeros(count), "equidistant")
    plain = Camera(K, 640, 480, np.zeros(4), "equidistant")
    np.testing.assert_array_equal(lens.undistort([50.0, 60]), plain.undistort([50.0, 60]))
    assert not np.array_equal(lens.undistort([50.0, 60]), [50, 60])


@pytest.mark.parametrize("empty", [None, [], [0, 0, 0, 0, 0]])
def test_without_distortion_points_pass_through(empty):
    lens = Camera(K, 640, 480, empty)
    assert lens.D is None
    assert lens.undistort([3.25, 4.5]).tolist() == [3.25, 4.5]


def test_people_are_undistorted_joint_by_joint_and_box_by_its_edges_middles():
    lens = camera("equidistant")
    joints = np.array([[[510.0, 310], [600, 450], [np.nan, 400]], [[20, 30], [60, 90], [40, 50]]])
    straight, boxes = lens.undistort_people(joints, [[500.0, 300, 640, 480], [10, 20, 70, 100]])
    np.testing.assert_array_equal(straight, lens.undistort(joints))
    for box, (x0, y0, x1, y1) in zip(boxes, [(500, 300, 640, 480), (10, 20, 70, 100)], strict=True):
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        ends = lens.undistort([[x0, y], [x1, y], [x, y0], [x, y1]])
        np.testing.assert_allclose(box, [*ends.min(axis=0), *ends.max(axis=0)])


def test_a_box_that_reaches_beyond_what_the_lens_shows_keeps_that_edge():
    lens = Camera([[150.0, 0, 319.5], [0, 150, 239.5], [0, 0, 1]], 640, 480, [0] * 4, "equidistant")
    edge = 319.5 + 150 * np.pi / 2  # what lies there is straight to the right
    _, (box,) = lens.undistort_people(np.empty((1, 0, 2)), [[319.5, 139.5, edge + 20, 339.5]])
    assert np.isnan(lens.undistort([edge + 20, 239.5])).all()
    x = (319.5 + edge + 20) / 2
    low, high = lens.undistort([[x, 139.5], [x, 339.5]])
    np.testing.assert_allclose(box, [319.5, low[1], edge + 20, high[1]])


@pytest.mark.parametrize("model", LENSES)
def test_how_points_stray_is_undistorted_as_steps_around_them_are(model):
    rng, lens = np.random.default_rng(2), camera(model)
    points = rng.uniform([0, 0], [639, 479], size=(3, 17, 2))
    points[1, 4] = np.nan
    along = rng.normal(size=(3, 17, 2, 2))
    covariance = along @ along.swapaxes(-1, -2)
    straight, step = lens.undistort(points), 0.1
    # Columns: where a step across and one down the image lead.
    jacobian = np.stack(
        [
            (lens.undistort(points + way) - lens.undistort(points - way)) / (2 * step)
            for way in step * np.eye(2)
        ],
        axis=-1,
    )
    expected = jacobian @ covariance @ jacobian.swapaxes(-1, -2)
    spread = lens.undistort_spread(straight, covariance)
    assert np.nanmax(np.abs(expected / covariance - 1)) > 0.3
    known = np.isfinite(straight).all(axis=-1)
    np.testing.assert_allclose(spread[known], expected[known], rtol=2e-3, atol=2e-3)
    np.testing.assert_array_equal(spread[~known], covariance[~known])
    unknown = np.full_like(straight, np.nan)
    np.testing.assert_array_equal(lens.undistort_spread(unknown, covariance), covariance)
    plain = Camera(K, 640, 480)
    np.testing.assert_array_equal(plain.undistort_spread(points, covariance), covariance)


def test_far_off_the_axis_a_pixel_is_worth_much_but_never_without_bounds():
    lens = Camera([[150.0, 0, 319.5], [0, 150, 239.5], [0, 0, 1]], 640, 480, [0] * 4, "equidistant")
    edge = [319.5 + 150 * np.radians(89.9), 239.5]
    spread = lens.undistort_spread(lens.undistort(edge), np.eye(2))
    assert np.isfinite(spread).all()
    assert spread[0, 0] > 1e6


def test_scaling_keeps_every_pixels_ray():
    half = camera().scaled(320, 240)
    assert (half.width, half.height) == (320, 240)
    # The centre of the 2x2 block (0..1, 0..1) is the centre of pixel (0, 0) of the half image.
    full, small = np.linalg.inv(K) @ [0.5, 0.5, 1], np.linalg.inv(half.K) @ [0, 0, 1]
    np.testing.assert_allclose(small, full, atol=1e-12)


def test_guessed_camera_sees_sixty_degrees_and_says_so():
    guess = Camera.guess(480, 640)
    left, right = (np.linalg.inv(guess.K) @ [0, v, 1] for v in (-0.5, 639.5))
    assert np.degrees(np.arctan(right[1]) - np.arctan(left[1])) == pytest.approx(60)
    assert guess.K[:2, 2].tolist() == [239.5, 319.5]
    assert guess.assumed
    assert guess.scaled(240, 320).assumed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"K": np.eye(4)}, r"K has shape \(4, 4\)"),
        ({"K": np.zeros((3, 3))}, "K has focal lengths"),
        ({"K": K * np.nan}, "K holds values that are not finite"),
        ({"K": K + np.eye(3, k=1)}, "K is .* expected"),
        ({"width": 0}, "width is 0"),
        ({"height": 1.5}, "height is 1.5"),
        ({"width": np.nan}, "width is nan"),
        ({"height": np.inf}, "height is inf"),
        ({"width": "640"}, "width is '640'"),
        ({"height": None}, "height is None"),
        ({"D": [0.1, 0.2]}, "D has 2 values, expected 4 or 5 for plumb_bob"),
        ({"D": [np.inf] * 5}, "D holds values"),
        ({"D": [0.1] * 5, "distortion_model": "thin"}, "distortion_model is 'thin'"),
    ],
)
def test_a_camera_that_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Camera(**{"K": K, "width": 640, "height": 480, **change})


@pytest.mark.parametrize(
    ("size", "message"), [((0, 480), "width is 0"), ((640, -480), "height is -480")]
)
def test_a_size_that_cannot_be_is_named_when_scaling_too(size, message):
    with pytest.raises(ValueError, match=message):
        camera().scaled(*size)


def test_camera_keeps_its_own_copy_of_the_matrix():
    mine = K.copy()
    lens = Camera(mine, 640, 480)
    mine[0, 0] = 1
    assert lens.K[0, 0] == 600
    with pytest.raises(ValueError, match="read-only"):
        lens.K[0, 0] = 1


def tensors(*arrays):
    return tuple(torch.as_tensor(np.array(a), dtype=torch.float64) for a in arrays)


def test_virtual_camera_at_the_centre_by_hand():
    joints = [[319.5, 239.5], [379.5, 239.5], [319.5, 180.5]]
    for across, down in ((60, 59), (60, 10), (10, 59)):  # the longer of 60 / 600 and 59 / 590
        boxes = [319.5 - across, 239.5 - down, 319.5 + across, 239.5 + down]
        seen, extras, rotation = virtual_camera(*tensors(joints, boxes, K))
        np.testing.assert_allclose(seen, [[0, 0], [1, 0], [0, -1]], atol=1e-12)
        np.testing.assert_allclose(extras, [np.log(0.1), 0], atol=1e-12)
        np.testing.assert_allclose(rotation, np.eye(3), atol=1e-12)


def test_rays_far_off_the_virtual_cameras_axis_stay_within_bounds():
    """The axis is 60 degrees to the left; joints are 80, 87 and 110 degrees to the right of it."""
    centre = 319.5 - 600 * np.tan(np.radians(60))
    joints = [[319.5 + 600 * np.tan(np.radians(a - 60)), 239.5] for a in (80, 87, 110)]
    boxes = [centre - 1, 238.5, centre + 1, 240.5]
    seen, extras, _ = virtual_camera(*tensors(joints, boxes, K))
    across = seen[:, 0] * extras[0].exp()
    expected = [np.tan(np.radians(80)), np.sin(np.radians(87)) / 0.1, np.sin(np.radians(110)) / 0.1]
    np.testing.assert_allclose(across, expected)


@given(st.integers(0, 2**32 - 1), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
@settings(max_examples=40, deadline=None)
def test_what_the_virtual_camera_sees_depends_on_the_turn_only_by_its_rotation(seed, pan, tilt):
    """Turning a body together with the line of sight leaves the normalised joints in place."""
    rng = np.random.default_rng(seed)
    turn = Rotation.from_euler("YX", [pan, tilt]).as_matrix()  # never rolls
    body = rng.normal(scale=0.3, size=(17, 3)) + np.array([0, 0, 4])
    # Four points span a box whose centre is on the line of sight.
    views = []
    for matrix in (np.eye(3), turn):
        centre = K @ matrix @ [0, 0, 1]
        centre = centre[:2] / centre[2]
        pixels = body @ matrix.T @ K.T
        box = np.concatenate([centre - 50, centre + 50])
        views.append(virtual_camera(*tensors(pixels[:, :2] / pixels[:, 2:], box, K)))
    (plain, plain_extras, _), (turned, extras, rotation) = views
    scale = torch.exp(extras[0] - plain_extras[0])  # pixels cover less angle off the axis
    np.testing.assert_allclose(turned * scale, plain, atol=1e-9)
    np.testing.assert_allclose(rotation, turn, atol=1e-9)
    assert extras[1] == pytest.approx(-tilt, abs=1e-9)  # positive downwards


def test_virtual_camera_works_on_batches_and_keeps_nan():
    joints = torch.full((2, 3, 17, 2), 200.0)
    joints[1, 2, 5] = torch.nan
    boxes = torch.tensor([100.0, 100, 300, 400]).expand(2, 3, 4)
    seen, extras, rotation = virtual_camera(joints, boxes, torch.tensor(K, dtype=torch.float32))
    assert seen.shape == (2, 3, 17, 2)
    assert extras.shape == (2, 3, 2)
    assert rotation.shape == (2, 3, 3, 3)
    assert seen[1, 2, 5].isnan().all()
    assert seen.isnan().sum() == 2
