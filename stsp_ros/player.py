"""Publishes a bag, a video or a folder of images live: ros2 run stsp player FILE."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import rclpy
from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header
from tqdm import tqdm

from stsp_model.bag import BagError
from stsp_model.sources import Source, SourceError, open_source
from stsp_ros.conversions import image_message, jpeg_message

_SECOND = 1_000_000_000  # ns
_QOS = QoSProfile(depth=5)  # reliable: a frame is sent again until it is there
_CAMERA_INFO_PATIENCE = 1.0  # s after the images' subscriber; many take no camera info at all
_ACKNOWLEDGE_TIMEOUT = 10.0  # s

Item = TypeVar("Item")


class PlayerError(RuntimeError):
    """What keeps the frames from being played, as a sentence for the user."""


@dataclass(frozen=True)
class Played:
    """What was published: `stamp_offset` (ns) is published stamp minus the source's."""

    frames: int
    stamp_offset: int
    seconds: float
    latest: float  # s by which the latest frame missed its time


def time_message(stamp: int) -> Time:
    """A stamp in ns as a message."""
    return Time(sec=stamp // _SECOND, nanosec=stamp % _SECOND)


def camera_info_message(info: Any, header: Header) -> CameraInfo:
    """A CameraInfo as read from a bag (plain object with NumPy arrays) as a message of rclpy."""
    return CameraInfo(
        header=header,
        height=info.height,
        width=info.width,
        distortion_model=info.distortion_model,
        d=info.d.tolist(),
        k=info.k.tolist(),
        r=info.r.tolist(),
        p=info.p.tolist(),
        binning_x=info.binning_x,
        binning_y=info.binning_y,
        roi=RegionOfInterest(
            x_offset=info.roi.x_offset,
            y_offset=info.roi.y_offset,
            height=info.roi.height,
            width=info.roi.width,
            do_rectify=bool(info.roi.do_rectify),
        ),
    )


def wait_for_subscribers(images: Publisher, infos: Publisher, timeout: float) -> None:
    """Return when someone listens to the images, and to the camera info if they do so soon.

    Raises PlayerError after `timeout` s without a subscriber.
    """
    began = time.monotonic()
    while not images.get_subscription_count():
        if time.monotonic() - began > timeout:
            raise PlayerError(
                f"nobody subscribes to {images.topic_name} (waited {timeout:g} s); is the node "
                "active, in the same ROS_DOMAIN_ID, and its topic remapped to this one?"
            )
        time.sleep(0.02)
    found = time.monotonic()
    while not infos.get_subscription_count() and time.monotonic() - found < _CAMERA_INFO_PATIENCE:
        time.sleep(0.02)


def on_time(stamped: Iterator[tuple[int, Item]]) -> Iterator[tuple[int, Item, float]]:
    """Each item when its stamp (ns) says, counted from the first, and by how many s it is late.

    The schedule is absolute on a monotonic clock, so delays do not add up.
    """
    began = 0.0
    first: int | None = None
    for stamp, item in stamped:
        if first is None:
            first, began = stamp, time.monotonic()
        due = began + (stamp - first) / _SECOND
        time.sleep(max(0.0, due - time.monotonic()))
        yield stamp, item, time.monotonic() - due


def messages(
    source: Source, compressed: bool
) -> Iterator[tuple[int, tuple[Image | CompressedImage, CameraInfo | None]]]:
    """Stamp (ns), and image and camera info with a header that lacks its stamp."""
    to_message = jpeg_message if compressed else image_message
    for frame in source.frames():
        header = Header(frame_id=frame.frame_id)
        info = frame.camera_info
        yield (
            frame.stamp,
            (to_message(frame.image, header), info and camera_info_message(info, header)),
        )


def play(
    node: Node,
    source: Source,
    *,
    stamps: str = "original",
    transport: str = "raw",
    wait: float = 30.0,
    bar: bool = False,
) -> Played:
    """Publish all frames of `source` on `image` (and `camera_info` where it has one), in pace.

    `stamps` "original" keeps the source's; "now" shifts them all by the same amount, so that the
    first is the present time. `transport` "compressed" publishes JPEG on `image/compressed`
    instead. Returns when every frame has been acknowledged.

    Raises PlayerError when nobody subscribes within `wait` s, or not all was acknowledged.
    """
    compressed = transport == "compressed"
    kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
    images = node.create_publisher(kind, topic, _QOS)
    infos = node.create_publisher(CameraInfo, "camera_info", _QOS)
    wait_for_subscribers(images, infos, wait)
    count, offset, latest, began = 0, 0, 0.0, time.monotonic()
    frames = tqdm(
        on_time(messages(source, compressed)),
        total=source.count or None,
        unit=" frames",
        disable=not bar,
    )
    for stamp, (image, info), late in frames:
        if count == 0 and stamps == "now":
            offset = time.time_ns() - stamp
        image.header.stamp = time_message(stamp + offset)
        if info is not None:
            info.header.stamp = image.header.stamp
            infos.publish(info)
        images.publish(image)
        count += 1
        latest = max(latest, late)
    if not images.wait_for_all_acked(Duration(seconds=_ACKNOWLEDGE_TIMEOUT)):
        raise PlayerError(
            f"the subscriber of {images.topic_name} has not acknowledged the last frames "
            f"within {_ACKNOWLEDGE_TIMEOUT:g} s"
        )
    return Played(count, offset, time.monotonic() - began, latest)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="player", description=__doc__)
    parser.add_argument("source", type=Path, help="bag, video file or folder of images")
    parser.add_argument("--image-topic", help="which of a bag's cameras, by its image topic")
    parser.add_argument(
        "--stamps",
        choices=("original", "now"),
        default="original",
        help="keep the stamps of the source (default), or shift them so that the first is now",
    )
    parser.add_argument(
        "--transport",
        choices=("raw", "compressed"),
        default="raw",
        help="publish `image` as it is (default), or as JPEG on `image/compressed`",
    )
    parser.add_argument(
        "--wait", type=float, default=30.0, metavar="S", help="for a subscriber (default 30)"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write what was played as JSON")
    parser.add_argument("--bar", action="store_true", help="show progress on the terminal")
    return parser.parse_args(arguments)


def main(args: list[str] | None = None) -> int:
    """Play to the end; 1 with a sentence on stderr if that is not possible, 130 after Ctrl-C."""
    argv = sys.argv if args is None else ["player", *args]
    options = parse(remove_ros_args(argv)[1:])
    # SIGINT as well: a script's background job inherits it ignored, and Python leaves it at that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    rclpy.init(args=argv, signal_handler_options=SignalHandlerOptions.NO)
    try:
        source = open_source(options.source, options.image_topic)
        node = rclpy.create_node("player")
        played = play(
            node,
            source,
            stamps=options.stamps,
            transport=options.transport,
            wait=options.wait,
            bar=options.bar,
        )
        if options.report is not None:
            options.report.write_text(json.dumps(asdict(played)), encoding="utf-8")
    except (BagError, SourceError, PlayerError) as error:
        print(f"player: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
