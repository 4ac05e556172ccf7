"""OpenVINO, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stsp_model.runtime.graphs import FINDER, LIFTER, SIGNATURES
from stsp_model.runtime.packages import needed
from stsp_model.runtime.running import Run

_HALF = ("BF16", "FP16")  # kinds of 16-bit arithmetic, the more usual one on CPUs first


def load(graph: str, content: bytes, threads: int, half: bool) -> Run:
    """Prepare a graph given as ONNX.

    A free batch axis costs a fifth of the speed, so one person, the usual case, gets a version of
    the graph of its own. The lifter is always computed in 32 bits.

    Raises:
        ValueError: if OpenVINO does not take it, or the CPU does not compute in 16 bits.
        MissingPackageError: if OpenVINO is not installed.
    """
    openvino = needed("openvino")
    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # the other processes of a robot need the cores, too
        "INFERENCE_PRECISION_HINT": _kind(core) if half and graph != LIFTER else "f32",
    }
    try:
        model = core.read_model(content)
        several = core.compile_model(model, "CPU", settings)
        one = several
        if graph != FINDER and model.is_dynamic():
            model.reshape({value: [1, *list(value.partial_shape)[1:]] for value in model.inputs})
            one = core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise ValueError(f"OpenVINO does not take the {graph}: {error}") from None
    requests = {False: several.create_infer_request(), True: one.create_infer_request()}
    names = SIGNATURES[graph].inputs

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        request: Any = requests[len(inputs[0]) == 1]
        taken = request.model_inputs
        feed = {value: inputs[names.index(value.any_name)].numpy() for value in taken}
        request.infer(feed, share_inputs=True, share_outputs=True)
        # Copied, as the next call overwrites them.
        return [
            torch.from_numpy(request.get_tensor(output).data.copy())
            for output in SIGNATURES[graph].outputs
        ]

    return run


def _kind(core: Any) -> str:
    """Name of the CPU's 16-bit arithmetic."""
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for kind in _HALF:
        if kind in able:
            return kind.lower().replace("fp", "f")
    raise ValueError("this CPU does not compute in 16 bits; leave out half")
