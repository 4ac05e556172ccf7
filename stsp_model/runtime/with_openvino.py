"""OpenVINO, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stsp_model.runtime.graphs import FINDER, SIGNATURES
from stsp_model.runtime.packages import needed
from stsp_model.runtime.running import Run


def load(graph: str, content: bytes, threads: int) -> Run:
    """Prepare a graph given as ONNX.

    A free batch axis costs a fifth of the speed, so one person, the usual case, gets a version of
    the graph of its own.

    Raises:
        ValueError: if OpenVINO does not take it. MissingPackageError: if it is not installed.
    """
    openvino = needed("openvino")
    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # the other processes of a robot need the cores, too
        # By itself it takes bfloat16 where the CPU has it, and one joint in eight then moves by
        # more than half a pixel.
        "INFERENCE_PRECISION_HINT": "f32",
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
    # A tensor may have several names, and an input that nothing needs is gone.
    names = SIGNATURES[graph].inputs
    places = [
        next(i for i, name in enumerate(names) if name in value.names) for value in one.inputs
    ]

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        request: Any = requests[len(inputs[0]) == 1]
        feed = {i: inputs[place].contiguous().numpy() for i, place in enumerate(places)}
        request.infer(feed, share_inputs=True, share_outputs=True)
        # Copied, as the next call overwrites them.
        return [
            torch.from_numpy(request.get_tensor(output).data.copy())
            for output in SIGNATURES[graph].outputs
        ]

    return run
