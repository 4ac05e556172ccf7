"""Measures the machine at its best, and counts what a network asks of it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from stsp_model.bench.child import Message, serve
from stsp_model.bench.floor import Machine, Need
from stsp_model.camera import Camera
from stsp_model.checkpoint import usable_device
from stsp_model.hrnet import STRIDE
from stsp_model.network import STSPNet
from stsp_model.runtime.backends import load
from stsp_model.runtime.exported import Exported

# 3x3 convolutions (batch, channels, side) that keep a core's arithmetic busy: the best counts.
_SHAPES = ((1, 64, 56), (1, 128, 28), (1, 128, 56), (1, 256, 28), (4, 256, 14), (1, 512, 14))
_COPIED = 256 * 2**20  # bytes, far more than any cache
_LEAST_TIME = 0.15  # s of work per measurement
_REPEATS = 5


@torch.inference_mode()
def measure_machine(threads: int, device: str = "cpu") -> Machine:
    """Takes about 2 s a thread count."""
    torch.set_num_threads(threads)
    convolution = 0.0
    for batch, channels, side in _SHAPES:
        image, filters = (
            torch.randn(*shape, device=device).contiguous(memory_format=torch.channels_last)
            for shape in ((batch, channels, side, side), (channels, channels, 3, 3))
        )
        operations = 2 * 9 * batch * channels**2 * side**2
        seconds = _fastest(partial(nn.functional.conv2d, image, filters, padding=1), device)
        convolution = max(convolution, operations / seconds)
    a, b = torch.randn(2, 1024, 1024, device=device)
    product = 2 * 1024**3 / _fastest(lambda: a @ b, device)
    source = torch.zeros(_COPIED, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    bandwidth = 2 * _COPIED / _fastest(lambda: target.copy_(source), device)
    return Machine(threads, convolution, product, bandwidth)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _fastest(work: Callable[[], Any], device: str) -> float:
    """Seconds of one call: the best of some rounds of many."""
    work()
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    calls = max(1, int(_LEAST_TIME / _REPEATS / max(time.perf_counter() - began, 1e-6)))
    best = float("inf")
    for _ in range(_REPEATS):
        began = time.perf_counter()
        for _ in range(calls):
            work()
        _wait(device)
        best = min(best, (time.perf_counter() - began) / calls)
    return best


@torch.inference_mode()
def count_need(name: str, device: str = "cpu") -> Need:
    """Of a preset, a weights file, or what was exported, for one crop.

    Only what PyTorch runs is profiled; what an exported network asks follows from its sizes.
    """
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load(name, device)
    profiled, mirrored = device == "cpu", False
    if isinstance(model, Exported):
        profiled, mirrored = False, model.description.mirrored
        model = STSPNet(model.description.stated_preset()).eval().to(device)
    observe = partial(model.epe, mirrored=mirrored)
    width, height = model.input_size
    crop = torch.rand(1, 3, height, width, device=device)
    crop = crop.contiguous(memory_format=torch.channels_last)
    motion = torch.rand(1, 1, height // STRIDE, width // STRIDE, device=device)
    with FlopCounterMode(display=False) as counter:
        observe(crop, motion)
    epe = counter.get_total_flops()
    lifter, lifter_bytes = _lifter(model)
    traffic = _traffic(model.epe, partial(observe, crop, motion)) + lifter_bytes
    weights = sum(p.numel() * p.element_size() for p in model.epe.parameters())
    weights += sum(p.numel() * p.element_size() for p in model.lifter.parameters())
    shares = _shares(partial(observe, crop, motion)) if profiled else {}
    return Need(name, epe + lifter, epe, weights, traffic, shares)


def _lifter(model: STSPNet) -> tuple[int, float]:
    """Operations and bytes of GSR and TMP for one person with a full history."""
    points = torch.rand(6, 17, 2) * 100 + 100
    stamps = [i / 30 for i in range(len(points))]
    lift = partial(model.lift, points, stamps, Camera.guess(640, 480))
    with FlopCounterMode(display=False) as counter:
        lift()
    return counter.get_total_flops() // len(points), _traffic(model.lifter, lift) / len(points)


def _traffic(module: nn.Module, work: Callable[[], Any]) -> float:
    """Bytes of weights, inputs and outputs of all layers that `work` runs."""
    total = 0.0

    def count(layer: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal total
        tensors = [*inputs, output, *layer.parameters(recurse=False)]
        total += sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))

    layers = [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        work()
    finally:
        for hook in hooks:
            hook.remove()
    return total


_KINDS = (
    ("convolutions", ("conv",)),
    ("batch norm", ("batch_norm",)),
    ("activations and sums", ("relu", "aten::add", "clamp")),
    ("upsampling", ("upsample",)),
)


def _shares(work: Callable[[], Any]) -> dict[str, float]:
    """What EPE's time goes into, by PyTorch's profiler."""
    began = time.perf_counter()
    with torch.autograd.profiler.profile(use_kineto=False) as profile:
        for _ in range(20):
            work()
        took = 1e6 * (time.perf_counter() - began)
    own: dict[str, float] = {kind: 0.0 for kind, _ in _KINDS} | {"other operations": 0.0}
    for event in profile.key_averages():
        name = event.key.lower()
        kind = next((k for k, words in _KINDS if any(w in name for w in words)), "other operations")
        own[kind] += event.self_cpu_time_total
    whole = max(took, sum(own.values()))
    shares = {kind: micros / whole for kind, micros in own.items()}
    return {**shares, "Python between them": 1 - sum(shares.values())}


def _prepare(options: Message) -> Mapping[str, Callable[..., Message]]:
    device = options["device"]
    usable_device(device)
    return {
        "machine": lambda threads: asdict(measure_machine(threads, device)),
        "need": lambda model: asdict(count_need(model, device)),
    }


if __name__ == "__main__":
    serve(_prepare)
