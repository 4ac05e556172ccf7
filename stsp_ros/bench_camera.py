"""The camera of `stsp bench`: sends pictures at a rate, and counts what the node says of them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from stsp.msg import Skeleton3DArray

from stsp_model.bag import FRAME_ID, camera_info, header
from stsp_model.bench.child import Message, serve
from stsp_model.bench.stream import JPEG, Picture, Stream, load_stream
from stsp_ros.player import camera_info_message, on_time, time_message, wait_for_subscribers
from stsp_ros.spinner import Spinner

_SECOND = 1_000_000_000  # ns
_READY_TIMEOUT = 180.0  # s; the first import of torch from a slow disk takes a minute
_SILENCE = 30.0  # s for two diagnostics, of which a node sends one each second
_QUIET = 0.5  # s without a new skeleton after which none is expected any more
_QUEUE = 5  # as the player's and most drivers'


class Camera(Node):
    """Sends pictures on `image`, and keeps count of what comes back."""

    def __init__(self, stream: Stream, reliable: bool) -> None:
        super().__init__("camera")
        head = Header(frame_id=FRAME_ID)
        self._messages = itertools.cycle(_messages(stream, head))
        self._info = camera_info_message(camera_info(stream.camera, header(0, FRAME_ID)), head)
        compressed = stream.pictures[0].encoding == JPEG
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(depth=_QUEUE, reliability=reliability)
        self.images: Publisher = self.create_publisher(kind, topic, qos)
        self._infos = self.create_publisher(CameraInfo, "camera_info", qos)
        self.skeletons = 0
        self.with_person = 0
        self._values: dict[str, str] = {}
        self._reports = 0
        self.create_subscription(Skeleton3DArray, "stsp/skeletons", self._on_skeletons, 100)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def play(self, frames: int, rate: float) -> Message:
        """Send so many frames at a rate (Hz); returns when no more skeletons come."""
        before, people = self.skeletons, self.with_person
        latest = publishing = 0.0
        began = time.monotonic()
        due = ((round(i * _SECOND / rate), None) for i in range(frames))
        for _, _, late in on_time(due):
            message = next(self._messages)
            stamp = time_message(time.time_ns())
            self._info.header.stamp = message.header.stamp = stamp
            self._infos.publish(self._info)
            sending = time.perf_counter()
            self.images.publish(message)
            publishing += time.perf_counter() - sending
            latest = max(latest, late)
        seconds = time.monotonic() - began
        self._settle()
        return {
            "published": frames,
            "seconds": seconds,
            "latest": latest,
            "publishing": publishing / frames,
            "skeletons": self.skeletons - before,
            "with person": self.with_person - people,
        }

    def counts(self) -> Message:
        """What the node's next but one diagnostics say; the next may be on its way already.

        Raises:
            TimeoutError: if none come any more.
        """
        wanted = self._reports + 2
        until = time.monotonic() + _SILENCE
        while self._reports < wanted:
            if time.monotonic() > until:
                raise TimeoutError(f"no diagnostics in {_SILENCE:g} s: the node hangs or has ended")
            time.sleep(0.05)
        return {"values": self._values}

    def _settle(self) -> None:
        last, since = self.skeletons, time.monotonic()
        while time.monotonic() - since < _QUIET:
            time.sleep(0.02)
            if self.skeletons != last:
                last, since = self.skeletons, time.monotonic()

    def _on_skeletons(self, message: Skeleton3DArray) -> None:
        self.skeletons += 1
        self.with_person += bool(message.skeletons)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self._values = {pair.key: pair.value for pair in status.values}
        self._reports += 1


def _messages(stream: Stream, head: Header) -> list[Image | CompressedImage]:
    """One lap of the stream: each picture once on the way there and once on the way back."""
    lap = 2 * len(stream.pictures) - 2 if len(stream.pictures) > 1 else 1
    made: dict[int, Any] = {}
    order = list(itertools.islice(stream.endless(), lap))
    for picture in order:
        if id(picture) not in made:
            made[id(picture)] = _message(picture, head)
    return [made[id(picture)] for picture in order]


def _message(picture: Picture, head: Header) -> Image | CompressedImage:
    if picture.encoding == JPEG:
        return CompressedImage(header=head, format="jpeg", data=picture.data)
    return Image(
        header=head,
        height=picture.height,
        width=picture.width,
        encoding=picture.encoding,
        step=picture.step,
        data=picture.data,
    )


def main() -> None:
    """Answer requests until they end."""
    spinners: list[Spinner] = []

    def prepare(options: Message) -> Mapping[str, Callable[..., Message]]:
        stream = load_stream(
            options["source"], tuple(options["size"]), options["encoding"], options["people"]
        )
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        camera = Camera(stream, options["reliable"])
        spinners.append(Spinner(camera))
        spinners[0].start()
        wait_for_subscribers(camera.images, [], _READY_TIMEOUT)
        return {"play": camera.play, "counts": camera.counts}

    serve(prepare)
    for spinner in spinners:
        spinner.stop(5.0)
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
