"""Every backend gives what PyTorch gives: graph by graph, and over a clip through the estimator."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from stsp_model.crop import crop_box
from stsp_model.epe import WINDOW_RADIUS, _smoothed
from stsp_model.estimator import PoseEstimator
from stsp_model.hrnet import HRNetSize
from stsp_model.lifter import TrackState
from stsp_model.network import Preset, STSPNet, image_keypoints
from stsp_model.perception import network_images, person_crops
from stsp_model.runtime import FLOAT16
from stsp_model.runtime.backends import open_network
from stsp_model.runtime.with_torch import folded

EXPORTED = ("onnxruntime", "openvino")
FLOAT32 = (*EXPORTED, "cuda")
PIXELS, METRES = 0.05, 0.0005  # the bounds for 32 bits
HALF_PIXELS, HALF_METRES = 0.5, 0.003
# For what is about the lifter: quicker to export.
SMALL = HRNetSize((8, 8, 16, 16), 8, 8, layer1_blocks=1, modules=(1, 1, 1), blocks=1)


@pytest.fixture(scope="module")
def crops(edge, pictures):
    """Three crops around the middle of frames, and what might move in them."""
    boxes = crop_box([[220.0, 100, 420, 440], [240.0, 90, 400, 400], [150.0, 80, 450, 470]], (1, 1))
    cut = [
        person_crops(pictures[10 * i][1], box[None], edge.input_size)[0]
        for i, box in enumerate(boxes)
    ]
    width, height = edge.input_size
    motion = torch.rand(3, 1, height // 4, width // 4, generator=torch.Generator().manual_seed(0))
    return network_images(cut, edge.input_size), 0.1 * motion, torch.from_numpy(boxes).float()


@pytest.fixture(scope="module")
def boxes(child_joints):
    """Where the child truly is (frames, 4): what one frame gives does not change the next crop."""
    return np.concatenate([child_joints.min(axis=1), child_joints.max(axis=1)], axis=-1)


def observed(network, crops, people):
    with torch.inference_mode():
        return network.observe(crops[0][:people], crops[1][:people])


def lifted(network, model, crops, frames=8):
    """Poses of two people over frames, some joints missing, the second one's height given."""
    with torch.inference_mode():
        seen = image_keypoints(model.observe(crops[0][:2], crops[1][:2]), crops[2][:2])
        K = torch.tensor([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
        states, poses = [TrackState.empty()] * 2, []
        for i in range(frames):
            joints = seen.joints + 3 * i
            joints[0, i] = torch.nan
            frame, states = network.lift_frame(
                replace(seen, joints=joints),
                crops[2][:2] + 3 * i,
                K,
                1.7e9 + i / 30,
                states,
                torch.tensor([torch.nan, 1.3]),
            )
            poses.append(frame)
    return poses, states


def steps(network, pictures, boxes=None, **settings):
    """The poses of every frame; of the child in `boxes`, or of whom the estimator follows."""
    estimate = PoseEstimator(network, **settings)
    given = [None] * len(pictures) if boxes is None else boxes[:, None]
    return [
        estimate.step(image, stamp, camera, boxes=box)
        for (stamp, image, camera), box in zip(pictures, given, strict=True)
    ]


def differences(some, others):
    """Pixels and metres (frames, 17) between two clips of one child."""
    pairs = [(one, other) for (one,), (other,) in zip(some, others, strict=True)]
    assert all(one.frames_used == other.frames_used for one, other in pairs)
    pixels = [np.abs(one.joints_2d - other.joints_2d).max(axis=-1) for one, other in pairs]
    metres = [np.linalg.norm(one.joints - other.joints, axis=-1) for one, other in pairs]
    return np.array(pixels), np.array(metres)


@pytest.mark.parametrize("backend", FLOAT32)
@pytest.mark.parametrize("people", [1, 3, 18])
def test_people_are_observed_alike(backend, people, edge, opened, crops):
    crops = [values.repeat(6, *(1,) * (values.ndim - 1)) for values in crops]
    ours, theirs = observed(opened(backend), crops, people), observed(edge, crops, people)
    scale = (crops[2][:people, 2:] - crops[2][:people, :2]) / torch.tensor(edge.input_size)
    off = (ours.joints - theirs.joints).abs() * scale[:, None]
    assert off.max() < PIXELS
    for name in ("mass", "confidence", "present", "features", "heatmaps", "covariance"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("backend", FLOAT32)
def test_people_are_found_alike(backend, edge, opened, pictures):
    cut = person_crops(pictures[0][1], np.array([[-0.5, -0.5, 639.5, 511.5]]), edge.finder_size)
    frame = network_images(cut, edge.finder_size)
    with torch.inference_mode():
        expected = edge.find_people(frame)
    for ours, theirs in zip(opened(backend).find_people(frame), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("backend", FLOAT32)
def test_people_are_lifted_alike_whatever_is_missing(backend, edge, opened, crops):
    (ours, _), (theirs, _) = lifted(opened(backend), edge, crops), lifted(edge, edge, crops)
    assert [pose.frames_used.tolist() for pose in theirs][:3] == [[0, 0], [1, 1], [2, 2]]
    for one, other in zip(ours, theirs, strict=True):
        assert (one.joints - other.joints).norm(dim=-1).max() < METRES
        assert one.frames_used.tolist() == other.frames_used.tolist()
        assert one.height[1] == pytest.approx(1.3)
        for name in ("variance", "confidence", "height", "height_variance"):
            torch.testing.assert_close(
                getattr(one, name), getattr(other, name), atol=1e-4, rtol=1e-3
            )


@pytest.fixture(scope="module")
def exact(edge):
    return open_network(edge, "torch")


@pytest.fixture(scope="module")
def watched(exact, pictures, boxes):
    """PyTorch's poses of the child in her boxes, and the heat maps (17, h, w) of every frame."""
    maps: list[torch.Tensor] = []
    watch = exact.epe.register_forward_hook(lambda _, __, seen: maps.append(seen.heatmaps[0]))
    poses = steps(exact, pictures, boxes)
    watch.remove()
    return poses, maps


@pytest.fixture(scope="module")
def followed(exact, pictures):
    """PyTorch's poses of whom the estimator follows."""
    return steps(exact, pictures)


@pytest.mark.parametrize("backend", FLOAT32)
def test_a_clip_gives_the_same_poses(backend, opened, pictures, boxes, watched):
    pixels, metres = differences(steps(opened(backend), pictures, boxes), watched[0])
    assert pixels.max() < PIXELS
    assert metres.max() < METRES


@pytest.mark.parametrize("backend", FLOAT32)
def test_a_child_is_followed_alike(backend, opened, pictures, followed):
    """A joint's window is set by its heat map's mode. Where two cells are equal but for rounding it
    may jump, then the next crop differs, and so on: so this is about most joints, roughly."""
    pixels, metres = differences(steps(opened(backend), pictures), followed)
    assert np.median(pixels) < 1
    assert np.median(metres) < 0.01


@pytest.mark.parametrize("backend", ["torch", *FLOAT32])
def test_a_clip_gives_the_same_bytes_twice(backend, exact, opened, pictures):
    network = exact if backend == "torch" else opened(backend)
    first, second = (steps(network, pictures[:12], max_people=2) for _ in range(2))
    for one, other in zip(itertools.chain(*first), itertools.chain(*second), strict=True):
        for name in vars(one):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_what_was_exported_with_mirror_images_takes_them_for_each_person(
    edge, onnx_files, exported_as, crops
):
    pytest.importorskip("onnxruntime")
    made = exported_as(mirrored=True)
    assert made.description.mirrored
    assert not onnx_files.description.mirrored
    ours = observed(open_network(made, "onnxruntime"), crops, 3)
    with torch.inference_mode():
        theirs = edge.epe(crops[0], crops[1], mirrored=True)
    for name in ("joints", "mass", "features", "present", "heatmaps"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), atol=2e-3, rtol=1e-3)


def test_mirror_images_are_refused_where_they_have_to_be_exported(edge):
    with pytest.raises(ValueError, match="stsp export --mirrored"):
        open_network(edge, "torch", mirrored=True)


def undecided(heatmaps):
    """Whether a joint's heat map (17, h, w) has two hills as high but for what 16 bits can tell."""
    smooth = _smoothed(heatmaps.flatten(1).softmax(dim=1).view_as(heatmaps))
    width = heatmaps.shape[-1]
    top, mode = smooth.flatten(1).max(dim=1)
    down, across = torch.meshgrid(*map(torch.arange, smooth.shape[1:]), indexing="ij")
    apart = torch.maximum(
        (across - (mode % width).view(-1, 1, 1)).abs(),
        (down - (mode // width).view(-1, 1, 1)).abs(),
    )
    other = (smooth * (apart > WINDOW_RADIUS)).amax(dim=(1, 2))
    return bool((other > 0.99 * top).any())


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_graphs_for_gpus_in_half_precision_stay_within_its_bounds(
    device, edge, pictures, boxes, exported_as, exact, watched, request
):
    """What torch and TensorRT run on a GPU; on the CPU it runs as well.

    A frame with an undecided joint, which either precision may put on either hill, begins anew.
    """
    if device == "cuda":
        half = open_network(edge, "torch", request.getfixturevalue("gpu"), mirrored=False)
    else:
        pytest.importorskip("onnxruntime")
        half = open_network(exported_as(half=True), "onnxruntime")
    assert half.precision == FLOAT16
    poses, maps = watched
    breaks = [i for i, seen in enumerate(maps) if undecided(seen)]
    assert len(breaks) < 3
    compared = 0
    for first, last in itertools.pairwise([-1, *breaks, len(pictures)]):
        part = slice(first + 1, last)
        ours = steps(half, pictures[part], boxes[part])
        # Up to the first break what was watched began with the clip as well.
        theirs = steps(exact, pictures[part], boxes[part]) if first >= 0 else poses[part]
        if ours:
            pixels, metres = differences(ours, theirs)
            assert pixels.max() < HALF_PIXELS
            assert metres.max() < HALF_METRES
            compared += len(ours)
    assert compared == len(pictures) - len(breaks)


@pytest.mark.parametrize("backend", EXPORTED)
def test_a_static_batch_is_filled_up_and_repeated(backend, edge, exported_as, crops):
    """Three people, two at a time."""
    pytest.importorskip(backend)
    two = open_network(exported_as(batch=2), backend)
    assert two.batch == 2
    torch.testing.assert_close(
        observed(two, crops, 3).joints, observed(edge, crops, 3).joints, atol=PIXELS, rtol=0
    )
    poses, states = lifted(two, edge, crops)
    assert (poses[-1].joints - lifted(edge, edge, crops)[0][-1].joints).abs().max() < METRES
    assert [state.count for state in states] == [8, 8]


def test_folding_batch_norms_changes_rounding_alone(edge, crops):
    torch.manual_seed(0)
    network = STSPNet(edge.preset)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as if trained
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    less = folded(network)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in less.modules())
    assert network.training
    ours, theirs = observed(less, crops, 2), observed(network.eval(), crops, 2)
    torch.testing.assert_close(ours.heatmaps, theirs.heatmaps, atol=1e-3, rtol=1e-3)
    with torch.inference_mode():
        frame = torch.rand(1, 3, 256, 320)
        for one, other in zip(less.find_people(frame), network.find_people(frame), strict=True):
            torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("change", [{"context": False}, {"tau": 0}, {"graph_layers": 0}])
def test_ablated_networks_can_be_exported_too(change, edge, crops):
    pytest.importorskip("onnxruntime")
    preset = edge.preset
    assert isinstance(preset, Preset)
    network = STSPNet(replace(preset, backbone=SMALL, **change), seed=3).eval()
    ours, theirs = (lifted(n, network, crops) for n in (open_network(network), network))
    assert (ours[0][-1].joints - theirs[0][-1].joints).abs().max() < METRES
    assert ours[0][-1].frames_used.tolist() == theirs[0][-1].frames_used.tolist()
