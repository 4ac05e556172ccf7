"""Weights come back as they were saved, and files that do not fit are refused with the reason."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from stsp_model import checkpoint, load_model, save
from stsp_model.hrnet import HRNetSize
from stsp_model.network import PRESETS, STSPNet
from stsp_model.skeleton import JOINTS


@pytest.fixture(scope="module")
def model():
    model = STSPNet("edge", seed=3).eval()
    model.trained = True
    return model


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "edge.safetensors"
    save(model, path, note="two clips, ten epochs")
    return path


def rewritten(saved, path, change_tensors=lambda _: None, **metadata):
    """A copy of the file with something changed."""
    with safe_open(saved, "pt") as file:
        description = {**file.metadata(), **metadata}
    tensors = load_file(saved)
    change_tensors(tensors)
    save_file(tensors, path, description)
    return path


def test_a_saved_network_comes_back_to_the_bit(model, saved):
    loaded = load_model(saved)
    assert loaded.trained
    assert loaded.note == "two clips, ten epochs"
    assert loaded.preset == PRESETS["edge"]
    assert not loaded.training
    expected = model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())


def test_a_note_is_kept_unless_another_is_given(saved, tmp_path):
    loaded = load_model(saved)
    save(loaded, tmp_path / "again.safetensors")
    assert load_model(tmp_path / "again.safetensors").note == "two clips, ten epochs"
    save(loaded, tmp_path / "again.safetensors", "three clips")
    assert load_model(tmp_path / "again.safetensors").note == "three clips"


def test_the_file_says_what_it_is(saved):
    with safe_open(saved, "pt") as file:
        description = file.metadata()
    assert description["preset"] == "edge"
    assert description["joints"].split() == list(JOINTS)
    assert description["input_size"] == "192 192"
    assert description["trained"] == "yes"
    assert description["note"] == "two clips, ten epochs"
    assert description["format_version"] == "1"
    assert json.loads(description["sizes"])["backbone"]["widths"] == [32, 64, 128, 160]


def test_sixteen_bit_storage_halves_the_file_and_loads_as_single_precision(model, saved, tmp_path):
    save(model, tmp_path / "half.safetensors", half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * saved.stat().st_size
    loaded = load_model(tmp_path / "half.safetensors").state_dict()
    for name, value in model.state_dict().items():
        assert loaded[name].dtype == value.dtype
        torch.testing.assert_close(loaded[name], value, atol=1e-3, rtol=1e-3)


def test_saving_replaces_the_file_and_leaves_nothing_else(model, tmp_path):
    path = tmp_path / "edge.safetensors"
    path.write_bytes(b"old")
    save(model, path)
    assert load_model(path).preset.name == "edge"
    assert [p.name for p in tmp_path.iterdir()] == ["edge.safetensors"]
    (tmp_path / "plain").touch()  # as readable as any other file
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_saving_refuses_weights_that_are_not_finite(tmp_path):
    broken = STSPNet("edge")
    with torch.no_grad():
        broken.epe.backbone.conv1.weight[0] = torch.nan
    with pytest.raises(ValueError, match=r"conv1.weight holds values that are not finite"):
        save(broken, tmp_path / "edge.safetensors")
    with torch.no_grad():
        broken.epe.backbone.conv1.weight[0] = 1e6  # too large for 16 bits
    with pytest.raises(ValueError, match="not finite"):
        save(broken, tmp_path / "edge.safetensors", half=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", PRESETS)
def test_where_no_weights_ship_the_network_is_untrained_and_says_so(name, monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path)
    with pytest.warns(UserWarning, match=f"'{name}': the network is untrained"):
        model = load_model(name)
    assert not model.trained
    assert not model.training
    assert model.preset.name == name
    for other in (PRESETS["base" if name == "large" else "large"], replace(PRESETS[name], tau=3)):
        with pytest.raises(ValueError, match=f"'{name}', and .* '{other.name}', differs from it"):
            load_model(name, preset=other)


def test_shipped_weights_are_found_by_their_presets_name(saved, monkeypatch):
    monkeypatch.setattr(checkpoint, "WEIGHTS", saved.parent)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_model("edge").trained
    with pytest.raises(ValueError, match="holds weights of preset 'edge', not of 'base'"):
        load_model("edge", preset="base")


def test_a_file_of_another_preset_is_refused(saved):
    with pytest.raises(ValueError, match=r"edge.safetensors holds weights of preset 'edge', not"):
        load_model(saved, preset="base")
    with pytest.raises(ValueError, match="preset is 'tiny'"):
        load_model(saved, preset="tiny")
    with pytest.raises(ValueError, match="does not fit preset edge: its sizes"):
        load_model(saved, preset=replace(PRESETS["edge"], context=False))


def test_an_ablation_is_loaded_by_its_preset(tmp_path):
    small = replace(
        PRESETS["edge"],
        name="small",
        backbone=HRNetSize((8, 8, 8, 8), 8, 4, 1, (1, 1, 1), 1),
        context=False,
    )
    path = tmp_path / "small.safetensors"
    save(STSPNet(small), path)
    assert load_model(path, preset=small).preset == small
    with pytest.raises(ValueError, match=r"preset 'small'.*give load_model the Preset"):
        load_model(path)


@pytest.mark.parametrize("length", [0, 4, 100, 5000, -1])
def test_a_file_that_is_cut_off_is_refused(saved, tmp_path, length):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"cut.safetensors is damaged, cut off"):
        load_model(path)


def test_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="was not written by stsp"):
        load_model(path)
    path.write_bytes(np.random.default_rng(0).bytes(4096))
    with pytest.raises(ValueError, match="no safetensors file"):
        load_model(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format_version": "2"}, "has format version 2, this release reads 1"),
        ({"joints": "pelvis"}, "its joints is 'pelvis'"),
        ({"input_size": "96 96"}, "its input_size is '96 96', expected '192 192'"),
        ({"preset": "tiny"}, "preset 'tiny', expected one of edge, base, large"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(saved, tmp_path, metadata, message):
    path = rewritten(saved, tmp_path / "odd.safetensors", **metadata)
    with pytest.raises(ValueError, match=message):
        load_model(path)


def test_weights_that_do_not_fit_are_refused(saved, tmp_path):
    name = "epe.backbone.conv1.weight"

    def check(change, message):
        path = rewritten(saved, tmp_path / "odd.safetensors", change)
        with pytest.raises(ValueError, match=message):
            load_model(path)

    check(lambda t: t.pop(name), "lacks 1 weights and has 0 unknown ones .such as epe.backbone")
    check(lambda t: t.update(extra=torch.zeros(1)), "has 1 unknown ones .such as extra")
    check(lambda t: t.update({name: torch.zeros(2)}), r"conv1.weight of shape \(2,\), expected")
    check(lambda t: t[name].fill_(torch.nan), "conv1.weight with values that are not finite")
    wide = "epe.backbone.bn1.bias"  # in 64 bits, too large for our 32
    check(
        lambda t: t.update({wide: t[wide].double().fill_(1e300)}),
        "bn1.bias with values that are not finite",
    )
    for variance in ("epe.backbone.bn1.running_var", "lifter.height_variance_scale"):
        check(lambda t, v=variance: t[v].fill_(-1), f"{variance} with variances below zero")


def test_a_name_that_is_neither_preset_nor_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="'tiny' is neither a preset"):
        load_model("tiny")
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        load_model(tmp_path / "none.safetensors")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "nonsense:0"])
def test_a_device_that_is_not_there_is_refused(saved, device):
    with pytest.raises(ValueError, match=f"device is '{device}'"):
        load_model(saved, device)


def test_the_weights_that_ship_are_trained_small_and_described():
    assert (checkpoint.WEIGHTS / "edge.safetensors").stat().st_size < 15e6
    assert (checkpoint.WEIGHTS / "edge.md").is_file()
    model = load_model("edge")
    assert model.trained
    assert model.epe.calibration.tolist() != [0, 1]
