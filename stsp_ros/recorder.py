"""Records what the node publishes, never a picture, as it came over the wire: recorder BAG."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from rclpy.utilities import remove_ros_args
from stsp.msg import Skeleton3DArray
from visualization_msgs.msg import MarkerArray

from stsp_model.bag import MARKERS_TYPE, SKELETONS_TYPE, BagError, BagWriter

SKELETONS_TOPIC, MARKERS_TOPIC, DIAGNOSTICS_TOPIC = "stsp/skeletons", "stsp/markers", "/diagnostics"
# No picture is among them, and no joint angles: these follow from the skeletons, and a node makes
# them for subscribers only.
TOPICS: dict[str, tuple[Any, str]] = {
    SKELETONS_TOPIC: (Skeleton3DArray, SKELETONS_TYPE),
    MARKERS_TOPIC: (MarkerArray, MARKERS_TYPE),
    DIAGNOSTICS_TOPIC: (DiagnosticArray, "diagnostic_msgs/msg/DiagnosticArray"),
}
_QOS = QoSProfile(depth=100)  # reliable; room for a pause of the disk
_STATUS_PERIOD = 0.5  # s


class Recorder(Node):
    """Writes what the node says to a bag, from `record` on; the log time is that of publication."""

    def __init__(self, **options: Any) -> None:
        super().__init__("recorder", **options)
        self.counts: dict[str, int] = {}

    def record(self, bag: BagWriter, *, status: bool = False) -> None:
        """Take down into `bag` what comes from now on.

        With `status`, a line of JSON on stdout twice a second says for each topic how many
        publishers it has and how many messages were written.
        """
        for name, (kind, type_name) in TOPICS.items():
            topic = str(self.resolve_topic_name(name))
            bag.add_topic(topic, type_name)
            self.counts[topic] = 0
            # Callbacks with message info are younger than Humble.
            callback = (
                partial(self._write, bag, topic)
                if hasattr(Subscription, "CallbackType")
                else partial(self._write_without_info, bag, topic)
            )
            self.create_subscription(kind, topic, callback, _QOS, raw=True)
        self.get_logger().info(f"recording {', '.join(self.counts)} until Ctrl-C")
        if status:
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self.create_timer(_STATUS_PERIOD, self._print_status, clock=steady)

    def _write(self, bag: BagWriter, topic: str, data: bytes, info: dict[str, Any]) -> None:
        # The publisher's own clock reading, where the middleware passes it on.
        published = info.get("source_timestamp") or self.get_clock().now().nanoseconds
        bag.write(topic, published, data)
        self.counts[topic] += 1

    def _write_without_info(self, bag: BagWriter, topic: str, data: bytes) -> None:
        self._write(bag, topic, data, {})

    def _print_status(self) -> None:
        status = {
            topic: {"publishers": self.count_publishers(topic), "messages": count}
            for topic, count in self.counts.items()
        }
        print(json.dumps(status), flush=True)

    def tell(self) -> None:
        """Say in the log what was recorded, and of what nothing came."""
        told = ", ".join(f"{count} of {topic}" for topic, count in self.counts.items())
        self.get_logger().info(f"messages recorded: {told}")
        if not any(self.counts.values()):
            self.get_logger().warning(
                "nothing came: is the node running, and in this namespace (--ros-args -r __ns:=)?"
            )


def main(args: list[str] | None = None) -> int:
    """Record until Ctrl-C or SIGTERM; returns the exit code."""
    argv = sys.argv if args is None else ["recorder", *args]
    parser = argparse.ArgumentParser(prog="recorder", description=__doc__)
    parser.add_argument("bag", type=Path, help="folder to write, which must not exist yet")
    parser.add_argument("--status", action="store_true", help="print counts as lines of JSON")
    # Noticed between two callbacks: a KeyboardInterrupt could strike in the middle of a write.
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        options = parser.parse_args(remove_ros_args(argv)[1:])
        rclpy.init(args=argv, signal_handler_options=SignalHandlerOptions.NO)
        recorder = Recorder()
    except RuntimeError as error:  # as for a remap or a namespace that is none
        print(f"recorder: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    try:
        with BagWriter(options.bag) as bag:
            recorder.record(bag, status=options.status)
            executor = SingleThreadedExecutor()
            executor.add_node(recorder)
            while not stop.is_set():
                executor.spin_once(timeout_sec=0.1)
            recorder.tell()
    except (BagError, OSError) as error:
        print(f"recorder: {error}", file=sys.stderr)
        return 1
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
