"""Where images, camera_info and roi come from, and over which QoS."""

from __future__ import annotations

import array
import time
from typing import Any

import cv2
import numpy as np
import pytest
from bench import FRAME, Bench, FakeEstimator, a_camera_info, an_image, stamp_of, wait_for
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest

from stsp_ros import node as node_module

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT


def subscription_reliability(bench: Bench, topic: str = "/image") -> ReliabilityPolicy | None:
    """What the node under test asks for."""
    found = [
        info.qos_profile.reliability
        for info in bench.peer.get_subscriptions_info_by_topic(topic)
        if info.node_name == "stsp"
    ]
    return found[0] if len(found) == 1 else None


def a_compressed_image(stamp: float, extension: str = ".jpg") -> CompressedImage:
    picture = np.full((48, 64, 3), (200, 100, 50), np.uint8)
    message = CompressedImage(format=f"bgr8; {extension[1:]} compressed bgr8")
    message.header.stamp = stamp_of(stamp)
    message.header.frame_id = FRAME
    message.data.frombytes(cv2.imencode(extension, picture)[1].tobytes())
    return message


def until_step_has(bench: Bench, fake: FakeEstimator, condition: object, what: str) -> object:
    """Send images until the estimator was called with what `condition(call)` accepts."""
    stamps = iter(np.arange(1000.0, 2000.0))

    def accepted() -> object:
        bench.peer.image.publish(an_image(next(stamps)))
        time.sleep(0.05)
        return fake.calls and condition(fake.calls[-1]) and fake.calls[-1]

    return wait_for(accepted, what)


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_compressed_images(bench: Bench, extension: str) -> None:
    fake = FakeEstimator()
    bench.start(fake, image_transport="compressed")
    publisher = bench.peer.camera_publisher(CompressedImage, "image/compressed")
    bench.peer.greet(publisher, a_compressed_image(0.0, extension))
    publisher.publish(a_compressed_image(20.0, extension))
    assert bench.peer.skeletons_at(20.0).header.frame_id == FRAME
    np.testing.assert_allclose(fake.images[-1][24, 32], (200, 100, 50), atol=3)


def test_a_truncated_jpeg_is_a_counted_drop(bench: Bench) -> None:
    bench.start(image_transport="compressed")
    publisher = bench.peer.camera_publisher(CompressedImage, "image/compressed")
    bench.peer.greet(publisher, a_compressed_image(0.0))
    broken = a_compressed_image(20.0)
    del broken.data[len(broken.data) // 2 :]
    publisher.publish(broken)
    status = bench.peer.status(lambda values, _: values.get("dropped: bad image") == "1")
    assert "cut off" in status.message
    publisher.publish(a_compressed_image(21.0))
    bench.peer.skeletons_at(21.0)


def test_a_jpeg_of_a_size_beyond_all_reason_is_a_counted_drop(bench: Bench) -> None:
    bench.start(image_transport="compressed")
    publisher = bench.peer.camera_publisher(CompressedImage, "image/compressed")
    bench.peer.greet(publisher, a_compressed_image(0.0))
    huge = a_compressed_image(20.0)
    size = bytes(huge.data).index(b"\xff\xc0") + 5
    huge.data[size : size + 4] = array.array("B", b"\xff\xdc\xff\xdc")  # 65500x65500
    publisher.publish(huge)
    status = bench.peer.status(lambda values, _: values.get("dropped: bad image") == "1")
    assert "does not decode" in status.message
    publisher.publish(a_compressed_image(21.0))
    bench.peer.skeletons_at(21.0)


def test_the_transport_changes_live(bench: Bench) -> None:
    bench.start()
    bench.peer.greet()
    publisher = bench.peer.camera_publisher(CompressedImage, "image/compressed")
    assert bench.peer.set_parameter("image_transport", "compressed").successful
    bench.peer.greet(publisher, a_compressed_image(0.0))
    assert bench.peer.image.get_subscription_count() == 0


def test_auto_follows_what_the_publishers_offer(bench: Bench) -> None:
    bench.start()
    bench.peer.greet()
    assert subscription_reliability(bench) == RELIABLE
    other = bench.peer.camera_publisher(Image, "image", reliable=False)
    wait_for(lambda: subscription_reliability(bench) == BEST_EFFORT, "best effort")
    # Now both kinds of publisher reach the node.
    bench.peer.greet(other)
    bench.peer.destroy_publisher(other)
    wait_for(lambda: subscription_reliability(bench) == RELIABLE, "reliable again")
    bench.peer.greet()


@pytest.mark.parametrize(
    ("choice", "expected"), [("reliable", RELIABLE), ("best_effort", BEST_EFFORT)]
)
def test_a_chosen_reliability_stays(bench: Bench, choice: str, expected: ReliabilityPolicy) -> None:
    bench.start(image_reliability=choice)
    bench.peer.camera_publisher(Image, "image", reliable=choice != "reliable")
    bench.peer.status(lambda values, _: "/peer" in values.get("input", ""))
    assert subscription_reliability(bench) == expected


def test_a_qos_override_beats_the_parameter(bench: Bench) -> None:
    overrides = {
        "qos_overrides./image.subscription.reliability": "best_effort",
        "qos_overrides./image.subscription.depth": 3,
    }
    bench.start(image_reliability="reliable", **overrides)
    bench.peer.greet()
    assert subscription_reliability(bench) == BEST_EFFORT
    status = bench.peer.status(lambda values, _: "depth" in values.get("input", ""))
    assert "depth 3" in str(status.values)


def test_a_new_subscription_that_fails_leaves_the_old_one_and_is_told(bench: Bench) -> None:
    bench.start(**{"qos_overrides./image/compressed.subscription.depth": -1})
    bench.peer.greet()
    assert bench.peer.set_parameter("image_transport", "compressed").successful
    status = bench.peer.status(lambda _, status: "not subscribed to images as" in status.message)
    assert status.level == b"\x02"
    bench.peer.image.publish(an_image(50.0))
    bench.peer.skeletons_at(50.0)
    assert bench.peer.set_parameter("image_transport", "raw").successful
    bench.peer.status(lambda _, status: status.message == "active")
    bench.peer.image.publish(an_image(51.0))
    bench.peer.skeletons_at(51.0)


def test_silence_is_a_warning_that_names_topic_and_qos(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_module, "SILENCE", 0.5)
    bench.start(image_reliability="reliable", ros_args=["-r", "image:=/camera/image"])
    quiet = bench.add_peer(camera="/camera")
    quiet.destroy_publisher(quiet.image)
    quiet.camera_publisher(Image, "image", reliable=False)
    status = bench.peer.status(lambda _, status: "/peer" in status.message)
    assert status.level == b"\x01"
    assert "/camera/image (reliable, depth 1)" in status.message
    assert "best_effort sensor_msgs/msg/Image" in status.message


def test_silence_that_comes_again_is_warned_of_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(node_module, "SILENCE", 0.5)
    bench.start()
    stamps = iter(np.arange(1000.0, 4000.0))

    def silent() -> bool:
        return any("no images on" in status.message for status in bench.peer.diagnostics[-1:])

    def heard() -> bool:
        bench.peer.image.publish(an_image(next(stamps)))
        time.sleep(0.05)
        return not silent()

    for _ in range(2):
        wait_for(silent, "the finding")
        assert capfd.readouterr().err.count("no image for") == 1
        wait_for(heard, "its end while images come")


def test_a_remap_of_image_takes_compressed_and_camera_info_along(bench: Bench) -> None:
    fake = FakeEstimator()
    bench.start(fake, ros_args=["-r", "image:=/front/color"], image_transport="compressed")
    front = bench.add_peer(camera="/front")
    publisher = front.camera_publisher(CompressedImage, "color/compressed")
    front.greet(publisher, a_compressed_image(0.0))
    wait_for(front.camera_info.get_subscription_count, "camera_info beside the image")


def test_a_remap_of_compressed_itself_counts(bench: Bench) -> None:
    rules = ["-r", "image:=/front/color", "-r", "image/compressed:=/front/jpeg"]
    bench.start(ros_args=rules, image_transport="compressed")
    publisher = bench.peer.create_publisher(CompressedImage, "/front/jpeg", 1)
    wait_for(publisher.get_subscription_count, "the remapped compressed image")
    status = bench.peer.status(lambda values, _: "/peer" in values.get("input", ""))
    assert "/front/jpeg (reliable" in str(status.values)


def test_a_remap_of_camera_info_counts(bench: Bench) -> None:
    bench.start(ros_args=["-r", "image:=/front/color", "-r", "camera_info:=/calibration"])
    publisher = bench.peer.create_publisher(CameraInfo, "/calibration", 1)
    wait_for(publisher.get_subscription_count, "the remapped camera_info")


def test_in_a_namespace_camera_info_can_be_that_of_the_root(bench: Bench) -> None:
    """Without one, this remap cannot be told from none, as docs/node.md says."""
    arguments = ["-r", "image:=/front/color", "-r", "camera_info:=/camera_info"]
    bench.start(namespace="/robot", ros_args=arguments)
    wait_for(bench.peer.camera_info.get_subscription_count, "the camera_info of the root")


def test_camera_info_may_come_late_and_change(bench: Bench) -> None:
    fake = FakeEstimator()
    bench.start(fake)
    bench.peer.greet()
    assert fake.calls[-1]["camera"] is None
    for focal in (50.0, 60.0):
        bench.peer.camera_info.publish(a_camera_info(focal))
        until_step_has(
            bench,
            fake,
            lambda call, f=focal: call["camera"] is not None and call["camera"].K[0, 0] == f,
            f"a camera of focal length {focal}",
        )
    assert bench.peer.set_parameter("rectified", True).successful
    until_step_has(bench, fake, lambda call: call["camera"].K[0, 0] == 120.0, "P of camera_info")


def test_camera_info_may_come_best_effort(bench: Bench) -> None:
    fake = FakeEstimator()
    bench.start(fake)
    publisher = bench.peer.camera_publisher(CameraInfo, "camera_info", reliable=False)
    wait_for(publisher.get_subscription_count, "the node's interest in it")

    def has_camera(call: dict[str, object]) -> bool:
        publisher.publish(a_camera_info(50.0))
        return call["camera"] is not None

    until_step_has(bench, fake, has_camera, "a camera")


def test_a_camera_info_that_was_sent_once_and_kept_arrives(bench: Bench) -> None:
    fake = FakeEstimator()
    bench.peer.destroy_publisher(bench.peer.camera_info)
    kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    latched = bench.peer.create_publisher(CameraInfo, "/camera_info", kept)
    latched.publish(a_camera_info(50.0))
    bench.start(fake)
    until_step_has(bench, fake, lambda call: call["camera"] is not None, "the kept camera_info")

    # Such a subscription gets nothing from an ordinary publisher.
    ordinary = bench.peer.camera_publisher(CameraInfo, "camera_info", reliable=False)
    wait_for(ordinary.get_subscription_count, "the ordinary publisher's subscription")

    def has_the_new_one(call: dict[str, Any]) -> bool:
        ordinary.publish(a_camera_info(60.0))
        return call["camera"].K[0, 0] == 60.0

    until_step_has(bench, fake, has_the_new_one, "the ordinary camera_info")


def test_diagnostics_say_where_camera_info_is_looked_for(bench: Bench) -> None:
    bench.start(ros_args=["-r", "image:=/front/color"])
    status = bench.peer.status(lambda values, _: "camera_info input" in values)
    told = {pair.key: pair.value for pair in status.values}
    assert "/front/camera_info (best_effort" in told["camera_info input"]
    assert "publishers: none" in told["camera_info input"]


def test_a_region_is_asked_for_reliably(bench: Bench) -> None:
    """It is sent once and must arrive."""
    bench.start()
    assert wait_for(lambda: subscription_reliability(bench, "/roi"), "the subscription") == RELIABLE


@pytest.mark.parametrize(
    ("focal", "reason"), [(float("nan"), "not finite"), (-5.0, "focal"), (0.8, "in pixels")]
)
def test_a_bad_camera_info_is_counted_reported_and_logged(
    bench: Bench, focal: float, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    fake = FakeEstimator()
    bench.start(fake)
    bench.peer.greet()
    bench.peer.camera_info.publish(a_camera_info(50.0))
    until_step_has(bench, fake, lambda call: call["camera"] is not None, "a camera")
    bench.peer.camera_info.publish(a_camera_info(focal))
    until_step_has(bench, fake, lambda call: call["camera"] is None, "a frame without camera")
    status = bench.peer.status(lambda values, _: values.get("bad camera_info", "0") != "0")
    assert reason in status.message
    logged = capfd.readouterr().err
    assert logged.count("camera_info is not used") == 1
    assert reason in logged


def test_a_region_limits_the_search_until_it_is_cleared(bench: Bench) -> None:
    fake = FakeEstimator()
    bench.start(fake)
    bench.peer.greet()
    assert fake.calls[-1]["region"] is None
    wait_for(bench.peer.region.get_subscription_count, "the roi's subscription")
    bench.peer.region.publish(RegionOfInterest(x_offset=8, y_offset=4, width=30, height=20))
    until_step_has(bench, fake, lambda call: call["region"] == (7.5, 3.5, 37.5, 23.5), "the region")
    bench.peer.region.publish(RegionOfInterest())
    until_step_has(bench, fake, lambda call: call["region"] is None, "no region")


def test_a_region_beyond_the_image_is_ignored_reported_and_logged(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    fake = FakeEstimator()
    bench.start(fake)
    bench.peer.greet()
    wait_for(bench.peer.region.get_subscription_count, "the roi's subscription")
    bench.peer.region.publish(RegionOfInterest(x_offset=40, y_offset=4, width=100, height=20))
    until_step_has(bench, fake, lambda call: call["region"] is not None, "a region")
    bench.peer.region.publish(RegionOfInterest(x_offset=700, y_offset=4, width=30, height=20))
    until_step_has(bench, fake, lambda call: call["region"] is None, "no region")
    status = bench.peer.status(lambda _, status: "roi" in status.message)
    assert status.level == b"\x01"
    assert "700 to 729" in status.message
    assert "64x48" in status.message
    assert capfd.readouterr().err.count("roi is ignored: its columns 700 to 729") == 1
    bench.peer.region.publish(RegionOfInterest())
    bench.peer.status(lambda _, status: "roi" not in status.message)
