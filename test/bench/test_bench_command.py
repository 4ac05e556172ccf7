"""`stsp bench` from the command line: what it measures, writes and refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from stsp_model import cli
from stsp_model.bench import run as bench_run
from stsp_model.hrnet import HRNetSize
from stsp_model.network import PRESETS, STSPNet
from stsp_model.runtime import exported

SHORT = ["--warm-up", "3", "--frames", "6", "--rounds", "2", "--threads", "1"]


def test_two_backends_side_by_side(tmp_path, capsys):
    out = tmp_path / "new" / "bench.json"
    arguments = ["bench", "step", "--backend", "torch", "onnxruntime", "--out", str(out), *SHORT]
    assert cli.main(arguments) == 0
    torch, onnx = json.loads(out.read_text())["step"]
    for found in (torch, onnx):
        times = found["times"]
        assert times["step"]["count"] == 6
        parts = ("find", "crop", "flow", "observe", "lift")
        assert sum(times[part]["mean"] for part in parts) <= times["step"]["mean"]
        assert 0 < times["EPE"]["p50"] <= times["observe"]["p50"]
        assert times["step"]["p50"] <= times["step"]["p99"] <= times["step"]["max"]
        assert times["step"]["lowest_median"] <= times["step"]["highest_median"]
        assert found["people"] == 1.0  # the child of the sample bag, never lost
        assert found["memory_peak"] > 1e8
    # Each ran on what it was asked to: PyTorch alone runs GSR and TMP one by one.
    assert {"GSR", "TMP"} <= set(torch["times"])
    assert "GSR+TMP" in onnx["times"]
    told = capsys.readouterr().out
    assert "edge, torch" in told
    assert "edge, onnxruntime" in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dance"], "'dance' is none of the parts step, node, floor"),
        (["step", "--source", "nowhere.mcap"], "nowhere.mcap does not exist"),
        (["step", "--model", "nowhere.safetensors"], "nowhere.safetensors"),
        (["step", "--frames", "3", "--rounds", "5"], "3 frames cannot be timed in 5 rounds"),
        (["step", "--duration", "60"], "--duration is for the node alone"),
        (["node", "--duration", "3.9"], "--duration is 3.9 s, expected 4 or more"),
        (["step", "--device", "cuda:99"], "device is 'cuda:99', which cannot be used: "),
        (["floor", "--device", "cuda:99"], "device is 'cuda:99', which cannot be used: "),
    ],
)
def test_what_cannot_be_measured_is_refused_with_a_sentence(arguments, said, tmp_path, capsys):
    out = tmp_path / "bench.json"
    assert cli.main(["bench", *arguments, "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("stsp bench: ")
    assert said in error
    assert not out.exists()


def test_what_was_exported_is_measured_on_the_device_that_is_asked_for_or_not_at_all(
    tmp_path, capsys
):
    pytest.importorskip("onnx")
    sizes = HRNetSize((8, 8, 16, 16), 8, 8, layer1_blocks=1, modules=(1, 1, 1), blocks=1)
    small = STSPNet(replace(PRESETS["edge"], backbone=sizes, crop=64))  # quick to export
    exported.write(exported.export(small, batch=1), tmp_path / "edge")
    asked = ["--device", "cuda", "--backend", "onnxruntime", *SHORT]
    out = ["--out", str(tmp_path / "bench.json")]
    assert cli.main(["bench", "step", "--model", str(tmp_path / "edge"), *asked, *out]) == 1
    assert "backend onnxruntime runs on the CPU here" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--size", "640"], ["--size", "8x8"], ["--frames", "0"], ["--rate", "-1"]]
)
def test_a_wrong_number_shows_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", *arguments])
    assert ended.value.code == 2
    assert "usage: stsp bench" in capsys.readouterr().err


def test_without_ros_the_rest_is_measured_and_the_lack_is_told(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench_run, "what_ros_lacks", lambda: "this needs ROS 2")
    assert cli.main(["bench", "node", "--out", str(tmp_path / "b.json")]) == 1
    assert "the node cannot be measured: this needs ROS 2" in capsys.readouterr().err
    version = ["--people", "2", "--encoding", "jpeg"]
    assert cli.main(["bench", *version, "--out", str(tmp_path / "b.json"), *SHORT]) == 0
    found = json.loads((tmp_path / "b.json").read_text())
    assert {"step", "floor"} < set(found)
    assert "node" not in found
    (step,) = found["step"]
    assert step["version"]["encoding"] == "jpeg"
    assert 1.0 <= step["people"] <= 2.0
    assert "node not measured: this needs ROS 2" in capsys.readouterr().out
