"""Publishes a bag, a video or a folder of images live: ros2 run stsp player FILE."""

from __future__ import annotations

import argparse
import logging
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import rclpy
from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header
from tqdm import tqdm

from stsp_model.bag import BagError
from stsp_model.files import write_json
from stsp_model.sources import Frame, Source, SourceError, open_source
from stsp_ros.conversions import image_message, jpeg_message
from stsp_ros.topics import camera_info_topic, compressed_topic

_LOGGER = logging.getLogger(__name__)
_SECOND = 1_000_000_000  # ns
_QOS = QoSProfile(depth=5)  # reliable: a frame is sent again until it is there
_PATIENCE = 1.0  # s after the images' subscriber; many take nothing but images
_ACKNOWLEDGE_TIMEOUT = 10.0  # s
_LONGEST = 1e6  # s that can be asked for
_TICK = 10_000_000  # ns from one message on /clock to the next
_PAUSE = _SECOND // 30  # ns from one frame to the next where stamps do not tell
# Stamps further back (ns) are no late frame's, and further ahead no pause's: a loop, a set clock.
_LATE, _LONGEST_PAUSE = _SECOND // 2, 5 * _SECOND

Item = TypeVar("Item")
Messages: TypeAlias = "tuple[Image | CompressedImage, CameraInfo | None]"


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


def wait_for_subscribers(images: Publisher, others: Sequence[Publisher], timeout: float) -> None:
    """Return when someone listens to the images, and to the others if they do so soon.

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
    while not all(publisher.get_subscription_count() for publisher in others):
        if time.monotonic() - found > _PATIENCE:
            return
        time.sleep(0.02)


def jumps(before: int, stamp: int) -> bool:
    """Whether a stamp (ns) says nothing of the time since the one before."""
    return not -_LATE <= stamp - before <= _LONGEST_PAUSE


def on_time(
    stamped: Iterator[tuple[int, Item]], rate: float = 1.0, not_before: float = 0.0
) -> Iterator[tuple[int, Item, float]]:
    """Each item when its stamp (ns) says, counted from the first, and by how many s it is late.

    Time passes `rate` times as fast; the first item waits for `not_before`, in seconds of
    time.monotonic. The schedule is absolute on that clock, so delays do not add up. Where stamps
    jump back by more than 0.5 s the item comes 1/30 s after the one before, where they jump ahead
    by more than 5 s it comes after 5 s, and time is counted from there; a warning says so.
    """
    began = 0.0
    first = latest = None
    for stamp, item in stamped:
        if first is None or latest is None:
            first, latest, began = stamp, stamp, max(time.monotonic(), not_before)
        elif jumps(latest, stamp):
            pause = _LONGEST_PAUSE if stamp > latest else _PAUSE
            _LOGGER.warning(
                "stamps jump from %.3f s to %.3f s: played on after %.2g s",
                *(latest / _SECOND, stamp / _SECOND, pause / _SECOND / rate),
            )
            began += (latest - first + pause) / (rate * _SECOND)
            first = latest = stamp
        latest = max(latest, stamp)
        due = began + (stamp - first) / (rate * _SECOND)
        time.sleep(max(0.0, due - time.monotonic()))
        yield stamp, item, time.monotonic() - due


def with_ticks(
    stamped: Iterator[tuple[int, Item]], period: int
) -> Iterator[tuple[int, Item | None]]:
    """The same and, from each item to the next, times without one, `period` ns apart.

    Where stamps jump there are none.
    """
    last: int | None = None
    for stamp, item in stamped:
        if last is None or jumps(last, stamp):
            last = stamp
        for tick in range(last + period, stamp, period):
            yield tick, None
        yield stamp, item
        last = max(last, stamp)


def first_seconds(frames: Iterator[Frame], duration: float) -> Iterator[Frame]:
    """The frames before the first that comes `duration` s, or more, after the first of all."""
    first: int | None = None
    for frame in frames:
        first = frame.stamp if first is None else first
        if frame.stamp - first >= duration * _SECOND:
            return
        yield frame


def messages(frames: Iterator[Frame], compressed: bool) -> Iterator[tuple[int, Messages]]:
    """Stamp (ns), and image and camera info with a header that lacks its stamp."""
    to_message = jpeg_message if compressed else image_message
    for frame in frames:
        header = Header(frame_id=frame.frame_id)
        info = frame.camera_info
        yield (
            frame.stamp,
            (to_message(frame.image, header), info and camera_info_message(info, header)),
        )


@dataclass(frozen=True)
class _Publishers:
    images: Publisher
    infos: Publisher
    clocks: Publisher | None

    @classmethod
    def create(cls, node: Node, compressed: bool, clock: bool) -> _Publishers:
        kind, topic = Image, "image"
        if compressed:
            kind, topic = CompressedImage, compressed_topic(node, topic)
        return cls(
            images=node.create_publisher(kind, topic, _QOS),
            infos=node.create_publisher(CameraInfo, camera_info_topic(node, "image"), _QOS),
            clocks=node.create_publisher(Clock, "/clock", _QOS) if clock else None,
        )


@dataclass(frozen=True)
class _Lap:
    """Frames played from start to end: stamps as published (ns), the rest as in Played."""

    stamps: list[int]
    stamp_offset: int
    latest: float

    @property
    def pause(self) -> int:
        """ns until the next lap: as long as from the last frame but one to the last."""
        interval = self.stamps[-1] - self.stamps[-2] if len(self.stamps) > 1 else 0
        return interval if interval > 0 and not jumps(0, interval) else _PAUSE


def _play_lap(
    publishers: _Publishers,
    timed: Iterator[tuple[int, Messages | None, float]],
    offset_of: Callable[[int], int],
    progress: tqdm[Any],
) -> _Lap:
    """Publish each item when it comes, its stamp moved by `offset_of` the first one's."""
    stamps: list[int] = []
    offset, latest, now = 0, 0.0, 0
    for stamp, item, late in timed:
        if publishers.clocks is not None:
            # A late frame does not put the clock back.
            now = stamp if jumps(now, stamp) else max(now, stamp)
            publishers.clocks.publish(Clock(clock=time_message(now)))
        if item is None:
            continue
        if not stamps:
            offset = offset_of(stamp)
        image, info = item
        image.header.stamp = time_message(stamp + offset)
        if info is not None:
            info.header.stamp = image.header.stamp
            publishers.infos.publish(info)
        publishers.images.publish(image)
        stamps.append(stamp + offset)
        latest = max(latest, late)
        progress.update()
    return _Lap(stamps, offset, latest)


def play(
    node: Node,
    source: Source,
    *,
    stamps: str = "original",
    transport: str = "raw",
    rate: float = 1.0,
    duration: float = math.inf,
    loop: bool = False,
    clock: bool = False,
    wait: float = 30.0,
    bar: bool = False,
) -> Played:
    """Publish the frames of `source` on `image` (and its camera_info beside it), in pace.

    `stamps` "original" keeps the source's; "now" shifts them all by the same amount, so that the
    first is the present time. `transport` "compressed" publishes JPEG on the resolved topic of
    `image` + `/compressed` instead. `rate` is how many times as fast, `duration` how many seconds
    of the source to play; neither changes the intervals between stamps. With `clock`, the time of
    the source's stamps ticks on `/clock`. Returns when every frame has been acknowledged.

    With `loop` it does not return but starts again, as long after the last frame as that came
    after the one before, or once the source is open. Original stamps then jump back; those of
    "now" go on.

    Raises PlayerError when nobody subscribes within `wait` s, or not all was acknowledged.
    """
    compressed = transport == "compressed"
    publishers = _Publishers.create(node, compressed, clock)
    others = [p for p in (publishers.infos, publishers.clocks) if p is not None]
    wait_for_subscribers(publishers.images, others, wait)
    lap: _Lap | None = None

    def offset_of(first: int) -> int:
        if stamps == "original":
            return 0
        return (time.time_ns() if lap is None else lap.stamps[-1] + lap.pause) - first

    began = begins = time.monotonic()
    total = source.count if math.isinf(duration) and not loop else 0
    with tqdm(total=total or None, unit=" frames", disable=not bar) as progress:
        while True:
            stamped: Iterator[tuple[int, Messages | None]]
            stamped = messages(first_seconds(source.frames(), duration), compressed)
            if clock:
                stamped = with_ticks(stamped, max(1, round(rate * _TICK)))
            lap = _play_lap(publishers, on_time(stamped, rate, begins), offset_of, progress)
            if not loop:
                break
            if not lap.stamps:
                raise PlayerError(f"{source.name} holds no frame any more")
            begins = time.monotonic() + lap.pause / (rate * _SECOND)
    images = publishers.images
    if not images.wait_for_all_acked(Duration(seconds=_ACKNOWLEDGE_TIMEOUT)):
        raise PlayerError(
            f"the subscriber of {images.topic_name} has not acknowledged the last frames "
            f"within {_ACKNOWLEDGE_TIMEOUT:g} s"
        )
    return Played(len(lap.stamps), lap.stamp_offset, time.monotonic() - began, lap.latest)


def _number(least: float, most: float) -> Callable[[str], float]:
    """Reads a number within these limits from the command line."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f"expected a number from {least:g} to {most:g}, got {text!r}"
            )
        return value

    return read


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
        help="publish `image` as it is (default), or as JPEG on its topic + `/compressed`",
    )
    parser.add_argument(
        "--rate",
        type=_number(0.001, 1000),
        default=1.0,
        metavar="FACTOR",
        help="play so many times as fast; stamps stay as they are (default 1)",
    )
    parser.add_argument(
        "--start",
        type=_number(0, _LONGEST),
        default=0.0,
        metavar="S",
        help="begin so many seconds after the first frame (default 0)",
    )
    parser.add_argument(
        "--duration",
        type=_number(0.001, _LONGEST),
        default=math.inf,
        metavar="S",
        help="play so many seconds of the source (default: to its end)",
    )
    parser.add_argument(
        "--loop",
        action="store_true",
        help="start again at the end, until Ctrl-C; original stamps jump back then",
    )
    parser.add_argument(
        "--clock",
        action="store_true",
        help="let the stamps' time tick on /clock, for nodes with use_sim_time",
    )
    parser.add_argument(
        "--wait",
        type=_number(0, _LONGEST),
        default=30.0,
        metavar="S",
        help="for a subscriber (default 30)",
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write what was played as JSON")
    parser.add_argument("--bar", action="store_true", help="show progress on the terminal")
    options = parser.parse_args(arguments)
    if options.clock and options.stamps == "now":
        parser.error("--clock tells the time of the original stamps: leave out --stamps now")
    if options.loop and options.report is not None:
        parser.error("--report is written at the end, to which --loop never comes")
    return options


def main(args: list[str] | None = None) -> int:
    """Play to the end; 1 with a sentence on stderr if that is not possible, exit 130 at Ctrl-C."""
    argv = sys.argv if args is None else ["player", *args]

    def end(*_: object) -> None:
        # No KeyboardInterrupt: where one strikes in an exec, as of rosbags, Python remembers it
        # and kills itself with SIGINT at its end, however well it was handled.
        sys.exit(130)

    # SIGINT as well: a script's background job inherits it ignored, and Python leaves it at that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    try:
        options = parse(remove_ros_args(argv)[1:])
        rclpy.init(args=argv, signal_handler_options=SignalHandlerOptions.NO)
        node = rclpy.create_node("player")
    except RuntimeError as error:  # as for a remap or a namespace that is none
        print(f"player: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    try:
        source = open_source(options.source, options.image_topic, options.start)
        played = play(
            node,
            source,
            stamps=options.stamps,
            transport=options.transport,
            rate=options.rate,
            duration=options.duration,
            loop=options.loop,
            clock=options.clock,
            wait=options.wait,
            bar=options.bar,
        )
        if options.report is not None:
            write_json(options.report, asdict(played))
    except (BagError, SourceError, PlayerError, OSError) as error:
        print(f"player: {error}", file=sys.stderr)
        return 1
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
