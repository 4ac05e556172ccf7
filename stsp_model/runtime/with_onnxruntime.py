"""ONNX Runtime, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stsp_model.runtime.graphs import SIGNATURES
from stsp_model.runtime.packages import needed
from stsp_model.runtime.running import Run


def load(graph: str, content: bytes, threads: int) -> Run:
    """Prepare a graph given as ONNX.

    Raises:
        ValueError: if ONNX Runtime does not take it. MissingPackageError: if it is not installed.
    """
    onnxruntime = needed("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Between two calls its threads would spin, and take the cores from the graphs that come next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3  # errors; how it optimised the graph is nothing to be warned of
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no other base
        raise ValueError(f"ONNX Runtime does not take the {graph}: {error}") from None
    # Quantisation or folding may leave an input without use, and then it is gone.
    taken = {value.name for value in session.get_inputs()}
    outputs = list(SIGNATURES[graph].outputs)

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        feed = {
            name: value.contiguous().numpy()
            for name, value in zip(SIGNATURES[graph].inputs, inputs, strict=True)
            if name in taken
        }
        return [torch.from_numpy(value) for value in session.run(outputs, feed)]

    return run
