"""PoseEstimator finds, follows, loses and names people as promised, whatever frames come."""

import numpy as np
import pytest
import torch
from scene import CROP, TEMPLATE, SceneNet, person, picture

from stsp_model.camera import Camera
from stsp_model.estimator import SEARCH_EVERY, LateFrameError, PoseEstimator, TrackingState
from stsp_model.network import Clip, STSPNet

OK, TERMINATE = TrackingState.OK, TrackingState.TERMINATE
CAMERA = Camera([[300, 0, 159.5], [0, 300, 119.5], [0, 0, 1]], 320, 240)
FRAME = 1 / 30


def estimator(**settings):
    return PoseEstimator(SceneNet(), **settings)


def states(poses):
    return [(pose.id, pose.tracking_state) for pose in poses]


def joints_of(box):
    return box[:2] + TEMPLATE * (box[2:] - box[:2]) - 0.5


def same(a, b):
    """Whether two lists of poses are equal in every number."""
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        for name in vars(one):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


# Finding and following


def test_a_person_is_found_at_once_and_followed_by_one_name():
    estimate = estimator()
    for i in range(20):
        box = person(80 + 6 * i, 120 - 2 * i)
        poses = estimate.step(picture(box), i * FRAME, CAMERA)
        assert states(poses) == [("p1", OK)]
        np.testing.assert_allclose(poses[0].joints_2d, joints_of(box), atol=1.5)
        np.testing.assert_allclose(poses[0].box, box - 0.5, atol=1.5)
        assert poses[0].frames_used == min(i, 5)
        assert poses[0].score > 0.9
    assert estimate.model.finder_passes == 1  # following needs no further look


def test_an_empty_picture_has_nobody():
    estimate = estimator()
    for i in range(3):
        assert estimate.step(picture(), i * FRAME) == []
    assert estimate.model.finder_passes == 3
    assert estimate.model.crops_seen == []


def test_everything_published_is_finite_and_shaped():
    (pose,) = estimator().step(picture(person(100, 100)), 0.0, CAMERA)
    assert pose.joints.shape == pose.variance.shape == (17, 3)
    assert pose.confidence.shape == pose.confidence_2d.shape == (17,)
    for values in (pose.joints, pose.variance, pose.confidence, pose.joints_2d, pose.height):
        assert np.isfinite(values).all()
    assert (pose.joints[0] == 0).all()
    assert (pose.variance > 0).all()
    assert pose.height_variance > 0
    assert not pose.height_given


def test_a_lost_person_found_again_in_time_keeps_the_name():
    estimate = estimator()
    estimate.step(picture(person(100, 100)), 0.0)
    for i in range(1, 10):
        assert estimate.step(picture(), i * FRAME) == []
    poses = estimate.step(picture(person(115, 100)), 10 * FRAME)
    assert states(poses) == [("p1", OK)]
    assert poses[0].frames_used == 1  # the past before the loss still counts


def test_a_person_who_stays_away_is_terminated_once_and_returns_under_another_name():
    estimate = estimator(max_gap=0.2)
    estimate.step(picture(person(100, 100)), 0.0)
    told = []
    for i in range(1, 20):
        told += estimate.step(picture(), i * FRAME)
    assert states(told) == [("p1", TERMINATE)]
    for values in (told[0].joints, told[0].joints_2d, told[0].root, told[0].box):
        assert np.isnan(values).all()
    assert states(estimate.step(picture(person(100, 100)), 20 * FRAME)) == [("p2", OK)]


def test_a_crop_without_a_person_is_not_published_even_if_the_finder_insists():
    estimate = estimator()
    estimate.model.blind = True
    for i in range(3):
        assert estimate.step(picture(person(100, 100)), i * FRAME) == []
    assert estimate.model.crops_seen == [1, 1, 1]


def test_someone_else_is_followed_when_the_first_is_gone():
    estimate = estimator()
    estimate.step(picture(person(60, 100)), 0.0)
    assert estimate.step(picture(person(260, 100)), FRAME) == []  # looked where the first was
    poses = estimate.step(picture(person(260, 100)), 2 * FRAME)
    assert states(poses) == [("p2", OK), ("p1", TERMINATE)]


def test_several_people_keep_their_names_while_they_walk():
    estimate = estimator(max_people=3)
    for i in range(25):
        boxes = [person(50 + 4 * i, 60), person(280 - 4 * i, 170), person(160, 115, 24, 40)]
        poses = estimate.step(picture(*boxes), i * FRAME)
        if i == 0:
            names = {pose.id: pose.joints_2d.mean(axis=0) for pose in poses}
            assert len(names) == 3
            order = [
                min(names, key=lambda n: np.abs(names[n] - joints_of(b).mean(0)).sum())
                for b in boxes
            ]
        assert {pose.id for pose in poses} == set(order)
        for name, box in zip(order, boxes, strict=True):
            (pose,) = (p for p in poses if p.id == name)
            np.testing.assert_allclose(pose.joints_2d, joints_of(box), atol=1.5)


def test_work_per_frame_is_bounded():
    estimate = estimator(max_people=2)
    frames = 4 * SEARCH_EVERY
    everybody = [person(x, 100) for x in (40, 110, 180, 250)]
    for i in range(frames):
        estimate.step(picture(*everybody), i * FRAME)
    assert max(estimate.model.crops_seen) == 2
    assert estimate.model.finder_passes == 1
    alone = estimator(max_people=2)
    for i in range(frames):
        alone.step(picture(person(100, 100)), i * FRAME)
    assert alone.model.finder_passes == 1 + (frames - 1) // SEARCH_EVERY


def test_a_second_person_is_found_while_the_first_is_followed():
    estimate = estimator(max_people=2)
    estimate.step(picture(person(80, 100)), 0.0)
    for i in range(1, SEARCH_EVERY + 1):
        poses = estimate.step(picture(person(80, 100), person(220, 100)), i * FRAME)
    assert states(poses) == [("p1", OK), ("p2", OK)]


def test_two_tracks_on_one_person_become_the_older_one():
    estimate = estimator(max_people=2)
    estimate.step(picture(person(80, 100), person(200, 100)), 0.0, boxes=[person(80, 100)])
    both = [person(80, 100), person(200, 100)]
    estimate.step(picture(*both), FRAME, boxes=both)
    told = []
    for i in range(2, 8):  # the second walks behind the first and does not come out
        told += estimate.step(picture(person(80, 100), person(200 - 20 * i, 100)), i * FRAME)
    told += estimate.step(picture(person(80, 100)), 8 * FRAME)
    for i in range(9, 40):
        told += estimate.step(picture(person(80, 100)), i * FRAME)
    assert [pose.id for pose in told if pose.tracking_state == TERMINATE] == ["p2"]
    assert [pose.id for pose in told][-10:] == ["p1"] * 10


def test_fewer_people_may_be_asked_for_while_running():
    estimate = estimator(max_people=2)
    both = picture(person(80, 100), person(220, 100))
    assert states(estimate.step(both, 0.0)) == [("p1", OK), ("p2", OK)]
    estimate.configure(max_people=1)
    assert states(estimate.step(both, FRAME)) == [("p1", OK), ("p2", TERMINATE)]
    assert states(estimate.step(both, 2 * FRAME)) == [("p1", OK)]


def test_only_the_region_is_searched_and_who_leaves_it_is_let_go():
    estimate = estimator(max_people=2)
    both = picture(person(80, 100), person(220, 100))
    poses = estimate.step(both, 0.0, region=(150, 0, 320, 240))
    assert states(poses) == [("p1", OK)]
    np.testing.assert_allclose(poses[0].joints_2d, joints_of(person(220, 100)), atol=1.5)
    poses = estimate.step(both, FRAME, region=(0, 0, 150, 240))
    assert ("p1", TERMINATE) in states(poses)
    assert ("p2", OK) in states(poses)


# Boxes given by the caller


def test_given_boxes_give_their_poses_in_order_under_stable_names():
    estimate = estimator()
    a, b = person(80, 100), person(220, 100)
    poses = estimate.step(picture(a, b), 0.0, boxes=[a, b])  # more than max_people
    assert states(poses) == [("p1", OK), ("p2", OK)]
    poses = estimate.step(picture(a, b + 4), FRAME, boxes=[b + 4, a])
    assert states(poses) == [("p2", OK), ("p1", OK)]
    np.testing.assert_allclose(poses[0].joints_2d, joints_of(b + 4), atol=1.5)
    assert estimate.model.finder_passes == 0
    assert estimate.model.crops_seen == [2, 2]


def test_a_given_box_is_believed_and_a_missing_one_is_missed_for_a_while():
    estimate = estimator(max_gap=0.1)
    estimate.model.blind = True
    assert states(estimate.step(picture(), 0.0, boxes=[person(80, 100)])) == [("p1", OK)]
    assert estimate.step(picture(), FRAME, boxes=[]) == []
    assert states(estimate.step(picture(), 0.2, boxes=[])) == [("p1", TERMINATE)]
    assert estimate.step(picture(), 0.25, boxes=np.empty((0, 4))) == []


# Time


@pytest.mark.parametrize("back", [0.0, 0.1, 0.49])
def test_a_late_frame_is_refused_and_leaves_no_trace(back):
    estimate, twin = estimator(), estimator()
    for i in range(3):
        frame = picture(person(80 + i, 100))
        same(estimate.step(frame, 10 + i * FRAME), twin.step(frame, 10 + i * FRAME))
    with pytest.raises(LateFrameError, match="stamp is"):
        estimate.step(picture(), 10 + 2 * FRAME - back)
    frame = picture(person(90, 100))
    same(estimate.step(frame, 10.2), twin.step(frame, 10.2))


def test_a_jump_back_starts_anew():
    estimate = estimator()
    for i in range(3):
        estimate.step(picture(person(80, 100)), 10 + i * FRAME)
    poses = estimate.step(picture(person(80, 100)), 2.0)
    assert states(poses) == [("p2", OK), ("p1", TERMINATE)]
    assert poses[0].frames_used == 0
    assert states(estimate.step(picture(person(80, 100)), 2.0 + FRAME)) == [("p2", OK)]


def test_a_gap_empties_the_past_but_keeps_the_name():
    estimate = estimator()
    for i in range(4):
        poses = estimate.step(picture(person(80, 100)), i * FRAME)
    assert poses[0].frames_used == 3
    poses = estimate.step(picture(person(80, 100)), 1.0)
    assert states(poses) == [("p1", OK)]
    assert poses[0].frames_used == 0
    assert (estimate.model.saliency == 0).all()


def test_another_image_size_starts_anew():
    estimate = estimator()
    estimate.step(picture(person(80, 100)), 0.0)
    poses = estimate.step(picture(person(80, 100), size=(640, 480)), FRAME)
    assert states(poses) == [("p2", OK), ("p1", TERMINATE)]


def test_reset_forgets_everybody_silently_and_names_go_on():
    estimate = estimator()
    estimate.step(picture(person(80, 100)), 10.0)
    estimate.reset()
    assert states(estimate.step(picture(person(80, 100)), 10.0)) == [("p2", OK)]


# Images


def test_someone_cut_by_the_border_is_followed_out_of_the_picture():
    estimate = estimator(max_gap=0.1)
    told = []
    for i in range(30):
        told += estimate.step(picture(person(60 - 4 * i, 100, 40, 80)), i * FRAME)
    assert set(states(told[:-1])) == {("p1", OK)}
    assert states(told[-1:]) == [("p1", TERMINATE)]
    assert len(told) > 15


def test_joints_beyond_the_border_are_given_with_half_their_confidence():
    box = person(5, 100, 60, 120)
    estimate = estimator()
    estimate.model.observe = seeing(estimate.model, box)
    (pose,) = estimate.step(picture(box), 0.0, boxes=[box])
    outside = pose.joints_2d[:, 0] < -0.5
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


def test_flow_is_taken_within_the_current_box():
    """A still scene has no flow although the box moves; a moving arm has."""
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(0, 150, (24, 32, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    estimate = estimator()
    for i in range(3):
        estimate.step(scene, i * FRAME, boxes=[person(150 + 8 * i, 120, 60, 90)])
    assert estimate.model.saliency.max() < 0.01
    moved = scene.copy()
    moved[80:160, 150:190] = np.roll(scene, 6, axis=1)[80:160, 150:190]
    estimate.step(moved, 4 * FRAME, boxes=[person(174, 120, 60, 90)])
    assert estimate.model.saliency.max() > 0.01


# Camera and size


def test_without_a_real_camera_the_place_is_unknown():
    image = picture(person(100, 100))
    (unknown,) = estimator().step(image, 0.0)
    (guessed,) = estimator().step(image, 0.0, Camera.guess(320, 240))
    for pose in (unknown, guessed):
        assert np.isnan(pose.root).all()
        assert np.isnan(pose.root_variance).all()
    same([unknown], [guessed])


def test_the_root_projects_the_pose_onto_the_image():
    """Fed with the exact projection of what the lifter will say, the place is found exactly."""
    estimate = estimator(subject_height=1.3)
    net = estimate.model
    place = np.array([0.4, 0.1, 3.0])
    plain = net.lifter.step

    def lift_to_truth(keypoints, *rest):
        lifted, states = plain(keypoints, *rest)
        rays = (keypoints.joints.double() - 159.5 + torch.tensor([0.0, 40.0])) / 300
        depth = 3.0
        joints = torch.cat([rays * depth, torch.full_like(rays[..., :1], depth)], dim=-1)
        joints = joints - torch.from_numpy(place)
        return type(lifted)(**{**vars(lifted), "joints": joints.float()}), states

    net.lifter.step = lift_to_truth
    (pose,) = estimate.step(picture(person(200, 130)), 0.0, CAMERA)
    np.testing.assert_allclose(pose.root, place, atol=1e-4)
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
        ({"min_confidence": 1.1}, "min_confidence is 1.1"),
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


# The real network, untrained


@pytest.fixture(scope="module")
def edge():
    torch.set_num_threads(1)
    return STSPNet("edge", seed=1)


def textured(seed, size=(320, 240)):
    coarse = np.random.default_rng(seed).integers(0, 255, (size[1] // 16, size[0] // 16, 3))
    return np.kron(coarse, np.ones((16, 16, 1))).astype(np.uint8)


class Recorder:
    """The real network, writing down what it is asked."""

    def __init__(self, model):
        self.model, self.crops, self.saliency, self.boxes = model, [], [], []

    def __getattr__(self, name):
        return getattr(self.model, name)

    def eval(self):
        self.model.eval()
        return self

    def observe(self, crops, saliency):
        self.crops.append(crops)
        self.saliency.append(saliency)
        return self.model.observe(crops, saliency)

    def lift_frame(self, keypoints, boxes, *rest):
        self.boxes.append(boxes)
        return self.model.lift_frame(keypoints, boxes, *rest)


@pytest.mark.parametrize("subject_height", [None, 1.25])
def test_online_equals_offline(edge, subject_height):
    """Frame by frame through the estimator, and the whole clip at once through forward."""
    recorder = Recorder(edge)
    estimate = PoseEstimator(recorder, subject_height=subject_height)
    # Uneven frame times, a dropped frame, and a gap that must empty the past.
    stamps = 1.7e9 + np.cumsum([0, 0.033, 0.034, 0.1, 0.03, 0.04, 0.8, 0.033, 0.033])
    poses, given = [], []
    for i, stamp in enumerate(stamps):
        box = person(140 + 5 * i, 120 - 2 * i, 70, 130)
        image = np.roll(textured(2), 3 * i, axis=1)
        (pose,) = estimate.step(image, stamp, CAMERA, boxes=[box])
        poses.append(pose)
        given.append(box)
    assert [pose.frames_used for pose in poses] == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    boxes = torch.from_numpy(np.array(given)).float()[None]
    torch.testing.assert_close(torch.stack(recorder.boxes, dim=1), boxes)
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    half = 1.35 / 2 * (boxes[..., 2:] - boxes[..., :2]).amax(-1, keepdim=True)
    clip = Clip(
        crops=torch.stack(recorder.crops, dim=1),
        saliency=torch.stack(recorder.saliency, dim=1),
        crop_boxes=torch.cat([centre - half, centre + half], dim=-1),
        boxes=boxes,
        K=torch.from_numpy(CAMERA.K.copy()).float(),
        stamps=torch.from_numpy(stamps)[None],
        subject_height=None if subject_height is None else torch.tensor([subject_height]),
    )
    assert clip.saliency[:, 1:6].amax() > 0
    with torch.inference_mode():
        _, lifted = edge(clip)
    for i, pose in enumerate(poses):
        np.testing.assert_allclose(pose.joints, lifted.joints[0, i], atol=1e-5)
        np.testing.assert_allclose(pose.variance, lifted.variance[0, i], atol=1e-5)
        np.testing.assert_allclose(pose.confidence, lifted.confidence[0, i], atol=1e-5)
        assert pose.height == pytest.approx(float(lifted.height[0, i]), abs=1e-5)


def test_the_untrained_network_runs_the_whole_way_and_twice_alike(edge):
    results = []
    for _ in range(2):
        estimate = PoseEstimator(edge, max_people=2)
        poses = []
        for i in range(6):
            poses += estimate.step(np.roll(textured(3), 2 * i, axis=0), i * FRAME, CAMERA)
        results.append(poses)
    same(*results)
    live = [pose for pose in results[0] if pose.tracking_state == OK]
    assert len(live) >= 6
    assert all(np.isfinite(pose.joints).all() for pose in live)
    timings = estimate.last_timings
    parts = timings.find + timings.crop + timings.observe + timings.lift
    assert 0 < timings.observe < parts <= timings.total


def test_a_batch_of_people_gives_what_each_alone_gives(edge):
    boxes = [person(80, 100, 60, 100), person(220, 130, 70, 120)]
    together = PoseEstimator(edge).step(textured(5), 0.0, CAMERA, boxes=boxes)
    for box, pose in zip(boxes, together, strict=True):
        (alone,) = PoseEstimator(edge).step(textured(5), 0.0, CAMERA, boxes=[box])
        np.testing.assert_allclose(pose.joints, alone.joints, atol=1e-5)


def test_the_callers_gradients_and_mode_are_left_alone(edge):
    edge.train()
    estimate = PoseEstimator(edge)
    assert not edge.training
    estimate.step(textured(5), 0.0)
    assert torch.is_grad_enabled()
    assert all(parameter.requires_grad for parameter in edge.parameters())
