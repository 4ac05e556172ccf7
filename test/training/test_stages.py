"""Each stage learns: its loss falls, its score rises above chance, its weights can be loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import minisets
import pytest
import torch

from stsp_model.checkpoint import load_model
from stsp_model.evaluation import video
from stsp_model.network import STSPNet
from stsp_model.training import stage_lift
from stsp_model.training.config import ConfigError
from stsp_model.training.lift_batches import lift
from stsp_model.training.run import train_stage
from stsp_model.training.stage_finder import finder_stage
from stsp_model.training.stage_finetune import finetune_stage


@pytest.fixture(autouse=True)
def whoever_is_seen(monkeypatch):
    """Whatever a network of a few steps sees counts: it is sure of nobody."""
    monkeypatch.setattr(video, "PoseEstimator", partial(video.PoseEstimator, min_confidence=0.0))


def falls(history, times=1.0):
    losses = [entry["loss"] for entry in history if "loss" in entry]
    return losses[-1] < losses[0] / times


def test_stage_epe_learns_to_see_joints(tmp_path, lspet):
    config = minisets.epe_config(epochs=5, steps_per_epoch=30, learning_rate=0.01)
    history = train_stage(STSPNet(minisets.TINY), config, [lspet], tmp_path / "epe", device="cpu")
    assert falls(history, 1.2)
    assert history[0]["pck"] < 10
    assert history[-1]["pck"] > 40  # the mean pose in every box has 7 %
    trained = load_model(tmp_path / "epe" / "best.safetensors", preset=minisets.TINY)
    assert not trained.trained  # the lifter is not
    assert trained.note.startswith("epe: ")
    # Calibrated on the selection images, a confidence is no longer the mass itself.
    assert trained.epe.calibration.tolist() != [0, 1]
    assert json.loads((tmp_path / "epe" / "history.json").read_text()) == history
    assert list((tmp_path / "epe" / "log").glob("events.*"))


def test_stage_finder_learns_where_people_are_and_leaves_the_rest_alone(tmp_path, lspet, films):
    model = STSPNet(minisets.TINY)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config = minisets.finder_config(epochs=3, steps_per_epoch=20)
    history = train_stage(
        model, config, [lspet, films[0]], tmp_path, [lspet, films[1]], device="cpu"
    )
    assert falls(history, 1.5)
    assert history[0]["found"] < 10
    assert history[-1]["found"] > 15
    trained = load_model(tmp_path / "best.safetensors", preset=minisets.TINY)
    assert not trained.trained
    changed = {n.split(".")[0] for n, v in trained.state_dict().items() if not v.equal(before[n])}
    assert changed == {"finder"}


def test_an_untrained_finder_begins_with_few_people_and_a_trained_one_as_it_is(lspet):
    model = STSPNet(minisets.TINY)
    data = [lspet]
    finder_stage(model, minisets.finder_config(), data)
    assert model.finder.head.bias[0].sigmoid().item() == pytest.approx(0.01)
    with torch.no_grad():
        model.finder.head.bias[0] = -1.5
    finder_stage(model, minisets.finder_config(), data)
    assert model.finder.head.bias[0].item() == -1.5


def test_stage_lift_learns_depth_and_leaves_the_keypoint_module_alone(tmp_path, cmu):
    model = STSPNet(minisets.TINY)
    before = {name: value.clone() for name, value in model.epe.state_dict().items()}
    model.note = "finder: before\nepe: before"
    config = minisets.lift_config(epochs=4, steps_per_epoch=30, learning_rate=0.001)
    quiet = replace(config.noise, spread=1.1)  # mostly small errors
    config = replace(config, noise=quiet, clips=replace(config.clips, mixed=0.0, tumbled=0.0))
    history = train_stage(model, config, [cmu], tmp_path / "lift", device="cpu")
    assert falls(history, 1.1)
    assert history[-1]["mpjpe_mm"] < 225  # the mean pose for every clip has 254
    after = model.epe.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert load_model(tmp_path / "lift" / "best.safetensors", preset=minisets.TINY).trained


def test_stage_lift_on_single_frames_trains_the_skeleton_module_alone(tmp_path, cmu):
    model = STSPNet(minisets.TINY)
    before = {name: value.clone() for name, value in model.lifter.tmp.state_dict().items()}
    config = minisets.lift_config(epochs=3, steps_per_epoch=30, learning_rate=0.001)
    config = replace(config, clips=replace(config.clips, frames=1))
    history = train_stage(model, config, [cmu], tmp_path / "lift", device="cpu")
    assert falls(history, 1.05)
    after = model.lifter.tmp.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_stage_lift_in_mixed_precision_keeps_geometry_and_outputs_single(
    tmp_path, cmu, monkeypatch
):
    model = STSPNet(minisets.TINY)
    kinds: dict[str, set[torch.dtype]] = {"inside": set(), "out": set(), "scored": set()}
    model.lifter.gsr.embed.register_forward_hook(
        lambda module, _, out: kinds["inside" if module.training else "scored"].add(out.dtype)
    )

    def noted(*arguments):
        lifted = lift(*arguments)
        kinds["out"] |= {lifted.joints.dtype, lifted.frame.log_variance.dtype}
        return lifted

    monkeypatch.setattr(stage_lift, "lift", noted)
    # Few steps: a CPU without bfloat16 takes ten times as long for each.
    config = minisets.lift_config(
        epochs=2, steps_per_epoch=12, batch=8, learning_rate=0.002, precision="bf16-mixed"
    )
    history = train_stage(model, config, [cmu], tmp_path / "lift", device="cpu")
    assert kinds["inside"] == {torch.bfloat16}
    assert kinds["out"] == {torch.float32}
    assert kinds["scored"] == {torch.float32}
    assert falls(history, 1.05)


def test_stage_finetune_goes_on_from_both(tmp_path, lspet, films):
    model = STSPNet(minisets.TINY)
    model.trained, model.note = True, "epe: before\nlift: before"
    norm = model.epe.backbone.bn1.running_mean.clone()
    # 24 steps decide nothing about real images: no guard.
    config = replace(
        minisets.finetune_config(epochs=2, steps_per_epoch=12, learning_rate=0.002), guard=100.0
    )
    out = tmp_path / "fine"
    history = train_stage(model, config, [lspet, films[0]], out, [films[1]], device="cpu")
    assert falls(history)
    assert history[-1]["mpjpe_mm"] < history[0]["mpjpe_mm"]
    assert torch.equal(model.epe.backbone.bn1.running_mean, norm)
    trained = load_model(out / "best.safetensors", preset=minisets.TINY)
    assert trained.trained
    assert trained.note.split("\n")[:2] == ["epe: before", "lift: before"]
    # What the whole chain says of itself is calibrated on what it sees.
    assert trained.epe.calibration.tolist() != [0, 1]
    assert (trained.lifter.variance_scale[1:] != 1).all()


def test_finetune_with_motion_capture_goes_on_learning_from_it(tmp_path, lspet, films, cmu):
    model = STSPNet(minisets.TINY)
    model.trained = True
    config = minisets.finetune_config(epochs=2, steps_per_epoch=12, learning_rate=0.002)
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
