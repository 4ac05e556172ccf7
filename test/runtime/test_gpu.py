"""What a GPU asks of the graphs, checked without one as far as that goes; the rest runs on CUDA."""

from __future__ import annotations

import contextlib
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stsp_model.network import PRESETS, STSPNet
from stsp_model.runtime import with_cuda
from stsp_model.runtime.backends import open_network
from stsp_model.runtime.graphs import GRAPHS, examples, graphs, in_two
from stsp_model.runtime.with_torch import folded

ABSTRACT = torch.device("meta")  # stands for a GPU: what lies on the CPU has to be brought there


class Tensors(TorchDispatchMode):
    """Notes the operations that take a tensor which is neither known nor one of their results."""

    def __init__(self, known=()):
        super().__init__()
        self.seen = {id(value): value for value in known}  # kept, so that no id is used again
        self.strangers = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, torch.Tensor) and id(value) not in self.seen:
                self.strangers.append(str(operation))
                self.seen[id(value)] = value
        result = operation(*args, **(kwargs or {}))
        self.seen |= {id(x): x for x in tree_leaves(result) if isinstance(x, torch.Tensor)}
        return result


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_takes_nothing_from_the_host_once_it_is_warm(name):
    """Neither CUDA's graphs nor a GPU that is kept busy allow it."""
    network = STSPNet(PRESETS["edge"]).eval()
    graph = graphs(network, mirrored=True)[name].to(ABSTRACT)
    given = [value.to(ABSTRACT) for value in examples(network, 2)[name]]
    with torch.inference_mode():
        with Tensors() as warm_up:
            graph(*given)
        assert warm_up.strangers  # the weights at least
        with Tensors(warm_up.seen.values()) as seen:
            graph(*given)
    assert seen.strangers == []


class NoStream:
    """In the place of a CUDA stream where there is no GPU."""

    def wait_stream(self, other):
        assert isinstance(other, NoStream)


@pytest.fixture
def no_gpu(monkeypatch):
    """What the quick graphs call of CUDA and cuDNN, done by the CPU; counts the convolutions."""
    calls = []

    def add_relu(x, weight, shortcut, alpha, *rest):
        calls.append(weight.shape)
        return torch.relu(torch.nn.functional.conv2d(x, weight, *rest) + alpha * shortcut)

    monkeypatch.setattr(torch.cuda, "Stream", NoStream)
    monkeypatch.setattr(torch.cuda, "current_stream", NoStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", add_relu)
    monkeypatch.setattr(
        torch,
        "cudnn_convolution_relu",
        lambda x, weight, *rest: add_relu(x, weight, torch.zeros(()), 1.0, *rest),
    )
    return calls


@pytest.mark.parametrize("preset", ["edge", "base"])
@pytest.mark.parametrize("name", GRAPHS)
def test_a_quick_graph_gives_the_same_numbers(preset, name, no_gpu):
    torch.manual_seed(0)
    network = STSPNet(PRESETS[preset])
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as if trained
            module.running_mean.normal_(std=0.1)
            torch.nn.init.uniform_(module.weight, 0.5, 1)
    network = folded(network)
    given = [torch.rand_like(x) if x.ndim == 4 else x for x in examples(network, 2)[name]]
    with torch.inference_mode():
        expected = graphs(network)[name](*given)
        assert not no_gpu
        found = with_cuda._quick(graphs(network)[name], True)(*given)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    # All but the 3-channel stem's and those into a sum take bias and ReLU along.
    assert (
        len(no_gpu) == {"finder": 15, "epe": {"edge": 47, "base": 236}[preset], "lifter": 0}[name]
    )


class Calls:
    """In the place of a captured graph: computes at once, and tells what it was asked."""

    def __init__(self, told, name, graph, inputs, back=True):  # noqa: ARG002
        self.told, self.name, self.graph = told, name, graph
        self.results = list(graph(*inputs))

    def begin(self, inputs):
        self.told.append(self.name)
        for own, value in zip(self.results, self.graph(*inputs), strict=True):
            own.copy_(value)

    def finish(self):
        self.told.append(f"{self.name} is done")
        return [value.clone() for value in self.results]


@pytest.fixture
def eye(edge):
    told = []
    look, read = in_two(graphs(edge, mirrored=True)["epe"])
    return with_cuda._Eye(
        partial(Calls, told, "look", look), partial(Calls, told, "read", read)
    ), told


def seen(edge, crops, saliency):
    with torch.inference_mode():
        return graphs(edge, mirrored=True)["epe"](crops, saliency)


def test_looking_begins_before_the_saliency_is_known(edge, eye):
    eye, told = eye
    crops, saliency = torch.rand(2, 3, 192, 192), 0.1 * torch.rand(2, 1, 48, 48)
    eye.begin(crops)
    assert told == ["look"]
    found = eye.run([crops, saliency])
    assert told == ["look", "read", "read is done"]
    for ours, theirs in zip(found, seen(edge, crops, saliency), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_what_was_begun_counts_for_its_own_crops_alone_and_once(edge, eye):
    eye, told = eye
    first, second, saliency = *torch.rand(2, 1, 3, 192, 192), torch.zeros(1, 1, 48, 48)
    eye.begin(first)
    for crops in (second, second):
        (joints, *_), (expected, *_) = eye.run([crops, saliency]), seen(edge, crops, saliency)
        torch.testing.assert_close(joints, expected)
    assert told == [*("look", "look is done"), *("look", "read", "read is done") * 2]


@torch.inference_mode()
def test_both_halves_of_epe_in_16_bits_give_what_it_gives_as_one(edge):
    epe = graphs(edge, half=True, mirrored=True)["epe"]
    look, read = in_two(epe)
    crops, saliency = torch.rand(1, 3, 96, 96), 0.1 * torch.rand(1, 1, 24, 24)
    for ours, theirs in zip(read(*look(crops), saliency), epe(crops, saliency), strict=True):
        assert torch.equal(ours, theirs)


def test_people_who_do_not_fill_a_batch_are_looked_at_with_it(eye):
    eye, told = eye
    eye.begin(torch.rand(3, 3, 192, 192))
    assert told == []


def test_a_gpu_looks_at_the_mirror_image_as_well(gpu, edge):
    crops, saliency = torch.rand(3, 3, 192, 192), 0.1 * torch.rand(3, 1, 48, 48)
    network = open_network(edge, "torch", gpu, half=False)
    network.begin(crops[:2])  # of others, and too early
    with torch.inference_mode():
        expected = edge.epe(crops, saliency, mirrored=True)
        torch.testing.assert_close(
            network.observe(crops, saliency).heatmaps, expected.heatmaps, atol=1e-3, rtol=1e-3
        )
