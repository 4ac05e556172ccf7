"""`stsp evaluate` on tiny data in the true formats: truth, offsets, the network, mistakes."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
from footage import clip, rendered
from swinging import bvh_text

from stsp_model import STSPNet, cli, load_model, save
from stsp_model.evaluation.predictions import Prediction, load_predictions, save_predictions
from stsp_model.runtime import exported
from stsp_model.skeleton import INDEX, LSP_14
from stsp_model.synth.bag import write_bag

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
CMU, LSPET = SHARED / "mocap" / "cmu_bvh60.tar.xz", SHARED / "lspet"

# The nose 170 mm off: 10 mm on average.
POINTED = np.array([0.17, 0, 0]) * (np.arange(17) == INDEX["nose"])[:, None]


@pytest.fixture
def mocap(tmp_path):
    folder = tmp_path / "mocap"
    folder.mkdir()
    (folder / "02_04.bvh").write_text(bvh_text())  # of the validation part
    (folder / "09_01.bvh").write_text(bvh_text(phase=1.0))
    (folder / "01_01.bvh").write_text(bvh_text(phase=2.0))
    return folder


@pytest.fixture
def lspet(tmp_path):
    folder = tmp_path / "lspet"
    (folder / "images").mkdir(parents=True)
    places = {
        "ankle": (10, 160),
        "knee": (10, 120),
        "hip": (10, 80),
        "wrist": (40, 85),
        "elbow": (30, 60),
        "shoulder": (20, 30),
        "neck": (0, 28),
        "head_top": (0, 5),
    }
    points = []
    for name in LSP_14.points:
        x, y = places[name.removeprefix("left_").removeprefix("right_")]
        points.append((100 + (-x if name.startswith("right") else x), 20 + y, 1))
    joints = np.repeat(np.array(points, float)[:, :, None], 3, axis=2)
    joints[LSP_14.points.index("left_wrist"), :, 1] = 0  # image 2: no label
    joints[LSP_14.points.index("left_hip"), 2, 2] = 0  # image 3: the other diagonal
    scipy.io.savemat(folder / "joints.mat", {"joints": joints})
    rng = np.random.default_rng(0)
    for i in range(1, 4):
        image = rng.integers(0, 255, (220, 200, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / "images" / f"im{i:05d}.jpg"), image)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "edge.safetensors"
    save(STSPNet("edge"), path)
    return path


def run(capsys, *arguments):
    code = cli.main(["evaluate", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_truth_of_motion_capture_against_itself(mocap, tmp_path, capsys):
    file = tmp_path / "out" / "scores.json"
    code, out, _ = run(
        capsys, "--data", f"bvh:{mocap}", "--split", "validation", "--truth", "--json", file
    )
    assert code == 0
    scores = json.loads(file.read_text())["3d"]
    assert set(scores["per_action"]) == {"02_04", "09_01"}
    for key in ("mpjpe", "n_mpjpe", "pa_mpjpe", "mpjve", "acceleration_error", "lag"):
        assert scores["average"][key] == 0, key
    assert scores["average"]["pck_150"] == scores["average"]["auc"] == 100
    assert scores["takes"] == 8
    assert scores["average"]["height_error"] is None
    assert "average over actions" in out
    assert "not scored, as never known and predicted: nose, head_top" in out


def test_predictions_a_known_offset_away_get_the_offset(mocap, tmp_path, capsys):
    truth, file = tmp_path / "truth.npz", tmp_path / "scores.json"
    data = ("--data", f"bvh:{mocap}", "--split", "all", "--views", 1, "--fps", 30)
    assert run(capsys, *data, "--truth", "--save-predictions", truth)[0] == 0
    moved = {}
    for name, prediction in load_predictions(truth).items():
        joints = prediction.joints.copy()
        joints[:, INDEX["left_wrist"]] += np.array([0.0, 0.15, 0.0])
        moved[name] = Prediction(joints=joints)
    assert len(moved) == 3
    save_predictions(tmp_path / "moved.npz", moved)
    code, out, _ = run(capsys, *data, "--predictions", tmp_path / "moved.npz", "--json", file)
    assert code == 0
    scores = json.loads(file.read_text())["3d"]
    assert scores["average"]["mpjpe"] == pytest.approx(150 / 15)
    assert scores["per_joint"]["left_wrist"]["mpjpe"] == pytest.approx(150)
    assert scores["fps"] == [30, 30]
    assert " at 30 Hz" in out


def test_the_networks_predictions_score_alike_when_read_back(mocap, weights, tmp_path, capsys):
    data = ("--data", f"bvh:{mocap}", "--split", "validation", "--views", 1, "--noise", 0.02)
    saved, inputs = tmp_path / "saved.npz", tmp_path / "inputs.npz"
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    code, out, _ = run(
        capsys,
        *data,
        *("--save-predictions", saved, "--save-inputs", inputs, "--json", files[0]),
        *("--subject-height", "estimated", "--model", weights),
    )
    assert code == 0
    assert f"{weights} (untrained) on bvh:" in out
    assert run(capsys, *data, "--predictions", saved, "--json", files[1])[0] == 0
    first, second = (json.loads(file.read_text())["3d"] for file in files)
    assert first == second
    assert first["average"]["height_error"] > 0
    claims = [json.loads(file.read_text())["calibration"] for file in files]
    assert claims[0] == claims[1]
    assert set(claims[0]["within_1_sigma"]) == {"all axes", "x", "y", "z", "height"}
    assert "nominal" in out
    with np.load(inputs) as arrays:
        assert arrays["joints_2d"].shape == (arrays["lengths"].sum(), 17, 2)
        assert arrays["K"].shape == (2, 3, 3)
        assert list(arrays["names"]) == ["02_04/view1", "09_01/view1"]


def test_the_truth_of_lsp_against_itself(lspet, tmp_path, capsys):
    file = tmp_path / "scores.json"
    code, out, _ = run(
        capsys, "--data", f"lspet:{lspet}", "--split", "all", "--truth", "--json", file
    )
    assert code == 0
    (scores,) = json.loads(file.read_text())["2d"].values()
    assert (scores["pck"], scores["pck_limbs"], scores["pckh"]) == (100, 100, 100)
    assert scores["images"] == 3
    assert "PCK@0.2, 14 joints" in out


def test_predictions_for_images_and_what_they_lack(lspet, tmp_path, capsys):
    data = ("--data", f"lspet:{lspet}", "--split", "all")
    truth, file = tmp_path / "truth.npz", tmp_path / "scores.json"
    assert run(capsys, *data, "--truth", "--save-predictions", truth)[0] == 0
    found = load_predictions(truth)
    del found["im00002"]
    found["im00001"].joints_2d[0, INDEX["left_knee"], 0] += 30
    save_predictions(tmp_path / "p.npz", found)
    assert run(capsys, *data, "--predictions", tmp_path / "p.npz", "--json", file)[0] == 0
    (scores,) = json.loads(file.read_text())["2d"].values()
    labels = (14, 13, 13)  # of the three images; all of the second and one of the first are wrong
    assert scores["pck"] == pytest.approx(100 * (sum(labels) - 13 - 1) / sum(labels))
    assert scores["per_joint"]["left_knee"] == pytest.approx(100 / 3)


def test_the_network_on_images_with_the_true_and_the_jittered_box(lspet, weights, tmp_path, capsys):
    file = tmp_path / "scores.json"
    arguments = ("--split", "all", "--jitter", "--json", file, "--model", weights)
    pytest.importorskip("matplotlib")
    picture = tmp_path / "out" / "reliability.png"
    code, out, _ = run(capsys, "--data", f"lspet:{lspet}", *arguments, "--reliability", picture)
    assert code == 0
    scores = json.loads(file.read_text())
    assert set(scores["2d"]) == {"true_box", "jittered_box"}
    assert "jittered box" in out
    # 14, 13 and 13 labels; pelvis and spine in the two that show both hips.
    assert scores["calibration"]["2D, true box"]["joints"] == 14 + 13 + 13 + 2 * 2
    assert "expected calibration error" in out
    assert scores["precision"] == "float32"  # 8 bits ship for other weights
    assert "EPE computed in float32" in out
    assert cv2.imread(str(picture)) is not None


def test_what_was_exported_is_scored_on_images_but_does_not_lift(
    lspet, mocap, weights, tmp_path, capsys
):
    pytest.importorskip("onnxruntime")
    folder, scores = tmp_path / "exported", []
    exported.write(exported.export(load_model(weights)), folder)
    for model, backend in ((weights, "torch"), (folder, "onnxruntime")):
        file = tmp_path / f"{backend}.json"
        data = ("--data", f"lspet:{lspet}", "--split", "all", "--json", file)
        assert run(capsys, *data, "--model", model, "--backend", backend)[0] == 0
        scores.append(json.loads(file.read_text())["2d"])
    assert scores[0] == scores[1]
    data = ("--data", f"bvh:{mocap}", "--split", "all", "--model", folder)
    code, _, err = run(capsys, *data)
    assert code == 1
    assert "lifting is scored with weights" in err


@pytest.mark.parametrize("format", ["synth", "bag"])
def test_the_truth_of_videos_against_itself(format, tmp_path, capsys):
    folder, file, saved = (tmp_path / name for name in ("videos", "scores.json", "saved.npz"))
    folder.mkdir()
    rendered(folder, clip("000000"), clip("000001"))
    if format == "bag":
        for name in ("000000", "000001"):
            write_bag(folder / name, clip(name))
    data = ("--data", f"{format}:{folder}", "--json", file)
    assert run(capsys, *data, "--truth", "--save-predictions", saved)[0] == 0
    scores = json.loads(file.read_text())
    assert scores["3d"]["average"]["mpjpe"] == 0
    assert scores["3d"]["average"]["pck_150"] == scores["2d"]["as_found"]["pck"] == 100
    assert scores["3d"]["takes"] == 4
    found = load_predictions(saved)
    moved = {name: Prediction(p.joints + POINTED, p.joints_2d + 500) for name, p in found.items()}
    save_predictions(saved, moved)
    assert run(capsys, *data, "--predictions", saved)[0] == 0
    scores = json.loads(file.read_text())
    assert scores["3d"]["average"]["mpjpe"] == pytest.approx(10)
    assert scores["2d"]["as_found"]["pck"] == 0
    flat = {name: Prediction(joints_2d=p.joints_2d) for name, p in found.items()}
    save_predictions(saved, flat)
    assert run(capsys, *data, "--predictions", saved)[0] == 0
    scores = json.loads(file.read_text())
    assert scores["2d"]["as_found"]["pck"] == 100
    assert "3d" not in scores
    short = {name: Prediction(joints_2d=p.joints_2d[1:]) for name, p in found.items()}
    save_predictions(saved, short)
    code, _, err = run(capsys, *data, "--predictions", saved)
    assert code == 1
    assert "frames, not" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "bvh:{mocap}", "--truth"], "say which ones with --split"),
        (["--data", "mocap"], "is no FORMAT:PATH"),
        (["--data", "bvh:none", "--json", "{mocap}"], "mocap is a folder; name a file"),
        (["--data", "bags:{mocap}"], "format is 'bags', expected one of lsp, "),
        (["--data", "childplay:{mocap}"], "deepmimic, synth, bag\n"),
        (["--data", "bvh:{mocap}", "--split", "report"], "split is 'report'"),
        (["--data", "bvh:{mocap}/none", "--split", "all"], "does not exist"),
        (["--data", "bag:{mocap}", "--split", "train"], "bags have none"),
        (["--data", "bvh:{mocap}", "--split", "all", "--model", "none"], "neither a preset"),
        (["--data", "bvh:{mocap}", "--split", "all", "--model", "{mocap}"], "no finder.onnx"),
        (["--data", "bvh:{mocap}", "--split", "all", "--backend", "tensorrt"], "JetPack"),
        (["--data", "bvh:{mocap}", "--split", "all", "--predictions", "none"], "do not exist"),
        (["--data", "bvh:{mocap}", "--split", "all", "--truth", "--fps", "90"], "fps is 90"),
        (["--data", "bvh:{mocap}", "--split", "all", "--truth", "--views", "0"], "views is 0"),
        (["--data", "bvh:{mocap}", "--split", "all", "--truth", "--noise", "-1"], "noise is -1"),
        (["--data", "bvh:{mocap}", "--split", "all", "--truth", "--seed", "-1"], "seed is -1"),
        (
            ["--data", "lspet:{mocap}", "--split", "selection", "--jitter", "--seed", "-1"],
            "seed is",
        ),
        (["--data", "bvh:{mocap}", "--split", "all", "--truth", "--detector", "x"], "noise model"),
        (
            ["--data", "bvh:{mocap}", "--split", "all", "--truth", "--reliability", "r.png"],
            "r.png cannot be drawn: the truth itself says nothing",
        ),
    ],
)
def test_mistakes_are_told_in_a_sentence(mocap, capsys, arguments, message):
    code, out, err = run(capsys, *(argument.format(mocap=mocap) for argument in arguments))
    assert code == 1
    assert message in err
    assert err.startswith("stsp evaluate: ")
    assert "Traceback" not in err + out


def test_scores_are_shown_though_a_file_cannot_be_written(mocap, tmp_path, capsys):
    data = ("--data", f"bvh:{mocap}", "--split", "validation", "--truth", "--views", 1)
    (tmp_path / "plain").touch()
    for option in ("--json", "--save-predictions"):
        code, out, err = run(capsys, *data, option, tmp_path / "plain" / "file")
        assert code == 1
        assert "MPJPE" in out
        assert "plain/file" in err
    assert run(capsys, *data, "--save-predictions", tmp_path / "new" / "p.npz")[0] == 0
    assert load_predictions(tmp_path / "new" / "p.npz")


@pytest.mark.parametrize(
    "option",
    [
        ("--save-inputs", "in.npz"),
        ("--noise", "0.025"),
        ("--detector", "edge"),
        ("--fps", "30"),
        ("--views", "1"),
        ("--bodies", "children"),
        ("--jitter",),
    ],
)
def test_an_option_for_other_data_is_refused_and_not_ignored(
    option, lspet, mocap, tmp_path, capsys
):
    folder = tmp_path / "videos"
    folder.mkdir()
    rendered(folder, clip("000000"))
    of_images = option[0] == "--jitter"
    other = f"bvh:{mocap}" if of_images else f"lspet:{lspet}"
    scored = () if of_images else ("--truth",)  # which have no jitter anyway
    for data in (other, f"synth:{folder}"):
        code, _, err = run(capsys, "--data", data, *scored, "--split", "all", *option)
        assert code == 1
        kind = "images" if of_images else "motions"
        assert f"{option[0]} is for {kind}, not for {data}" in err


@pytest.mark.parametrize(
    "option", [("--jitter",), ("--subject-height", "estimated"), ("--backend", "torch")]
)
def test_an_option_for_networks_is_refused_where_none_is_scored(option, lspet, capsys):
    data = ("--data", f"lspet:{lspet}", "--split", "all")
    for scored, name in ((("--truth",), "the truth"), (("--predictions", "p.npz"), "predictions")):
        code, _, err = run(capsys, *data, *scored, *option)
        assert code == 1
        assert f"{option[0]} is for networks, not for {name}" in err


def test_videos_of_nobody_cannot_be_scored(tmp_path, capsys):
    folder = tmp_path / "videos"
    folder.mkdir()
    rendered(folder, clip("000000", heights=()))
    code, _, err = run(capsys, "--data", f"synth:{folder}", "--truth")
    assert code == 1
    assert "there is nobody in the videos" in err


def test_predictions_for_other_takes_or_other_frames_are_refused(mocap, tmp_path, capsys):
    data = ("--data", f"bvh:{mocap}", "--split", "validation", "--views", 1)
    joints = np.zeros((3, 17, 3))
    for name, message in (
        ("other", "no name is in both"),
        ("02_04/view1", "3 frames, expected 40"),
    ):
        save_predictions(tmp_path / "p.npz", {name: Prediction(joints=joints)})
        code, _, err = run(capsys, *data, "--predictions", tmp_path / "p.npz")
        assert code == 1
        assert message in err


@pytest.mark.skipif(not CMU.exists(), reason=f"the real data set {CMU} is not here")
def test_the_real_motion_capture_against_itself(tmp_path, capsys):
    file = tmp_path / "scores.json"
    arguments = ("--split", "validation", "--truth", "--views", 1, "--json", file)
    assert run(capsys, "--data", f"bvh:{CMU}", *arguments)[0] == 0
    scores = json.loads(file.read_text())["3d"]
    assert scores["average"]["mpjpe"] == scores["average"]["lag"] == 0
    assert scores["average"]["pck_150"] == 100
    assert len(scores["per_action"]) == 17


@pytest.mark.skipif(not LSPET.exists(), reason=f"the real data set {LSPET} is not here")
def test_the_real_labels_against_themselves(tmp_path, capsys):
    file = tmp_path / "scores.json"
    arguments = ("--split", "selection", "--truth", "--json", file)
    assert run(capsys, "--data", f"lspet:{LSPET}", *arguments)[0] == 0
    (scores,) = json.loads(file.read_text())["2d"].values()
    assert scores["pck"] == 100
    assert scores["images"] + scores["skipped"] == 200
