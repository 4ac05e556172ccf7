"""Which backend is taken, and what is said where one cannot be."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stsp_model.estimator import PoseEstimator
from stsp_model.runtime import BACKENDS, with_onnxruntime, with_tensorrt
from stsp_model.runtime import packages as packages_module
from stsp_model.runtime.backends import chosen, open_network
from stsp_model.runtime.packages import MissingPackageError
from stsp_model.runtime.running import RunningNetwork, padded
from stsp_model.runtime.with_tensorrt import _progress, engine_path, load

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def only(monkeypatch):
    """Makes packages of backends seem not installed, but for those named."""

    def only_these(*there):
        def importing(name):
            if name.split(".")[0] not in there:
                raise ImportError(f"No module named {name!r}")
            return types.ModuleType(name)

        monkeypatch.setattr(packages_module, "installed", lambda *names: set(names) <= set(there))
        monkeypatch.setattr("stsp_model.runtime.backends.installed", packages_module.installed)
        monkeypatch.setattr(importlib, "import_module", importing)

    return only_these


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (("onnx", "onnxruntime", "openvino"), "onnxruntime"),
        (("onnx", "openvino"), "openvino"),
        (("onnxruntime",), "torch"),  # nothing to export with
        ((), "torch"),
    ],
)
def test_auto_takes_the_fastest_that_is_installed(there, expected, only, edge):
    only(*there)
    assert chosen("auto", CPU, edge) == expected
    assert chosen("auto", GPU, edge) == "torch"


def test_auto_runs_what_was_exported(only, onnx_files):
    only("onnx", "openvino", "tensorrt")
    assert chosen("auto", CPU, onnx_files) == "openvino"
    assert chosen("auto", GPU, onnx_files) == "tensorrt"


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "tensorrt"])
def test_a_missing_package_is_named_with_the_way_to_get_it(backend, only, edge):
    only("onnx")
    device = GPU if backend == "tensorrt" else CPU
    with pytest.raises(MissingPackageError, match=rf"{backend} cannot be imported.*install"):
        chosen(backend, device, edge)


@pytest.mark.parametrize(
    ("backend", "device", "reason"),
    [
        ("tflite", CPU, "expected one of auto, torch, onnxruntime, openvino, tensorrt"),
        ("onnxruntime", GPU, "choose device cpu, or backend torch or tensorrt"),
        ("openvino", GPU, "choose device cpu, or backend torch or tensorrt"),
        ("tensorrt", CPU, "TensorRT runs on NVIDIA GPUs alone"),
    ],
)
def test_what_does_not_fit_is_refused(backend, device, reason, only, edge):
    only("onnx", "onnxruntime", "openvino", "tensorrt")
    with pytest.raises(ValueError, match=reason):
        chosen(backend, device, edge)


def test_torch_does_not_run_what_was_exported(onnx_files):
    with pytest.raises(ValueError, match=r"give the \.safetensors file"):
        open_network(onnx_files, "torch")


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_half_precision_is_refused_on_a_cpu(backend, edge):
    with pytest.raises(ValueError, match="which is for GPUs"):
        open_network(edge, backend, half=True)


def test_a_network_on_a_backend_stays_there(edge):
    network = open_network(edge, "torch")
    assert open_network(network) is network
    with pytest.raises(ValueError, match="on a backend already"):
        PoseEstimator(network, backend="openvino")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_graph_that_a_backend_cannot_read_is_an_error(backend, onnx_files):
    pytest.importorskip(backend)
    broken = type(onnx_files)(onnx_files.description, {**onnx_files.files, "epe": b"\x08\x07rest"})
    with pytest.raises(ValueError, match="does not take the epe"):
        open_network(broken, backend)


def test_every_backend_stands_in_the_list():
    assert BACKENDS == ("auto", "torch", "onnxruntime", "openvino", "tensorrt")


@given(count=st.integers(1, 40), most=st.sampled_from([1, 2, 4, 16]))
def test_padding_changes_sizes_and_nothing_else(count, most):
    sizes = []

    def double(inputs):
        sizes.append(len(inputs[0]))
        return [2 * inputs[0], inputs[1].sum(dim=1)]

    values = [torch.arange(count), torch.rand(count, 3)]
    doubled, total = padded(double, most)(values)
    assert torch.equal(doubled, 2 * values[0])
    assert torch.equal(total, values[1].sum(dim=1))
    assert all(size <= most and size & (size - 1) == 0 for size in sizes)
    assert sum(sizes) < max(2 * count, most + count)


@given(count=st.integers(1, 9), batch=st.integers(1, 4))
def test_a_static_batch_always_gets_its_size(count, batch):
    def observe(inputs):
        assert [len(value) for value in inputs] == [batch, batch]
        return [inputs[0] + 1] * 7

    network = RunningNetwork((8, 8), (8, 8), False, "", 5, {"epe": observe}, "float32", batch)
    crops = torch.arange(count, dtype=torch.float32)
    assert torch.equal(network.observe(crops, crops).joints, crops + 1)


def test_an_engine_is_another_for_another_graph_device_or_version(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    paths = {
        engine_path(content, device, version)
        for content in (b"a", b"b")
        for device in ("Orin", "H100")
        for version in ("10.3", "10.7")
    }
    assert len(paths) == 8
    assert {path.parent for path in paths} == {tmp_path / "stsp" / "tensorrt"}


def test_tensorrt_without_a_gpu_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", types.ModuleType("tensorrt"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="needs an NVIDIA GPU"):
        load("epe", b"", GPU)


@pytest.mark.parametrize(("batch", "people"), [(3, 3), (3, 4), (0, 3), (0, 18)])
def test_a_static_batch_is_not_filled_up_for_tensorrt_as_a_free_one_is(
    batch, people, monkeypatch, exported_as
):
    """ONNX Runtime, which takes a static shape as strictly, in the place of the engines."""
    pytest.importorskip("onnxruntime")
    sizes = []

    def engine(graph, content, device):  # noqa: ARG001
        run = with_onnxruntime.load(graph, content, 1)

        def counted(inputs):
            sizes.append(len(inputs[0]))
            return run(inputs)

        return counted

    monkeypatch.setitem(sys.modules, "tensorrt", types.ModuleType("tensorrt"))
    monkeypatch.setattr(with_tensorrt, "load", engine)
    made = exported_as(batch=batch) if batch else exported_as()
    network = open_network(made, "tensorrt", GPU)
    seen = network.observe(torch.rand(people, 3, 192, 192), torch.zeros(people, 1, 48, 48))
    assert len(seen.joints) == people
    expected = {(3, 3): [3], (3, 4): [3, 3], (0, 3): [4], (0, 18): [16, 16]}
    assert sizes == expected[batch, people]


def test_the_build_of_an_engine_shows_its_progress(capsys):
    stub = types.SimpleNamespace(IProgressMonitor=object)
    monitor = _progress(stub, "epe")
    monitor.phase_start("tactics", None, 4)
    assert monitor.step_complete("tactics", 2) is True
    assert monitor.bars["tactics"].n == 2
    monitor.phase_finish("tactics")
    assert not monitor.bars
    assert "epe: tactics" in capsys.readouterr().err


def test_the_threads_are_those_of_torch(onnx_files, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    seen = []
    real = onnxruntime.InferenceSession

    def session(content, options, **rest):
        seen.append(options.intra_op_num_threads)
        return real(content, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    torch.set_num_threads(2)
    try:
        open_network(onnx_files, "onnxruntime")
    finally:
        torch.set_num_threads(1)
    assert seen == [2, 2, 2]


def test_the_estimator_takes_a_backend(onnx_files, pictures):
    pytest.importorskip("openvino")
    estimate = PoseEstimator(onnx_files, backend="openvino", max_people=2)
    assert isinstance(estimate.network, RunningNetwork)
    box = np.array([[220.0, 90, 420, 450]])
    (pose,) = estimate.step(pictures[0][1], 0.0, boxes=box)
    assert np.isfinite(pose.joints).all()
