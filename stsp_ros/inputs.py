"""Everything the node listens to while it is active: images, camera_info and roi."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from stsp_ros.estimation import Region
from stsp_ros.image_input import IMAGE_TOPIC, Frame, ImageInput
from stsp_ros.parameters import Settings
from stsp_ros.topics import camera_info_topic, describe_publishers

REGION_TOPIC = "roi"
# Best effort takes camera_info from any camera, and it comes with every image.
_WITH_EVERY_IMAGE = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
# What was sent once, and is kept for whoever comes later, comes so; but never from who keeps none.
_KEPT = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)


def region_from_message(message: RegionOfInterest) -> Region | None:
    """The pixels x0 y0 x1 y1 to search, None (everywhere) for an empty region."""
    if message.width == 0 or message.height == 0:
        return None
    # From edge to edge of its pixels, whose centres lie at whole numbers.
    x0, y0 = message.x_offset - 0.5, message.y_offset - 0.5
    return x0, y0, x0 + message.width, y0 + message.height


class Inputs:
    """The subscriptions as a whole; used from one thread."""

    def __init__(
        self,
        node: Node,
        on_frame: Callable[[Frame], None],
        on_camera_info: Callable[[CameraInfo], None],
        on_region: Callable[[Region | None], None],
    ) -> None:
        self._node = node
        self._on_camera_info = on_camera_info
        self._on_region = on_region
        self._camera_info: Subscription | None = None
        self._camera_info_qos = _WITH_EVERY_IMAGE
        self._region: Subscription | None = None
        self.images = ImageInput(node, on_frame)

    def open(self, settings: Settings) -> None:
        """Subscribe. Raises ValueError for a QoS override that is none."""
        self.images.open(settings)
        self._subscribe_to_camera_info()
        # A region is sent once and must arrive.
        self._region = self._node.create_subscription(
            RegionOfInterest,
            REGION_TOPIC,
            lambda message: self._on_region(region_from_message(message)),
            QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE),
        )

    def update(self, settings: Settings) -> None:
        """Follow changed settings or publishers; see ImageInput."""
        self.images.update(settings)
        if self._camera_info is not None:
            self._subscribe_to_camera_info()

    def close(self) -> None:
        """Unsubscribe from everything; may be called at any time."""
        self.images.close()
        for subscription in (self._camera_info, self._region):
            if subscription is not None:
                self._node.destroy_subscription(subscription)
        self._camera_info = self._region = None

    def describe_camera_info(self) -> str:
        """Where camera_info is looked for, our QoS and what each publisher offers."""
        if self._camera_info is None:
            return "not subscribed"
        topic, qos = camera_info_topic(self._node, IMAGE_TOPIC), self._camera_info_qos
        return (
            f"{topic} ({qos.reliability.name.lower()}, {qos.durability.name.lower()}); "
            f"publishers: {describe_publishers(self._node, topic)}"
        )

    def _subscribe_to_camera_info(self) -> None:
        """Subscribe, or anew where what the publishers offer has changed."""
        topic = camera_info_topic(self._node, IMAGE_TOPIC)
        offers = [info.qos_profile for info in self._node.get_publishers_info_by_topic(topic)]
        keep = bool(offers) and all(
            (offer.reliability, offer.durability) == (_KEPT.reliability, _KEPT.durability)
            for offer in offers
        )
        qos = _KEPT if keep else _WITH_EVERY_IMAGE
        old = self._camera_info
        if old is not None and qos is self._camera_info_qos:
            return
        self._camera_info_qos = qos
        self._camera_info = self._node.create_subscription(
            CameraInfo, topic, self._on_camera_info, qos
        )
        if old is not None:
            self._node.destroy_subscription(old)
        self._node.get_logger().info(f"subscribed to {self.describe_camera_info()}")
