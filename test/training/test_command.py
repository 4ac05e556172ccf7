"""`stsp train`: a user's mistakes are told in a sentence."""

from __future__ import annotations

import sys

import minisets
import pytest
import torch

from stsp_model.checkpoint import save
from stsp_model.cli import main
from stsp_model.network import STSPNet
from stsp_model.training import run
from stsp_model.training.config import ConfigError
from stsp_model.training.stage_epe import EPELosses, epe_stage, gaussians


def train(out, *arguments, stage="epe"):
    return main(["train", "--stage", stage, "--out", str(out), "--device", "cpu", *arguments])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--data", "lspet:nowhere"], "joints.mat does not exist"),
        (["--data", "pictures:here"], "this stage takes lsp, lspet, coco, not 'pictures'"),
        (["--data", "lspet:x", "--config", "none.yaml"], "none.yaml cannot be read"),
        (["--data", "lspet:x", "--set", "optimisation.epochs=0"], "epochs is 0"),
        (["--data", "lspet:x", "--set", "optimisation.epochs=["], "epochs=[' has a value that is"),
        (["--data", "lspet:x", "--weights", "none.safetensors"], "none.safetensors"),
    ],
)
def test_mistakes_are_told_without_a_traceback(tmp_path, capsys, arguments, reason):
    assert train(tmp_path / "out", *arguments) == 1
    told = capsys.readouterr().err
    assert told.startswith("stsp train: ")
    assert reason in told
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told(tmp_path, capsys, cmu):
    out = tmp_path / "out"
    arguments = ["--stage", "lift", "--data", cmu, "--out", str(out), "--device", "cuda"]
    assert main(["train", *arguments]) == 1
    assert "PyTorch sees no GPU here" in capsys.readouterr().err
    assert not out.exists()


def test_a_run_without_a_better_epoch_says_that_it_wrote_no_weights(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "train_stage", lambda *_, **__: [{"epoch": 0, "mpjpe_mm": 80.0}])
    assert train(tmp_path, "--data", "lspet:x") == 1
    assert "no epoch was better" in capsys.readouterr().err


def test_a_missing_extra_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    assert train(tmp_path, "--data", "lspet:x") == 1
    assert "pip install '.[train]' in stsp's checkout" in capsys.readouterr().err


def test_a_run_starts_from_given_weights(tmp_path):
    model = STSPNet("edge", seed=3)
    model.note = "epe: before"
    save(model, tmp_path / "start.safetensors")
    config = run.load_config("edge", "lift")
    begun = run.initial_model(run.PRESETS["edge"], config, tmp_path / "start.safetensors")
    assert begun.note == "epe: before"
    assert torch.equal(begun.finder.head.weight, model.finder.head.weight)


def test_a_teacher_must_be_trained_and_is_not_trained_itself(tmp_path, lspet):
    from dataclasses import replace

    student, teacher = STSPNet(minisets.TINY), STSPNet("edge", seed=1)
    save(teacher, tmp_path / "teacher.safetensors")
    config = replace(
        minisets.epe_config(steps_per_epoch=1), teacher=str(tmp_path / "teacher.safetensors")
    )
    with pytest.raises(ConfigError, match="is not trained"):
        epe_stage(student, config, [lspet])
    teacher.trained = True
    save(teacher, tmp_path / "teacher.safetensors")
    stage = epe_stage(student, config, [lspet])
    assert "distil" in stage.weights
    losses = stage.losses(stage.batches.batch(0, 0, 1))
    losses["distil"].backward()
    assert student.epe.backbone.final_layer.weight.grad.abs().max() > 0
    names = [name for name, _ in stage.losses.named_parameters()]
    assert len(names) == len(list(student.parameters()))


def test_a_student_that_is_its_teacher_has_the_least_distillation_loss(lspet):
    """Cross-entropy with one's own maps is their entropy; any other maps cost more."""
    config = minisets.epe_config(steps_per_epoch=1)
    student = STSPNet(minisets.TINY).eval()
    stage = epe_stage(student, config, [lspet])
    batch = stage.batches.batch(0, 0, 1)
    own = EPELosses(student, config.heatmaps, teacher=student).eval()
    other = EPELosses(student, config.heatmaps, teacher=STSPNet(minisets.TINY, seed=5)).eval()
    with torch.no_grad():
        assert own(batch)["distil"] <= other(batch)["distil"]


def test_target_maps_peak_at_the_joint():
    joints = torch.tensor([[[13.5, 29.5], [5.5, 1.5]]])
    maps = gaussians(joints, 16, 1.5)
    assert maps.shape == (1, 2, 16, 16)
    assert divmod(int(maps[0, 0].argmax()), 16) == (7, 3)
    assert float(maps[0, 0, 7, 3]) == pytest.approx(1)
    assert float(maps[0, 1, 0, 1]) == pytest.approx(1)
