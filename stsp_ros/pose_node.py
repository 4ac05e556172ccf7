"""The executable pose_node: the node in a process of its own, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from stsp_ros.spinner import Spinner

SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM})
EXIT_TIMEOUT = 4.0  # s; launch files and people give up after 5


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; returns the exit code."""
    # Blocked before any thread starts, and taken by sigwait: a KeyboardInterrupt would otherwise
    # strike at any line, in the middle of an import or a transition too.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        with _ended_by_signals():
            from stsp_ros.node import PoseNode
    except ImportError as error:
        print(
            f"pose_node: {error}. What rosdep does not install is listed in "
            "requirements-robot.txt, which the package installs in its share folder.",
            file=sys.stderr,
        )
        return 1
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # as for a parameter file that is none
        print(f"pose_node: {error}", file=sys.stderr)
        return 1
    try:
        node = PoseNode()
    # Ours, rcl's (a namespace that is none), rclpy's (use_sim_time).
    except (ValueError, RuntimeError, ParameterException) as error:
        print(f"pose_node: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    code = _spin_until_signal(node, node.close)
    node.destroy_node()
    rclpy.try_shutdown()
    return code


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """A signal ends the process at once: nothing is open yet, and PyTorch imports take seconds."""
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            if signal.sigtimedwait(SIGNALS, 0.05) is not None:
                os._exit(0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _spin_until_signal(node: Node, close: Callable[[float], bool]) -> int:
    """Spin `node` until a signal, then close it; returns the exit code.

    `close(timeout)` says whether the node's own threads have ended. When they or a callback do not
    end in time, the process ends here and now: inference cannot be interrupted.
    """
    spinner = Spinner(node, on_error=lambda: os.kill(os.getpid(), signal.SIGTERM))
    spinner.start()
    signal.sigwait(SIGNALS)
    deadline = time.monotonic() + EXIT_TIMEOUT
    ended = spinner.stop(EXIT_TIMEOUT / 2)
    if spinner.error is not None:
        traceback.print_exception(spinner.error)
    code = 0 if spinner.error is None else 1
    if not (ended and close(max(0.1, deadline - time.monotonic()))):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
