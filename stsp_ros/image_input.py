"""The image subscription: its topic and reliability, and what is the matter when none come."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from rclpy.time import Time
from rclpy.topic_endpoint_info import TopicEndpointInfo
from sensor_msgs.msg import CompressedImage, Image

from stsp_ros.diagnostics import LossCounter
from stsp_ros.parameters import AUTO, COMPRESSED, RELIABLE, Settings
from stsp_ros.topics import compressed_topic, describe_publishers

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

IMAGE_TOPIC = "image"
_POLICIES = {True: ReliabilityPolicy.RELIABLE, False: ReliabilityPolicy.BEST_EFFORT}


@dataclass(frozen=True)
class Frame:
    """An image as it came in, its stamp never zero; `arrival` is in seconds of time.monotonic."""

    message: Image | CompressedImage
    arrival: float


@dataclass(frozen=True)
class _Source:
    topic: str
    compressed: bool
    reliable: bool


class ImageInput:
    """Subscribes to images as the settings and the publishers ask for; used from one thread."""

    def __init__(self, node: Node, on_frame: Callable[[Frame], None]) -> None:
        self._node = node
        self._on_frame = on_frame
        self._is_open = False
        self._subscription: Subscription | None = None
        self._source: _Source | None = None
        self._qos = QoSProfile(depth=1)
        self._settings = Settings()
        self._heard_at = time.monotonic()
        self._warned_of_zero_stamp = False
        self.lost = LossCounter()
        self.problem = ""  # why `update` failed; empty if it did not

    def open(self, settings: Settings) -> None:
        """Subscribe. Raises ValueError for a QoS override that is none."""
        self._heard_at = time.monotonic()
        self._subscribe(settings)
        self._is_open = True

    def update(self, settings: Settings) -> None:
        """Follow changed settings or publishers, by a new subscription where need be.

        Where that fails the old one stays, `problem` says why, and the next call tries again.
        """
        if not self._is_open:
            return
        try:
            self._subscribe(settings)
        except Exception as error:  # rclpy has several for QoS overrides that are none
            if not self.problem:
                self._node.get_logger().error(f"images are not subscribed to anew: {error}")
            self.problem = f"not subscribed to images as the parameters ask for: {error}"
        else:
            self.problem = ""

    def close(self) -> None:
        """Unsubscribe; may be called at any time."""
        self._is_open, self.problem = False, ""
        self._unsubscribe()

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
            self._source = None

    @property
    def silence(self) -> float:
        """Seconds since the last image, or since subscribing; 0 while not subscribed."""
        return time.monotonic() - self._heard_at if self._is_open else 0.0

    def describe(self) -> str:
        """The resolved topic, our QoS and what each publisher offers."""
        if self._source is None:
            return "not subscribed"
        topic, qos = self._source.topic, self._qos
        return (
            f"{topic} ({qos.reliability.name.lower()}, depth {qos.depth}); "
            f"publishers: {describe_publishers(self._node, topic)}"
        )

    def _publishers(self, topic: str) -> list[TopicEndpointInfo]:
        return list(self._node.get_publishers_info_by_topic(topic))

    def _subscribe(self, settings: Settings) -> None:
        self._settings = settings
        compressed = settings.image_transport == COMPRESSED
        topic = (
            compressed_topic(self._node, IMAGE_TOPIC)
            if compressed
            else str(self._node.resolve_topic_name(IMAGE_TOPIC))
        )
        source = _Source(topic, compressed, self._wants_reliable(topic, settings))
        if source == self._source:
            return
        qos = QoSProfile(
            history=HistoryPolicy.KEEP_LAST, depth=1, reliability=_POLICIES[source.reliable]
        )
        # The callback with message info is younger than Humble, whose messages carry no number.
        numbered = hasattr(Subscription, "CallbackType")
        callback: Any = self._on_numbered_image if numbered else self._on_image
        subscribe = partial(
            self._node.create_subscription,
            CompressedImage if compressed else Image,
            topic,
            callback,
            qos,
            qos_overriding_options=QoSOverridingOptions(
                (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH)
            ),
        )
        try:
            events = SubscriptionEventCallbacks(
                incompatible_qos=self._on_incompatible_qos, message_lost=self._on_lost
            )
            subscription = subscribe(event_callbacks=events)
        except UnsupportedEventTypeError:  # this middleware cannot tell of lost messages
            events = SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible_qos)
            subscription = subscribe(event_callbacks=events)
        # Only now, so that a failure leaves what there was.
        self._unsubscribe()
        self.lost.restart()
        self._subscription, self._source, self._qos = subscription, source, qos
        self._node.get_logger().info(f"subscribed to {self.describe()}")

    def _wants_reliable(self, topic: str, settings: Settings) -> bool:
        choice = self._reliability_override(topic) or settings.image_reliability
        if choice != AUTO:
            return choice == RELIABLE
        # With nobody there yet: reliable, as most cameras are. Our event tells if one is not.
        return all(
            publisher.qos_profile.reliability == ReliabilityPolicy.RELIABLE
            for publisher in self._publishers(topic)
        )

    def _reliability_override(self, topic: str) -> str:
        # Under the name of rclpy's own overrides, which could not follow the publishers.
        name = f"qos_overrides.{topic}.subscription.reliability"
        if not self._node.has_parameter(name):
            descriptor = ParameterDescriptor(
                description="reliable or best_effort, over image_reliability; empty: no change",
                read_only=True,
            )
            self._node.declare_parameter(name, "", descriptor)
        choice = str(self._node.get_parameter(name).value)
        if choice and choice.upper() not in ReliabilityPolicy.__members__:
            raise ValueError(f"{name} is {choice!r}; expected reliable or best_effort")
        return choice.lower()

    def _on_lost(self, event: Any) -> None:
        self.lost.event(event.total_count_change)

    def _on_incompatible_qos(self, _event: object) -> None:
        if self._settings.image_reliability == AUTO:
            self.update(self._settings)
        else:
            self._node.get_logger().warning(f"no images can come: {self.describe()}")

    def _on_numbered_image(self, message: Image | CompressedImage, info: dict[str, Any]) -> None:
        number = info.get("publication_sequence_number")
        if number is not None and self._source is not None:
            topic = self._source.topic
            self.lost.number(number, lambda: len(self._publishers(topic)))
        self._on_image(message)

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._heard_at = time.monotonic()
        stamp = message.header.stamp
        if stamp.sec == 0 and stamp.nanosec == 0:
            now = self._node.get_clock().now().nanoseconds  # zero itself in want of /clock
            message.header.stamp = Time(nanoseconds=now or time.time_ns()).to_msg()
            if not self._warned_of_zero_stamp:
                self._warned_of_zero_stamp = True
                by = "" if now else ", by the system's clock: no time has come on /clock so far"
                self._node.get_logger().warning(
                    f"images come with a zero stamp; the time of their arrival replaces it{by}"
                )
        self._on_frame(Frame(message, self._heard_at))
