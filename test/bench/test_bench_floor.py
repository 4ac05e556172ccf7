"""The floor: what is counted of a network, and what follows for a machine."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from stsp_model import cli
from stsp_model.bench.figures import Figure, Version
from stsp_model.bench.floor import Machine, Need
from stsp_model.bench.floor_child import _traffic
from stsp_model.bench.report import floor_lines
from stsp_model.bench.steps import StepResult
from stsp_model.network import PRESETS, STSPNet
from stsp_model.runtime import exported


def test_the_floor_is_set_by_arithmetic_or_by_memory_whichever_takes_longer():
    need = Need("edge", operations=6e9, epe_operations=5e9, weights=2e9, bytes=3e9, shares={})
    assert need.floor(Machine(1, convolution=3e9, product=1e9, bandwidth=4e9)) == 2.0
    assert need.floor(Machine(1, convolution=12e9, product=1e9, bandwidth=1e9)) == 2.0


def test_traffic_is_each_layers_weights_input_and_output():
    layers = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2, bias=False))
    assert _traffic(layers, lambda: layers(torch.zeros(1, 3))) == 4 * (
        (15 + 5 + 3 + 5) + (10 + 5 + 2)
    )


@pytest.fixture(scope="module")
def floor(tmp_path_factory):
    """This machine, what edge asks of it, alone, with mirror images and with smaller crops, and all
    that is told of that.
    """
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("exported")
    mirrored = exported.export(STSPNet("edge"), mirrored=True)
    exported.write(mirrored, folder / "mirrored")
    smaller = exported.export(STSPNet(replace(PRESETS["edge"], crop=96)))
    exported.write(smaller, folder / "smaller")
    out, told = folder / "floor.json", io.StringIO()
    names = ["edge", str(folder / "mirrored"), str(folder / "smaller")]
    with contextlib.redirect_stdout(told):
        code = cli.main(["bench", "floor", "--threads", "1", "--out", str(out), "--model", *names])
    assert code == 0
    found = json.loads(out.read_text())["floor"]
    (machine,) = (Machine(**values) for values in found["machines"])
    return machine, [Need(**values) for values in found["needs"]], told.getvalue()


def test_the_operations_of_epe_are_those_of_its_convolutions_and_little_else(floor):
    machine, (need, *_), _ = floor
    convolutions = 0

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal convolutions
        assert isinstance(layer, nn.Conv2d)
        convolutions += 2 * output.numel() * layer.weight[0].numel()

    epe = STSPNet("edge").eval().epe
    for module in epe.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    side = PRESETS["edge"].crop
    epe(torch.zeros(1, 3, side, side), torch.zeros(1, 1, side // 4, side // 4))
    assert convolutions < need.epe_operations < 1.02 * convolutions
    assert need.epe_operations < need.operations
    assert need.weights < need.bytes
    assert sum(need.shares.values()) == pytest.approx(1)
    assert need.shares["convolutions"] > 0.2
    assert machine.convolution > 1e9
    assert machine.bandwidth > 1e8


def test_what_was_exported_needs_what_its_weights_need(floor):
    """Its own: of the sizes that it had, twice for mirror images, and not as PyTorch runs it."""
    _, (weights, twice, quarter), told = floor
    lifter = weights.operations - weights.epe_operations
    for need in (twice, quarter):
        assert need.operations - need.epe_operations == lifter
        assert need.weights == weights.weights
    assert twice.operations == pytest.approx(2 * weights.epe_operations + lifter, rel=0.02)
    assert quarter.epe_operations == pytest.approx(weights.epe_operations / 4, rel=0.02)
    assert weights.shares
    for need in (twice, quarter):
        assert need.shares == {}
        assert f"{need.model}: not profiled" in told
    assert "edge: PyTorch spends EPE's time on convolutions" in told
    assert "floor, 1 thread" in told
    assert "of the peak" not in told  # nothing was run beside it


def test_the_peak_of_float32_is_no_measure_of_8_bits():
    machine = Machine(1, convolution=100e9, product=1e9, bandwidth=1e9)
    need = Need("edge", operations=2e9, epe_operations=2e9, weights=1, bytes=1, shares={})
    figure = Figure.of([[0.04]])
    versions = [Version("edge", backend, 1, (640, 480)) for backend in ("torch", "onnxruntime")]
    steps = [
        StepResult({"EPE": figure}, *(0.0,) * 6, trained=True, precision=precision)
        for precision in ("float32", "int8")
    ]
    told = floor_lines([machine], [need], versions, steps)[-3:-1]
    assert [line.split()[-1] for line in told] == ["%", "int8"]
    assert told[0].endswith("50 Gop/s         50 %")
