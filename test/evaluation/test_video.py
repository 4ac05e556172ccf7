"""Videos with truth: read from bags and clips, followed, and matched to the right person."""

import re
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from footage import CAMERA, T, clip, rendered

from stsp_model import STSPNet
from stsp_model.bag import SKELETONS_TYPE, BagReader, BagWriter
from stsp_model.data.errors import DataError
from stsp_model.estimator import LateFrameError
from stsp_model.evaluation import pck, scores, video
from stsp_model.evaluation.predictions import Prediction
from stsp_model.evaluation.report import text_following
from stsp_model.pose import Pose, TrackingState, terminated
from stsp_model.skeleton import JOINT_COUNT
from stsp_model.synth.bag import TRUTH_TOPIC, write_bag


def pose(person, row, shift=0.0, id="p1"):
    joints = person.joints[row] - person.joints[row, 0]
    empty = terminated(id)
    values = {name: getattr(empty, name) for name in empty.__dataclass_fields__}
    return Pose(
        **values
        | {
            "tracking_state": TrackingState.OK,
            "joints": joints + np.array([shift, 0, 0]) * (np.arange(17) > 0)[:, None],
            "joints_2d": person.joints_2d[row] + 1.0,
            "height": person.height + 0.1,
        }
    )


class Estimator:
    """Sees the people of a footage as they are, a little shifted; notes how it was made."""

    made: ClassVar[list] = []
    footage = None

    def __init__(self, _model, **options):
        Estimator.made.append(options)
        self.stamps = []

    def step(self, image, stamp, camera):
        assert image.shape == (120, 160, 3)
        np.testing.assert_allclose(camera.K, CAMERA.K)
        self.stamps.append(stamp)
        row = len(self.stamps) - 1
        if row == 1:
            raise LateFrameError
        people = self.footage.people
        stranger = pose(people[0], row, id="p9")
        stranger.joints_2d[:] += 400
        here = [pose(person, row, 0.017) for person in reversed(people)]
        return [stranger, *here, terminated("p4")]


@pytest.fixture
def estimator(monkeypatch):
    monkeypatch.setattr(video, "PoseEstimator", Estimator)
    Estimator.made = []
    return Estimator


def test_a_bag_and_a_rendered_clip_hold_the_same_truth(tmp_path):
    one = clip("000000")
    one.visible[2, 1, 5] = False
    write_bag(tmp_path / "bags" / "000000", one)
    (from_bag,) = video.bags(tmp_path / "bags")
    (from_clip,) = rendered(tmp_path, one)
    for bagged, stored in zip(from_bag.people, from_clip.people, strict=True):
        np.testing.assert_allclose(bagged.stamps, stored.stamps, atol=1e-9)
        np.testing.assert_allclose(bagged.joints, stored.joints - stored.joints[:, :1], atol=1e-6)
        np.testing.assert_allclose(bagged.joints_2d, stored.joints_2d, atol=1e-3)
        np.testing.assert_array_equal(bagged.visible, stored.visible)
        assert bagged.height == pytest.approx(stored.height)
    bag, file = list(from_bag.pictures()), list(from_clip.pictures())
    assert len(bag) == len(file) == T
    for (stamp, image, camera), (_, other, _), person_stamp in zip(
        bag, file, from_bag.people[0].stamps, strict=True
    ):
        assert stamp == person_stamp
        np.testing.assert_array_equal(image, other)
        np.testing.assert_allclose(camera.K, CAMERA.K)


def test_people_are_told_apart_and_strangers_left_out(tmp_path, estimator):
    (footage,) = rendered(tmp_path, clip())
    estimator.footage = footage
    found, following = video.predict(None, footage, height_given=False)
    # A picture is late; the rest show both people, one under the stranger's name of once, and him.
    assert following == video.Following(T - 1, 2 * (T - 1), 2 * (T - 1), T - 1, 0)
    assert estimator.made == [{"subject_height": None, "max_people": 2}]
    scored = scores.score([p.take(found[p.name]) for p in footage.people])
    assert (scored.frames, scored.found) == (2 * T, 2 * (T - 1))
    assert scored.average["mpjpe"] == pytest.approx(16, abs=1e-3)  # 17 mm, the pelvis right
    assert scored.average["pck_150"] == pytest.approx(100 * (T - 1) / T)
    assert scored.average["height_error"] == pytest.approx(100, abs=1e-3)
    assert set(scored.per_action) == {"walk", "jump"}
    flat = pck.score(video.detections(footage.people, found))
    assert (flat.images, flat.pck) == (2 * T, pytest.approx(100 * (T - 1) / T))


def test_each_is_followed_with_his_own_height(tmp_path, estimator):
    (footage,) = rendered(tmp_path, clip())
    estimator.footage = footage
    found, following = video.predict(None, footage, height_given=True)
    # Each is asked for in the run with the own height, strangers are counted in both.
    assert following == video.Following(2 * (T - 1), 2 * (T - 1), 2 * (T - 1), 2 * (T - 1), 0)
    assert [made["subject_height"] for made in estimator.made] == pytest.approx([1.1, 1.4])
    assert {made["max_people"] for made in estimator.made} == {2}
    for person in footage.people:
        assert found[person.name].height is None
        assert np.isfinite(found[person.name].joints[2]).all()


@pytest.mark.usefixtures("estimator")
def test_a_height_nobody_has_cannot_be_given(tmp_path):
    (footage,) = rendered(tmp_path, clip(heights=(0.2,)))
    with pytest.raises(DataError, match=r"somebody of 0\.2 m, expected 0\.5 to 2\.5"):
        video.predict(None, footage, height_given=True)


def test_frames_in_which_a_person_hardly_shows_are_not_asked_for(tmp_path):
    one = clip()
    one.visible[1, 0, 3:] = False
    one.visible[2, 0, 4:] = False
    (footage,) = rendered(tmp_path, one)
    person = footage.people[0]
    wrong = np.where(np.arange(T) == 1, 1.0, 0.0)  # where it is not asked for
    found = Prediction(
        joints=person.joints,
        joints_2d=person.joints_2d + 1000 * wrong[:, None, None],
        height=person.height + wrong,
    )
    take = person.take(found)
    assert np.isfinite(take.target).all(axis=(1, 2)).tolist() == [True, False, True, True, True]
    assert scores.score([take]).average["height_error"] == 0
    seen = video.detections([person], {person.name: found})
    assert seen.visible.any(axis=1).tolist() == [True, False, True, True, True]
    assert pck.score(seen).pck == 100
    with pytest.raises(DataError, match=r"clip\[0\] has 3 frames, not 5"):
        person.take(Prediction(joints=person.joints[:3]))


def test_the_real_network_goes_through_the_real_estimator(tmp_path):
    (footage,) = rendered(tmp_path, clip(heights=(1.2,)))
    found, _ = video.predict(STSPNet("edge"), footage, height_given=True)
    (prediction,) = found.values()
    assert prediction.joints.shape == (T, JOINT_COUNT, 3)
    pck.score(video.detections(footage.people, {}))


def test_how_people_are_followed_is_counted_by_hand(tmp_path):
    one = clip()
    one.visible[3, 1, 3:] = False  # hardly shows in the fourth picture
    (footage,) = rendered(tmp_path, one)
    first, second = footage.people

    def near(person, row, id, off=0.0):
        found = pose(person, row, id=id)
        side = np.ptp(person.joints_2d[row], axis=0).max()
        found.joints_2d[:] = person.joints_2d[row] + [off * side, 0]
        return found

    poses = [
        [near(first, 0, "a"), near(second, 0, "b", off=0.19)],
        [near(first, 1, "a"), terminated("b")],  # the second is missed
        [near(first, 2, "b"), near(second, 2, "a")],  # both have changed their ids
        [near(first, 3, "b"), near(second, 3, "a")],  # of whom one is not asked for
        [near(first, 4, "b", off=9), near(second, 4, "c")],  # nobody, and another id
    ]
    frames = list(zip(first.stamps.tolist(), poses, strict=True))
    frames.append((first.stamps[-1] + 1, [near(first, 4, "a")]))  # of which nothing is known
    everybody = video.followed(footage.people, footage.people, frames)
    assert everybody == video.Following(5, people=9, seen=7, false_positives=1, switches=3)
    assert video.followed([], [], frames) == video.Following(6, false_positives=10)
    alone = video.followed(footage.people, [second], frames)
    assert alone == video.Following(5, people=4, seen=3, false_positives=1, switches=2)
    shown = text_following(everybody + alone)
    rows = [re.split(r"\s{2,}", line) for line in shown.splitlines()]
    assert rows[0] == ["following", "13 people in 10 pictures"]
    assert rows[2:] == [
        ["with a pose on them, %", "76.9"],
        ["poses on nobody, per picture", "0.200"],
        ["ID switches", "5"],
    ]
    assert re.search(r"with a pose on them, % +-\n", text_following(video.Following(frames=2)))


def test_the_nearest_pair_belongs_together_first():
    place = np.random.default_rng(0).uniform(0, 100, (JOINT_COUNT, 2))
    found = [place + 20.0, place + 1.0, place + 10.0]
    assert video.nearest_pairs(found, [place]) == [(1, 0)]
    assert sorted(video.nearest_pairs(found, [place, place + 19.0])) == [(0, 1), (1, 0)]


def with_truth(path, topics, change=None):
    """A bag whose first frame has its truth, changed in some way, on each of some topics."""
    write_bag(path.with_name("whole"), clip(heights=(1.2,)))
    with BagReader(path.with_name("whole")) as reader, BagWriter(path) as bag:
        message = reader.decode(next(reader.records([TRUTH_TOPIC])))
        if change:
            change(message)
        bag.add_topic("/empty", SKELETONS_TYPE)
        for topic in topics:
            bag.add_topic(topic, SKELETONS_TYPE)
            bag.write_message(topic, 1, message)
    return path


def test_a_bag_without_truth_has_no_people(tmp_path):
    bag = with_truth(tmp_path / "none", [])
    assert video.bag_people(bag) == ()
    with pytest.raises(DataError, match="none has nobody on a topic ground_truth/skeletons"):
        list(video.bags(bag))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.joint_names.reverse(), r"the truth has joints \['right_wrist'"),
        (lambda m: m.skeletons[0].joints_2d.clear(), "child_0 has 0 joints_2d, expected 17"),
        (
            lambda m: setattr(m.skeletons[0], "tracking_state", 9),
            "at 1.000 s: 9 is not a valid TrackingState",
        ),
    ],
)
def test_a_truth_that_cannot_be_read_is_refused(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        video.bag_people(with_truth(tmp_path / "bag", [TRUTH_TOPIC], change))


def test_two_truths_are_refused(tmp_path):
    bag = with_truth(tmp_path / "bag", ["/a" + TRUTH_TOPIC, TRUTH_TOPIC])
    with pytest.raises(DataError, match="has 2 topics ground_truth/skeletons, expected one"):
        video.bag_people(bag)


def test_what_holds_no_truth_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        list(video.bags(tmp_path / "none"))
    with pytest.raises(DataError, match="holds no bag"):
        list(video.bags(tmp_path))
    with pytest.raises(DataError, match="no folder of `stsp synth`"):
        list(video.rendered(tmp_path))


def test_bags_are_told_apart_by_all_of_their_names(tmp_path):
    for number in range(2):
        write_bag(tmp_path / "bags" / f"take1.{number}", clip(heights=(1.2,)))
    names = [person.name for one in video.bags(tmp_path / "bags") for person in one.people]
    assert names == ["take1.0/child_0", "take1.1/child_0"]
    (tmp_path / "bags" / "take1.1.mcap").touch()
    with pytest.raises(DataError, match=r"take1\.1 and .*take1\.1\.mcap have one name"):
        next(video.bags(tmp_path / "bags"))


def test_doubled_truth_counts_once_in_order_and_without_those_who_left(tmp_path):
    write_bag(tmp_path / "whole", clip(heights=(1.2,)))
    with BagReader(tmp_path / "whole") as reader, BagWriter(tmp_path / "bag") as bag:
        bag.add_topic(TRUTH_TOPIC, SKELETONS_TYPE)
        messages = [reader.decode(record) for record in reader.records([TRUTH_TOPIC])]
        for message in reversed(messages[:-1]):
            bag.write_message(TRUTH_TOPIC, 1, message)
        for message in messages[:2]:
            message.skeletons[0].joints_2d[0].u = 7.0
            bag.write_message(TRUTH_TOPIC, 1, message)
        gone = messages[-1].skeletons[0]
        gone.tracking_state, gone.height = int(TrackingState.TERMINATE), np.nan
        bag.write_message(TRUTH_TOPIC, 1, messages[-1])
    (person,) = video.bag_people(tmp_path / "bag")
    np.testing.assert_allclose(person.stamps, 1 + np.arange(T - 1) / 30, atol=1e-9)
    assert (person.joints_2d[:, 0, 0] == 7).tolist() == [True, True, False, False]  # the last ones
    assert person.height == pytest.approx(1.2)


def test_truth_at_the_stamp_of_no_picture_is_told(tmp_path):
    (footage,) = rendered(tmp_path, clip(heights=(1.2,)))
    late = replace(footage.people[0], stamps=footage.people[0].stamps + 0.001)
    reason = "the first picture is of 1.000000000 s, the first true pose of 1.001000000 s"
    with pytest.raises(DataError, match=reason):
        video.predict(STSPNet("edge"), replace(footage, people=(late,)), height_given=False)


def test_a_camera_info_that_cannot_be_used_names_the_bag(tmp_path):
    write_bag(tmp_path / "whole", clip(heights=(1.2,)))
    with BagReader(tmp_path / "whole") as reader, BagWriter(tmp_path / "skewed") as bag:
        for topic in reader.topics.values():
            bag.add_topic(topic.name, topic.type)
        for record in reader.records(list(reader.topics)):
            message = reader.decode(record)
            if record.topic.endswith("camera_info"):
                message.k = np.array([200, 3, 79.5, 0, 200, 59.5, 0, 0, 1.0])
            bag.write_message(record.topic, record.log_time, message)
    (footage,) = video.bags(tmp_path / "skewed")
    with pytest.raises(DataError, match=r"bag .*skewed: camera_info: K is"):
        list(footage.pictures())
