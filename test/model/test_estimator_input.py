"""PoseEstimator copes with any image, camera and body height, and names what it cannot take."""

import numpy as np
import pytest
import torch
from scene import (
    CAMERA,
    CROP,
    FRAME,
    OK,
    TEMPLATE,
    TERMINATE,
    SceneNet,
    estimator,
    joints_of,
    person,
    picture,
    same,
    states,
)

from stsp_model.camera import Camera
from stsp_model.crop import whole_image
from stsp_model.finder import FINDER_SIZE, FINDER_STRIDE
from stsp_model.perception import find_people, part_to_search
from stsp_model.root import solve_root


def test_someone_cut_by_the_border_is_followed_out_of_the_picture():
    estimate = estimator(max_gap=0.1)
    told = []
    for i in range(30):
        told += estimate.step(picture(person(60 - 4 * i, 100, 40, 80)), i * FRAME)
    assert set(states(told[:-1])) == {("p1", OK)}
    assert states(told[-1:]) == [("p1", TERMINATE)]
    assert len(told) > 15


@pytest.mark.parametrize("place", [(5, 120), (315, 120), (160, 5), (160, 235)])
def test_joints_beyond_the_border_are_given_with_half_their_confidence(place):
    box = person(*place, 60, 60)
    estimate = estimator()
    estimate.model.observe = seeing(estimate.model, box)
    (pose,) = estimate.step(picture(box), 0.0, boxes=[box])
    outside = ((pose.joints_2d < -0.5) | (pose.joints_2d > [319.5, 239.5])).any(axis=-1)
    assert 0 < outside.sum() < 17
    np.testing.assert_allclose(pose.confidence_2d, np.where(outside, 0.45, 0.9), rtol=1e-6)


def seeing(model, box):
    """observe() that knows a box also where the image ends."""
    plain = type(model).observe

    def observe(crops, saliency):
        seen = plain(model, crops, saliency)
        size = 1.35 * (box[2:] - box[:2]).max()
        corner = (box[:2] + box[2:]) / 2 - size / 2
        joints = (box[:2] + TEMPLATE * (box[2:] - box[:2]) - corner) * CROP / size - 0.5
        seen.joints[:] = torch.from_numpy(joints)
        return seen

    return observe


def test_a_box_reaches_no_further_than_half_an_image_beyond_the_border():
    estimate = estimator()
    plain = estimate.model.observe

    def stray(crops, saliency):
        seen = plain(crops, saliency)
        seen.joints[:, 0], seen.joints[:, 1] = -1e4, 1e4
        return seen

    estimate.model.observe = stray
    (pose,) = estimate.step(picture(person(100, 100)), 0.0)
    np.testing.assert_allclose(pose.box, [-160.5, -120.5, 479.5, 359.5])  # of 320x240 pixels
    assert pose.joints_2d.min() < -1000  # joints are left where they are seen


@pytest.mark.parametrize("size", [(64, 64), (640, 480), (1080, 1920), (3840, 2160)])
def test_people_are_followed_in_small_and_large_images(size):
    estimate = estimator()
    width, height = size
    for i in range(3):
        box = person(width * (0.4 + 0.02 * i), height / 2, width // 5, height // 2)
        (pose,) = estimate.step(picture(box, size=size), i * FRAME)
        assert pose.id == "p1"
        np.testing.assert_allclose(pose.joints_2d, joints_of(box), atol=0.02 * max(size) + 1)


def test_a_far_person_in_a_large_image_is_found_and_then_seen_sharply():
    estimate = estimator()
    box = person(3000, 1500, 100, 300)
    estimate.step(picture(box, size=(3840, 2160)), 0.0)
    (pose,) = estimate.step(picture(box, size=(3840, 2160)), FRAME)
    np.testing.assert_allclose(pose.joints_2d, joints_of(box), atol=4)


def test_wide_and_tall_images_are_searched_from_end_to_end():
    wide, tall, usual = (whole_image(*size) for size in ((1920, 1080), (600, 1200), (640, 480)))
    ends = [part_to_search(wide, FINDER_SIZE, turn).tolist() for turn in range(4)]
    assert ends == [
        wide.tolist(),
        [-0.5, -0.5, 1279.5, 1079.5],
        [639.5, -0.5, 1919.5, 1079.5],
        wide.tolist(),
    ]
    assert part_to_search(tall, FINDER_SIZE, 1).tolist() == [-0.5, -0.5, 599.5, 799.5]
    # There is little to gain in an image of about the frame's shape.
    assert part_to_search(usual, FINDER_SIZE, 1).tolist() == usual.tolist()


def test_who_is_cut_by_the_edge_of_a_search_is_left_to_another_one():
    network, whole = SceneNet(), whole_image(1920, 1080)
    at_edge, clear, at_border = (person(x, 540, 120, 300) for x in (1250, 960, 1890))
    image = picture(at_edge, clear, at_border, size=(1920, 1080))
    found = [find_people(network, image, whole, 9, 0.3, turn) for turn in range(3)]
    expected = [[clear, at_edge, at_border], [clear], [clear, at_edge, at_border]]
    for boxes, people in zip(found, expected, strict=True):
        people = np.minimum(people, 1920) - 0.5
        np.testing.assert_allclose(boxes[boxes[:, 0].argsort()], people, atol=7)


def test_who_is_too_small_in_the_whole_image_is_found_when_its_end_is_searched():
    estimate = estimator()
    image = picture(person(1700, 540, 8, 16), size=(1920, 1080))
    assert [len(estimate.step(image, i * FRAME)) for i in range(4)] == [0, 0, 1, 1]


class Finding:
    """A finder that gives these boxes of the frame, best first."""

    finder_size = FINDER_SIZE

    def __init__(self, *boxes):
        self.boxes = boxes

    def find_people(self, frames):
        height, width = frames.shape[2:]
        centres = torch.full((1, height // FINDER_STRIDE, width // FINDER_STRIDE), -10.0)
        distances = torch.ones(1, 4, *centres.shape[1:])
        for i, box in enumerate(self.boxes):
            row, column = 10, 10 + 3 * i
            x, y = FINDER_STRIDE * column + 3.5, FINDER_STRIDE * row + 3.5
            x0, y0, x1, y1 = box
            centres[0, row, column] = 4.0 - i
            distances[0, :, row, column] = torch.tensor([x - x0, y - y0, x1 - x, y1 - y])
        return centres, distances


def test_behind_a_double_and_somebody_outside_the_next_box_is_taken():
    best, double, outside, other = (
        [100.0, 60, 140, 160],
        [104.0, 60, 144, 160],  # 36 of 44 pixels in common
        [-90.0, 60, 80, 160],
        [200.0, 60, 240, 160],
    )
    whole = whole_image(*FINDER_SIZE)
    image = picture(size=FINDER_SIZE)

    def found(most, *boxes):
        return find_people(Finding(*boxes), image, whole, most, 0.3).tolist()

    assert found(2, best, double, other) == [best, other]
    assert found(1, outside, other) == [other]
    assert found(1, outside, best, double, other) == [best, other]


def test_any_memory_layout_gives_the_same_poses():
    image = picture(person(100, 100))
    expected = estimator().step(image, 0.0)
    padded = np.zeros((240, 331, 3), np.uint8)
    padded[:, :320] = image
    read_only = image.copy()
    read_only.setflags(write=False)
    for other in (
        padded[:, :320],
        read_only,
        np.asfortranarray(image),
        image[::-1].copy()[::-1],
        np.ascontiguousarray(image[..., ::-1])[..., ::-1],
    ):
        same(estimator().step(other, 0.0), expected)


def test_nothing_is_kept_of_the_callers_memory():
    reused, fresh = estimator(), estimator()
    buffer = np.zeros((240, 320, 3), np.uint8)
    for i in range(4):
        frame = picture(person(80 + 5 * i, 100))
        buffer[:] = frame
        poses = reused.step(buffer, i * FRAME)
        same(poses, fresh.step(frame, i * FRAME))
        buffer[:] = 255


def two_scenes(scale=1):
    """A picture, and the same with an arm that has moved on by 6 of 320 pixels."""
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 150, (24, 32, 3)).astype(np.uint8)
    scene = np.repeat(np.repeat(cells, 10 * scale, axis=0), 10 * scale, axis=1)
    moved = scene.copy()
    arm = np.s_[80 * scale : 160 * scale, 150 * scale : 190 * scale]
    moved[arm] = np.roll(scene, 6 * scale, axis=1)[arm]
    return scene, moved


@pytest.mark.parametrize("scale", [1, 10])  # 3200 pixels: the frame before is kept reduced
def test_flow_is_taken_within_the_current_box(scale):
    """A still scene has no flow although the box moves; a moving arm has."""
    scene, moved = two_scenes(scale)
    estimate = estimator()
    for i in range(3):
        box = scale * person(150 + 8 * i, 120, 60, 90)
        estimate.step(scene, i * FRAME, boxes=[box])
    assert estimate.model.saliency.max() < 0.002
    estimate.step(moved, 4 * FRAME, boxes=[scale * person(174, 120, 60, 90)])
    assert estimate.model.saliency.max() > 0.005


def test_the_same_way_in_twice_the_time_is_half_as_salient():
    saliency = {}
    for interval in (1 / 30, 1 / 15, 0.2):
        estimate = estimator()
        for i, scene in enumerate(two_scenes()):
            estimate.step(scene, 10 + i * interval, boxes=[person(174, 120, 60, 90)])
        saliency[interval] = estimate.model.saliency.numpy()
    assert 0.005 < saliency[1 / 30].max() < 1
    np.testing.assert_allclose(saliency[1 / 15], saliency[1 / 30] / 2, rtol=1e-5)
    np.testing.assert_allclose(saliency[0.2], saliency[1 / 30] / 6, rtol=1e-5)


# Camera and size


def test_without_a_real_camera_the_place_is_unknown():
    image = picture(person(100, 100))
    (unknown,) = estimator().step(image, 0.0)
    (guessed,) = estimator().step(image, 0.0, Camera.guess(320, 240))
    for pose in (unknown, guessed):
        assert np.isnan(pose.root).all()
        assert np.isnan(pose.root_variance).all()
    same([unknown], [guessed])


def lifting_to(model, place, seen=None):
    """lifter.step() that gives a pose 3 m away which from `place` on lies on the 2D joints.

    seen (17, 2): pixels to lie on instead.
    """
    plain = model.lifter.step

    def step(keypoints, *rest):
        lifted, states = plain(keypoints, *rest)
        pixels = keypoints.joints.double() if seen is None else torch.from_numpy(seen)[None]
        rays = (pixels - torch.tensor([159.5, 119.5])) / 300
        joints = torch.cat([rays, torch.ones_like(rays[..., :1])], dim=-1) * 3
        joints = joints - torch.from_numpy(place)
        return type(lifted)(**{**vars(lifted), "joints": joints.float()}), states

    return step


PLACE = np.array([0.4, 0.1, 3.0])


def test_the_root_projects_the_pose_onto_the_image():
    """Fed with the exact projection of what the lifter will say, the place is found exactly."""
    estimate = estimator(subject_height=1.3)
    estimate.model.lifter.step = lifting_to(estimate.model, PLACE)
    (pose,) = estimate.step(picture(person(200, 130)), 0.0, CAMERA)
    np.testing.assert_allclose(pose.root, PLACE, atol=1e-4)
    assert (pose.root_variance > 0).all()


def test_lens_distortion_is_taken_out_for_the_lifter_and_left_in_the_output():
    lens = Camera(CAMERA.K, 320, 240, [-0.3, 0.1, 0.001, 0, 0])
    image = picture(person(250, 60))
    straight, bent = estimator(), estimator()
    (a,) = straight.step(image, 0.0, CAMERA)
    (b,) = bent.step(image, 0.0, lens)
    np.testing.assert_array_equal(a.joints_2d, b.joints_2d)
    np.testing.assert_allclose(
        bent.model.keypoints.joints[0].numpy(), lens.undistort(b.joints_2d), atol=1e-3
    )
    assert (bent.model.keypoints.joints - straight.model.keypoints.joints).abs().max() > 2
    assert np.abs(a.joints - b.joints).max() > 1e-3


def test_the_lifter_gets_the_box_around_where_the_middles_of_its_edges_go():
    lens = Camera(CAMERA.K, 320, 240, [-0.3, 0.1, 0.001, 0, 0])
    estimate = estimator()
    (pose,) = estimate.step(picture(person(250, 60)), 0.0, lens)
    x0, y0, x1, y1 = pose.box
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    edges = lens.undistort([[x0, y], [x1, y], [x, y0], [x, y1]])
    expected = np.concatenate([edges.min(axis=0), edges.max(axis=0)])
    assert np.abs(expected - pose.box).max() > 2
    np.testing.assert_allclose(estimate.model.boxes[0], expected, atol=1e-3)


def with_confidence(model, confidence, wrong=None):
    """observe() that gives the joints this confidence (17,), and sees one in a wrong place."""
    plain = model.observe

    def observe(crops, saliency):
        seen = plain(crops, saliency)
        seen.confidence[:] = torch.from_numpy(confidence)
        if wrong is not None:
            seen.joints[:, wrong] += 30
        return seen

    return observe


@pytest.mark.parametrize("height", [None, 1.3])
def test_the_root_is_solved_from_straight_pixels_with_all_that_may_be_wrong_with_them(height):
    lens = Camera(CAMERA.K, 320, 240, [-0.3, 0.1, 0.001, 0, 0])
    estimate, box = estimator(subject_height=height), person(250, 60)
    confidence = np.linspace(0.2, 0.95, 17)
    estimate.model.observe = with_confidence(estimate.model, confidence)
    estimate.model.lifter.step = lifting_to(estimate.model, PLACE)
    (pose,) = estimate.step(picture(box), 0.0, lens, boxes=[box])
    # One pixel squared of a crop that shows 1.35 times the box's 60 pixels.
    covariance = np.tile((1.35 * 60 / CROP) ** 2 * np.eye(2), (17, 1, 1))
    covariance = lens.undistort_spread(lens.undistort(pose.joints_2d), covariance)
    assert covariance.max() > 1.2 * (1.35 * 60 / CROP) ** 2
    given = estimate.model.keypoints.covariance[0].numpy()
    np.testing.assert_allclose(given, covariance, rtol=1e-3, atol=1e-3)
    root, variance = solve_root(
        pose.joints,
        lens.undistort(pose.joints_2d),
        confidence,
        lens.K,
        covariance,
        np.array(pose.height),
        np.array(pose.height_variance),
    )
    np.testing.assert_allclose(root, PLACE, atol=1e-4)
    np.testing.assert_allclose(pose.root, root, atol=1e-5)
    np.testing.assert_allclose(pose.root_variance, variance, rtol=1e-4)


def test_who_gives_the_height_knows_the_place_better_by_what_the_height_left_open():
    box = person(100, 100)
    estimate = estimator()
    estimate.model.lifter.step = lifting_to(estimate.model, PLACE)
    (free,) = estimate.step(picture(box), 0.0, CAMERA, boxes=[box])
    estimate.configure(subject_height=free.height)
    (given,) = estimate.step(picture(box), 2.0, CAMERA, boxes=[box])
    np.testing.assert_allclose(given.root, free.root, rtol=1e-5)
    gained = free.root**2 * free.height_variance / free.height**2
    np.testing.assert_allclose(free.root_variance - given.root_variance, gained, rtol=1e-3)
    assert (given.root_variance > 0).all()
    assert (given.root_variance < free.root_variance).all()


def test_one_wrong_joint_hardly_moves_the_root_if_it_is_not_trusted():
    box = person(200, 130)
    (right,) = estimator().step(picture(box), 0.0, boxes=[box])
    off = {}
    for trust in (0.02, 0.9):
        estimate = estimator()
        estimate.model.lifter.step = lifting_to(estimate.model, PLACE, right.joints_2d)
        confidence = np.full(17, 0.9)
        confidence[5] = trust
        estimate.model.observe = with_confidence(estimate.model, confidence, wrong=5)
        (pose,) = estimate.step(picture(box), 0.0, CAMERA, boxes=[box])
        off[trust] = np.linalg.norm(pose.root - PLACE)
    assert off[0.02] < 0.03
    assert off[0.9] > 10 * off[0.02]


def test_height_given_scales_everything_exactly():
    results = {}
    for height in (1.0, 1.5):
        estimate = estimator(subject_height=height)
        for i in range(3):
            (results[height],) = estimate.step(picture(person(100 + i, 100)), i * FRAME, CAMERA)
    small, large = results[1.0], results[1.5]
    np.testing.assert_allclose(large.joints, 1.5 * small.joints, rtol=1e-6)
    np.testing.assert_allclose(large.root, 1.5 * small.root, rtol=1e-5)
    np.testing.assert_allclose(large.variance, 2.25 * small.variance, rtol=1e-5)
    assert (small.height, small.height_variance, small.height_given) == (1.0, 0.0, True)


def test_height_can_be_given_and_taken_back_between_frames():
    estimate, image = estimator(), picture(person(100, 100))
    (first,) = estimate.step(image, 0.0)
    estimate.configure(subject_height=1.1)
    (given,) = estimate.step(image, FRAME)
    estimate.configure(subject_height=0)
    (last,) = estimate.step(image, 2 * FRAME)
    assert (first.height_given, given.height_given, last.height_given) == (False, True, False)
    assert given.height == pytest.approx(1.1)
    assert last.height == pytest.approx(first.height, rel=0.01)


# Trouble


@pytest.mark.parametrize("where", ["observe", "lift"])
def test_numbers_that_are_none_end_the_track_and_are_never_published(where):
    estimate = estimator()
    estimate.step(picture(person(100, 100)), 0.0, CAMERA)
    estimate.model.broken = where
    poses = estimate.step(picture(person(100, 100)), FRAME, CAMERA)
    assert states(poses) == [("p1", TERMINATE)]
    assert estimate.step(picture(person(100, 100)), 2 * FRAME, CAMERA) == []
    estimate.model.broken = ""
    (pose,) = estimate.step(picture(person(100, 100)), 3 * FRAME, CAMERA)
    assert pose.tracking_state == OK
    assert np.isfinite(pose.joints).all()


IMAGE = picture(person(100, 100))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"image": IMAGE.astype(np.float32)}, TypeError, "image is of float32, expected uint8"),
        ({"image": IMAGE[..., 0]}, ValueError, r"image has shape \(240, 320\)"),
        ({"image": IMAGE.tolist()}, TypeError, "image is a list"),
        ({"image": np.zeros((63, 64, 3), np.uint8)}, ValueError, "image is 64x63"),
        ({"image": np.zeros((64, 5000, 3), np.uint8)}, ValueError, "image is 5000x64"),
        ({"stamp": float("nan")}, ValueError, "stamp is nan"),
        ({"stamp": "now"}, TypeError, "stamp is 'now'"),
        ({"camera": "wide"}, TypeError, "camera is a str"),
        ({"camera": Camera.guess(640, 480)}, ValueError, "camera is for 640x480"),
        ({"boxes": [1, 2, 3, 4]}, ValueError, r"boxes has shape \(4,\)"),
        ({"boxes": [[1, 2, np.nan, 4]]}, ValueError, "boxes holds"),
        ({"boxes": [[30, 2, 10, 40]]}, ValueError, "boxes holds .* x0 < x1"),
        ({"boxes": [[400, 2, 410, 40]]}, ValueError, "boxes holds .* beyond the image of 320x240"),
        ({"boxes": "here"}, TypeError, "boxes is no array of numbers"),
        ({"region": (0, 0, 10)}, ValueError, r"region has shape \(3,\)"),
        ({"region": (10, 0, 5, 5)}, ValueError, "region holds"),
        ({"region": (500, 0, 600, 5)}, ValueError, "region holds .* beyond"),
    ],
)
def test_a_callers_mistake_is_named_and_leaves_no_trace(arguments, error, message):
    estimate, twin = estimator(), estimator()
    same(estimate.step(IMAGE, 0.0), twin.step(IMAGE, 0.0))
    with pytest.raises(error, match=message):
        estimate.step(**{"image": IMAGE, "stamp": FRAME, **arguments})
    same(estimate.step(IMAGE, FRAME), twin.step(IMAGE, FRAME))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subject_height": 3.0}, "subject_height is 3.0"),
        ({"subject_height": "tall"}, "subject_height is 'tall'"),
        ({"max_people": 0}, "max_people is 0"),
        ({"max_people": 1.5}, "max_people is 1.5"),
        ({"max_gap": 0.0}, "max_gap is 0.0"),
        ({"max_gap": float("inf")}, "max_gap is inf"),
        ({"max_gap": "0.5"}, "max_gap is '0.5'"),
        ({"max_gap": None}, "max_gap is None"),
        ({"min_confidence": 1.1}, "min_confidence is 1.1"),
        ({"min_confidence": "high"}, "min_confidence is 'high'"),
        ({"min_confidence": True}, "min_confidence is True"),
        ({"colour": 1}, "colour"),
    ],
)
def test_settings_that_cannot_be_are_refused_and_change_nothing(change, message):
    estimate = estimator(max_people=2)
    before = estimate.settings
    with pytest.raises((TypeError, ValueError), match=message):
        estimate.configure(**{"max_people": 3, **change})
    assert estimate.settings is before
    with pytest.raises((TypeError, ValueError), match=message):
        estimator(**change)
