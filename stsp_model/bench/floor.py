"""The floor: what the machine can do at best, what the network asks of it, and what that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stsp_model.bench.child import Child


@dataclass(frozen=True)
class Machine:
    """What was measured of it, with a number of threads.

    convolution: operations a second (a multiplication and an addition are two) of the best of
    some 3x3 convolutions in float32, channels last, as PyTorch runs them. product: of a matrix
    product of 1024x1024. bandwidth: bytes a second read and written by a copy of 256 MiB.
    """

    threads: int
    convolution: float
    product: float
    bandwidth: float


@dataclass(frozen=True)
class Need:
    """What one person's crop asks of the machine.

    operations: of EPE, GSR and TMP, epe_operations: of EPE. weights: bytes of their parameters.
    bytes: each layer's weights, input and output once; both in float32, whatever it is run in.
    shares: of the kinds of work in EPE's time as PyTorch runs it, 0..1; empty on a GPU, and for
    what was exported, which PyTorch does not run.
    """

    model: str
    operations: float
    epe_operations: float
    weights: float
    bytes: float
    shares: dict[str, float]

    def floor(self, machine: Machine) -> float:
        """Seconds below which no implementation in float32 can come on this machine."""
        return max(self.operations / machine.convolution, self.weights / machine.bandwidth)


def measure_floor(
    models: Sequence[str], threads: Sequence[int], device: str
) -> tuple[list[Machine], list[Need]]:
    """The machine with each number of threads, and what each model asks of it.

    Raises BenchError with a sentence.
    """
    with Child("stsp_model.bench.floor_child", {"device": device}, {}) as child:
        machines = [Machine(**child.ask("machine", threads=count)) for count in threads]
        needs = [Need(**child.ask("need", model=model)) for model in models]
    return machines, needs
