"""The node's part of `stsp bench`, over real DDS: every frame is accounted for."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from stsp_model import cli
from stsp_model.bench.child import BenchError
from stsp_ros import bench_camera
from stsp_ros.bench import _Pair, _result, _settled


def test_two_nodes_side_by_side(tmp_path):
    out = tmp_path / "bench.json"
    arguments = ["--warm-up", "10", "--frames", "20", "--rounds", "2", "--rate", "20"]
    arguments += ["--encoding", "bgr8", "jpeg", "--threads", "1", "--backend", "onnxruntime"]
    assert cli.main(["bench", "node", "--out", str(out), *arguments]) == 0
    for found in json.loads(out.read_text())["node"]:
        assert found["published"] == 10 + 2 * (10 + 10)
        counted = found["processed"] + sum(found["dropped"].values()) + found["lost"]
        assert found["unexplained"] == found["published"] - counted == 0
        assert found["processed"] > 0
        assert found["with_person"] > 0
        times = found["times"]
        parts = ("wait", "decode", "step", "messages", "publish")
        assert sum(times[part]["mean"] for part in parts) <= times["all"]["mean"] * 1.0001
        assert times["all"]["p50"] <= times["stamp to publication"]["p50"]
        assert 0 < found["times"]["EPE"]["p50"] <= times["step"]["p50"]


@pytest.mark.parametrize(
    ("processed", "left"), [(50, 40), (49, 39), (9, 7), (2, 1), (1, 0), (0, 0)]
)
def test_the_first_images_of_a_round_are_left_out_as_far_as_they_were_processed(processed, left):
    """10 of 50 that were published; a slow network drops most of either."""
    taken = {"all": [float(i) for i in range(processed)], "step": [1.0] * processed}
    times = _settled(taken, 50)
    assert times["all"] == taken["all"][processed - left :]
    assert times["step"] == [1.0] * left


def test_a_long_run_compares_its_end_with_its_beginning(tmp_path, capsys):
    out = tmp_path / "bench.json"
    arguments = ["--warm-up", "5", "--duration", "4", "--rate", "10", "--threads", "1"]
    assert cli.main(["bench", "node", "--out", str(out), *arguments]) == 0
    (found,) = json.loads(out.read_text())["node"]
    assert found["published"] == 5 + 40 + 10
    assert found["drift"]["seconds"] == 1.0  # a quarter, as there is no minute
    assert 0 < found["drift"]["first_p99"] < 10
    assert found["drift"]["first_memory"] > 1e8
    assert "first and last 1 s" in capsys.readouterr().out


def pair(rounds):
    """A node and a camera that were timed; handing the times over took memory."""
    later = {"memory": 9e8, "peak": 9e8}
    counted = {"values": {"frames processed": "2", "messages lost": "0"}}
    played = {"seconds": 1.0, "published": 2, "with person": 2, "latest": 0.0, "publishing": 0.001}
    before, after = ({"cpu": t, "wall": t, "memory": 2e8 + t, "peak": 3e8} for t in (0.0, 1.0))
    return _Pair(
        node=SimpleNamespace(ask=lambda _: later),
        camera=SimpleNamespace(ask=lambda _: counted),
        rounds=rounds,
        plays=[played],
        spans=[(before, after)],
        collections=[{"collections": 0, "longest collection": 0.0}],
        warm=before,
    )


def test_memory_is_that_after_the_last_image_not_of_handing_figures_over():
    result = _result(pair([{"all": [0.01, 0.02]}]), 30.0, None)
    assert (result.memory, result.memory_growth, result.memory_peak) == (2e8 + 1, 1.0, 3e8)


def test_rounds_too_short_for_the_node_are_told():
    with pytest.raises(BenchError, match=r"at 30 Hz .* give it more --frames in fewer --rounds"):
        _result(pair([{"all": []}, {"all": []}]), 30.0, None)


def test_a_node_that_does_not_start_is_told_with_its_reason(tmp_path, capsys):
    arguments = ["--model", "nowhere.safetensors", "--out", str(tmp_path / "bench.json")]
    assert cli.main(["bench", "node", *arguments]) == 1
    assert "the node does not start: configure failed: " in capsys.readouterr().err


def test_a_node_that_reports_no_more_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr(bench_camera, "_SILENCE", 0.2)
    deaf = SimpleNamespace(_reports=3, _values={"published": "7"})
    with pytest.raises(
        TimeoutError, match=r"no diagnostics in 0\.2 s: the node hangs or has ended"
    ):
        bench_camera.Camera.counts(deaf)


def test_what_was_measured_before_a_part_fails_is_kept(tmp_path, capsys):
    out = tmp_path / "b.json"
    arguments = ["--transports", "nowhere.xml", "--out", str(out), "--threads", "1"]
    arguments += ["--warm-up", "3", "--frames", "6", "--rounds", "2"]
    assert cli.main(["bench", "step", "node", *arguments]) == 1
    told = capsys.readouterr()
    assert "nowhere.xml does not exist" in told.err
    assert f"figures  {out}" in told.out
    found = json.loads(out.read_text())
    assert "step" in found
    assert "node" not in found
