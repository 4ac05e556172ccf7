"""Which backend runs a network, and putting the network on it."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from stsp_model.checkpoint import load_model
from stsp_model.network import PRESETS, STSPNet
from stsp_model.runtime import (
    AUTO,
    BACKENDS,
    FLOAT16,
    FLOAT32,
    INT8,
    ONNXRUNTIME,
    OPENVINO,
    TENSORRT,
    TORCH,
    exported,
    with_cuda,
    with_onnxruntime,
    with_openvino,
    with_tensorrt,
    with_torch,
)
from stsp_model.runtime.eight_bits import is_fast_here, shipped_epe
from stsp_model.runtime.exported import Description, Exported
from stsp_model.runtime.packages import installed, needed
from stsp_model.runtime.running import Network, Run, RunningNetwork, padded

# The packages of those for the CPU, the fastest first: measured, see docs/performance.md.
_ON_CPU = {ONNXRUNTIME: ("onnx", "onnxruntime"), OPENVINO: ("onnx", "openvino")}


def load(
    name_or_path: str | os.PathLike[str], device: str | torch.device = "cpu"
) -> STSPNet | Exported:
    """As `load_model`, and networks from the folders that `stsp export` writes as well."""
    if name_or_path not in PRESETS and Path(name_or_path).is_dir():
        return exported.read(name_or_path)
    return load_model(name_or_path, device)


def chosen(backend: str, device: torch.device, model: STSPNet | Exported) -> str:
    """The backend that is meant, for a network on this device.

    auto: on a GPU torch, as an engine of TensorRT takes minutes to build. On a CPU the first that
    is installed of onnxruntime, openvino and torch; torch does not run what was exported.

    Raises:
        ValueError: if there is no such backend, or it cannot run this on that device.
        MissingPackageError: if a package is missing.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}, expected one of {', '.join(BACKENDS)}")
    on_gpu = device.type == "cuda"
    is_exported = isinstance(model, Exported)
    if backend == AUTO:
        if on_gpu and not is_exported:
            return TORCH
        if on_gpu:
            return TENSORRT
        for name, packages in _ON_CPU.items():
            if installed(*packages):
                return name
        backend = ONNXRUNTIME if is_exported else TORCH
    if backend == TORCH and is_exported:
        raise ValueError(
            "backend is 'torch', which runs weights and not what was exported: give the "
            ".safetensors file or the preset, or choose onnxruntime, openvino or tensorrt"
        )
    if backend in _ON_CPU:
        if on_gpu:
            raise ValueError(
                f"device is {str(device)!r}, but backend {backend} runs on the CPU here; choose "
                "device cpu, or backend torch or tensorrt"
            )
        for package in _ON_CPU[backend]:
            needed(package)
    if backend == TENSORRT:
        needed("tensorrt")
        if not on_gpu:
            raise ValueError(
                f"device is {str(device)!r}, but TensorRT runs on NVIDIA GPUs alone; choose device "
                "cuda, or another backend"
            )
    return backend


def precision(backend: str, model: STSPNet | Exported, device: torch.device) -> str:
    """In which a backend, as `chosen` gives it, computes EPE: FLOAT32, FLOAT16 or INT8.

    On a CPU onnxruntime and openvino take 8 bits where these ship for the very weights and the CPU
    is fast at them. What was exported is computed in its own precision.
    """
    if isinstance(model, Exported):
        return model.description.precision
    if device.type == "cuda":
        return FLOAT16
    return FLOAT32 if _shipped_epe(backend, model) is None else INT8


def _shipped_epe(backend: str, model: STSPNet) -> tuple[Description, bytes] | None:
    """The EPE in 8 bits that this backend takes here instead of the model's own, if any."""
    return shipped_epe(model) if backend in _ON_CPU and is_fast_here() else None


def open_network(
    model: STSPNet | Exported | Network,
    backend: str = AUTO,
    device: str | torch.device | None = None,
    half: bool | None = None,
    mirrored: bool | None = None,
) -> Network:
    """Put a network on a backend. It computes with as many threads as PyTorch has now.

    Args:
        model: left as it is; what it is trained to later does not reach the result. What is on a
            backend already is returned as it is, for `auto` and no device.
        backend: of BACKENDS; for auto see `chosen`.
        device: None: where the model is, for an exported one the CPU, or the GPU for TensorRT.
        half: compute finder and EPE in 16 bits, on GPUs only; None: there. For the rest see
            `precision`.
        mirrored: EPE looks at each crop's mirror image as well, for twice its work; None: on GPUs.
            What was exported does so or not by itself.

    Raises:
        ValueError: naming what does not fit, and the way out.
    """
    if not isinstance(model, (STSPNet, Exported)) or with_torch.is_folded(model):
        if backend != AUTO or device is not None:
            raise ValueError(f"backend is {backend!r}, but the network is on a backend already")
        return model
    if device is None and isinstance(model, STSPNet):
        device = next(model.parameters()).device
    place = torch.device(device or ("cuda" if backend == TENSORRT else "cpu"))
    name = chosen(backend, place, model)
    if half and place.type != "cuda":
        raise ValueError("half is True, which is for GPUs: on a CPU all is computed in 32 bits")
    if mirrored and (isinstance(model, Exported) or place.type != "cuda"):
        raise ValueError(
            "mirrored is True, which is for weights on a GPU; elsewhere give what "
            "stsp export --mirrored writes"
        )
    if name == TORCH:
        assert isinstance(model, STSPNet)
        if place.type == "cuda":
            return with_cuda.on_gpu(model, place, half is not False, mirrored is not False)
        return with_torch.folded(model)
    if isinstance(model, STSPNet):
        half = name == TENSORRT and half is not False
        mirrored = name == TENSORRT and mirrored is not False
        model = exported.export(model, half=half, epe=_shipped_epe(name, model), mirrored=mirrored)
    threads, static = torch.get_num_threads(), bool(model.description.batch)

    def run(graph: str, content: bytes) -> Run:
        if name == ONNXRUNTIME:
            return with_onnxruntime.load(graph, content, threads)
        if name == OPENVINO:
            return with_openvino.load(graph, content, threads)
        engine = with_tensorrt.load(graph, content, place)
        return engine if static else padded(engine, with_tensorrt.MOST_PEOPLE)

    runs = {graph: run(graph, content) for graph, content in model.files.items()}
    description = model.description
    return RunningNetwork(
        input_size=description.input_size,
        finder_size=description.finder_size,
        trained=description.trained,
        note=description.note,
        window=description.window,
        runs=runs,
        precision=description.precision,
        batch=description.batch,
    )
