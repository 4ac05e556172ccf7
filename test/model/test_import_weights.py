"""Published weights come over to the bit, under each project's names; nothing in a file is run."""

import builtins
import copy
import functools
import io
import os
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from test_hrnet import BATCH_NORM, official_names

from stsp_model import import_weights as import_module
from stsp_model.checkpoint import load_model
from stsp_model.cli import main
from stsp_model.epe import soft_argmax
from stsp_model.import_weights import (
    SHARPNESS,
    coco_rows,
    grouped,
    import_weights,
    read_weights,
    summary,
)
from stsp_model.network import PRESETS, STSPNet
from stsp_model.skeleton import INDEX

FINAL = ("final_layer.weight", "final_layer.bias")
TRUNK = official_names() - set(FINAL)
# Where COCO's list of 17 has the joints that it shares with ours.
COCO = {
    "nose": 0,
    "left_shoulder": 5,
    "right_shoulder": 6,
    "left_elbow": 7,
    "right_elbow": 8,
    "left_wrist": 9,
    "right_wrist": 10,
    "left_hip": 11,
    "right_hip": 12,
    "left_knee": 13,
    "right_knee": 14,
    "left_ankle": 15,
    "right_ankle": 16,
}


def conv_bn(conv, bn, bias=False):
    names = [f"{conv}.weight", *([f"{conv}.bias"] if bias else [])]
    return names + [f"{bn}.{part}" for part in BATCH_NORM]


def classifier_names():
    """What the authors' ImageNet networks, and timm's, have beyond the trunk of a pose network."""
    names = []
    for target in (1, 2, 3):  # of the last module, which puts out every resolution there
        for source in range(4):
            fuse = f"stage4.2.fuse_layers.{target}.{source}"
            if source > target:
                names += conv_bn(f"{fuse}.0", f"{fuse}.1")
            for k in range(target - source):
                names += conv_bn(f"{fuse}.{k}.0", f"{fuse}.{k}.1")
    for branch in range(4):
        block = f"incre_modules.{branch}.0"
        for n in (1, 2, 3):
            names += conv_bn(f"{block}.conv{n}", f"{block}.bn{n}")
        names += conv_bn(f"{block}.downsample.0", f"{block}.downsample.1")
    for branch in range(3):
        names += conv_bn(f"downsamp_modules.{branch}.0", f"downsamp_modules.{branch}.1", bias=True)
    names += conv_bn("final_layer.0", "final_layer.1", bias=True)
    return [*names, "classifier.weight", "classifier.bias"]


untrained = functools.cache(STSPNet)  # to look at, never to change


def published(preset):
    """Weights under the authors' names: pieces of one small store, so that files stay small."""
    backbone = untrained(preset).epe.backbone
    shapes = {name: value.shape for name, value in backbone.state_dict().items()}
    assert set(shapes) == official_names()
    size = max(shape.numel() for shape in shapes.values())
    store = torch.randn(size + 997, generator=torch.Generator().manual_seed(5)) * 0.03
    positive = store.abs() + 0.5
    weights = OrderedDict()
    for i, (name, shape) in enumerate(shapes.items()):
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(210)
            continue
        bn = name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1)
        start = i * 37 % 997
        weights[name] = (positive if bn else store)[start : start + shape.numel()].view(shape)
    return weights


@pytest.fixture(scope="module")
def weights():
    return published("base")


@pytest.fixture(scope="module")
def source(weights):
    """The network that the weights are of."""
    backbone = copy.deepcopy(untrained("base").epe.backbone)
    backbone.load_state_dict(weights)
    return backbone.eval()


@pytest.fixture(scope="module")
def seen(source):
    """Images, and what the network makes of them."""
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = source(images)
    assert expected.isfinite().all()
    assert expected.std() > 0
    return images, expected


class HistoryBuffer:
    """As mmengine's: numpy arrays, and functions that it looks up by name."""

    def __init__(self):
        self.log = np.array([0.3, 0.2])
        self.count = np.array([1, 1])

    def mean(self):
        return self.log.mean()

    def __getstate__(self):
        return {**self.__dict__, "statistics_methods": {"mean": HistoryBuffer.mean}}


def save_with_hub(content, path, monkeypatch):
    """Add what a training run of mmengine keeps in its checkpoints, and write the file."""
    name = "mmengine.logging.history_buffer"
    module = types.ModuleType(name)
    module.HistoryBuffer = HistoryBuffer
    HistoryBuffer.__qualname__ = "HistoryBuffer"
    with monkeypatch.context() as patch:
        for part in ("mmengine", "mmengine.logging"):
            patch.setitem(sys.modules, part, types.ModuleType(part))
        patch.setitem(sys.modules, name, module)
        patch.setattr(HistoryBuffer, "__module__", name)
        hub = {"log_scalars": {"train/loss": HistoryBuffer()}, "runtime_info": {"x": np.float64(3)}}
        torch.save(
            {**content, "message_hub": hub, "optimizer": {"state": {}, "param_groups": []}},
            path,
            _use_new_zipfile_serialization=False,  # as mmpose publishes
        )
    assert "mmengine" not in sys.modules


def in_mmpose(weights, head):
    return OrderedDict(
        ((head if name in FINAL else "backbone.") + name, value) for name, value in weights.items()
    )


def official(weights, folder, _):
    """`pose_hrnet_w32_256x192.pth`: a state dict, older than torch's zip files."""
    path = folder / "pose_hrnet_w32_256x192.pth"
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    return path


def official_run(weights, folder, _):
    """`checkpoint.pth` of the authors' training, from several GPUs."""
    path = folder / "checkpoint.pth"
    state = OrderedDict((f"module.{name}", value) for name, value in weights.items())
    torch.save({"epoch": 210, "state_dict": state, "perf": np.float64(0.744)}, path)
    return path


def mmpose_0(weights, folder, _):
    path = folder / "hrnet_w32_coco_256x192-c78dce93_20200708.pth"
    state = in_mmpose(weights, "keypoint_head.")
    torch.save({"meta": {"mmpose_version": "0.5.0"}, "state_dict": state}, path)
    return path


def mmpose_1(weights, folder, monkeypatch):
    path = folder / "td-hm_hrnet-w32_8xb64-210e_coco-256x192.pth"
    names = {i: name for name, i in COCO.items()} | dict(
        enumerate(("nose", "left_eye", "right_eye", "left_ear", "right_ear"))
    )
    about = {"keypoint_id2name": dict(sorted(names.items())), "sigmas": np.ones(17, np.float32)}
    content = {"meta": {"dataset_meta": about}, "state_dict": in_mmpose(weights, "head.")}
    save_with_hub(content, path, monkeypatch)
    return path


def mmpose_1_of_numpy_1(weights, folder, monkeypatch):
    path = mmpose_1(weights, folder, monkeypatch)
    written = path.read_bytes()
    assert b"cnumpy._core.multiarray\n" in written
    path.write_bytes(written.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    return path


WITH_HEAD = [official, official_run, mmpose_0, mmpose_1, mmpose_1_of_numpy_1]


@pytest.mark.parametrize("write", WITH_HEAD)
def test_a_pose_network_comes_over_to_the_bit(write, weights, source, seen, tmp_path, monkeypatch):
    imported = import_weights(write(weights, tmp_path, monkeypatch))
    backbone = imported.model.epe.backbone.eval()
    images, expected = seen
    with torch.no_grad():
        features = backbone(images)
        assert torch.equal(features, expected)
        maps, theirs = backbone.final_layer(features), source.final_layer(expected)
    assert torch.equal(backbone.conv1.weight, weights["conv1.weight"])
    for joint, point in COCO.items():
        torch.testing.assert_close(
            maps[:, INDEX[joint]], SHARPNESS * theirs[:, point], rtol=1e-4, atol=1e-3
        )
    assert imported.heatmaps
    assert imported.taken == len(weights) == 1754
    assert imported.missing == imported.surplus == ()
    assert not imported.model.trained


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_classifier_gives_its_trunk(suffix, weights, seen, tmp_path):
    surplus = classifier_names()
    assert len(surplus) == 204  # 1956 keys in timm's hrnet_w32, 1752 of them the trunk's
    state = {name: weights[name] for name in TRUNK} | dict.fromkeys(surplus, torch.ones(1))
    path = tmp_path / f"hrnet_w32{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file({name: value.clone() for name, value in state.items()}, path)
    imported = import_weights(path)
    path.unlink()
    images, expected = seen
    with torch.no_grad():
        assert torch.equal(imported.model.epe.backbone.eval()(images), expected)
    assert not imported.heatmaps
    assert imported.taken == len(TRUNK) == 1752
    assert imported.missing == FINAL
    assert sorted(imported.surplus) == sorted(surplus)
    untouched = untrained("base").epe.backbone.final_layer
    assert torch.equal(imported.model.epe.backbone.final_layer.weight, untouched.weight)
    lines = summary(imported).splitlines()
    assert "untrained: all heat maps, finder, person-present output, lifter" in lines
    assert lines[lines.index("missing: 2") + 1 :][:2] == [f"  {name}" for name in FINAL]
    assert "surplus: 204" in lines
    for group, count in (("stage4.2.fuse_layers", 78), ("incre_modules", 96), ("final_layer", 7)):
        assert any(line.startswith(f"  {group}.*: {count}, such as {group}.") for line in lines)


def test_the_widths_tell_the_preset(tmp_path):
    path = tmp_path / "pose_hrnet_w48_384x288.pth"
    weights = published("large")
    torch.save(weights, path)
    model = import_weights(path, "large").model
    assert model.preset == PRESETS["large"]
    name = "stage4.2.branches.3.3.conv2.weight"
    assert torch.equal(model.epe.backbone.state_dict()[name], weights[name])
    with pytest.raises(ValueError, match=r"holds weights of preset 'large', not of 'base'"):
        import_weights(path, "base")


def test_heat_maps_are_those_of_our_joints(weights, tmp_path):
    model = import_weights(official(weights, tmp_path, None)).model
    layer, theirs = model.epe.backbone.final_layer, weights["final_layer.weight"]
    bias = weights["final_layer.bias"]
    parents = {joint: (point,) for joint, point in COCO.items()}
    parents |= {"pelvis": (11, 12), "thorax": (5, 6), "spine": (5, 6, 11, 12)}
    for joint, points in parents.items():
        mean = sum(theirs[point] for point in points) / len(points)
        torch.testing.assert_close(layer.weight[INDEX[joint]], 14 * mean)
        mean = sum(bias[point] for point in points) / len(points)
        torch.testing.assert_close(layer.bias[INDEX[joint]], 14 * mean)
    head = INDEX["head_top"]
    assert sorted(INDEX[joint] for joint in parents) == sorted(set(range(17)) - {head})
    assert torch.equal(layer.weight[head], untrained("base").epe.backbone.final_layer.weight[head])
    assert layer.bias[head] == 0


def gaussian(x, y, sigma, size):
    cells = torch.arange(size, dtype=torch.float64)
    return torch.exp(-((cells - x).square()[None] + (cells - y).square()[:, None]) / (2 * sigma**2))


@pytest.mark.parametrize(("sigma", "size"), [(2, 64), (3, 96)])
def test_a_peak_is_as_sharp_as_stated(sigma, size):
    peak = gaussian(20, 30, sigma, size)
    heights = torch.tensor([0.2, 0.5, 0.8])
    _, mass, _ = soft_argmax(SHARPNESS * heights[:, None, None] * peak)
    assert mass[0] < 0.06
    assert 0.5 < mass[1] < 0.55
    assert mass[2] > 0.97


@pytest.mark.parametrize(("apart", "offset", "least", "most"), [(2, 0, 0.99, 1), (8, 4, 0.3, 0.4)])
def test_the_mean_of_two_maps_finds_the_midpoint_only_of_near_parents(apart, offset, least, most):
    maps = torch.zeros(17, 64, 64, dtype=torch.float64)
    maps[COCO["left_hip"]] = gaussian(30 - apart / 2, 30, 2, 64)
    maps[COCO["right_hip"]] = gaussian(30 + apart / 2, 30, 2, 64)
    joints, mass, _ = soft_argmax(coco_rows(maps))
    pelvis = INDEX["pelvis"]
    cells = (joints[pelvis] - 1.5) / 4
    assert abs(cells[1] - 30) < 0.01
    assert abs(abs(cells[0] - 30) - offset) < 0.1
    assert least < mass[pelvis] <= most


def test_counters_of_batch_norm_may_lack(weights, tmp_path):
    old = {name: v for name, v in weights.items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    imported = import_weights(tmp_path / "old.pth")
    assert imported.taken == len(old)
    assert len(imported.missing) == len(weights) - len(old) > 0
    assert all(name.endswith("num_batches_tracked") for name in imported.missing)


def refused(content, path, message):
    """Without a network of its own for each file, as none of them gets into it."""
    torch.save(content, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_module, "STSPNet", untrained)
        with pytest.raises(ValueError, match=message):
            import_weights(path)


def test_what_does_not_fit_is_named_with_both_shapes(weights, tmp_path):
    path = tmp_path / "odd.pth"
    shape = r"layer1.0.conv2.weight of shape \(64, 64, 1, 1\), expected \(64, 64, 3, 3\)$"
    refused({**weights, "layer1.0.conv2.weight": torch.ones(64, 64, 1, 1)}, path, shape)
    mpii = {**weights, FINAL[0]: torch.ones(16, 32, 1, 1), FINAL[1]: torch.ones(16)}
    head = r"final_layer.weight of shape \(16, 32, 1, 1\), expected \(17, 32, 1, 1\), COCO's points"
    refused(mpii, path, head)
    refused(in_mmpose(mpii, "head."), path, rf"has head\.{head}")
    odd = {**weights, "bn1.bias": torch.full((64,), torch.nan)}
    refused(odd, path, "odd.pth has bn1.bias with values that are not finite")
    odd["bn1.bias"] = torch.full((64,), 1e300, dtype=torch.float64)  # too large for our 32 bits
    refused(odd, path, "odd.pth has bn1.bias with values that are not finite")
    odd = {**weights, "bn1.running_var": torch.full((64,), -1.0)}
    refused(odd, path, "odd.pth has bn1.running_var with variances below zero")


@pytest.mark.parametrize("kind", [torch.int8, torch.bool, torch.float8_e4m3fn])
def test_weights_in_codes_without_their_scale_are_refused(kind, weights, tmp_path):
    codes = {**weights, "conv1.weight": (100 * weights["conv1.weight"]).to(kind)}
    refused(codes, tmp_path / "codes.pth", f"codes.pth has conv1.weight of {kind}, expected float")


def test_missing_weights_are_counted_by_their_module(weights, tmp_path):
    path = tmp_path / "part.pth"
    part = {k: v for k, v in in_mmpose(weights, "head.").items() if "transition2" not in k}
    del part["backbone.bn1.bias"]
    refused(
        part, path, r"part.pth lacks 6 of the weights of an HRNet:\n  backbone.bn1.bias\n  back"
    )
    torch.save(part, path)
    with pytest.raises(ValueError, match=r"\n  backbone.transition2.2.0.\*: 5, such as") as error:
        import_weights(path)
    assert "num_batches" not in str(error.value)


def test_maps_of_other_points_than_cocos_are_refused(weights, tmp_path):
    names = {i: f"joint_{i}" for i in range(17)}
    content = {
        "meta": {"dataset_meta": {"keypoint_id2name": names}},
        "state_dict": in_mmpose(weights, "head."),
    }
    refused(content, tmp_path / "h36m.pth", r"its heat maps are joint_0 joint_1 .*expected COCO's")


def test_networks_that_are_not_ours_are_refused(tmp_path):
    path = tmp_path / "other.pth"
    branches = {f"stage4.0.branches.{i}.0.conv1.weight": torch.ones(18 * 2**i, 1) for i in range(4)}
    widths = r"branches are \(18, 36, 72, 144\) channels wide, expected \(32, 64, 128, 256\) for"
    refused(branches, path, widths)
    refused({"fc.weight": torch.ones(2)}, path, "holds no HRNet.*has 1 weights, such as fc.weight")
    ours = {f"epe.backbone.{name}": value for name, value in branches.items()}
    refused(ours, path, "holds no HRNet of a known project.*written by stsp need no import")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "holds a list, expected tensors by their names"),
        ({}, "holds a dict, expected tensors by their names"),
        ({"a": torch.ones(1), "b": "text"}, "has 'b' among its weights"),
        ({"state_dict": {"a": np.ones(1)}}, "has 'a' among its weights"),
        ({0: torch.ones(1)}, "has 0 among its weights"),
        ({"a": torch.eye(2).to_sparse()}, "has 'a' among its weights"),
        ({"a": torch.ones(1, device="meta")}, "has 'a' among its weights"),
    ],
)
def test_what_is_no_table_of_tensors_is_refused(content, message, tmp_path):
    refused(content, tmp_path / "odd.pth", message)


class Evil:
    """Unpickled by torch.load without weights_only, it would write a file."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda mark: Evil(os.system, f"touch {mark}"), f"{os.system.__module__}.system"),
        (lambda mark: Evil(builtins.exec, f"open({str(mark)!r}, 'w')"), "exec"),
        (lambda mark: Evil(io.open, str(mark), "w"), "open"),
    ],
)
def test_a_file_cannot_make_us_run_anything(make, name, zipped, weights, tmp_path):
    mark, path = tmp_path / "mark", tmp_path / "evil.pth"
    content = {"state_dict": dict(weights), "message_hub": {"log": make(mark)}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=rf"evil.pth is not plain tensors: .* run \S*{name}, so"):
        import_weights(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)  # the same file does harm when it is trusted
    assert mark.exists()


def test_logs_are_read_as_nothing_and_cannot_call_anything(tmp_path):
    mark, path = tmp_path / "mark", tmp_path / "logs.pth"
    # `getattr` is on the list for mmengine's sake: it must not fetch a way to run something.
    content = {"state_dict": {"a": torch.ones(1)}, "log": Evil(getattr, mark, "touch")}
    torch.save(content, path)
    allowed = set(torch.serialization.get_safe_globals())  # kept as a set, in any order
    with pytest.raises(ValueError, match=r"run pathlib\S*Path, so it was not read"):
        read_weights(path)
    content["log"] = Evil(getattr, "text", "upper")
    torch.save(content, path)
    assert list(read_weights(path).tensors) == ["a"]
    assert set(torch.serialization.get_safe_globals()) == allowed
    with pytest.raises(Exception, match="getattr"):
        torch.load(path, weights_only=True)


@pytest.mark.parametrize("name", ["cut.pth", "cut_old.pth", "cut.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_files_that_are_cut_off_are_refused(name, share, tmp_path):
    path = tmp_path / name
    tensors = {f"layer{i}.weight": torch.ones(50) for i in range(20)}
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization="old" not in name)
    whole = path.read_bytes()
    assert len(read_weights(path).tensors) == 20
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=rf"{name} is damaged, cut off or no"):
        read_weights(path)


@given(st.binary(max_size=200), st.sampled_from(["foreign.pth", "foreign.safetensors"]))
def test_foreign_bytes_are_refused(tmp_path_factory, written, name):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(written)
    with pytest.raises(ValueError, match=r"foreign\.\w+ (is damaged|is not|holds|has)"):
        read_weights(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.pth"):
        import_weights(tmp_path / "none.pth")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        import_weights(tmp_path)


def test_names_are_grouped_by_module():
    names = [f"backbone.incre.{i}.{part}.bias" for i in range(3) for part in "ab"]
    lines = grouped([*names, "head.conv.weight", "ema"])
    assert lines == [
        "backbone.incre.*: 6, such as backbone.incre.0.a.bias",
        "head.conv.weight",
        "ema",
    ]


def test_the_command_writes_a_network_to_train_from(weights, tmp_path, capsys):
    path, out = official(weights, tmp_path, None), tmp_path / "new" / "base.safetensors"
    assert main(["import-weights", str(path), "-o", str(out)]) == 0
    printed = capsys.readouterr().out
    assert f"{path} -> {out}\n1754 weights into preset base\n" in printed
    assert "means of their parents' heat maps, a rough start: pelvis, spine, thorax\n" in printed
    assert "untrained: heat map of head_top, finder, person-present output, lifter\n" in printed
    assert printed.endswith("missing: 0\nsurplus: 0\n")
    model = load_model(out, preset="base")
    out.unlink()
    assert not model.trained
    assert model.note.startswith("trunk and heat maps of COCO from pose_hrnet_w32_256x192.pth (sha")
    assert torch.equal(model.epe.backbone.bn1.weight, weights["bn1.weight"])


def test_the_command_says_what_is_wrong(weights, tmp_path, capsys):
    path, out = official(weights, tmp_path, None), tmp_path / "large.safetensors"
    assert main(["import-weights", str(path), "-o", str(out), "--preset", "large"]) == 1
    assert "stsp import-weights: " in (error := capsys.readouterr().err)
    assert "holds weights of preset 'base', not of 'large'" in error
    assert main(["import-weights", str(tmp_path / "none.pth"), "-o", str(out)]) == 1
    assert "there is no file" in capsys.readouterr().err
    assert not out.exists()
