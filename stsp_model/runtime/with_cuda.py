"""PyTorch on a GPU: each graph a CUDA graph in 16 bits, its kernels few and side by side.

One person's crop does not fill a GPU, so that what takes time is the number of kernels one after
the other: convolutions take bias, shortcut and ReLU along, and the branches of HRNet, which know
nothing of each other between two exchanges, run at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from stsp_model.hrnet import BasicBlock, Bottleneck, ExchangeModule
from stsp_model.network import STSPNet
from stsp_model.runtime import FLOAT16, FLOAT32
from stsp_model.runtime.graphs import graphs
from stsp_model.runtime.running import Run, RunningNetwork, padded
from stsp_model.runtime.with_torch import folded

_WARM_UP = 3  # calls before a graph is captured, in which libraries choose their kernels
_MOST_PEOPLE = 16  # per call
_CHANNELS = 8  # tensor cores take channels by the eight


def on_gpu(network: STSPNet, device: torch.device, half: bool, mirrored: bool) -> RunningNetwork:
    """The network on a GPU, each graph captured for batches of 1, 2, 4, 8 and 16 people."""
    moved = folded(network).to(device)
    with torch.cuda.device(device):  # for the streams
        runs = {
            name: padded(_captured(_quick(graph.to(device), half), device, half), _MOST_PEOPLE)
            for name, graph in graphs(moved, half, mirrored).items()
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


def _captured(graph: nn.Module, device: torch.device, half: bool) -> Run:
    """A graph as a recorded sequence of copies and kernels, one for each size of a batch."""
    recorded: dict[int, tuple[Any, list[Tensor], list[Tensor]]] = {}

    def record(inputs: Sequence[Tensor]) -> tuple[Any, list[Tensor], list[Tensor]]:
        # The host's ends of the copies, in memory that the GPU reaches by itself.
        given = [_pinned(value) for value in inputs]
        for own, value in zip(given, inputs, strict=True):
            own.copy_(value)
        # By default convolutions in 32 bits would keep 10 bits of the 23 behind the point.
        with torch.cuda.device(device), torch.backends.cudnn.flags(True, allow_tf32=half):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_WARM_UP):
                    results = graph(*(value.to(device, non_blocking=True) for value in given))
                out = [_pinned(value) for value in results]
            torch.cuda.current_stream().wait_stream(side)
            torch.cuda.synchronize()
            recording = torch.cuda.CUDAGraph()
            with torch.cuda.graph(recording):
                results = graph(*(value.to(device, non_blocking=True) for value in given))
                for own, value in zip(out, results, strict=True):
                    own.copy_(value, non_blocking=True)
        return recording, given, out

    @torch.inference_mode()
    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        size = len(inputs[0])
        if size not in recorded:
            recorded[size] = record(inputs)
        recording, given, out = recorded[size]
        for own, value in zip(given, inputs, strict=True):
            own.copy_(value)
        with torch.cuda.device(device):
            recording.replay()
            torch.cuda.current_stream().synchronize()
        return [value.clone() for value in out]

    return run


def _pinned(like: Tensor) -> Tensor:
    """Page-locked memory of the host for values like these; pictures with their channels last."""
    pictures = like.ndim == 4 and like.shape[1] == 3
    layout = torch.channels_last if pictures else torch.contiguous_format
    return torch.empty(
        like.shape, dtype=like.dtype, device="cpu", pin_memory=True, memory_format=layout
    )


def _quick(graph: nn.Module, half: bool) -> nn.Module:
    """The graph with fewer kernels, and more of them at once; its numbers are the same."""
    for module in list(graph.modules()):
        forward: Callable[..., Any] | None = None
        if isinstance(module, ExchangeModule):
            forward = partial(_exchange, module, [torch.cuda.Stream() for _ in module.branches])
        elif half and isinstance(module, BasicBlock) and _fuses(module.conv1):
            forward = partial(_basic_block, module)
        elif half and isinstance(module, Bottleneck) and _fuses(module.conv1):
            forward = partial(_bottleneck, module)
        elif half and isinstance(module, nn.Sequential):
            _fuse_activations(module)
        if forward is not None:
            module.forward = forward
    return graph


def _exchange(module: ExchangeModule, streams: Sequence[Any], xs: list[Tensor]) -> list[Tensor]:
    """ExchangeModule.forward, branch beside branch, and then output beside output."""
    branches = [partial(branch, x) for branch, x in zip(module.branches, xs, strict=True)]
    outputs = _side_by_side(branches, streams)
    targets = range(len(module.fuse_layers))
    return _side_by_side([partial(module.exchanged, t, outputs) for t in targets], streams)


def _side_by_side(works: Sequence[Callable[[], Tensor]], streams: Sequence[Any]) -> list[Tensor]:
    """Results of works that know nothing of each other, each on a stream of its own.

    What a stream frees it may use again at once; as each of them first waits for the stream that
    took its results, that one has read them by then.
    """
    main = torch.cuda.current_stream()
    others = list(zip(works[1:], streams[1:], strict=False))
    results = []
    for work, stream in others:
        stream.wait_stream(main)
        with torch.cuda.stream(stream):
            results.append(work())
    first = works[0]()
    for _, stream in others:
        main.wait_stream(stream)
    return [first, *results]


def _fuse_activations(layers: nn.Sequential) -> None:
    """Put convolution, folded batch norm and ReLU into one, wherever they follow each other."""
    for i in range(len(layers) - 2):
        first, norm, relu = layers[i], layers[i + 1], layers[i + 2]
        follow = isinstance(norm, nn.Identity) and isinstance(relu, nn.ReLU)
        if follow and isinstance(first, nn.Conv2d) and _fuses(first):
            first.forward = partial(_relu, first)  # type: ignore[method-assign]
            layers[i + 2] = nn.Identity()


def _fuses(convolution: nn.Conv2d) -> bool:
    return not (convolution.in_channels % _CHANNELS or convolution.out_channels % _CHANNELS)


def _basic_block(block: BasicBlock, x: Tensor) -> Tensor:
    """BasicBlock.forward after folding."""
    return _add_relu(block.conv2, _relu(block.conv1, x), x)


def _bottleneck(block: Bottleneck, x: Tensor) -> Tensor:
    """Bottleneck.forward after folding."""
    out = _relu(block.conv2, _relu(block.conv1, x))
    return _add_relu(block.conv3, out, block.downsample(x))


def _relu(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    result: Tensor = torch.cudnn_convolution_relu(
        x, convolution.weight, convolution.bias, *_shape(convolution)
    )
    return result


def _add_relu(convolution: nn.Conv2d, x: Tensor, shortcut: Tensor) -> Tensor:
    result: Tensor = torch.cudnn_convolution_add_relu(
        x, convolution.weight, shortcut, 1.0, convolution.bias, *_shape(convolution)
    )
    return result


def _shape(convolution: nn.Conv2d) -> tuple[Any, Any, Any, int]:
    shape = convolution.stride, convolution.padding, convolution.dilation
    return (*shape, convolution.groups)
