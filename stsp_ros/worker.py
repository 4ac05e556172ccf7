"""One thread that works on the newest frame only, so that slow inference cannot grow latency."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from stsp_model.newest import Newest

Item = TypeVar("Item")


class NewestFrameWorker(Generic[Item]):
    """Calls `process(item)`, which must not raise, in a thread of its own with the newest item."""

    def __init__(self, process: Callable[[Item], None]) -> None:
        self._process = process
        self._condition = threading.Condition()
        self._waiting: Newest[Item] = Newest()
        self._tasks: list[Callable[[], None]] = []
        self._stopping = False
        self._ended = False
        # A daemon: the process must be able to end while inference hangs.
        self._thread = threading.Thread(target=self._run, name="stsp_worker", daemon=True)
        self._thread.start()

    def offer(self, item: Item | None) -> Item | None:
        """Make `item` the next one to work on; returns the one it replaces, which is skipped.

        With None, nothing waits any more.
        """
        with self._condition:
            skipped = self._waiting.offer(item)
            self._condition.notify()
        return skipped

    def between_items(self, task: Callable[[], None]) -> None:
        """Run `task()` in the worker's thread before the next item, at once when it is idle."""
        with self._condition:
            self._tasks.append(task)
            self._condition.notify()

    def stop(self, timeout: float) -> bool:
        """Finish the item at work and end, whatever waits.

        False when that takes longer than `timeout` seconds: the worker then goes on as before.
        """
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join(timeout)
        with self._condition:
            self._stopping = self._ended
        return self._ended

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._tasks or self._stopping or self._waiting)
                if self._tasks:
                    work = self._tasks.pop(0)
                elif self._stopping:
                    self._ended = True
                    return
                else:
                    work = partial(self._process, self._waiting.take())
            work()
