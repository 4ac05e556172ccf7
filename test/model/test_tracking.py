"""Boxes are followed, matched and told apart as their geometry says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stsp_model import tracking
from stsp_model.lifter import TrackState
from stsp_model.tracking import Track

STATE = TrackState.empty()


def track(box, velocity=(0.0, 0.0), stamp=1.0, name="p1"):
    return Track(name, np.array(box, float), stamp, STATE, np.array(velocity, float), stamp)


def test_a_standing_persons_box_stays():
    assert track([10, 20, 50, 120]).box_at(1.1).tolist() == [10, 20, 50, 120]


def test_a_moving_persons_box_moves_and_grows_by_half_the_way():
    box = track([10, 20, 50, 120], velocity=(100, -20)).box_at(1.1)
    np.testing.assert_allclose(box, [10 + 10 - 5, 20 - 2 - 1, 50 + 10 + 5, 120 - 2 + 1])


def test_prediction_has_its_limits_in_time_and_in_space():
    box = track([0, 0, 40, 100], velocity=(100, 0)).box_at(9.0)
    assert box[0] == pytest.approx(20 - 10)  # 0.2 s ahead
    box = track([0, 0, 40, 100], velocity=(1e6, 0)).box_at(1.1)
    assert box[0] == pytest.approx(50 - 25)  # half the longer side


@given(st.floats(-300, 300), st.floats(-300, 300), st.floats(0.01, 0.1))
def test_a_steady_walk_is_followed_with_its_velocity(vx, vy, interval):
    walker, velocity = track([0, 0, 40, 100]), np.array([vx, vy])
    for i in range(1, 80):
        box = np.array([0.0, 0, 40, 100]) + np.tile(velocity * i * interval, 2)
        walker = walker.seen(box, 1 + i * interval, STATE, sure=True, max_gap=0.5)
    assert np.abs(walker.velocity - velocity).max() <= 1e-2 * np.abs(velocity).max() + 1e-6
    np.testing.assert_allclose(walker.box, box, atol=1e-6)


def test_one_leap_of_a_box_is_not_yet_a_velocity():
    leapt = np.array([10.0, 0, 50, 100])
    stood = track([0, 0, 40, 100]).seen(leapt, 1 + 1 / 30, STATE, sure=True, max_gap=0.5)
    assert 0 < stood.velocity[0] < 0.3 * 10 * 30
    stays = stood.seen(leapt, 1 + 2 / 30, STATE, sure=True, max_gap=0.5)
    assert 0 < stays.velocity[0] < stood.velocity[0]


def test_who_is_found_elsewhere_is_not_taken_to_go_on_as_before():
    running, found = track([0, 0, 40, 100], velocity=(90, 0)), np.array([[30.0, 0, 70, 100]])
    (look,) = tracking.followed_candidates([running], found, 1.1, last=1.05, most=1)
    assert look.track.id == "p1"
    assert look.track.velocity.tolist() == [0, 0]
    assert running.velocity.tolist() == [90, 0]


def test_a_box_grows_faster_than_it_shrinks():
    small, large = np.array([0.0, 0, 40, 100]), np.array([-30.0, -50, 70, 150])
    grown = track(small).seen(large, 1.033, STATE, True, 0.5).box
    shrunk = track(large).seen(small, 1.033, STATE, True, 0.5).box
    grown_share = ((grown - small) / (large - small))[0]
    shrunk_share = ((shrunk - large) / (small - large))[0]
    assert grown_share > 3 * shrunk_share > 0


def test_after_a_gap_the_velocity_is_forgotten():
    later = track([0, 0, 40, 100], velocity=(50, 0)).seen(
        np.array([200.0, 0, 240, 100]), 3.0, STATE, sure=True, max_gap=0.5
    )
    assert later.velocity.tolist() == [0, 0]
    assert later.box.tolist() == [200, 0, 240, 100]


def test_joints_box_uses_sure_joints_only():
    joints = np.array([[0.0, 0], [10, 50], [20, 100], [5, 80], [999, 999], [np.nan, 3]])
    confidence = np.array([1.0, 1, 1, 1, 0.01, 1])
    assert tracking.joints_box(joints, confidence).tolist() == [0, 0, 20, 100]
    assert tracking.joints_box(joints, np.where(confidence < 1, 0, [1, 1, 1, 0, 0, 1])) is None
    assert tracking.joints_box(joints / 100, confidence) is None  # too small to be anybody


def test_clipping_leaves_what_is_inside_or_nothing():
    limits = np.array([0.0, 0, 100, 100])
    assert tracking.clipped(np.array([-50.0, 20, 30, 90]), limits).tolist() == [0, 20, 30, 90]
    assert tracking.clipped(np.array([-50.0, 20, -1, 90]), limits) is None
    assert tracking.clipped(np.array([-50.0, 20, np.nan, 90]), limits) is None
    assert tracking.clipped(np.array([-50.0, -50, 5, 5]), limits) is None


def test_overlap_by_hand():
    a = np.array([[0.0, 0, 10, 10]])
    b = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 0, 30, 10]])
    np.testing.assert_allclose(tracking.overlaps(a, b), [[1, 1 / 3, 0]])
    np.testing.assert_allclose(tracking.shares_within(a, b), [[1, 1 / 2, 0]])
    around = np.array([[-10.0, 0, 10, 20]])
    np.testing.assert_allclose(tracking.shares_within(a, around), [[1]])
    np.testing.assert_allclose(tracking.shares_within(around, a), [[1 / 4]])


def test_matching_takes_the_best_pairs_first_and_each_box_once():
    a = np.array([[0.0, 0, 10, 10], [4, 0, 14, 10]])
    b = np.array([[5.0, 0, 15, 10], [50, 0, 60, 10]])
    assert tracking.match(tracking.overlaps(a, b), 0.1) == {0: 1}
    assert tracking.match(tracking.overlaps(a, b), 0.9) == {}
    assert tracking.match(np.empty((2, 0)), 0.1) == {}


def test_doubles_leave_the_best():
    boxes = np.array([[0.0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10]])
    assert tracking.without_doubles(boxes, 0.5) == [0, 2]


def test_where_to_look_goes_by_sight_then_finds_then_memory():
    seen, gone = track([0, 0, 10, 30], stamp=1.0), track([100, 0, 110, 30], stamp=0.8, name="p2")
    found = np.array([[0.0, 0, 10, 30], [200, 0, 210, 30], [104, 0, 114, 30]])
    looks = tracking.followed_candidates([seen, gone], found, 1.03, last=1.0, most=9)
    assert [(c.track.id if c.track else None) for c in looks] == ["p1", "p2", None]
    assert [c.box[0] for c in looks] == [0, 104, 200]
    looks = tracking.followed_candidates([seen, gone], found[:2], 1.03, last=1.0, most=9)
    assert [(c.track.id if c.track else None) for c in looks] == ["p1", None, "p2"]
    assert len(tracking.followed_candidates([seen, gone], found, 1.03, 1.0, most=1)) == 1


def test_while_joints_do_not_tell_the_box_stays_where_it_was_seen():
    running = track([0, 0, 10, 30], velocity=(90, 0))
    (look,) = tracking.followed_candidates([running], np.empty((0, 4)), 1.1, last=1.0, most=1)
    assert look.box.tolist() != look.unguided_box().tolist() == [0, 0, 10, 30]
    found = np.array([[2.0, 0, 12, 30]])
    (look,) = tracking.followed_candidates([running], found, 1.1, last=1.05, most=1)
    assert look.unguided_box().tolist() == look.box.tolist() == [2, 0, 12, 30]


def test_given_boxes_keep_their_order_and_are_trusted():
    tracks = [track([0, 0, 10, 30]), track([100, 0, 110, 30], name="p2")]
    boxes = np.array([[101.0, 0, 111, 30], [300, 0, 310, 30], [1, 0, 11, 30]])
    looks = tracking.given_candidates(tracks, boxes, 1.03)
    assert [(c.track.id if c.track else None) for c in looks] == ["p2", None, "p1"]
    assert all(c.trusted for c in looks)


def test_poses_on_top_of_each_other_are_one_person():
    joints = np.random.default_rng(0).uniform(0, 100, size=(17, 2))
    box = np.array([0.0, 0, 50, 100])
    assert tracking.same_person(joints, joints + 3, box)
    assert not tracking.same_person(joints, joints + 30, box)
    # In the mean nearer than 0.13 of the longer side of 100 pixels.
    for way in (np.array([1, 0]), np.array([0.6, -0.8])):
        near = [tracking.same_person(joints, joints + d * way, box) for d in (10, 12.5, 13.5, 16)]
        assert near == [True, True, False, False]


def doubted(box, name="p1"):
    """A track seen at 1 s, when somebody had last been there beyond doubt at 0.9 s."""
    one = track(box, name=name)
    return Track(one.id, one.box, one.stamp, one.state, one.velocity, 0.9, doubted=True)


def test_in_doubt_the_box_that_the_finder_sees_near_is_looked_at():
    near, far = np.array([20.0, 30, 70, 100]), np.array([300.0, 0, 340, 100])
    first, second = tracking.followed_candidates(
        [doubted([10, 40, 40, 90])], np.array([far, near]), 1.03, 1.0, 5
    )
    assert first.track.id == "p1"
    assert first.box.tolist() == near.tolist()
    assert first.track.sure == 1.0
    assert second.track is None


def test_who_is_in_doubt_comes_before_people_not_seen_until_now():
    far = np.array([[300.0, 0, 340, 100]])
    (candidate,) = tracking.followed_candidates([doubted([10, 40, 40, 90])], far, 1.03, 1.0, 1)
    assert candidate.track.id == "p1"
    assert candidate.box.tolist() == [10, 40, 40, 90]
    assert candidate.track.sure == 0.9


def test_in_doubt_nobody_becomes_a_person_who_only_passes():
    passing = np.array([[20.0, 70, 60, 170]])  # over a tenth of both
    (candidate,) = tracking.followed_candidates([doubted([10, 40, 40, 120])], passing, 1.03, 1.0, 1)
    assert candidate.box.tolist() == [10, 40, 40, 120]


def test_a_box_that_has_shrunk_to_a_part_of_somebody_becomes_the_whole_again():
    shrunk, whole = doubted([85, 118, 127, 176]), np.array([[73.0, 0, 161, 205]])
    assert tracking.overlaps(shrunk.box[None], whole)[0, 0] < 0.2
    (candidate,) = tracking.followed_candidates([shrunk], whole, 1.03, 1.0, 1)
    assert candidate.track.id == "p1"
    assert candidate.box.tolist() == whole[0].tolist()
    half_out = doubted([50, 118, 92, 176])
    (candidate,) = tracking.followed_candidates([half_out], whole, 1.03, 1.0, 1)
    assert candidate.box.tolist() == half_out.box.tolist()


def test_in_doubt_the_whole_comes_before_a_part_that_is_found_as_well():
    """A child whose head is outside the picture, and whose shorts are found beside all of it."""
    found = np.array([[82.0, 0, 167, 256], [97, 156, 149, 236]])
    (look,) = tracking.followed_candidates([doubted([97, 152, 148, 230])], found, 1.03, 1.0, 1)
    assert look.box.tolist() == found[0].tolist()
    (look,) = tracking.followed_candidates(
        [doubted([97, 152, 148, 230])], found[::-1], 1.03, 1.0, 1
    )
    assert look.box.tolist() == found[1].tolist()


def test_in_doubt_nobody_becomes_two_people():
    """The jumper of the parkour video stands above a woman, and the finder sees one person."""
    jumper, both = track([630, 98, 740, 438]), np.array([[600.0, 90, 1000, 890]])
    for i in range(3):
        jumper = jumper.seen(jumper.box, 1.03 + i / 30, STATE, sure=i == 0, max_gap=1.0)
    assert jumper.doubted
    assert jumper.sure_side == 340
    (look,) = tracking.followed_candidates([jumper], both, 1.13, jumper.stamp, 1)
    assert look.box.tolist() == pytest.approx([630, 98, 740, 438])
    grown = np.array([[600.0, 60, 800, 480]])
    (look,) = tracking.followed_candidates([jumper], grown, 1.13, jumper.stamp, 1)
    assert look.box.tolist() == grown[0].tolist()


def test_after_a_gap_the_sure_size_is_remembered():
    later = track([0, 0, 10, 30]).seen(np.array([0.0, 0, 20, 60]), 1.5, STATE, True, 0.2)
    assert later.sure_side == 60
    assert later.seen(np.array([0.0, 0, 9, 20]), 2.5, STATE, False, 0.2).sure_side == 60


def test_without_doubt_the_finders_box_on_a_person_is_left_aside():
    found = np.array([[12.0, 38, 42, 92]])
    (candidate,) = tracking.followed_candidates([track([10, 40, 40, 90])], found, 1.03, 1.0, 5)
    assert candidate.box.tolist() == [10, 40, 40, 90]


def test_who_is_found_close_to_a_tracked_person_is_looked_at_too():
    known = track([0, 0, 40, 100])
    own, neighbour, double = [1.0, 2, 41, 98], [18.0, 0, 58, 100], [8.0, 0, 48, 100]
    found = np.array([own, double, neighbour])  # that overlap the tracked box by 0.88, 0.67, 0.38
    looks = tracking.followed_candidates([known], found, 1.03, 1.0, 5)
    assert [(c.track.id if c.track else None) for c in looks] == ["p1", None]
    assert looks[1].box.tolist() == neighbour
    # Where no better box is there it is taken for the same person's.
    assert len(tracking.followed_candidates([known], found[2:], 1.03, 1.0, 5)) == 1


def test_low_joints_leave_doubts_as_a_low_score_does():
    assert tracking.sure(0.98, np.full(17, 0.6))
    assert not tracking.sure(0.9, np.full(17, 0.6))
    assert tracking.sure(0.97, np.full(17, 0.6))
    assert not tracking.sure(0.96, np.full(17, 0.6))
    assert not tracking.sure(0.98, np.full(17, 0.4))
