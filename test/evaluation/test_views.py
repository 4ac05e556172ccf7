"""Random cameras see what they should, alike every time; noise is what it says; rates change."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stsp_model.data.samples import Y_UP, Z_UP, Motion
from stsp_model.evaluation.views import (
    NOISE_TIME,
    noisy,
    resampled,
    seen,
    standing_height,
)
from stsp_model.skeleton import INDEX, JOINT_COUNT

T = 40


def figure():
    """(17, 3) m, z up, feet at 0: an upright adult."""
    joints = np.zeros((JOINT_COUNT, 3))
    parts = {
        "hip": (0.1, 0.9),
        "knee": (0.1, 0.5),
        "ankle": (0.1, 0.08),
        "shoulder": (0.18, 1.4),
        "elbow": (0.3, 1.15),
        "wrist": (0.4, 0.95),
    }
    for part, (x, z) in parts.items():
        for side, sign in (("left", 1), ("right", -1)):
            joints[INDEX[f"{side}_{part}"]] = (sign * x, 0, z)
    middle = {"pelvis": 0.9, "spine": 1.15, "thorax": 1.4, "nose": 1.55, "head_top": 1.7}
    for name, z in middle.items():
        joints[INDEX[name]] = (0, 0, z)
    return joints


def walk(up=Z_UP, length=4.0, **more):
    way = np.linspace(0, length, T)[:, None, None] * np.array([1.0, 0, 0])
    joints = figure() + way
    if up == Y_UP:
        joints = joints[..., [0, 2, 1]] * (1, 1, -1)
    return Motion(joints, np.arange(T) / 60, "walk", "s", "walk", np.array(up), **more)


@given(st.integers(0, 10_000), st.sampled_from([Y_UP, Z_UP]), st.floats(0, 30))
def test_every_joint_is_in_the_image_and_the_body_stays_itself(seed, up, length):
    motion = walk(up, length)
    view = seen(motion, [seed, 1])
    assert view.camera is not None
    assert ((view.joints_2d >= 0) & (view.joints_2d <= (1279, 719))).all()
    flat = view.joints @ view.camera.K.T
    np.testing.assert_allclose(view.joints_2d, flat[..., :2] / flat[..., 2:], atol=1e-6)
    distances = [
        np.linalg.norm(j[:, :, None] - j[:, None], axis=-1) for j in (view.joints, motion.joints)
    ]
    np.testing.assert_allclose(*distances, atol=1e-9)
    left = view.joints[0, INDEX["left_hip"]] - view.joints[0, 0]
    head = view.joints[0, INDEX["head_top"]] - view.joints[0, 0]
    original = motion.joints[0]
    volume = np.cross(original[4] - original[0], original[10] - original[0]) @ (
        original[12] - original[0]
    )
    assert np.cross(left, head) @ (view.joints[0, 12] - view.joints[0, 0]) == pytest.approx(volume)


@given(st.integers(0, 10_000))
def test_people_stand_upright_before_the_camera(seed):
    view = seen(walk(), [seed])
    np.testing.assert_allclose(view.up, (view.joints[0, 10] - view.joints[0, 0]) / 0.8, atol=1e-9)
    assert view.up[1] < -0.7  # up in the world is up in the image
    assert (view.joints[..., 2] > 0.5).all()


def test_a_seed_is_a_camera_and_another_is_another():
    motion = walk()
    np.testing.assert_array_equal(seen(motion, [1, 2]).joints, seen(motion, [1, 2]).joints)
    assert abs(seen(motion, [1, 2]).joints - seen(motion, [1, 3]).joints).max() > 0.1


def test_cameras_stand_all_around():
    facing = [seen(walk(length=0), [i]).joints[0] for i in range(60)]
    left = np.array(
        [joints[INDEX["left_hip"], 0] - joints[INDEX["right_hip"], 0] for joints in facing]
    )
    assert left.min() < -0.15
    assert left.max() > 0.15


def test_cameras_are_drawn_from_the_ranges_of_the_protocol():
    """Of somebody so small that no camera has to step back; see docs/evaluation.md."""
    small = Motion(0.1 * figure()[None], [0], "a", "s", "a", np.array(Z_UP))
    pelvis = 0.09 - 0.008  # m above the ankles, the lowest joints
    drawn = []
    for seed in range(300):
        view = seen(small, [seed])
        way, up = view.joints[0, 0], view.up
        above = pelvis - way @ up
        away = np.linalg.norm(way - (way @ up) * up)
        across = 2 * np.degrees(np.arctan(640 / view.camera.K[0, 0]))
        drawn.append((above, away, across, np.degrees(np.arctan2(up[0], -up[1]))))
    values = np.array(drawn)
    limits = np.array([(0.3, 2.0), (2.0, 6.0), (45.0, 90.0)])
    reach = np.ptp(limits, axis=1)
    assert (values[:, :3].min(axis=0) >= limits[:, 0] - 1e-9).all()
    assert (values[:, :3].max(axis=0) <= limits[:, 1] + 1e-9).all()
    assert (np.ptp(values[:, :3], axis=0) > 0.95 * reach).all()
    assert values[:, 3].std() == pytest.approx(3.0, rel=0.15)


def test_missing_joints_stay_missing_and_unknown_up_is_the_cameras():
    motion = walk()
    joints = motion.joints @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]).T  # z up to y down
    joints[:, INDEX["nose"]] = np.nan
    unknown = Motion(joints, motion.stamps, "a", "s", "a", np.full(3, np.nan))
    view = seen(unknown, [4])
    assert np.isnan(view.joints_2d[:, INDEX["nose"]]).all()
    assert np.isfinite(np.delete(view.joints_2d, INDEX["nose"], axis=1)).all()
    with pytest.raises(ValueError, match="no frame with a known pelvis"):
        seen(Motion(np.full((2, 17, 3), np.nan), [0, 1], "a", "s", "a", np.array(Y_UP)), [0])


def test_noise_has_the_size_and_the_memory_it_should():
    joints = np.zeros((20_000, JOINT_COUNT, 2))
    joints[:, 0], joints[:, 1] = (0, 0), (50, 200)  # longer side 200 px
    noise = noisy(joints, 0.025, [3]) - joints
    assert noise.std() == pytest.approx(5.0, rel=0.02)
    product = {k: (noise[k:] * noise[:-k]).mean() / noise.var() for k in (1, 5, 10)}
    for k, correlation in product.items():
        assert correlation == pytest.approx(0.5 * np.exp(-k / NOISE_TIME), abs=0.01)
    assert abs(np.corrcoef(noise[:, 0, 0], noise[:, 1, 0])[0, 1]) < 0.05
    assert noise[0].std() == pytest.approx(5.0, rel=0.35)  # from the first frame on


def test_noise_is_seeded_scales_with_the_box_and_leaves_gaps():
    joints = walk().joints[..., [0, 2]] * 100
    joints[3, 5], joints[7] = np.nan, np.nan
    first, second = noisy(joints, 0.02, [1]), noisy(joints, 0.02, [1])
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(np.isnan(first), np.isnan(joints))
    np.testing.assert_allclose(noisy(3 * joints, 0.02, [1]), 3 * first)
    np.testing.assert_array_equal(noisy(joints, 0.0, [1]), joints)
    with pytest.raises(ValueError, match="share is -1"):
        noisy(joints, -1, [1])


@pytest.mark.parametrize("fps", [30.0, 24.0, 59.0, 60.0])
def test_resampling_keeps_a_smooth_motion(fps):
    motion = walk()
    times = motion.stamps
    swing = 0.3 * np.sin(6 * times)[:, None, None] + np.zeros((T, JOINT_COUNT, 3))
    slower = resampled(
        Motion(swing, times, "a", "s", "a", np.array(Z_UP), joints_2d=swing[..., :2]), fps
    )
    np.testing.assert_allclose(np.diff(slower.stamps), 1 / fps, rtol=1e-6)
    assert slower.stamps[-1] <= times[-1] < slower.stamps[-1] + 1 / fps + 1e-9
    expected = 0.3 * np.sin(6 * slower.stamps)
    np.testing.assert_allclose(slower.joints[:, 3, 1], expected, atol=2e-4)
    np.testing.assert_allclose(slower.joints_2d[:, 3, 1], expected, atol=2e-4)


def test_resampling_to_every_second_frame_takes_the_frames_themselves():
    motion = walk()
    joints = motion.joints.copy()
    joints[10:13, 2] = np.nan
    motion = Motion(joints, motion.stamps, "a", "s", "a", np.array(Z_UP))
    np.testing.assert_allclose(resampled(motion, 30).joints, joints[::2], atol=1e-12)
    between = resampled(motion, 45).joints
    assert np.isnan(between[:, 2]).any()
    assert np.isfinite(np.delete(between, 2, axis=1)).all()


@pytest.mark.parametrize("fps", [0, -1, np.nan, 61.0])
def test_rates_that_the_motion_does_not_have_are_refused(fps):
    with pytest.raises(ValueError, match="fps is"):
        resampled(walk(), fps)


def test_standing_height_is_leg_and_trunk_in_an_adults_proportions():
    joints = np.repeat(figure()[None], 3, axis=0)
    leg, trunk = 0.4 + 0.42, 0.5
    expected = (leg + trunk) / (0.491 + 0.288)
    assert standing_height(joints) == pytest.approx(expected)
    joints[1, INDEX["left_knee"]] += 5  # one frame of three
    assert standing_height(joints) == pytest.approx(expected)
    joints[:, INDEX["left_knee"]] = np.nan
    assert np.isnan(standing_height(joints))
