"""Stage finetune learns from images, clips and motion capture, and refuses what does not fit."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import minisets
import pytest
import torch

from stsp_model.checkpoint import load_model
from stsp_model.evaluation import video
from stsp_model.network import STSPNet
from stsp_model.training import stage_finetune
from stsp_model.training.config import ConfigError
from stsp_model.training.run import train_stage
from stsp_model.training.stage_finetune import finetune_stage


@pytest.fixture(autouse=True)
def whoever_is_seen(monkeypatch):
    """Whatever a network of a few steps sees counts: it is sure of nobody."""
    monkeypatch.setattr(video, "PoseEstimator", partial(video.PoseEstimator, min_confidence=0.0))


@pytest.fixture
def small_lift(monkeypatch):
    """What stage finetune takes of the preset's own stage lift, made of few clips."""
    monkeypatch.setattr(stage_finetune, "load_config", lambda *_: minisets.lift_config())


def test_stage_finetune_goes_on_from_both(tmp_path, lspet, films):
    model = STSPNet(minisets.TINY)
    model.trained, model.note = True, "epe: before\nlift: before"
    norm = model.epe.backbone.bn1.running_mean.clone()
    # 12 steps decide nothing about real images: no guard.
    config = replace(
        minisets.finetune_config(epochs=2, steps_per_epoch=6, learning_rate=0.002), guard=100.0
    )
    out = tmp_path / "fine"
    history = train_stage(model, config, [lspet, films[0]], out, [films[1]], device="cpu")
    assert minisets.falls(history)
    assert history[-1]["mpjpe_mm"] < history[0]["mpjpe_mm"]
    assert torch.equal(model.epe.backbone.bn1.running_mean, norm)
    trained = load_model(out / "best.safetensors", preset=minisets.TINY)
    assert trained.trained
    assert trained.note.split("\n")[:2] == ["epe: before", "lift: before"]
    # What the whole chain says of itself is calibrated on what it sees.
    assert trained.epe.calibration.tolist() != [0, 1]
    assert (trained.lifter.variance_scale[1:] != 1).all()


@pytest.mark.usefixtures("small_lift")
def test_finetune_with_motion_capture_goes_on_learning_from_it(tmp_path, lspet, films, cmu):
    model = STSPNet(minisets.TINY)
    model.trained = True
    config = minisets.finetune_config(epochs=1, steps_per_epoch=8, learning_rate=0.002)
    silent = replace(config, total=(0.0, 0.0, 0.0), motion_clips=8)
    data = [lspet, films[0], cmu]
    stage = finetune_stage(model, silent, data, [films[1]])
    assert len(stage.batches.batch(0, 0, 2).motion.joints) == 4
    history = train_stage(model, replace(config, motion_clips=8), data, tmp_path, [films[1]])
    assert history[-1]["motion_mpjpe_mm"] < history[0]["motion_mpjpe_mm"]
    assert stage.weights["motion_frame"] == 0  # weighed as rendered clips are
    without = finetune_stage(model, config, data[:2], [films[1]])
    assert without.batches.batch(0, 0, 1).motion is None
    assert not [name for name in without.weights if name.startswith("motion")]


@pytest.mark.usefixtures("small_lift")
def test_finetune_takes_motion_capture_to_select_by(lspet, films, cmu):
    """Needed where what trains has no part for that, as Human3.6M."""
    model = STSPNet(minisets.TINY)
    model.trained = True
    config = replace(minisets.finetune_config(), motion_clips=8)
    by = [films[1], cmu]
    for data in ([lspet, films[0], cmu], [lspet, films[0]]):
        stage = finetune_stage(model, config, data, by)
        scores = stage.evaluate(model, 0)
        assert scores["motion_mpjpe_mm"] > 0
        assert scores["pck"] >= 0
    assert "motion_mpjpe_mm" not in finetune_stage(model, config, data, by[:1]).evaluate(model, 0)


def test_finetune_has_the_trajectory_constraint_as_printed_too(lspet, films):
    """Which knows no truth."""
    model = STSPNet(minisets.TINY)
    model.trained = True
    usual = minisets.finetune_config()
    literal = replace(usual, weights=replace(usual.weights, literal=True))

    def constraint(config, moved):
        stage = finetune_stage(model, config, [lspet, films[0]], [films[1]])
        batch = stage.batches.batch(0, 0, 1)
        joints = batch.clips.joints + moved * torch.arange(4.0)[:, None, None]
        with torch.no_grad():
            losses = stage.losses(batch._replace(clips=batch.clips._replace(joints=joints)))
        return float(losses["trajectory"])

    assert constraint(literal, 0.0) == constraint(literal, 1.0) > 0
    assert constraint(usual, 0.0) != constraint(usual, 1.0)


def test_finetune_stops_when_real_images_suffer(tmp_path, lspet, films, monkeypatch):
    model = STSPNet(minisets.TINY)
    model.trained = True
    scores = iter([50.0, 49.5, 48.9, 60.0])
    monkeypatch.setattr(
        "stsp_model.training.stage_finetune.keypoint_scores",
        lambda *_: {"pck": next(scores)},
    )
    config = minisets.finetune_config(epochs=3, steps_per_epoch=1)
    history = train_stage(
        model, config, [lspet, films[0]], tmp_path / "f", [films[1]], device="cpu"
    )
    assert [entry["pck"] for entry in history] == [50.0, 49.5, 48.9]
    kept = load_model(tmp_path / "f" / "best.safetensors", preset=minisets.TINY)
    assert "1 epochs" in kept.note  # not those of epoch 2, which lost too much


def test_finetune_wants_trained_weights(tmp_path, lspet, films):
    config = minisets.finetune_config()
    with pytest.raises(ConfigError, match="--weights"):
        train_stage(STSPNet(minisets.TINY), config, [lspet, films[0]], tmp_path, [films[1]])


def test_in_mixed_precision_the_lifter_stays_in_single(tmp_path, lspet, films):
    model = STSPNet(minisets.TINY)
    model.trained = True
    kinds: dict[str, set[torch.dtype]] = {"lifter": set(), "backbone": set(), "boxes": set()}

    def note(name):
        return lambda module, _, out: kinds[name].add(out.dtype) if module.training else None

    model.lifter.gsr.embed.register_forward_hook(note("lifter"))
    model.epe.backbone.conv2.register_forward_hook(note("backbone"))
    clip = model.lifter.clip
    model.lifter.clip = lambda points, boxes, *rest: (
        kinds["boxes"].add(boxes.dtype) or clip(points, boxes, *rest)
    )
    config = minisets.finetune_config(epochs=1, steps_per_epoch=1, precision="bf16-mixed")
    out = tmp_path / "out"
    history = train_stage(model, config, [lspet, films[0]], out, [films[1]], device="cpu")
    assert kinds["lifter"] == kinds["boxes"] == {torch.float32}
    assert kinds["backbone"] == {torch.bfloat16}
    assert 0 < history[1]["loss"] < 1e3
