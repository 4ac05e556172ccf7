"""What happens to one frame: decode, estimate, publish; runs in the worker's thread."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rclpy.clock import Clock
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Header
from stsp.msg import Skeleton3DArray
from visualization_msgs.msg import MarkerArray

from stsp_model.camera import Camera
from stsp_model.camera_source import CameraSource
from stsp_model.checks import checked_region
from stsp_model.drawing import draw_skeleton
from stsp_model.estimator import LateFrameError
from stsp_model.outcomes import BAD_IMAGE, FAILED, LATE
from stsp_model.pose import UNTRAINED, Pose
from stsp_ros.conversions import (
    image_from_message,
    image_message,
    joint_angles_message,
    jpeg_message,
    skeletons_message,
    stamp_seconds,
)
from stsp_ros.diagnostics import Finding, FrameTimes, Report, Statistics
from stsp_ros.estimation import Estimator, Region, estimator_options
from stsp_ros.image_input import Frame
from stsp_ros.markers import delete_all_markers, skeleton_markers
from stsp_ros.parameters import Settings
from stsp_ros.topics import compressed_topic

_REMINDER = 60.0  # s from one warning to the next of what stays wrong from image to image
_PLAUSIBLE_LATENCY = 10.0  # s; beyond it, stamps and our clock have nothing to do with each other


@dataclass(frozen=True)
class Outputs:
    """The node's publishers."""

    skeletons: LifecyclePublisher
    markers: LifecyclePublisher
    joint_angles: LifecyclePublisher
    debug_image: LifecyclePublisher
    debug_compressed: LifecyclePublisher

    @classmethod
    def create(cls, node: LifecycleNode) -> Outputs:
        """Reliable, volatile, depth 5, unless overridden. Of a failure nothing remains."""
        with ExitStack() as undo:

            def publisher(kind: Any, topic: str) -> LifecyclePublisher:
                made = node.create_lifecycle_publisher(
                    kind,
                    topic,
                    QoSProfile(depth=5),
                    qos_overriding_options=QoSOverridingOptions.with_default_policies(),
                )
                undo.callback(node.destroy_lifecycle_publisher, made)
                return made

            compressed = compressed_topic(node, "~/debug_image")
            outputs = cls(
                skeletons=publisher(Skeleton3DArray, "~/skeletons"),
                markers=publisher(MarkerArray, "~/markers"),
                joint_angles=publisher(JointState, "~/joint_angles"),
                debug_image=publisher(Image, "~/debug_image"),
                debug_compressed=publisher(CompressedImage, compressed),
            )
            undo.pop_all()
        return outputs

    def destroy(self, node: LifecycleNode) -> None:
        """Release all of them."""
        for publisher in vars(self).values():
            node.destroy_lifecycle_publisher(publisher)


@dataclass(frozen=True)
class _View:
    """What there is to look at in a processed frame."""

    image: npt.NDArray[np.uint8]
    header: Header
    poses: Sequence[Pose]
    camera: Camera
    settings: Settings


def problem_with_region(region: Region | None, size: tuple[int, int] | None) -> str:
    """Why a roi is ignored in images of this size (width, height in px), or an empty string."""
    if region is None or size is None:
        return ""
    (x0, y0, x1, y1), (width, height) = region, size
    try:
        checked_region(region, width, height)
    except ValueError:  # which would make the estimator refuse every image
        return (
            f"roi is ignored: its columns {x0 + 0.5:.0f} to {x1 - 0.5:.0f} and rows "
            f"{y0 + 0.5:.0f} to {y1 - 0.5:.0f} lie beyond the image of {width}x{height}; send one "
            "in pixels of this image, or one of 0x0 to clear it"
        )
    return ""


class Pipeline:
    """Frames in, messages out.

    `process`, `apply` and `forget` belong to one thread, the worker's while there is one. `region`
    may be assigned from another; a frame keeps what it began with.
    """

    def __init__(
        self,
        estimator: Estimator,
        outputs: Outputs,
        settings: Settings,
        statistics: Statistics,
        clock: Clock,
        logger: Any,
    ) -> None:
        self.region: Region | None = None
        self.camera_source = CameraSource()
        self._estimator = estimator
        self._settings = settings
        self._statistics = statistics
        self._people = 0
        self._size: tuple[int, int] | None = None  # px, of the latest image
        self._troubles: dict[str, str] = {}  # by reason: why the latest frame was dropped for it
        self._outputs = outputs
        self._clock = clock
        self._logger = logger
        self._header = Header()

    def process(self, frame: Frame) -> None:
        """Publish what one frame shows, or count why not; never raises."""
        try:
            view = self._publish_skeletons(frame)
        except Exception as error:
            self._report_exception(error)
            self._drop(FAILED, f"{type(error).__name__}: {error}")
            return
        if view is not None:
            try:
                self._publish_views(view)
            except Exception as error:  # the frame itself is done and counted
                self._report_exception(error)

    def _drop(self, reason: str, why: str) -> None:
        # Before it is counted: diagnostics look for it then.
        self._troubles[reason] = f"{reason}: {why}"
        self._statistics.drop(reason)
        self._logger.warning(f"image dropped, {reason}: {why}", throttle_duration_sec=1.0)

    def apply(self, settings: Settings) -> None:
        """Use these settings from the next frame on; never raises."""
        self._settings = settings
        try:
            self._estimator.configure(**estimator_options(settings))
        except Exception as error:
            self._report_exception(error)

    def forget(self) -> None:
        """Forget all tracks and remove their markers; never raises."""
        self._people = 0
        try:
            self._estimator.reset()
            self._outputs.markers.publish(delete_all_markers(self._header))
        except Exception as error:
            self._report_exception(error)

    def findings(self, report: Report) -> list[Finding]:
        """What is wrong, given the figures of the last second."""
        findings = []
        if report.new_drops.get(FAILED):
            findings.append(Finding("error", self._troubles[FAILED]))
        elif report.new_drops.get(BAD_IMAGE):
            findings.append(Finding("warn", self._troubles[BAD_IMAGE]))
        ignored = problem_with_region(self.region, self._size)
        if ignored:
            findings.append(Finding("warn", ignored))
        if self.camera_source.problem:
            findings.append(Finding("warn", self.camera_source.problem))
        if not self._estimator.model.trained:
            findings.append(Finding("warn", UNTRAINED))
        return findings

    def values(self) -> dict[str, str]:
        """What diagnostics tell besides the figures."""
        model = self._estimator.model
        return {
            "model": f"{self._settings.model}, {'trained' if model.trained else 'not trained'}",
            "model note": model.note,
            "precision": model.precision,
            "people": str(self._people),
            "camera_info": self.camera_source.state,
            "bad camera_info": str(self.camera_source.bad),
        }

    def _publish_skeletons(self, frame: Frame) -> _View | None:
        began = time.monotonic()
        settings, region, header = self._settings, self.region, frame.message.header
        try:
            image = image_from_message(frame.message)
        except ValueError as error:
            self._drop(BAD_IMAGE, str(error))
            return None
        height, width = image.shape[:2]
        self._size = width, height
        ignored = problem_with_region(region, self._size)
        if ignored:
            region = None
            self._logger.warning(ignored, throttle_duration_sec=_REMINDER)
        camera = self.camera_source.camera(width, height, rectified=settings.rectified)
        if self.camera_source.problem:
            self._logger.warning(
                f"camera_info is not used: {self.camera_source.problem}",
                throttle_duration_sec=_REMINDER,
            )

        estimation_began = time.monotonic()
        try:
            poses = self._estimator.step(
                image, stamp_seconds(header.stamp), camera=camera, region=region
            )
        except LateFrameError as error:
            self._drop(LATE, str(error))
            return None
        except ValueError as error:  # too small, too large ...
            self._drop(BAD_IMAGE, str(error))
            return None
        estimated = time.monotonic()
        self._header = header
        described = estimated
        if self._outputs.skeletons.get_subscription_count():
            message = skeletons_message(poses, header, estimated - began)
            described = time.monotonic()
            self._outputs.skeletons.publish(message)
        self._statistics.process(
            FrameTimes(
                wait=began - frame.arrival,
                decode=estimation_began - began,
                estimate=estimated - estimation_began,
                message=described - estimated,
                publish=time.monotonic() - described,
                age=self._age(frame),
            )
        )
        self._people = sum(bool(np.isfinite(pose.joints).any()) for pose in poses)
        return _View(image, header, poses, camera or Camera.guess(width, height), settings)

    def _publish_views(self, view: _View) -> None:
        if self._outputs.markers.get_subscription_count():
            self._outputs.markers.publish(
                skeleton_markers(
                    view.poses,
                    view.header,
                    view.camera,
                    distance=view.settings.marker_distance,
                    lifetime=view.settings.marker_lifetime,
                    image_rotation=view.settings.image_rotation,
                )
            )
        if self._outputs.joint_angles.get_subscription_count():
            self._outputs.joint_angles.publish(joint_angles_message(view.poses, view.header))
        raw = self._outputs.debug_image.get_subscription_count() > 0
        compressed = self._outputs.debug_compressed.get_subscription_count() > 0
        if not (raw or compressed):
            return
        drawn = np.array(view.image, order="C")
        for pose in view.poses:
            draw_skeleton(drawn, pose.joints_2d, pose.confidence_2d, label=pose.id, box=pose.box)
        if raw:
            self._outputs.debug_image.publish(image_message(drawn, view.header))
        if compressed:
            self._outputs.debug_compressed.publish(jpeg_message(drawn, view.header))

    def _report_exception(self, error: Exception) -> None:
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        self._logger.error(trace, throttle_duration_sec=1.0)

    def _age(self, frame: Frame) -> float:
        """Seconds since a frame's stamp; NaN where they cannot be right."""
        age = 1e-9 * self._clock.now().nanoseconds - stamp_seconds(frame.message.header.stamp)
        return age if 0 <= age < _PLAUSIBLE_LATENCY else math.nan
