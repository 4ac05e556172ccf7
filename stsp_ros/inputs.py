"""Everything the node listens to while it is active: images, camera_info and roi."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from stsp_ros.estimation import Region
from stsp_ros.image_input import IMAGE_TOPIC, Frame, ImageInput
from stsp_ros.parameters import Settings
from stsp_ros.topics import camera_info_topic

REGION_TOPIC = "roi"


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
        self._others: list[Subscription] = []
        self.images = ImageInput(node, on_frame)

    def open(self, settings: Settings) -> None:
        """Subscribe. Raises ValueError for a QoS override that is none."""
        self.images.open(settings)
        # Best effort takes camera_info from any camera, and it comes with every image.
        self._others.append(
            self._node.create_subscription(
                CameraInfo,
                camera_info_topic(self._node, IMAGE_TOPIC),
                self._on_camera_info,
                QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
            )
        )
        # A region is sent once and must arrive.
        self._others.append(
            self._node.create_subscription(
                RegionOfInterest,
                REGION_TOPIC,
                lambda message: self._on_region(region_from_message(message)),
                QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE),
            )
        )

    def update(self, settings: Settings) -> None:
        """Follow changed settings or publishers; see ImageInput."""
        self.images.update(settings)

    def close(self) -> None:
        """Unsubscribe from everything; may be called at any time."""
        self.images.close()
        while self._others:
            self._node.destroy_subscription(self._others.pop())
