"""The renderer: what stands where, what hides what, shadows, blur, and the lens."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from figures import child_of, dressed

from stsp_model.camera import Camera
from stsp_model.skeleton import INDEX, JOINTS
from stsp_model.synth.body import SEGMENTS, joints, pose
from stsp_model.synth.render import Renderer, camera_rays
from stsp_model.synth.scene import Setting, View, between
from stsp_model.synth.sensor import Sensor, develop
from stsp_model.synth.setting import box, look_at, sample_camera

SIZE = 96
CAMERA = Camera(np.array([[110.0, 0, 47.5], [0, 110.0, 47.5], [0, 0, 1]]), SIZE, SIZE)
BODY = child_of(8.0)
MESH = dressed(BODY)
TURNS = np.tile(np.eye(3), (1, len(SEGMENTS), 1, 1))
GREY = np.full((4, 4, 3), 0.5, np.float32)
SETTING = Setting(
    props=(),
    sun=np.array([0.6, -0.5, 0.62]),
    softness=0.0,
    sunlight=np.full(3, 0.8),
    skylight=np.full(3, 0.2),
    groundlight=np.full(3, 0.1),
    sky=np.array([0.2, 0.4, 1.0]),
    radius=20.0,
    wall_height=2.0,
    wall=GREY,
    wall_repeats=4,
    ground=GREY,
    ground_tile=1.0,
)


def stood(ahead: float = 0.0):
    """Transforms (S, 3, 4) and joints (17, 3) of the child in its rest pose on the ground."""
    root = BODY.pivots[0] + [0, -ahead, BODY.height - BODY.markers[-1, 2]]
    transforms = pose(BODY, TURNS, root[None])
    return transforms[0], joints(BODY, transforms)[0]


def view(place=(0.0, -2.2, 1.0), target=(0.0, 0.0, 0.65)) -> View:
    return look_at(np.array(place), np.array(target), np.array([0, 0, 1.0]), 0.0)


def shoot(people=(MESH,), setting=SETTING, views=None, samples=1, ahead=0.0):
    """One picture; the child glides `ahead` m while it is exposed."""
    (start, first), (end, last) = stood(), stood(ahead)
    renderer = Renderer(people, setting, CAMERA, samples, np.random.default_rng(0))
    poses = [np.stack([start, end]) for _ in people]
    places = np.stack([(first + last) / 2 for _ in people]) if people else np.zeros((0, 17, 3))
    return renderer.shoot(poses, places, views or (view(), view()))


def pixels(at=None):
    here = at or view()
    return CAMERA.project((stood()[1] - here.position) @ here.rotation)


def test_a_child_is_where_its_joints_say():
    """Pixels that the child changes fill its box, and each visible joint lies on them."""
    shot, empty = shoot(), shoot(people=())
    changed = np.abs(shot.image - empty.image).max(axis=2) > 0.02
    assert changed.mean() > 0.05
    x0, y0, x1, y1 = shot.boxes[0]
    for joint, (u, v) in enumerate(pixels()):
        assert x0 - 0.5 <= u <= x1 + 0.5, JOINTS[joint]
        assert y0 - 0.5 <= v <= y1 + 0.5, JOINTS[joint]
        if shot.visible[0, joint]:
            assert changed[round(v), round(u)], JOINTS[joint]


def test_box_is_around_all_of_the_child():
    shot = shoot()
    no_ground = replace(SETTING, sun=np.array([0, 0.001, 1.0]))  # hardly a shadow
    changed = np.abs(shoot(setting=no_ground).image - shoot((), no_ground).image).max(axis=2) > 0.02
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert shot.boxes[0, [0, 2]] == pytest.approx([columns[0], columns[-1]], abs=1.5)
    assert shot.boxes[0, 1] == pytest.approx(rows[0], abs=1.5)


def test_from_the_front_all_limbs_are_seen():
    visible = shoot().visible[0]
    assert visible.all()


def test_from_the_side_the_far_arm_is_hidden():
    side = view((2.2, 0.0, 0.9))  # from the child's left
    visible = shoot(views=(side, side)).visible[0]
    assert visible[INDEX["left_shoulder"]]
    assert visible[INDEX["left_hip"]]
    assert not visible[INDEX["right_shoulder"]]
    assert not visible[INDEX["right_hip"]]


def test_a_thing_in_front_hides_what_is_behind_it():
    rng = np.random.default_rng(0)
    board = box([2.0, 0.02, 0.5], [0, -1.0, 0.0], 0.0, rng)
    visible = shoot(setting=replace(SETTING, props=[board])).visible[0]
    assert not visible[[INDEX["left_ankle"], INDEX["right_ankle"]]].any()
    assert visible[[INDEX["head_top"], INDEX["nose"], INDEX["thorax"]]].all()


def test_joints_outside_the_picture_are_not_visible():
    close = view((0.0, -0.9, 1.1), (0.0, 0.0, 1.15))
    shot = shoot(views=(close, close))
    assert not shot.visible[0, INDEX["left_ankle"]]
    assert shot.visible[0, INDEX["nose"]]
    assert shot.boxes[0, 3] <= SIZE - 0.5


def test_behind_the_camera_there_is_nothing():
    away = view((0.0, -2.2, 1.0), (0.0, -5.0, 0.65))
    shot = shoot(views=(away, away))
    assert not shot.visible.any()
    assert np.isnan(shot.boxes).all()
    assert np.isnan(pixels(away)).all()


def test_the_sun_throws_the_childs_shadow():
    down = look_at(np.array([0.0, -0.01, 4.0]), np.zeros(3), np.array([0, 0, 1.0]), 0.0)
    shot, empty = shoot(views=(down, down)), shoot((), views=(down, down))
    # The head's shadow falls away from the sun, as far as the head is high.
    head = stood()[1][INDEX["nose"]]
    spot = head - SETTING.sun * head[2] / SETTING.sun[2]
    u, v = np.rint(CAMERA.project((spot - down.position) @ down.rotation)).astype(int)
    assert empty.image[v, u] == pytest.approx([0.5 * (0.2 + 0.8 * 0.62)] * 3, rel=0.02)
    assert shot.image[v, u] == pytest.approx([0.5 * 0.2] * 3, rel=0.02)


def test_without_people_there_is_the_world():
    shot = shoot(())
    assert shot.visible.shape == (0, 17)
    assert shot.boxes.shape == (0, 4)
    assert shot.image[0, 0] == pytest.approx([0.2, 0.4, 1.0])  # the sky above the wall
    assert shot.image[-1, 48] == pytest.approx([0.5 * (0.2 + 0.8 * 0.62)] * 3, rel=0.01)


def test_motion_is_blurred_over_the_exposure():
    side = view((2.2, 0.0, 0.9))
    still = shoot(samples=9, views=(side, side)).image
    moving = shoot(samples=9, views=(side, side), ahead=0.4).image
    sharpness = [cv2.Laplacian(i.mean(axis=2), cv2.CV_32F).var() for i in (still, moving)]
    assert sharpness[1] < 0.8 * sharpness[0]


def test_the_same_seed_gives_the_same_picture():
    np.testing.assert_array_equal(shoot(samples=4).image, shoot(samples=4).image)


def test_projection_agrees_with_opencv():
    D = np.array([-0.2, 0.05, 0.001, -0.002, 0.01])
    camera = Camera(np.array([[300.0, 0, 160], [0, 310, 120], [0, 0, 1]]), 320, 240, D)
    points = np.random.default_rng(0).uniform([-0.4, -0.3, 1], [0.4, 0.3, 3], (50, 3))
    expected = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.K, D)[0][:, 0]
    assert camera.project(points) == pytest.approx(expected, abs=1e-6)


def test_a_view_looks_where_it_is_told():
    through = np.array([0.3, -0.2, 1.0])
    place, target = np.array([2.0, 1.0, 0.8]), np.array([-0.5, 0.2, 0.6])
    for roll in (0.0, 0.4):
        seen = look_at(place, target, through, roll)
        assert np.linalg.det(seen.rotation) == pytest.approx(1)
        ray = seen.rotation @ through / np.linalg.norm(through)
        assert ray == pytest.approx((target - place) / np.linalg.norm(target - place))
    upright = look_at(place, target, np.array([0, 0, 1.0]), 0.0)
    assert upright.rotation[2, 0] == pytest.approx(0)  # no roll: x is level
    assert upright.rotation[2, 1] < 0  # y points down
    half = between(upright, View(upright.rotation, target), 0.5)
    assert half.position == pytest.approx((place + target) / 2)


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="samples is 0"):
        Renderer([MESH], SETTING, CAMERA, 0, np.random.default_rng(0))


def test_a_plain_sensor_only_encodes():
    light = np.linspace(0, 0.69, 64, dtype=np.float32).reshape(8, 8, 1).repeat(3, axis=2)
    light[..., 0] *= 0.5
    plain = Sensor(1.0, (1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 90)
    image = develop(light, plain, np.random.default_rng(0))
    assert image[..., ::-1] / 255 == pytest.approx(light ** (1 / 2.2), abs=0.003)


def test_noise_grows_with_the_light():
    noisy = Sensor(1.0, (1.0, 1.0), 0.0, 0.1, 0.001, 0.0, 90)
    rng = np.random.default_rng(0)
    spreads = [
        ((develop(np.full((64, 64, 3), level, np.float32), noisy, rng) / 255.0) ** 2.2).std()
        for level in (0.1, 0.4)
    ]
    assert spreads[1] / spreads[0] == pytest.approx(2, rel=0.1)  # the root of the light


@pytest.mark.parametrize(
    ("seed", "width", "height"),
    [(353, 256, 256), (3216, 256, 256), (27807, 256, 256), (4271, 640, 480)],
)
def test_every_pixel_of_a_drawn_lens_has_a_ray(seed, width, height):
    lens = sample_camera(np.random.default_rng(seed), width, height)
    for shift in (-0.5, 0.5):
        rays = camera_rays(lens, np.array([shift, shift]))
        assert np.isfinite(rays).all()
