"""Which frame a worker takes next: the newest that waits, so that slow work cannot grow latency."""

from __future__ import annotations

from typing import Generic, TypeVar

Item = TypeVar("Item")


class Newest(Generic[Item]):
    """Room for the one item that waits for work; for one thread at a time."""

    def __init__(self) -> None:
        self._waiting: Item | None = None

    def __bool__(self) -> bool:
        """Whether something waits."""
        return self._waiting is not None

    def offer(self, item: Item | None) -> Item | None:
        """Make `item` the next one to work on; returns the one it replaces, which is skipped.

        With None, nothing waits any more.
        """
        skipped, self._waiting = self._waiting, item
        return skipped

    def take(self) -> Item:
        """What waits, which then waits no more. Raises LookupError if nothing does."""
        item = self.offer(None)
        if item is None:
            raise LookupError("nothing waits")
        return item
