"""PyTorch: on the CPU the network itself, on a GPU CUDA graphs in 16 bits."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from stsp_model.network import STSPNet
from stsp_model.runtime import FLOAT16, FLOAT32
from stsp_model.runtime.graphs import graphs
from stsp_model.runtime.running import Run, RunningNetwork, padded

_WARM_UP = 3  # calls before a graph is captured, in which libraries choose their kernels
_MOST_PEOPLE = 16  # per call on a GPU


def folded(network: STSPNet) -> STSPNet:
    """A copy for inference on the CPU, each batch norm folded into the convolution before it.

    An eighth faster on a CPU, and equal but for rounding.
    """
    result = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    for module in list(result.modules()):
        before: tuple[str, nn.Conv2d] | None = None
        # In this network a batch norm belongs to the convolution that was registered before it.
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d) and before is not None:
                setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
                setattr(module, name, nn.Identity())
            before = (name, child) if isinstance(child, nn.Conv2d) else None
    return result.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def is_folded(model: object) -> TypeGuard[STSPNet]:
    """Whether this is a network that `folded` gave, which is on its backend already."""
    if not isinstance(model, STSPNet):
        return False
    return not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def on_gpu(network: STSPNet, device: torch.device, half: bool) -> RunningNetwork:
    """The network on a GPU, each graph captured for batches of 1, 2, 4, 8 and 16 people."""
    moved = folded(network).to(device)
    runs = {
        name: padded(_captured(graph.to(device), device), _MOST_PEOPLE)
        for name, graph in graphs(moved, half).items()
    }
    return RunningNetwork(
        network.input_size,
        network.finder_size,
        network.trained,
        network.note,
        network.lifter.window,
        runs,
        FLOAT16 if half else FLOAT32,
    )


def _captured(graph: nn.Module, device: torch.device) -> Run:
    """A graph as a recorded sequence of kernels, one for each size of a batch that comes."""
    recorded: dict[int, tuple[Any, list[Tensor], Sequence[Tensor]]] = {}

    def record(inputs: Sequence[Tensor]) -> tuple[Any, list[Tensor], Sequence[Tensor]]:
        given = [_on(value, device) for value in inputs]
        with torch.cuda.device(device):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_WARM_UP):
                    graph(*given)
            torch.cuda.current_stream().wait_stream(side)
            recording = torch.cuda.CUDAGraph()
            with torch.cuda.graph(recording):
                results = graph(*given)
        return recording, given, results

    @torch.inference_mode()
    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        size = len(inputs[0])
        if size not in recorded:
            recorded[size] = record(inputs)
        recording, given, results = recorded[size]
        for own, value in zip(given, inputs, strict=True):
            own.copy_(value)
        recording.replay()
        return [value.cpu() for value in results]

    return run


def _on(values: Tensor, device: torch.device) -> Tensor:
    """A copy on the device; pictures with their channels last."""
    pictures = values.ndim == 4 and values.shape[1] == 3
    layout = torch.channels_last if pictures else torch.contiguous_format
    return values.to(device, copy=True, memory_format=layout)
