"""How long the networks take within a step, whatever runs them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from stsp_model.network import STSPNet
from stsp_model.runtime.graphs import EPE, LIFTER
from stsp_model.runtime.running import Network, Run, RunningNetwork


class NetworkClock:
    """Times EPE, GSR and TMP, the latter two as one where a backend runs them so.

    network: to be put in the place of the one given.
    """

    def __init__(self, network: Network) -> None:
        self._began: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self.network = network
        if isinstance(network, STSPNet):
            lifter = network.lifter
            for name, module in (("EPE", network.epe), ("GSR", lifter.gsr), ("TMP", lifter.tmp)):
                if module is not None:
                    self._watch(name, module)
        elif isinstance(network, RunningNetwork):
            names = {EPE: "EPE", LIFTER: "GSR+TMP"}
            timed = {graph: self._timed(name, network.runs[graph]) for graph, name in names.items()}
            self.network = replace(network, runs={**network.runs, **timed})

    def take(self) -> dict[str, float]:
        """Seconds of what ran since this was last asked, by name."""
        seconds, self._seconds = self._seconds, {}
        return seconds

    def _begin(self, name: str) -> None:
        self._began[name] = time.perf_counter()

    def _end(self, name: str) -> None:
        took = time.perf_counter() - self._began[name]
        self._seconds[name] = self._seconds.get(name, 0.0) + took

    def _watch(self, name: str, module: nn.Module) -> None:
        def begin(*_: Any) -> None:
            self._begin(name)

        def end(*_: Any) -> None:
            self._end(name)

        module.register_forward_pre_hook(begin)
        module.register_forward_hook(end)

    def _timed(self, name: str, run: Run) -> Run:
        def timed_run(inputs: Sequence[Tensor]) -> list[Tensor]:
            self._begin(name)
            results = run(inputs)
            self._end(name)
            return results

        return timed_run
