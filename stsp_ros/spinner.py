"""Spins nodes in a thread that can be stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node


class Spinner:
    """Spins nodes of one context in a thread, as a context manager."""

    def __init__(self, *nodes: Node, on_error: Callable[[], None] | None = None) -> None:
        self._executor = SingleThreadedExecutor(context=nodes[0].context)
        for node in nodes:
            self._executor.add_node(node)
        self._on_error = on_error
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="stsp_spinner", daemon=True)
        self.error: BaseException | None = None  # what ended the spinning, if not `stop`

    def __enter__(self) -> Spinner:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stopped = self.stop(timeout=10.0)
        if self.error is not None:
            raise self.error
        if error is None and not stopped:
            raise TimeoutError("a callback has not ended after 10 s")

    def start(self) -> None:
        """Begin; once only."""
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Finish the callback at work and stop; False when that takes longer than `timeout` s."""
        self._stopping.set()
        if self._thread.is_alive():
            # Work of any kind lets spin_once return; waking the executor alone does not.
            self._executor.create_task(lambda: None)
            self._thread.join(timeout)
        if self._thread.is_alive():
            return False
        self._executor.shutdown()
        return True

    def _spin(self) -> None:
        try:
            while not self._stopping.is_set():
                self._executor.spin_once()
        except BaseException as error:
            self.error = error
            if self._on_error is not None:
                self._on_error()
