"""The three graphs of a network that backends run, on plain tensors: FINDER, EPE and LIFTER."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from stsp_model.body import BODY_FRAMES, BODY_VALUES
from stsp_model.hrnet import STRIDE
from stsp_model.lifter import Keypoints, Past
from stsp_model.network import STSPNet
from stsp_model.skeleton import JOINT_COUNT

FINDER, EPE, LIFTER = "finder", "epe", "lifter"
GRAPHS = (FINDER, EPE, LIFTER)
Graph = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Signature:
    """Names of a graph's inputs and outputs, in the order in which tensors go in and come out."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


SIGNATURES: Mapping[str, Signature] = {
    FINDER: Signature(("frames",), ("centres", "distances")),
    EPE: Signature(
        ("crops", "saliency"),
        ("joints", "mass", "covariance", "confidence", "features", "present", "heatmaps"),
    ),
    LIFTER: Signature(
        (
            *("joints_2d", "mass", "covariance", "features", "boxes", "K"),
            *("past_joints", "past_log_variance", "age", "past_body", "count"),
            "subject_height",
        ),
        (
            *("joints", "variance", "confidence", "height", "height_variance", "frames_used"),
            *("next_joints", "next_log_variance", "next_body"),
        ),
    ),
}
STATE = 3  # the last outputs of LIFTER make the tracks' new states


class _Epe(nn.Module):
    """See STSPNet.observe, and EPE.forward for `mirrored`."""

    def __init__(self, network: STSPNet, mirrored: bool) -> None:
        super().__init__()
        self.epe = network.epe
        self.mirrored = mirrored

    def forward(self, crops: Tensor, saliency: Tensor) -> tuple[Tensor, ...]:
        (features,) = self.look(crops)
        return self.read(features, saliency)

    def look(self, crops: Tensor) -> tuple[Tensor, ...]:
        return (self.epe.look(crops, self.mirrored),)

    def read(self, features: Tensor, saliency: Tensor) -> tuple[Tensor, ...]:
        seen = self.epe.read(features, saliency, self.mirrored)
        return tuple(getattr(seen, name) for name in SIGNATURES[EPE].outputs)


class _Lifter(nn.Module):
    """See Lifter.advance. K is (N, 3, 3); subject_height (N,) metres, NaN for unknown."""

    def __init__(self, network: STSPNet) -> None:
        super().__init__()
        self.lifter = network.lifter

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        joints, mass, covariance, features, boxes, K, *past, height = inputs
        lifted, *state = self.lifter.advance(
            Keypoints(joints, mass, covariance, features), boxes, K, Past(*past), height
        )
        names = SIGNATURES[LIFTER].outputs[:-STATE]
        return (*(getattr(lifted, name) for name in names), *state)


class _Half(nn.Module):
    """A graph that computes in 16 bits, and takes and gives 32; soft-argmax stays in 32 bits."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = copy.deepcopy(graph).half()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return _in_half(self.graph, *inputs)


def _in_half(graph: Graph, *inputs: Tensor) -> tuple[Tensor, ...]:
    return tuple(value.float() for value in graph(*(value.half() for value in inputs)))


def graphs(network: STSPNet, half: bool = False, mirrored: bool = False) -> dict[str, nn.Module]:
    """The graphs by their names; they share the network's weights.

    With `mirrored` EPE looks at each crop's mirror image as well.
    With `half` FINDER and EPE compute in 16 bits, on weights of their own. LIFTER never does: it
    costs little, and its millimetres are small beside the metres that it computes with.
    """
    convolutions: dict[str, nn.Module] = {FINDER: network.finder, EPE: _Epe(network, mirrored)}
    if half:
        convolutions = {name: _Half(graph) for name, graph in convolutions.items()}
    return {**convolutions, LIFTER: _Lifter(network)}


def in_two(epe: nn.Module) -> tuple[Graph, Graph]:
    """EPE's graph as two: from crops to features, and from those and the saliency to its outputs.

    Args:
        epe: of `graphs`, whose weights both share.
    """
    if isinstance(epe, _Half):
        look, read = in_two(epe.graph)
        return partial(_in_half, look), partial(_in_half, read)
    assert isinstance(epe, _Epe)
    return epe.look, epe.read


def examples(network: STSPNet, batch: int) -> dict[str, tuple[Tensor, ...]]:
    """Inputs of the right shapes for every graph; the finder always looks at one frame."""
    (width, height), (frame_width, frame_height) = network.input_size, network.finder_size
    window = network.lifter.window
    past = torch.zeros(batch, window, JOINT_COUNT, 3)
    K = torch.tensor([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]])
    box = torch.tensor([0.0, 0.0, width, height])
    return {
        FINDER: (torch.zeros(1, 3, frame_height, frame_width),),
        EPE: (
            torch.zeros(batch, 3, height, width),
            torch.zeros(batch, 1, height // STRIDE, width // STRIDE),
        ),
        LIFTER: (
            torch.full((batch, JOINT_COUNT, 2), width / 2),
            torch.full((batch, JOINT_COUNT), 0.5),
            torch.eye(2).repeat(batch, JOINT_COUNT, 1, 1),
            torch.zeros(batch, JOINT_COUNT, network.lifter.channels),
            box.repeat(batch, 1),
            K.repeat(batch, 1, 1),
            past,
            past.clone(),
            torch.zeros(batch, window),
            torch.zeros(batch, BODY_FRAMES, BODY_VALUES),
            torch.zeros(batch, dtype=torch.long),
            torch.full((batch,), torch.nan),
        ),
    }
