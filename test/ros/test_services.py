"""Services, markers, joint angles and the debug image of a running node."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bench import FRAME, Bench, FakeEstimator, a_lost_pose, a_pose, an_image, wait_for
from lifecycle_msgs.msg import Transition
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import Marker

from stsp_model.angles import ANGLE_NAMES, joint_angles
from stsp_model.estimator import Pose
from stsp_ros import pipeline
from stsp_ros.conversions import image_from_message


def enable(bench: Bench, on: bool) -> SetBool.Response:
    return bench.peer.call(SetBool, "enable", SetBool.Request(data=on))


def actions(bench: Bench) -> list[int]:
    return [marker.action for array in list(bench.peer.markers) for marker in array.markers]


def greet_with_markers(bench: Bench) -> None:
    """Run until a marker came, so that none can be missed after."""
    bench.peer.listen_to_markers()

    def marked() -> bool:
        bench.peer.greet()
        return bool(bench.peer.markers)

    wait_for(marked, "the first markers")
    bench.peer.markers.clear()


def test_disable_stops_and_enable_resumes(bench: Bench) -> None:
    fake = FakeEstimator()
    bench.start(fake)
    greet_with_markers(bench)
    resets = fake.resets
    assert enable(bench, False).success
    wait_for(lambda: Marker.DELETEALL in actions(bench), "DELETEALL")
    assert fake.resets > resets
    wait_for(lambda: bench.peer.image.get_subscription_count() == 0, "the end of subscribing")
    status = bench.peer.status(lambda values, _: values.get("state") == "active, disabled")
    assert status.message == "active, disabled"
    assert enable(bench, True).success
    bench.peer.greet()


def test_disabled_before_activation_holds(bench: Bench) -> None:
    bench.start(autostart=False)
    response = enable(bench, False)
    assert response.success
    assert "when the node is active" in response.message
    assert bench.peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert bench.peer.change_state(Transition.TRANSITION_ACTIVATE)
    bench.peer.status(lambda values, _: values.get("state") == "active, disabled")
    assert bench.peer.image.get_subscription_count() == 0


def test_enable_says_so_when_subscribing_fails(bench: Bench) -> None:
    name = "qos_overrides./image.subscription.reliability"
    bench.start(autostart=False, **{name: "perhaps"})
    assert enable(bench, False).success
    assert bench.peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert bench.peer.change_state(Transition.TRANSITION_ACTIVATE)
    response = enable(bench, True)
    assert not response.success
    assert "perhaps" in response.message
    bench.peer.status(lambda values, _: values.get("state") == "active, disabled")
    assert bench.peer.image.get_subscription_count() == 0
    assert bench.peer.region.get_subscription_count() == 0


def test_reset_forgets_the_tracks_and_their_markers(bench: Bench) -> None:
    fake = FakeEstimator()
    bench.start(fake)
    greet_with_markers(bench)
    resets = fake.resets
    assert bench.peer.call(Trigger, "reset", Trigger.Request()).success
    wait_for(lambda: Marker.DELETEALL in actions(bench), "DELETEALL")
    assert fake.resets == resets + 1


def test_reset_says_so_when_there_is_nothing_to_reset(bench: Bench) -> None:
    bench.start(autostart=False)
    response = bench.peer.call(Trigger, "reset", Trigger.Request())
    assert not response.success
    assert "not configured" in response.message


def test_a_lost_persons_markers_are_deleted(bench: Bench) -> None:
    def answer(stamp: float) -> list[Pose]:
        return [a_lost_pose("p7")] if stamp == 80.0 else [a_pose("p7")]

    bench.start(FakeEstimator(answer=answer))
    greet_with_markers(bench)
    bench.peer.image.publish(an_image(80.0))
    wait_for(lambda: Marker.DELETE in actions(bench), "DELETE")
    deleted = [
        (marker.ns, marker.id)
        for array in bench.peer.markers
        for marker in array.markers
        if marker.action == Marker.DELETE
    ]
    assert sorted(deleted) == [("p7", 0), ("p7", 1), ("p7", 2)]


def test_deactivation_deletes_all_markers(bench: Bench) -> None:
    bench.start()
    greet_with_markers(bench)
    assert bench.peer.change_state(Transition.TRANSITION_DEACTIVATE)
    wait_for(lambda: Marker.DELETEALL in actions(bench), "DELETEALL")
    assert bench.peer.markers[-1].markers[0].header.frame_id == FRAME


def test_joint_angles_come_only_for_subscribers_and_of_who_is_seen(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[JointState] = []
    make = pipeline.joint_angles_message

    def noted_make(*arguments: Any) -> JointState:
        made.append(make(*arguments))
        return made[-1]

    monkeypatch.setattr(pipeline, "joint_angles_message", noted_make)

    def answer(stamp: float) -> list[Pose]:
        return [a_lost_pose("p7")] if stamp == 80.0 else [a_pose("p7")]

    bench.start(FakeEstimator(answer=answer))
    bench.peer.greet()
    assert made == []
    heard: list[JointState] = []
    bench.peer.listen(JointState, "/stsp/joint_angles", heard.append)

    def told() -> bool:
        bench.peer.greet()
        return bool(heard)

    wait_for(told, "the first joint angles")
    for stamp in (79.0, 80.0):
        heard.clear()
        bench.peer.image.publish(an_image(stamp))
        (message,) = wait_for(lambda: list(heard), f"joint angles at {stamp} s")
        assert message.header == bench.peer.skeletons_at(stamp).header
        seen = stamp == 79.0
        assert message.name == [f"p7/{name}" for name in ANGLE_NAMES if seen]
        expected = joint_angles(a_pose().joints) if seen else []
        np.testing.assert_array_equal(message.position, expected)


def test_outputs_are_reliable_volatile_and_of_depth_5(bench: Bench) -> None:
    node = bench.start()
    wait_for(lambda: bench.peer.state() == "active", "activity")
    depths = {publisher.topic_name: publisher.qos_profile.depth for publisher in node.publishers}
    for name in ("skeletons", "markers", "joint_angles", "debug_image", "debug_image/compressed"):
        topic = f"/stsp/{name}"
        (told,) = wait_for(lambda t=topic: bench.peer.get_publishers_info_by_topic(t), topic)
        assert told.qos_profile.reliability == ReliabilityPolicy.RELIABLE
        assert told.qos_profile.durability == DurabilityPolicy.VOLATILE
        assert depths[topic] == 5  # which discovery does not tell


def test_the_debug_image_is_drawn_only_for_subscribers(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    draw = pipeline.draw_skeleton

    def noted_draw(*arguments: object, **options: object) -> None:
        drawn.append(str(options["label"]))
        draw(*arguments, **options)

    monkeypatch.setattr(pipeline, "draw_skeleton", noted_draw)
    bench.start()
    bench.peer.greet()
    assert drawn == []
    pictures: list[Image] = []
    bench.peer.listen(Image, "/stsp/debug_image", pictures.append)

    def shown() -> bool:
        bench.peer.greet()
        return bool(pictures)

    wait_for(shown, "a debug image")
    assert drawn
    picture = image_from_message(pictures[-1])
    assert picture.shape == (48, 64, 3)
    assert (picture != 7).any()  # the plain image is 7 everywhere


def test_the_debug_image_comes_compressed_too(bench: Bench) -> None:
    bench.start()
    pictures: list[CompressedImage] = []
    bench.peer.listen(CompressedImage, "/stsp/debug_image/compressed", pictures.append)

    def shown() -> bool:
        bench.peer.greet()
        return bool(pictures)

    wait_for(shown, "a compressed debug image")
    assert pictures[-1].header.frame_id == FRAME
    picture = image_from_message(pictures[-1])
    assert picture.shape == (48, 64, 3)
    assert int(np.ptp(picture)) > 50


@pytest.mark.parametrize(
    ("rules", "topic"),
    [
        (["~/debug_image:=/viz/debug"], "/viz/debug/compressed"),
        (["~/debug_image:=/viz/debug", "~/debug_image/compressed:=/viz/jpeg"], "/viz/jpeg"),
        (["~/debug_image/compressed:=/viz/jpeg"], "/viz/jpeg"),
    ],
)
def test_a_remap_of_the_debug_image_takes_compressed_along_unless_that_has_its_own(
    bench: Bench, rules: list[str], topic: str
) -> None:
    bench.start(ros_args=[word for rule in rules for word in ("-r", rule)])
    listener = bench.peer.listen(CompressedImage, topic, lambda _: None)
    wait_for(lambda: bench.peer.count_publishers(topic), f"a publisher on {topic}")
    assert listener.topic_name == topic


def test_diagnostics_hold_the_figures(bench: Bench) -> None:
    bench.start()
    bench.peer.greet()
    bench.peer.image.publish(an_image(90.0))
    status = bench.peer.status(lambda values, _: "overhead p50 (ms)" in values)
    values = {pair.key: pair.value for pair in status.values}
    assert status.name == "stsp"
    assert {
        "state",
        "model",
        "people",
        "camera_info",
        "rate in (Hz)",
        "rate out (Hz)",
        "frames received",
        "frames processed",
        "frames dropped",
        "messages lost",
        "arrival to publication p50 (ms)",
        "arrival to publication p99 (ms)",
        "estimation p50 (ms)",
    } <= set(values)
    # Stamps of 90 s after the epoch are no measure of latency.
    assert not any(key.startswith("stamp to publication") for key in values)
    assert values["people"] == "1"


def test_stamps_of_now_give_a_second_latency(bench: Bench) -> None:
    node = bench.start()
    bench.peer.greet()
    now = 1e-9 * node.get_clock().now().nanoseconds
    bench.peer.image.publish(an_image(now))
    bench.peer.status(lambda values, _: "stamp to publication p50 (ms)" in values)


def test_an_untrained_model_is_told(bench: Bench) -> None:
    fake = FakeEstimator()
    fake.model.trained = False
    bench.start(fake)
    status = bench.peer.status(lambda values, _: "not trained" in values.get("model", ""))
    assert status.level == b"\x01"
    assert "not trained" in status.message


def test_diagnostics_go_on_in_simulated_time_without_a_clock(bench: Bench) -> None:
    bench.start(use_sim_time=True)
    bench.peer.status(lambda values, _: values.get("state") == "active")
    bench.peer.greet()
