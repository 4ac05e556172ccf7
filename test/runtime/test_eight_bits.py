"""The EPE in 8 bits that ships: when it is taken, and that it belongs to the weights."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from stsp_model.checkpoint import weights_sha256
from stsp_model.crop import crop_box
from stsp_model.estimator import PoseEstimator
from stsp_model.network import STSPNet
from stsp_model.perception import still_inputs
from stsp_model.runtime import FLOAT16, FLOAT32, INT8, eight_bits, exported
from stsp_model.runtime.backends import open_network, precision
from stsp_model.runtime.graphs import EPE, FINDER, LIFTER

onnx = pytest.importorskip("onnx")

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
BACKENDS = ("onnxruntime", "openvino")
needs_x86 = pytest.mark.skipif(
    not eight_bits.is_fast_here(), reason="this CPU lacks AVX2, for which 8 bits were measured"
)


@pytest.fixture
def fast(monkeypatch):
    """Makes the CPU seem fast, or not, at 8 bits."""

    def make(whether):
        monkeypatch.setattr("stsp_model.runtime.backends.is_fast_here", lambda: whether)

    return make


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_vnni", True),
        ("flags\t\t: fpu avx2 avx_vnni", True),
        ("flags\t\t: fpu sse4_2 avx avx2", True),
        ("flags\t\t: fpu sse4_2 avx", False),
        ("Features\t: fp asimd asimddp", False),  # ARM
        ("model name\t: avx2", False),
        ("", False),
    ],
)
def test_the_cpu_is_known_by_its_flags(line, expected, tmp_path):
    told = tmp_path / "cpuinfo"
    told.write_text(f"processor\t: 0\nmodel name\t: some\n{line}\n", encoding="utf-8")
    assert eight_bits.is_fast_here(told) is expected


def test_without_an_answer_the_cpu_is_not_taken_for_fast(tmp_path):
    assert not eight_bits.is_fast_here(tmp_path / "nowhere")


def test_what_ships_belongs_to_the_weights_that_ship(edge):
    description, content = eight_bits.shipped_epe(edge)
    assert description.weights == weights_sha256(edge)
    assert (description.precision, description.batch) == (INT8, 0)
    assert "in 8 bits" in description.accuracy
    assert description.input_size == edge.input_size
    assert len(content) < 4e6


def test_other_weights_have_none():
    assert eight_bits.shipped_epe(STSPNet("edge", seed=1)) is None
    assert eight_bits.shipped_epe(STSPNet("base")) is None


def test_a_damaged_file_is_an_error(edge, tmp_path, monkeypatch):
    monkeypatch.setattr(eight_bits, "WEIGHTS", tmp_path)
    (tmp_path / "edge_epe_int8.onnx").write_bytes(b"no onnx")
    with pytest.raises(ValueError, match=r"edge_epe_int8\.onnx is damaged"):
        eight_bits.shipped_epe(edge)


def test_8_bits_are_for_fast_cpus_and_the_weights_that_ship(edge, onnx_files, fast):
    fast(True)
    assert [precision(backend, edge, CPU) for backend in BACKENDS] == [INT8, INT8]
    assert precision("torch", edge, CPU) == FLOAT32
    assert precision("torch", edge, GPU) == precision("tensorrt", edge, GPU) == FLOAT16
    assert precision("onnxruntime", STSPNet("edge", seed=1), CPU) == FLOAT32
    assert precision("onnxruntime", onnx_files, CPU) == FLOAT32  # as it was exported
    fast(False)
    assert precision("onnxruntime", edge, CPU) == FLOAT32


def test_only_the_keypoints_change(edge, onnx_files):
    network = exported.export(edge, epe=eight_bits.shipped_epe(edge))
    assert network.precision == INT8
    assert "in 8 bits" in network.description.accuracy
    for graph, same in {FINDER: True, LIFTER: True, EPE: False}.items():
        before, after = (
            onnx.load_model_from_string(files.files[graph]).graph for files in (onnx_files, network)
        )
        assert (before == after) is same


@pytest.fixture(scope="module")
def in_8_bits(edge):
    """The network by backend, opened once as on a CPU that is fast at 8 bits."""

    @functools.cache
    def network(backend):
        pytest.importorskip(backend)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("stsp_model.runtime.backends.is_fast_here", lambda: True)
            return open_network(edge, backend)

    return network


@needs_x86
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_child_is_seen_where_32_bits_see_it(backend, in_8_bits, opened, pictures):
    network = in_8_bits(backend)
    assert network.precision == INT8
    assert opened(backend).precision == FLOAT32
    box = np.array([[220.0, 90, 420, 450]])
    off = []
    for stamp, image, camera in pictures[::8]:
        (ours,), (theirs,) = (
            PoseEstimator(each).step(image, stamp, camera, boxes=box)
            for each in (network, opened(backend))
        )
        off.append(np.linalg.norm(ours.joints_2d - theirs.joints_2d, axis=-1))
    assert 0 < np.median(off) < 1  # pixels
    assert np.quantile(off, 0.9) < 4


@needs_x86
@pytest.mark.parametrize("backend", BACKENDS)
def test_people_do_not_depend_on_each_other(backend, edge, in_8_bits, pictures):
    boxes = np.array([[220.0, 90, 420, 450], [240, 90, 400, 400], [150, 80, 450, 470]])
    (crops, saliency) = still_inputs(pictures[0][1], crop_box(boxes, (1, 1)), edge.input_size, CPU)
    network = in_8_bits(backend)
    together = network.observe(crops, saliency)
    for i in range(len(boxes)):
        alone = network.observe(crops[i : i + 1], saliency[i : i + 1])
        torch.testing.assert_close(together.joints[i], alone.joints[0], atol=0.05, rtol=0)
        torch.testing.assert_close(together.mass[i], alone.mass[0], atol=1e-3, rtol=0)
