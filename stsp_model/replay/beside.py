"""What a replay does beside the network: reading, decoding and writing, while that computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Generic, TypeVar, cast

from torch import Tensor

from stsp_model.epe import Observation
from stsp_model.runtime.graphs import EPE, FINDER
from stsp_model.runtime.running import Network, RunningNetwork

T = TypeVar("T")


class Work(Generic[T]):
    """Something to be done once by a thread."""

    def __init__(self, do: Callable[[], T], begin: Callable[[], None]) -> None:
        self._do = do
        self._begin = begin
        self._done: Future[T] = Future()
        self.begun = False

    def run(self) -> None:
        """Do it; what goes wrong is for whoever asks for the result."""
        try:
            self._done.set_result(self._do())
        except BaseException as error:
            self._done.set_exception(error)

    def result(self) -> T:
        """What came of it, waited for, and begun if nothing has; raises what it raised."""
        if not self.begun:
            self._begin()
        return self._done.result()


class Beside:
    """One thread, which begins what it is given only when the network computes.

    Python runs one thread at a time, but for libraries at work. What began earlier would hold up
    the steps that lead to the network.
    """

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._waiting: list[Work[Any]] = []

    def add(self, do: Callable[[], T]) -> Work[T]:
        """Have `do()` done after all that was added before, once the network computes."""
        work = Work(do, self.begin)
        self._waiting.append(work)
        return work

    def begin(self) -> None:
        """Begin all that waits."""
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            work.begun = True
            self._pool.submit(work.run)


@contextmanager
def beside() -> Iterator[Beside]:
    """A thread beside the network. All that was added is done when the block ends."""
    with ThreadPoolExecutor(1, "stsp_beside") as pool:
        thread = Beside(pool)
        try:
            yield thread
        finally:
            thread.begin()


class _Announcing:
    """A network that calls `begin` before it looks at pixels, which is most of its work."""

    def __init__(self, network: Network, begin: Callable[[], None]) -> None:
        self._network = network
        self._begin = begin

    def find_people(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        self._begin()
        return self._network.find_people(frames)

    def observe(self, crops: Tensor, saliency: Tensor) -> Observation:
        self._begin()
        return self._network.observe(crops, saliency)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


def announcing(network: Network, thread: Beside) -> Network:
    """The network, beside which the thread begins what waits."""
    if not isinstance(network, RunningNetwork):
        return cast(Network, _Announcing(network, thread.begin))

    def announced(graph: str, inputs: Sequence[Tensor]) -> list[Tensor]:
        # No earlier: each operation of PyTorch's on the way here would let the thread in, which
        # does not let go of Python before it is done.
        thread.begin()
        return network.runs[graph](inputs)

    seeing = {graph: partial(announced, graph) for graph in (FINDER, EPE)}
    return replace(network, runs={**network.runs, **seeing})
