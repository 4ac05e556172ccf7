"""PyTorch on a GPU: each graph a CUDA graph in 16 bits, its kernels few and side by side.

One person's crop does not fill a GPU, so that what takes time is the number of kernels one after
the other: convolutions take bias, shortcut and ReLU along, and the branches of HRNet, which know
nothing of each other between two exchanges, run at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from stsp_model.hrnet import STRIDE, BasicBlock, Bottleneck, ExchangeModule
from stsp_model.network import STSPNet
from stsp_model.runtime import FLOAT16, FLOAT32
from stsp_model.runtime.graphs import EPE, FINDER, LIFTER, Graph, graphs, in_two
from stsp_model.runtime.running import Run, RunningNetwork, filled_up, padded
from stsp_model.runtime.with_torch import folded

_WARM_UP = 3  # calls before a graph is captured, in which libraries choose their kernels
_MOST_PEOPLE = 16  # per call
_CHANNELS = 8  # tensor cores take channels by the eight


def on_gpu(network: STSPNet, device: torch.device, half: bool, mirrored: bool) -> RunningNetwork:
    """The network on a GPU, each graph captured for batches of 1, 2, 4, 8 and 16 people."""
    moved = folded(network).to(device)

    with torch.cuda.device(device):  # for the streams
        quick = {
            name: _quick(graph.to(device), half)
            for name, graph in graphs(moved, half, mirrored).items()
        }
    look, read = in_two(quick[EPE])
    eye = _Eye(partial(_captured, look, device, half), partial(_captured, read, device, half))
    runs: dict[str, Run] = {EPE: eye.run}
    for name in (FINDER, LIFTER):
        runs[name] = _Captures(partial(_captured, quick[name], device, half)).run
    return RunningNetwork(
        network.input_size,
        network.finder_size,
        network.trained,
        network.note,
        network.lifter.window,
        {name: padded(run, _MOST_PEOPLE) for name, run in runs.items()},
        FLOAT16 if half else FLOAT32,
        begins=eye.begin,
    )


@dataclass(frozen=True)
class _Capture:
    """A graph as a recorded sequence of copies and kernels, for one size of a batch.

    given: the host's ends of the inputs' copies, in memory that the GPU reaches by itself, and
    inputs that lie on the GPU. results: on the GPU. out: the host's ends of their copies, if any.
    """

    device: torch.device
    recording: Any
    given: list[Tensor]
    results: list[Tensor]
    out: list[Tensor]

    def begin(self, inputs: Sequence[Tensor]) -> None:
        """Hand the inputs over that do not lie on the GPU, and start."""
        for own, value in zip(self.given, inputs, strict=True):
            if own is not value:
                own.copy_(value)
        with torch.cuda.device(self.device):
            self.recording.replay()

    def finish(self) -> list[Tensor]:
        """Wait until all is done that was started."""
        with torch.cuda.device(self.device):
            torch.cuda.current_stream().synchronize()
        return [value.clone() for value in self.out]


def _captured(
    graph: Graph, device: torch.device, half: bool, inputs: Sequence[Tensor], back: bool = True
) -> _Capture:
    """A graph recorded for inputs like these; its results stay on the GPU unless wanted `back`."""
    given = [value if value.device.type == device.type else _pinned(value) for value in inputs]
    for own, value in zip(given, inputs, strict=True):
        if own is not value:
            own.copy_(value)

    def results() -> list[Tensor]:
        return list(graph(*(value.to(device, non_blocking=True) for value in given)))

    # By default convolutions in 32 bits would keep 10 bits of the 23 behind the point.
    with torch.cuda.device(device), torch.backends.cudnn.flags(True, allow_tf32=half):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                warm = results()
            out = [_pinned(value) for value in warm] if back else []
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        recording = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recording):
            there = results()
            for own, value in zip(out, there, strict=False):
                own.copy_(value, non_blocking=True)
    return _Capture(device, recording, given, there, out)


class _Captures:
    """A graph that is captured for each size of a batch when that first comes."""

    def __init__(self, capture: Callable[..., _Capture]) -> None:
        self._capture = capture
        self._captured: dict[int, _Capture] = {}

    @torch.inference_mode()
    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        size = len(inputs[0])
        if size not in self._captured:
            self._captured[size] = self._capture(inputs)
        capture = self._captured[size]
        capture.begin(inputs)
        return capture.finish()


class _Eye:
    """EPE in two captures: the first needs no saliency, and runs while the host computes that."""

    def __init__(self, look: Callable[..., _Capture], read: Callable[..., _Capture]) -> None:
        self._look, self._read = look, read
        self._captured: dict[int, tuple[_Capture, _Capture]] = {}
        self._begun: Tensor | None = None

    @torch.inference_mode()
    def begin(self, crops: Tensor) -> None:
        """Start on crops; batches that will be filled up wait for `run`."""
        size = len(crops)
        if size != filled_up(size, _MOST_PEOPLE):
            return
        if size not in self._captured:
            look = self._look([crops], back=False)
            height, width = (side // STRIDE for side in crops.shape[-2:])
            saliency = torch.zeros(size, 1, height, width)
            self._captured[size] = look, self._read([*look.results, saliency])
        look, _ = self._captured[size]
        if self._begun is not None:  # its crops may still be on their way to the GPU
            look.finish()
        look.begin([crops])
        self._begun = crops

    @torch.inference_mode()
    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        crops, saliency = inputs
        if self._begun is not crops:
            self.begin(crops)
        self._begun = None
        look, read = self._captured[len(crops)]
        read.begin([*look.results, saliency])
        return read.finish()


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
