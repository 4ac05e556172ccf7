"""`stsp ablate`: the rows of the paper's tables, each trained once, and printed as there."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from swinging import bvh_text

from stsp_model import PRESETS, STSPNet, cli, training
from stsp_model.data.bvh import BVHDataset
from stsp_model.data.errors import DataError
from stsp_model.evaluation import ablation
from stsp_model.evaluation.ablation import COLUMNS, TABLES, run_table, text
from stsp_model.evaluation.lifting import Protocol, trials

EDGE = PRESETS["edge"]


@pytest.fixture(scope="module")
def mocap(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mocap")
    (folder / "02_04.bvh").write_text(bvh_text())  # of the validation part
    (folder / "01_01.bvh").write_text(bvh_text(frames=90, phase=2.0))
    return folder


@pytest.fixture(scope="module")
def every(mocap):
    return list(trials(BVHDataset(mocap, "validation"), Protocol(views=1, fps=30)))


def test_the_tables_vary_what_the_papers_do():
    assert [row.name for row in TABLES[4].rows] == ["1", "3", "5", "7", "9"]
    assert [replace(EDGE, **row.changes).tau for row in TABLES[4].rows] == [1, 3, 5, 7, 9]
    assert [replace(EDGE, **row.changes).graph_layers for row in TABLES[5].rows] == [1, 2, 3]
    modules = {row.name: replace(EDGE, **row.changes) for row in TABLES[3].rows}
    assert modules["EPE + GSR + TMP"] == EDGE
    alone = modules["EPE only (and a per-joint MLP)"]
    assert (alone.tau, alone.graph_layers, alone.context) == (0, 0, False)
    for table in TABLES.values():
        assert len({row.folder(EDGE) for row in table.rows}) == len(table.rows)


def test_every_row_is_trained_once_per_seed_and_not_again(every, tmp_path):
    asked = []

    def train(preset, seed, folder):
        asked.append((preset.graph_layers, seed))
        (folder / "last.ckpt").write_bytes(b"much")
        return STSPNet(preset, seed)

    first = run_table(5, EDGE, [0, 1], every, train, tmp_path)
    assert asked == [(layers, seed) for layers in (1, 2, 3) for seed in (0, 1)]
    assert list(first) == ["1", "2", "3"]
    assert not list(tmp_path.rglob("*.ckpt"))
    different = {round(scores["mpjpe"], 3) for by_seed in first.values() for scores in by_seed}
    assert len(different) == 6
    assert run_table(5, EDGE, [0, 1], every, train, tmp_path) == first
    assert len(asked) == 6
    run_table(5, EDGE, [0, 1, 2], every, train, tmp_path)
    assert asked[6:] == [(1, 2), (2, 2), (3, 2)]
    # Five past poses are the full network, which is trained already.
    past = run_table(4, EDGE, [0], every, train, tmp_path)
    assert len(asked) == 9 + 4
    assert past["5"][0] == first["2"][0]


def test_the_table_shows_mean_and_spread_of_the_seeds():
    def scores(mpjpe):
        return {**dict.fromkeys(COLUMNS, 1.0), "mpjpe": mpjpe, "lag": None}

    shown = text(4, {"1": [scores(40.0), scores(44.0)], "3": [scores(41.0), scores(41.0)]})
    title, _, header, _, one, three = shown.splitlines()
    assert title == "Table 4. Past poses; 2 seeds, mean and standard deviation"
    assert header.split()[:3] == ["tau", "MPJPE", "mm"]
    assert one.split()[:4] == ["1", "42.00", "±", f"{np.std([40, 44], ddof=1):.2f}"]
    assert three.split()[1:4] == ["41.00", "±", "0.00"]
    assert one.endswith("-")
    assert "±" not in text(4, {"1": [scores(40.0)]})
    # A seed without a value is no part of its mean, and that is said.
    lagging = [{**scores(40.0), "lag": lag} for lag in (0.5, None, 0.7)]
    assert text(4, {"1": lagging}).endswith("0.60 ± 0.14 (2 of 3)")


def ablate(capsys, *arguments):
    code = cli.main(["ablate", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_table_is_trained_and_scored_from_the_command_line(mocap, tmp_path, capsys):
    pytest.importorskip("lightning_fabric")
    small = {
        "optimisation.epochs": 1,
        "optimisation.steps_per_epoch": 1,
        "optimisation.batch": 2,
        "optimisation.workers": 0,
        "validation_clips": 2,
        "clips.frames": 4,
    }
    arguments = ["--table", 5, "--data", f"bvh:{mocap}", "--out", tmp_path, "--device", "cpu"]
    arguments += ["--views", 1, "--seeds", 1]
    for key, value in small.items():
        arguments += ["--set", f"{key}={value}"]
    code, out, err = ablate(capsys, *arguments)
    assert code == 0, err
    assert "Table 5. Layers of graph attention; 1 seed, no spread" in out
    results = json.loads((tmp_path / "table5.json").read_text())
    assert list(results) == ["1", "2", "3"]
    assert all(scores["mpjpe"] > 0 for (scores,) in results.values())
    code, again, _ = ablate(capsys, *arguments)  # nothing is trained again
    assert code == 0
    assert out.endswith(again)
    code, _, err = ablate(capsys, *arguments, "--noise", 0.1)
    assert code == 1
    assert "holds rows of other settings" in err


def test_a_changed_file_of_a_detector_is_another_detector(mocap, tmp_path, capsys, monkeypatch):
    pytest.importorskip("lightning_fabric")

    def trained_enough(*_):
        raise DataError("enough")

    monkeypatch.setattr(ablation, "run_table", trained_enough)
    configuration = (Path(training.__file__).parent / "configs" / "edge_lift.yaml").read_text()
    detector = tmp_path / "detector.yaml"
    arguments = ["--table", 5, "--data", f"bvh:{mocap}", "--out", tmp_path / "out"]
    told = []
    for correlated in (0.5, 0.5, 0.25):
        detector.write_text(configuration.replace("correlated: 0.5", f"correlated: {correlated}"))
        told.append(ablate(capsys, *arguments, "--detector", detector)[2])
    assert "enough" in told[0]
    assert told[1] == told[0]
    assert "holds rows of other settings" in told[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "lspet:{mocap}"], "expected one of bvh, deepmimic"),
        (["--data", "bvh:{mocap}", "--seeds", "0"], "seeds is 0"),
        (["--data", "bvh:{mocap}", "--views", "0"], "views is 0"),
        (["--data", "bvh:{mocap}/none"], "does not exist"),
        (["--data", "bvh:{mocap}", "--set", "speed=3"], "speed=3"),
    ],
)
def test_mistakes_are_told_in_a_sentence(mocap, tmp_path, capsys, arguments, message):
    pytest.importorskip("lightning_fabric")
    arguments = [argument.format(mocap=mocap) for argument in arguments]
    code, _, err = ablate(capsys, "--table", 4, "--out", tmp_path, *arguments)
    assert code == 1
    assert message in err
    assert "Traceback" not in err
