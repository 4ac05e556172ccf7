"""Images, cameras and poses turned by quarters of a turn, and an estimator of a turned camera."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scene import CAMERA, FRAME, OK, TERMINATE, estimator, joints_of, person, picture, states

from stsp_model.camera import Camera
from stsp_model.estimator import PoseEstimator
from stsp_model.pose import TrackingState, terminated
from stsp_model.turns import (
    TURNS,
    turned_boxes,
    turned_camera,
    turned_image,
    turned_points,
    turned_pose,
    turned_size,
    turned_vectors,
)

SIZE = (320, 240)
QUARTERS = pytest.mark.parametrize("degrees", [90, 180, 270])
LENSES = {
    "none": ("plumb_bob", []),
    "plumb_bob": ("plumb_bob", [-0.2, 0.05, 0.004, -0.003, 0.01]),
    "four": ("plumb_bob", [-0.2, 0.05, 0.004, -0.003]),
    "rational": ("rational_polynomial", [0.2, 0.05, 0.004, -0.003, 0.01, 0.3, 0.1, 0.02]),
    "prism": (
        "rational_polynomial",
        [0.2, 0.05, 0.004, -0.003, 0.01, 0.3, 0.1, 0.02, 0.01, -0.002, -0.006, 0.003],
    ),
    "tilted": (
        "rational_polynomial",
        [0.2, 0.05, 0.004, -0.003, 0.01, 0.3, 0.1, 0.02, 0.01, -0.002, -0.006, 0.003, 0.0, 0.05],
    ),
    "fisheye": ("equidistant", [0.02, -0.01, 0.003, 0.001]),
}


def camera(lens):
    model, D = LENSES[lens]
    return Camera([[300.0, 0, 150], [0, 290, 125], [0, 0, 1]], *SIZE, np.array(D), model)


@QUARTERS
def test_a_pixel_lies_in_the_turned_image_where_its_colour_does(degrees):
    image = np.random.default_rng(3).integers(0, 256, (24, 32, 3), np.uint8)
    turned = turned_image(image, degrees)
    np.testing.assert_array_equal(turned, np.rot90(image, -degrees // 90))
    assert turned_size((32, 24), degrees) == turned.shape[1::-1]
    y, x = np.mgrid[:24, :32]
    u, v = np.moveaxis(turned_points(np.stack([x, y], -1), degrees, (32, 24)).astype(int), -1, 0)
    np.testing.assert_array_equal(turned[v, u], image[y, x])


@pytest.mark.parametrize(
    ("degrees", "pixel", "box"),
    [
        (0, [2, 1], [1.5, 0.5, 2.5, 9.5]),
        (
            90,
            [22, 2],
            [13.5, 1.5, 22.5, 2.5],
        ),  # the last column but one of 24
        (180, [29, 22], [28.5, 13.5, 29.5, 22.5]),
        (270, [1, 29], [0.5, 28.5, 9.5, 29.5]),
    ],
)
def test_turns_are_clockwise_by_hand(degrees, pixel, box):
    np.testing.assert_array_equal(turned_points([2, 1], degrees, (32, 24)), pixel)
    np.testing.assert_array_equal(turned_boxes([1.5, 0.5, 2.5, 9.5], degrees, (32, 24)), box)


@given(
    st.sampled_from(TURNS),
    st.lists(st.floats(-1e4, 1e4) | st.just(float("nan")), min_size=4, max_size=4),
    st.integers(1, 5000),
    st.integers(1, 5000),
)
def test_turning_back_undoes_it(degrees, values, width, height):
    points, size = np.reshape(values, (2, 2)), (width, height)
    there = turned_points(points, degrees, size)
    back = turned_points(there, -degrees, turned_size(size, degrees))
    np.testing.assert_allclose(back, points, atol=1e-9)
    np.testing.assert_array_equal(np.isnan(there).sum(), np.isnan(points).sum())
    np.testing.assert_array_equal(turned_vectors(turned_vectors(points, degrees), -degrees), points)


def test_nothing_is_copied_where_nothing_is_turned():
    image = picture()
    assert turned_image(image, 0) is image


@QUARTERS
@pytest.mark.parametrize("lens", LENSES)
def test_a_turned_camera_sees_in_the_turned_image_what_the_camera_sees(lens, degrees):
    """Against OpenCV's own projection: a point turned about the axis, in the turned image."""
    own = camera(lens)
    turned = turned_camera(own, degrees)
    assert (turned.width, turned.height) == turned_size(SIZE, degrees)
    points = np.random.default_rng(5).uniform([-0.4, -0.3, 1], [0.4, 0.3, 1], (50, 3))

    def seen(camera, points):
        D = np.zeros(4) if camera.D is None else camera.D
        if camera.distortion_model == "equidistant":
            return cv2.fisheye.projectPoints(points[:, None], np.zeros(3), np.zeros(3), camera.K, D)
        return cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.K, D)

    there = seen(turned, turned_vectors(points, degrees))[0].reshape(-1, 2)
    here = seen(own, points)[0].reshape(-1, 2)
    np.testing.assert_allclose(there, turned_points(here, degrees, SIZE), atol=1e-9)


def test_a_sensor_tilted_about_both_axes_is_turned_by_halves_only():
    own = camera("tilted")
    D = np.array(own.D)
    D[12] = 0.03
    both = Camera(own.K, *SIZE, D, own.distortion_model)
    np.testing.assert_array_equal(turned_camera(both, 180).D[12:], [-0.03, -0.05])
    with pytest.raises(ValueError, match=r"tilted about both axes, by 0.03 and 0.05 rad"):
        turned_camera(both, 90)


def test_a_guessed_camera_stays_one():
    assert turned_camera(Camera.guess(*SIZE), 90).assumed
    assert not turned_camera(camera("none"), 90).assumed


@QUARTERS
def test_a_camera_that_hangs_otherwise_gives_the_poses_of_an_upright_one(degrees):
    """Every number but for those of space and of the picture is the same, and those are turned."""
    lens = camera("plumb_bob")
    upright = estimator(max_people=2)
    hanging = estimator(max_people=2, image_rotation=degrees)
    for i in range(4):
        people = [person(80 + 5 * i, 120), person(220, 90, 25, 70)]
        image = picture(*people)
        expected = upright.step(image, i * FRAME, lens)
        poses = hanging.step(
            turned_image(image, -degrees), i * FRAME, turned_camera(lens, -degrees)
        )
        assert len(poses) == 2
        for pose, other in zip(poses, expected, strict=True):
            np.testing.assert_allclose(
                pose.joints_2d, turned_points(other.joints_2d, -degrees, SIZE), atol=1e-6
            )
            np.testing.assert_allclose(pose.box, turned_boxes(other.box, -degrees, SIZE), atol=1e-6)
            for name in ("joints", "root"):
                turned = turned_vectors(getattr(other, name), -degrees)
                np.testing.assert_allclose(getattr(pose, name), turned, atol=1e-5)
            for name in ("variance", "root_variance"):
                turned = np.abs(turned_vectors(getattr(other, name), -degrees))
                np.testing.assert_allclose(getattr(pose, name), turned, rtol=1e-4)
                assert not np.allclose(turned[..., 0], turned[..., 1], rtol=1e-3)
            for name in ("id", "frames_used", "tracking_state", "height_given"):
                assert getattr(pose, name) == getattr(other, name)
            for name in ("confidence", "confidence_2d", "height", "height_variance", "score"):
                np.testing.assert_allclose(getattr(pose, name), getattr(other, name), rtol=1e-4)
            assert not np.signbit(pose.joints[0]).any()


@QUARTERS
def test_boxes_and_region_are_those_of_the_image_as_it_came(degrees):
    left, right = person(80, 120), person(220, 90, 25, 70)
    image = turned_image(picture(left, right), -degrees)

    def there(box):
        return turned_boxes(box, -degrees, SIZE)

    (pose,) = estimator(image_rotation=degrees).step(
        image, 0.0, region=there([160.0, 0.0, 319.0, 239.0])
    )
    expected = turned_points(joints_of(right), -degrees, SIZE)
    np.testing.assert_allclose(pose.joints_2d, expected, atol=1.5)
    poses = estimator(image_rotation=degrees).step(
        image, 0.0, boxes=np.array([there(right - 0.5), there(left - 0.5)])
    )
    for pose, box in zip(poses, (right, left), strict=True):
        expected = turned_points(joints_of(box), -degrees, SIZE)
        np.testing.assert_allclose(pose.joints_2d, expected, atol=1.5)


@pytest.mark.parametrize(("before", "after"), [(0, 180), (90, 270), (180, 0)])
def test_another_rotation_starts_anew(before, after):
    estimate = estimator(image_rotation=before)
    image = picture(person(160, 120))
    assert states(estimate.step(image, 0.0, CAMERA)) == [("p1", OK)]
    estimate.configure(image_rotation=after)
    assert states(estimate.step(image, FRAME, CAMERA)) == [("p2", OK), ("p1", TERMINATE)]
    (pose,) = estimate.step(image, 2 * FRAME, CAMERA)
    assert (pose.id, pose.frames_used) == ("p2", 1)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (45, ValueError, "image_rotation is 45, expected one of 0, 90, 180, 270"),
        (-90, ValueError, "image_rotation is -90"),
        (360, ValueError, "image_rotation is 360"),
        (float("nan"), ValueError, "image_rotation is nan"),
        ("90", TypeError, "image_rotation is '90'"),
        (True, TypeError, "image_rotation is True"),
    ],
)
def test_a_rotation_that_is_none_is_refused(value, error, message):
    with pytest.raises(error, match=message):
        PoseEstimator(estimator().model, image_rotation=value)


def test_the_end_of_a_track_is_as_unknown_turned():
    pose = turned_pose(terminated("p7"), 90, SIZE)
    assert (pose.id, pose.tracking_state) == ("p7", TrackingState.TERMINATE)
    assert np.isnan(pose.joints).all()
    assert np.isnan(pose.box).all()
