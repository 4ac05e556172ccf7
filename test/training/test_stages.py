"""Stages epe, finder and lift learn: losses fall, scores rise, weights can be loaded."""

from __future__ import annotations

import json
from dataclasses import replace

import minisets
import pytest
import torch

from stsp_model.checkpoint import load_model
from stsp_model.network import STSPNet
from stsp_model.training import stage_lift
from stsp_model.training.lift_batches import lift
from stsp_model.training.run import train_stage
from stsp_model.training.stage_finder import finder_stage


def test_stage_epe_learns_to_see_joints(tmp_path, lspet):
    config = minisets.epe_config(epochs=4, steps_per_epoch=20, learning_rate=0.01)
    history = train_stage(STSPNet(minisets.TINY), config, [lspet], tmp_path / "epe", device="cpu")
    assert minisets.falls(history, 1.2)
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
    config = minisets.finder_config(
        epochs=4, steps_per_epoch=13, batch=4, learning_rate=0.004, average_decay=0.8
    )
    history = train_stage(
        model, config, [lspet, films[0]], tmp_path, [lspet, films[1]], device="cpu"
    )
    assert minisets.falls(history, 1.5)
    assert history[0]["found"] < 10
    # All pictures of one of the two clips, and nobody in the stills of LSPet, would be 25.
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
    config = minisets.lift_config(epochs=2, steps_per_epoch=25, batch=4, learning_rate=0.001)
    quiet = replace(config.noise, spread=1.1)  # mostly small errors
    config = replace(config, noise=quiet, clips=replace(config.clips, mixed=0.0, tumbled=0.0))
    history = train_stage(model, config, [cmu], tmp_path / "lift", device="cpu")
    assert minisets.falls(history, 1.05)
    assert history[-1]["mpjpe_mm"] < 245  # the mean pose for every clip has 254
    after = model.epe.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert load_model(tmp_path / "lift" / "best.safetensors", preset=minisets.TINY).trained


def test_stage_lift_on_single_frames_trains_the_skeleton_module_alone(tmp_path, cmu):
    model = STSPNet(minisets.TINY)
    before = {name: value.clone() for name, value in model.lifter.tmp.state_dict().items()}
    config = minisets.lift_config(epochs=2, steps_per_epoch=12, learning_rate=0.001)
    config = replace(config, clips=replace(config.clips, frames=1))
    history = train_stage(model, config, [cmu], tmp_path / "lift", device="cpu")
    assert minisets.falls(history, 1.05)
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
        epochs=2, steps_per_epoch=8, batch=4, learning_rate=0.002, precision="bf16-mixed"
    )
    history = train_stage(model, config, [cmu], tmp_path / "lift", device="cpu")
    assert kinds["inside"] == {torch.bfloat16}
    assert kinds["out"] == {torch.float32}
    assert kinds["scored"] == {torch.float32}
    assert minisets.falls(history, 1.05)
