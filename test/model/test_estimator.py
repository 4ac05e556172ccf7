"""PoseEstimator finds, follows, loses and names people as promised, whatever time does."""

import numpy as np
import pytest
from scene import (
    CAMERA,
    FRAME,
    OK,
    TERMINATE,
    SceneNet,
    estimator,
    joints_of,
    person,
    picture,
    same,
    states,
)

from stsp_model.estimator import SEARCH_EVERY, LateFrameError, warm_up

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


def test_who_is_found_again_keeps_the_name_though_the_finder_is_surer_of_another():
    estimate = estimator(max_people=1)
    own, other = person(80, 150), person(200, 80)
    estimate.step(picture(own), 0.0)
    assert states(estimate.step(picture(), FRAME)) == []
    estimate.model.found = (5.0, 3.0)
    (pose,) = estimate.step(picture(other, own), 2 * FRAME)
    assert (pose.id, pose.tracking_state) == ("p1", OK)
    np.testing.assert_allclose(pose.joints_2d, joints_of(own), atol=1.5)


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


def test_joints_alone_are_nobody_where_the_crop_does_not_look_like_a_person():
    estimate = estimator()
    estimate.model.absent = True
    assert estimate.step(picture(person(100, 100)), 0.0) == []
    estimate.model.absent = False
    assert states(estimate.step(picture(person(100, 100)), FRAME)) == [("p1", OK)]
    estimate.model.absent = True
    assert estimate.step(picture(person(100, 100)), 2 * FRAME) == []
    assert estimate.model.crops_seen == [1, 1, 1]


@pytest.mark.parametrize(("score", "crops"), [(0.19, []), (0.21, [1])])
def test_the_finders_boxes_are_looked_at_from_two_thirds_of_the_least_confidence(score, crops):
    estimate = estimator(min_confidence=0.3)
    estimate.model.found = (np.log(score / (1 - score)),)
    seen = states(estimate.step(picture(person(100, 100)), 0.0))
    assert seen == [("p1", OK)] * len(crops)  # the closer look decides
    assert estimate.model.crops_seen == crops


def test_a_part_of_a_person_that_shows_no_joint_surely_is_not_published():
    """A hand before the camera is somebody, but where the joints are it does not tell."""
    estimate = estimator(min_confidence=0.3)
    estimate.model.vague = True
    assert estimate.step(picture(person(100, 100)), 0.0) == []
    estimate.configure(min_confidence=0.1)
    assert states(estimate.step(picture(person(100, 100)), FRAME)) == [("p1", OK)]


def test_who_is_new_must_be_seen_more_surely_than_who_is_in_sight():
    estimate = estimator(min_confidence=0.17)
    estimate.model.vague = True  # all joints have 0.2
    assert estimate.step(picture(person(100, 100)), 0.0) == []
    estimate.model.vague = False
    assert states(estimate.step(picture(person(100, 100)), FRAME)) == [("p1", OK)]
    estimate.model.vague = True
    assert states(estimate.step(picture(person(100, 100)), 2 * FRAME)) == [("p1", OK)]


def test_someone_else_is_followed_when_the_first_is_gone():
    estimate = estimator()
    estimate.step(picture(person(60, 100)), 0.0)
    assert estimate.step(picture(person(260, 100)), FRAME) == []  # looked where the first was
    poses = estimate.step(picture(person(260, 100)), 2 * FRAME)
    assert states(poses) == [("p2", OK), ("p1", TERMINATE)]


def test_who_is_in_doubt_is_followed_while_the_finder_agrees():
    estimate = estimator(max_gap=0.2)
    estimate.step(picture(person(100, 100)), 0.0)
    estimate.model.doubting = True
    for i in range(1, 20):
        assert states(estimate.step(picture(person(100, 100)), i * FRAME)) == [("p1", OK)]
    assert estimate.model.finder_passes == 1 + 18  # the first doubt is told by its own frame


def test_who_is_in_doubt_and_not_found_either_is_given_up():
    estimate = estimator(max_gap=0.2)
    estimate.step(picture(person(100, 100)), 0.0)
    estimate.model.doubting = estimate.model.lost = True
    told = [states(estimate.step(picture(person(100, 100)), i * FRAME)) for i in range(1, 9)]
    assert told == [*([[("p1", OK)]] * 6), [("p1", TERMINATE)], []]
    estimate.model.lost = False
    assert states(estimate.step(picture(person(100, 100)), 9 * FRAME)) == [("p2", OK)]


def test_who_was_lost_in_doubt_is_searched_no_more_often_than_others():
    estimate = estimator(max_people=2)
    both = [person(80, 100), person(220, 100)]
    estimate.step(picture(*both), 0.0, boxes=both)
    estimate.model.doubting = True
    estimate.step(picture(*both), FRAME)
    estimate.model.doubting = False
    estimate.step(picture(both[0]), 2 * FRAME)  # the doubts of the frame before ask the finder
    assert estimate.model.finder_passes == 1
    for i in range(3, 2 + SEARCH_EVERY):
        assert states(estimate.step(picture(both[0]), i * FRAME)) == [("p1", OK)]
    assert estimate.model.finder_passes == 1
    told = states(estimate.step(picture(*both), (2 + SEARCH_EVERY) * FRAME))
    assert told == [("p1", OK), ("p2", OK)]


def test_a_doubt_that_passes_is_forgotten():
    estimate = estimator(max_gap=0.2)
    estimate.step(picture(person(100, 100)), 0.0)
    estimate.model.lost = True
    for i in range(1, 40):
        estimate.model.doubting = i % 5 != 0
        assert states(estimate.step(picture(person(100, 100)), i * FRAME)) == [("p1", OK)]


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


def test_who_walks_behind_somebody_does_not_take_over_the_others_name():
    estimate = estimator(max_people=2)
    walking, standing = person(60, 120), person(200, 120)
    estimate.step(picture(walking, standing), 0.0, boxes=[walking, standing])
    told = []
    for i in range(1, 40):
        walking = person(60 + 6 * i, 120)
        seen = [standing]
        if abs(walking[0] - standing[0]) > 32:  # else the first is behind the second
            seen.append(walking)
        told.append(estimate.step(picture(*seen), i * FRAME))
    for poses in told:
        (pose,) = (p for p in poses if p.id == "p2")
        np.testing.assert_allclose(pose.joints_2d, joints_of(standing), atol=1.5)
    assert [len(states(poses)) for poses in told[20:25]] == [1] * 5
    assert states(told[-1]) == [("p2", OK), ("p3", OK)]


def test_a_track_whose_pose_lies_on_anothers_ends_in_that_very_frame():
    estimate = estimator(max_people=2)
    one = picture(person(80, 100))
    both = states(estimate.step(one, 0.0, boxes=[person(80, 100), person(100, 100)]))
    assert both == [("p1", OK), ("p2", OK)]
    assert states(estimate.step(one, FRAME)) == [("p1", OK), ("p2", TERMINATE)]
    assert estimate.model.crops_seen == [2, 2]
    assert states(estimate.step(one, 2 * FRAME)) == [("p1", OK)]


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


def test_frames_with_given_boxes_count_towards_the_next_look_for_further_people():
    estimate = estimator(max_people=2)
    both = [person(80, 100), person(220, 100)]
    estimate.step(picture(both[0]), 0.0)
    for i in range(1, SEARCH_EVERY):
        estimate.step(picture(*both), i * FRAME, boxes=both[:1])
    assert estimate.model.finder_passes == 1
    assert states(estimate.step(picture(*both), SEARCH_EVERY * FRAME)) == [("p1", OK), ("p2", OK)]
    assert estimate.model.finder_passes == 2


# Warming up


@pytest.mark.parametrize(("most", "crops"), [(1, [1]), (2, [1, 2]), (5, [1, 2, 4, 5])])
def test_warming_up_runs_every_number_of_people_that_doubles_and_the_most(most, crops):
    network = SceneNet()
    warm_up(network, most)
    assert network.crops_seen == crops
    assert network.finder_passes == 1


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


@pytest.mark.parametrize("interval", [0.4, 0.6, 1.0])
def test_however_slow_the_stream_a_person_stays_while_the_finder_sees_one(interval):
    estimate = estimator()
    image = picture(person(80, 100))
    estimate.step(image, 0.0)
    estimate.model.doubting = True
    for i in range(1, 6):
        assert states(estimate.step(image, i * interval)) == [("p1", OK)]
    estimate.model.lost = True
    ended = [states(estimate.step(image, i * interval)) for i in range(6, 10)]
    assert ended[-1] == []
    assert [("p1", TERMINATE)] in ended


def test_a_doubtful_frame_after_a_gap_ends_nobody():
    estimate = estimator()
    image = picture(person(80, 100))
    for i in range(4):
        estimate.step(image, i * FRAME)
    estimate.model.doubting = True
    for i in range(4):
        assert states(estimate.step(image, 1.0 + i * FRAME)) == [("p1", OK)]


def test_what_counts_as_a_gap_can_be_set():
    estimate = estimator(max_gap=0.2)
    for stamp, past in ((0.0, 0), (0.15, 1), (0.4, 0), (0.5, 1)):
        (pose,) = estimate.step(picture(person(80, 100)), stamp)
        assert pose.frames_used == past
    patient = estimator(max_gap=2.0)
    patient.step(picture(person(80, 100)), 0.0)
    assert patient.step(picture(person(80, 100)), 1.9)[0].frames_used == 1


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
