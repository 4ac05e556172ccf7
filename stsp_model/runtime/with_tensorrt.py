"""TensorRT 10, on an NVIDIA GPU. PyTorch holds the memory.

An engine is code for one kind of GPU: it is built here from ONNX, once per device, and kept in the
user's own cache. No engine from anywhere else is ever loaded.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from stsp_model.files import replacing
from stsp_model.runtime.graphs import SIGNATURES
from stsp_model.runtime.packages import needed
from stsp_model.runtime.running import Run

MOST_PEOPLE = 16  # per call, where the batch is free
_log = logging.getLogger(__name__)


def package() -> Any:
    """The package tensorrt, where there is something to run it on.

    Raises:
        ValueError: if there is no GPU. MissingPackageError: if TensorRT is not installed.
    """
    trt = needed("tensorrt")
    if not torch.cuda.is_available():
        raise ValueError(
            "TensorRT needs an NVIDIA GPU that PyTorch can use, and there is none here: choose "
            "another backend, or install the torch that is built for this GPU"
        )
    return trt


def load(graph: str, content: bytes, device: torch.device) -> Run:
    """Prepare a graph given as ONNX; takes minutes the first time on a device.

    Raises:
        ValueError: if there is no GPU, or TensorRT does not take the graph.
        MissingPackageError: if TensorRT is not installed.
    """
    trt = package()
    path = engine_path(content, torch.cuda.get_device_name(device), trt.__version__)
    logger = trt.Logger(trt.Logger.ERROR)
    engine = None
    if path.is_file():
        engine = trt.Runtime(logger).deserialize_cuda_engine(path.read_bytes())
    if engine is None:  # not there, or cut off
        _log.warning("building the TensorRT engine of the %s; once per device, minutes", graph)
        plan = bytes(_built(trt, logger, graph, content))
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with replacing(path) as file:
            file.write(plan)
        _log.warning("the engine is ready and kept as %s", path)
        engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    return _run(trt, graph, engine, device)


def engine_path(content: bytes, device_name: str, version: str) -> Path:
    """Where the engine of a graph is kept; another one for all that makes it another engine.

    Args:
        content: of the ONNX file, which states precision and shapes.
        device_name, version: of the GPU and of TensorRT.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    key = hashlib.sha256(content)
    key.update(f"\0{device_name}\0{version}\0{MOST_PEOPLE}".encode())
    return Path(cache) / "stsp" / "tensorrt" / f"{key.hexdigest()[:32]}.engine"


def _built(trt: Any, logger: Any, graph: str, content: bytes) -> Any:
    """The serialised engine."""
    builder = trt.Builder(logger)
    # Strongly typed: computed in the precision that the ONNX file states, layer by layer.
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(content):
        reasons = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise ValueError(f"TensorRT does not take the {graph}: {reasons}")
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        value = network.get_input(i)
        if -1 in tuple(value.shape):
            sizes = [(people, *tuple(value.shape)[1:]) for people in (1, 1, MOST_PEOPLE)]
            profile.set_shape(value.name, *sizes)
    config.add_optimization_profile(profile)
    config.progress_monitor = _progress(trt, graph)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ValueError(f"TensorRT could not build the engine of the {graph}; its log says why")
    return plan


def _progress(trt: Any, graph: str) -> Any:
    """A progress bar for each phase of a build, as TensorRT's monitor."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            super().__init__()
            self.bars: dict[str, Any] = {}

        def phase_start(self, name: str, _parent: str | None, steps: int) -> None:
            self.bars[name] = tqdm(total=steps, desc=f"{graph}: {name}", leave=False)

        def step_complete(self, name: str, step: int) -> bool:
            self.bars[name].update(step - self.bars[name].n)
            return True  # False would stop the build

        def phase_finish(self, name: str) -> None:
            self.bars.pop(name).close()

    return Monitor()


def _run(trt: Any, graph: str, engine: Any, device: torch.device) -> Run:
    context = engine.create_execution_context()
    kinds = {
        trt.DataType.FLOAT: torch.float32,
        trt.DataType.INT32: torch.int32,
        trt.DataType.INT64: torch.int64,
    }
    signature = SIGNATURES[graph]

    def kind(name: str) -> torch.dtype:
        return kinds[engine.get_tensor_dtype(name)]

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        stream = torch.cuda.current_stream(device)
        held = []  # until the results are there
        for name, value in zip(signature.inputs, inputs, strict=True):
            held.append(value.to(device, kind(name)).contiguous())
            context.set_input_shape(name, tuple(value.shape))
            context.set_tensor_address(name, held[-1].data_ptr())
        results = []
        for name in signature.outputs:
            shape = tuple(context.get_tensor_shape(name))
            results.append(torch.empty(shape, dtype=kind(name), device=device))
            context.set_tensor_address(name, results[-1].data_ptr())
        if not context.execute_async_v3(stream.cuda_stream):
            raise RuntimeError(f"TensorRT failed to run the {graph}")
        return [value.cpu() for value in results]

    return run
