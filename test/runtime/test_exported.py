"""What is exported says what it is, comes back as it was written, and foreign files are refused."""

from __future__ import annotations

import copy
import resource
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from stsp_model.checkpoint import load_model
from stsp_model.cli import main
from stsp_model.network import PRESETS, STSPNet
from stsp_model.runtime import exported
from stsp_model.runtime.backends import load
from stsp_model.runtime.graphs import EPE, FINDER, GRAPHS, LIFTER, SIGNATURES
from stsp_model.skeleton import JOINTS

onnx = pytest.importorskip("onnx")


def parsed(network, graph):
    return onnx.load_model_from_string(network.files[graph])


def shapes(values):
    return {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in values
    }


def test_the_files_are_valid_and_state_opset_and_names(onnx_files):
    for graph in GRAPHS:
        model = parsed(onnx_files, graph)
        onnx.checker.check_model(model, full_check=True)
        assert [entry.version for entry in model.opset_import if not entry.domain] == [17]
        assert tuple(v.name for v in model.graph.input) == SIGNATURES[graph].inputs
        assert tuple(v.name for v in model.graph.output) == SIGNATURES[graph].outputs


def test_the_files_say_what_they_are(edge, onnx_files):
    told = {entry.key: entry.value for entry in parsed(onnx_files, LIFTER).metadata_props}
    assert told["preset"] == "edge"
    assert told["joints"].split() == list(JOINTS)
    assert told["note"] == edge.note
    assert told["precision"] == "float32"
    assert "variance_scale" in told["calibration"]
    assert (onnx_files.trained, onnx_files.note) == (edge.trained, edge.note)


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_shapes_are_static_but_for_a_free_batch(edge, exported_as, batch):
    network = exported_as(batch=batch) if batch else exported_as()
    first = batch or "people"
    width, height = edge.input_size
    for graph in (EPE, LIFTER):
        inputs = shapes(parsed(network, graph).graph.input)
        assert {shape[0] for shape in inputs.values()} == {first}
        assert all(isinstance(side, int) for shape in inputs.values() for side in shape[1:])
    assert shapes(parsed(network, EPE).graph.input)["crops"] == [first, 3, height, width]
    history = shapes(parsed(network, LIFTER).graph.input)["past_joints"]
    assert history == [first, edge.lifter.window, 17, 3]
    frame = shapes(parsed(network, FINDER).graph.input)["frames"]
    assert frame == [1, 3, *edge.finder_size[::-1]]


def test_exporting_leaves_the_network_alone_and_is_repeatable(edge, onnx_files):
    network = copy.deepcopy(edge).train()
    again = exported.export(network)
    assert network.training
    assert network.epe.training
    assert again.sha256 == onnx_files.sha256


def test_two_threads_may_export_at_once(edge, onnx_files):
    """As two nodes of one process may start at once; PyTorch's exporter is for one thread."""
    with ThreadPoolExecutor(2) as threads:
        for again in [threads.submit(exported.export, edge) for _ in range(2)]:
            assert again.result().sha256 == onnx_files.sha256


def test_exporting_writes_to_no_disk(edge, onnx_files):
    """A node exports at its start, which a full temporary folder must not prevent."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # no file may grow
    try:
        again = exported.export(edge)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert again.sha256 == onnx_files.sha256


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_checksum_is_of_every_file(graph, onnx_files):
    changed = {**onnx_files.files, graph: onnx_files.files[graph] + b"."}
    assert replace(onnx_files, files=changed).sha256 != onnx_files.sha256


def test_the_same_files_come_of_a_network_on_a_gpu(gpu, onnx_files):
    """An engine that a command built is found by a checksum of them."""
    network = load_model("edge", gpu)
    assert exported.export(network).sha256 == onnx_files.sha256
    assert next(network.parameters()).is_cuda


def test_a_folder_comes_back_as_it_was_written(onnx_files, tmp_path):
    exported.write(onnx_files, tmp_path / "new" / "edge")
    assert load(tmp_path / "new" / "edge") == onnx_files
    assert sorted(f.name for f in (tmp_path / "new" / "edge").iterdir()) == [
        "epe.onnx",
        "finder.onnx",
        "lifter.onnx",
    ]


def test_a_folder_that_cannot_be_finished_is_left_without_the_network(onnx_files, tmp_path):
    """As on a full disk."""
    last = tmp_path / exported.file_name(list(onnx_files.files)[-1])
    last.mkdir()
    with pytest.raises(OSError, match=last.name):
        exported.write(onnx_files, tmp_path)
    assert list(tmp_path.iterdir()) == [last]


def test_a_preset_is_meant_rather_than_a_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edge").mkdir()
    assert isinstance(load("edge"), STSPNet)


def cut(content):
    return content[: len(content) // 3]


def foreign(content):
    model = onnx.load_model_from_string(content)
    del model.metadata_props[:]
    return model.SerializeToString()


def custom(content):
    model = onnx.load_model_from_string(content)
    model.graph.node[0].domain = "org.example"
    return model.SerializeToString()


def elsewhere(content):
    model = onnx.load_model_from_string(content)
    entry = model.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut, "epe.onnx"),
        (lambda _: b"no onnx at all", "epe.onnx"),
        (foreign, "no epe of a network"),
        (custom, "operators of its own .org.example."),
        (elsewhere, "weights in another file"),
    ],
)
def test_a_bad_file_is_refused_with_the_way_out(damage, reason, onnx_files, tmp_path):
    exported.write(onnx_files, tmp_path)
    path = tmp_path / "epe.onnx"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=reason) as error:
        exported.read(tmp_path)
    assert "stsp export" in str(error.value)


def test_files_of_two_networks_are_refused(onnx_files, tmp_path):
    exported.write(onnx_files, tmp_path)
    other = exported.described(onnx_files, replace(onnx_files.description, note="another"))
    (tmp_path / "lifter.onnx").write_bytes(other.files[LIFTER])
    with pytest.raises(ValueError, match="another network"):
        exported.read(tmp_path)


def test_a_folder_without_a_network_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no finder.onnx; .* stsp export"):
        load(tmp_path)


def test_the_command_writes_into_an_empty_folder(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    assert main(["export", "edge", "-o", str(tmp_path / "out")]) == 0
    network = exported.read(tmp_path / "out")
    assert network.description.batch == 1
    assert network.description.input_size == (PRESETS["edge"].crop,) * 2
    assert "lifter.onnx" in capsys.readouterr().out


def test_the_command_leaves_what_is_there(onnx_files, tmp_path, capsys):
    out = tmp_path / "out"
    exported.write(onnx_files, out)
    assert main(["export", "edge", "-o", str(out)]) == 1
    assert "holds files already (epe.onnx, finder.onnx, lifter.onnx)" in capsys.readouterr().err
    assert exported.read(out) == onnx_files
    (tmp_path / "file").touch()
    assert main(["export", "edge", "-o", str(tmp_path / "file")]) == 1
    assert "is a file; name a folder" in capsys.readouterr().err


@pytest.fixture
def tensorrt(monkeypatch):
    """Makes TensorRT seem installed."""
    monkeypatch.setitem(sys.modules, "tensorrt", types.ModuleType("tensorrt"))


@pytest.mark.usefixtures("tensorrt")
def test_the_command_prepares_the_engines_that_a_node_takes(tmp_path, monkeypatch, capsys):
    prepared = []

    def load(graph, content, device):  # noqa: ARG001
        prepared.append((graph, device))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("stsp_model.runtime.with_tensorrt.load", load)
    assert main(["export", "edge", "-o", str(tmp_path / "out"), "--tensorrt"]) == 0
    assert sorted(prepared) == [(graph, torch.device("cuda")) for graph in sorted(GRAPHS)]
    assert "engines of edge are ready" in capsys.readouterr().out
    assert exported.read(tmp_path / "out").description.batch == 1  # a new folder


@pytest.mark.usefixtures("tensorrt")
def test_engines_without_a_gpu_are_refused_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["export", "edge", "-o", str(tmp_path / "out"), "--tensorrt"]) == 1
    assert "needs an NVIDIA GPU" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nosuch"], "neither a preset"),
        (["edge", "--batch", "-1"], "batch is -1, expected 1 to 64 people per call, or 0"),
        (["edge", "--batch", "65"], "batch is 65, expected 1 to 64 people per call, or 0"),
        (["edge", "--int8"], "--int8 needs --data"),
        (["edge", "--data", "lspet:x"], "--data serves --int8"),
        (["edge", "--int8", "--half", "--data", "lspet:x"], "exclude"),
        (["edge", "--int8", "--data", "lspet:/nowhere"], "/nowhere"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, reason, tmp_path, capsys):
    assert main(["export", *arguments, "-o", str(tmp_path / "out")]) == 1
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
