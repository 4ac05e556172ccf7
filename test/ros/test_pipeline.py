"""What the pipeline makes of a frame and tells of it, without a node around it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pytest
from bench import FakeEstimator, a_camera_info, a_lost_pose, a_pose, an_image
from rclpy.clock import Clock
from rclpy.logging import get_logger
from sensor_msgs.msg import Image
from visualization_msgs.msg import Marker

from stsp_model.estimator import Pose
from stsp_model.skeleton import INDEX, JOINT_COUNT
from stsp_ros.diagnostics import Statistics
from stsp_ros.image_input import Frame
from stsp_ros.parameters import Settings
from stsp_ros.pipeline import Outputs, Pipeline


@dataclass
class FakePublisher:
    """Keeps what is published."""

    subscribers: int = 0
    sent: list[Any] = field(default_factory=list)

    def get_subscription_count(self) -> int:
        return self.subscribers

    def publish(self, message: Any) -> None:
        self.sent.append(message)


def outputs_to(*heard: str) -> Outputs:
    """Publishers of which these have a subscriber."""
    names = [entry.name for entry in fields(Outputs)]
    return Outputs(**{name: FakePublisher(int(name in heard)) for name in names})


def a_pipeline(
    outputs: Outputs,
    poses: Sequence[Pose] = (),
    settings: Settings | None = None,
    statistics: Statistics | None = None,
) -> Pipeline:
    """One that sees these people in every frame."""
    estimator = FakeEstimator(answer=lambda _: poses)
    return Pipeline(
        estimator,
        outputs,
        settings or Settings(),
        statistics or Statistics(),
        Clock(),
        get_logger("stsp"),
    )


def a_frame(image: Image) -> Frame:
    return Frame(image, time.monotonic())


def a_pose_without_root() -> Pose:
    """Of unknown distance, its pelvis at the pixel (82, 24)."""
    joints_2d = np.full((JOINT_COUNT, 2), np.nan)
    joints_2d[INDEX["pelvis"]] = [82.0, 24.0]
    return a_pose(root=np.full(3, np.nan), joints_2d=joints_2d)


def pelvis(outputs: Outputs) -> list[float]:
    """Where the latest markers have it."""
    (joints,) = [m for m in outputs.markers.sent[-1].markers if m.type == Marker.SPHERE_LIST]
    point = joints.points[INDEX["pelvis"]]
    return [point.x, point.y, point.z]


def test_a_person_of_unknown_root_is_drawn_at_the_marker_distance_as_it_is_now() -> None:
    outputs, settings = outputs_to("markers"), Settings(marker_distance=5.0)
    pipeline = a_pipeline(outputs, [a_pose_without_root()], settings)
    pipeline.process(a_frame(an_image(1.0)))
    assert np.linalg.norm(pelvis(outputs)) == pytest.approx(5.0)
    pipeline.apply(replace(settings, marker_distance=8.0))
    pipeline.process(a_frame(an_image(2.0)))
    assert np.linalg.norm(pelvis(outputs)) == pytest.approx(8.0)


def test_a_person_of_unknown_root_is_drawn_along_the_ray_of_the_camera_that_there_is() -> None:
    outputs = outputs_to("markers")
    pipeline = a_pipeline(outputs, [a_pose_without_root()], Settings(marker_distance=3.0))
    pipeline.camera_source.receive(a_camera_info(100.0))
    pipeline.process(a_frame(an_image(1.0)))
    # The pixel (82, 24) is seen along (0.5, 0, 1).
    expected = 3.0 * np.array([0.5, 0.0, 1.0]) / np.sqrt(1.25)
    np.testing.assert_allclose(pelvis(outputs), expected)


def test_markers_live_for_the_marker_lifetime_as_it_is_now() -> None:
    outputs, settings = outputs_to("markers"), Settings(marker_lifetime=2.5)
    pipeline = a_pipeline(outputs, [a_pose()], settings)
    pipeline.process(a_frame(an_image(1.0)))
    pipeline.apply(replace(settings, marker_lifetime=0.0))
    pipeline.process(a_frame(an_image(2.0)))
    lifetimes = [
        {(marker.lifetime.sec, marker.lifetime.nanosec) for marker in array.markers}
        for array in outputs.markers.sent
    ]
    assert lifetimes == [{(2, 500_000_000)}, {(0, 0)}]


def test_the_name_stands_above_the_head_as_the_camera_hangs_now() -> None:
    outputs, settings = outputs_to("markers"), Settings()
    pipeline = a_pipeline(outputs, [a_pose()], settings)
    pipeline.process(a_frame(an_image(1.0)))
    pipeline.apply(replace(settings, image_rotation=180))
    pipeline.process(a_frame(an_image(2.0)))
    pose = a_pose()
    heights = (pose.joints + pose.root)[:, 1]
    for array, expected in zip(
        outputs.markers.sent, (heights.min() - 0.15, heights.max() + 0.15), strict=True
    ):
        (text,) = [m for m in array.markers if m.type == Marker.TEXT_VIEW_FACING]
        assert text.pose.position.y == pytest.approx(expected)


def test_a_lost_person_is_none_of_the_people_in_diagnostics() -> None:
    pipeline = a_pipeline(outputs_to(), [a_pose("p1"), a_lost_pose("p2"), a_pose("p3")])
    pipeline.process(a_frame(an_image(1.0)))
    assert pipeline.values()["people"] == "2"


@pytest.mark.parametrize(("since_the_stamp", "told"), [(1.0, True), (-5.0, False), (60.0, False)])
def test_only_a_stamp_of_the_near_past_gives_a_latency(since_the_stamp: float, told: bool) -> None:
    statistics = Statistics()
    pipeline = a_pipeline(outputs_to(), statistics=statistics)
    pipeline.process(a_frame(an_image(time.time() - since_the_stamp)))
    report = statistics.report()
    assert report.processed == 1
    assert ("stamp to publication" in report.latencies) == told


@pytest.mark.parametrize("heard", ["debug_image", "debug_compressed"])
def test_the_debug_image_is_made_only_in_the_form_somebody_subscribes_to(heard: str) -> None:
    outputs = outputs_to(heard)
    a_pipeline(outputs, [a_pose()]).process(a_frame(an_image(1.0)))
    assert {name for name, publisher in vars(outputs).items() if publisher.sent} == {heard}


def test_many_bad_images_at_once_are_all_counted_and_told_of_once_a_second(
    capfd: pytest.CaptureFixture[str],
) -> None:
    statistics = Statistics()
    pipeline = a_pipeline(outputs_to(), statistics=statistics)
    bad = an_image(1.0)
    bad.encoding = "made-up"
    for _ in range(20):
        pipeline.process(a_frame(bad))
    assert statistics.report().dropped == {"bad image": 20}
    assert 1 <= capfd.readouterr().err.count("image dropped, bad image") <= 2
