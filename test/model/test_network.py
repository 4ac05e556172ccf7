"""The whole network: online equals offline from images on, sizes and costs, the 2D-only path."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_hrnet import multiply_adds
from torch import nn

from stsp_model import network as network_module
from stsp_model.camera import Camera
from stsp_model.lifter import Keypoints, TrackState
from stsp_model.network import (
    PRESETS,
    Clip,
    STSPNet,
    checked_height,
    image_keypoints,
    joints_in_image,
)

RESULTS = ("joints", "variance", "confidence", "height", "height_variance", "frames_used")
CAMERA = Camera(np.array([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]]), 640, 480)


@pytest.fixture(scope="module")
def model():
    """Edge, as if trained: heat maps have peaks and the temporal head says something.

    Of these weights a 2D joint off by what float32 rounds, 6e-5 px, moves no pose by 1e-5 m.
    """
    model = STSPNet("edge", seed=3).eval()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        nn.init.normal_(model.epe.backbone.final_layer.weight, std=0.02)
        nn.init.normal_(model.lifter.tmp.last.weight, std=0.03)
    return model


def random_walk(frames: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    body = rng.normal((320, 240), 40, (17, 2))
    return body + rng.normal(0, 3, (frames, 17, 2)).cumsum(axis=0)


@torch.no_grad()
def test_images_frame_by_frame_and_as_a_clip_give_the_same_poses(model):
    rng = torch.Generator().manual_seed(1)
    B, T, side = 2, 5, 96  # any multiple of 32 will do
    crop_boxes = torch.tensor([100.0, 50, 300, 250]) + torch.randn(B, T, 1, generator=rng) * 5
    tight = torch.tensor([26.0, 26, -26, -26])
    stamps = 1.7e9 + torch.tensor([[0, 0.03, 0.2, 0.9, 1.0], [0, 0.1, 0.2, 0.3, 0.4]]).double()
    clip = Clip(
        crops=torch.rand(B, T, 3, side, side, generator=rng),
        saliency=torch.rand(B, T, 1, side // 4, side // 4, generator=rng),
        crop_boxes=crop_boxes,
        boxes=crop_boxes + tight,
        K=torch.tensor(CAMERA.K).float().expand(B, 3, 3),
        stamps=stamps,
        subject_height=torch.tensor([1.3, torch.nan]),
    )
    observation, lifted = model(clip)
    assert observation.joints.shape == (B * T, 17, 2)
    assert clip.subject_height is not None
    for b in range(B):
        state = [TrackState.empty()]
        for t in range(T):
            seen = model.observe(clip.crops[b, t : t + 1], clip.saliency[b, t : t + 1])
            keypoints = image_keypoints(seen, clip.crop_boxes[b, t : t + 1])
            pose, state = model.lift_frame(
                keypoints,
                clip.boxes[b, t : t + 1],
                clip.K[b],
                float(stamps[b, t]),
                state,
                clip.subject_height[b : b + 1],
            )
            for name in RESULTS:
                expected, result = getattr(pose, name)[0], getattr(lifted, name)[b, t]
                torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_motion_changes_what_is_seen_but_not_whether_somebody_is_there(model):
    crop, still = torch.rand(1, 3, 96, 96), torch.zeros(1, 1, 24, 24)
    moving = still.clone()
    moving[..., 8:12, 8:12] = 0.3
    first, second = model.observe(crop, still), model.observe(crop, moving)
    assert not torch.equal(first.heatmaps, second.heatmaps)
    assert torch.equal(first.present, second.present)
    # W of eq. 4 weights the features the heat maps are made of: outside nothing changes.
    change = (first.heatmaps - second.heatmaps).abs().amax(dim=(0, 1)) > 0
    assert torch.equal(change, moving[0, 0] > 0)


def test_crop_pixels_go_to_the_image_they_were_cut_from(model):
    with torch.no_grad():
        seen = model.observe(torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 16, 16))
    joints = torch.tensor([[0.0, 0.0], [63.0, 31.0]]).repeat(9, 1)[None, :17]
    covariance = torch.tensor([[4.0, 1.0], [1.0, 2.0]]).expand(1, 17, 2, 2)
    seen = replace(seen, joints=joints, covariance=covariance)
    keypoints = image_keypoints(seen, torch.tensor([[99.5, -0.5, 227.5, 63.5]]))
    # The crop shows 128 by 64 pixels: 2 image pixels a column, 1 a row.
    torch.testing.assert_close(keypoints.joints[0, 0], torch.tensor([100.5, 0.0]))
    torch.testing.assert_close(keypoints.joints[0, 1], torch.tensor([226.5, 31.0]))
    expected = torch.tensor([[16.0, 2.0], [2.0, 2.0]])
    torch.testing.assert_close(keypoints.covariance[0, 5], expected)


def test_joints_come_to_the_image_alike_as_tensors_and_as_arrays():
    generator = torch.Generator().manual_seed(3)
    joints, covariance = (64 * torch.rand(2, 17, *n, generator=generator) for n in ((2,), (2, 2)))
    boxes = torch.tensor([[99.5, -0.5, 227.5, 127.5], [10.3, 20.1, 300.7, 310.5]])
    given = joints, covariance, boxes, torch.tensor([64.0, 64.0])
    for tensor, array in zip(
        joints_in_image(*given), joints_in_image(*(x.numpy() for x in given)), strict=True
    ):
        np.testing.assert_array_equal(tensor.numpy(), array)


@torch.no_grad()
def test_edge_costs_what_two_cores_can_bear():
    model = STSPNet("edge").eval()
    width, height = model.input_size
    crop = torch.zeros(1, 3, height, width)
    saliency = torch.zeros(1, 1, height // 4, width // 4)
    box = torch.tensor([[0.0, 0, 100, 100]])

    def one_crop() -> None:
        keypoints = image_keypoints(model.observe(crop, saliency), box)
        model.lift_frame(keypoints, box, torch.eye(3), 0.0, [TrackState.empty()])

    width, height = model.finder_size
    frame = torch.zeros(1, 3, height, width)
    cost = multiply_adds(model, one_crop)
    assert cost <= 0.95e9  # in 8 bits 15 ms of one core; see docs/performance.md
    assert multiply_adds(model, lambda: model.find_people(frame)) <= cost


@pytest.mark.parametrize("name", PRESETS)
def test_presets_differ_in_backbone_and_crop_only(name):
    with torch.device("meta"):
        model = STSPNet(name).eval()
        width, height = model.input_size
        seen = model.observe(torch.empty(2, 3, height, width), torch.empty(2, 1, width // 4, 1))
    assert seen.joints.shape == (2, 17, 2)
    assert seen.features.shape == (2, 17, model.preset.backbone.widths[0])
    assert width % 32 == height % 32 == 0


@torch.no_grad()
def test_an_untrained_network_runs_the_whole_pipeline():
    model = STSPNet("edge").eval()
    assert not model.trained
    seen = model.observe(torch.rand(2, 3, 192, 192), torch.zeros(2, 1, 48, 48))
    assert (seen.present.sigmoid() > 0.5).all()
    boxes = torch.tensor([[100.0, 100, 300, 300]] * 2)
    K = torch.tensor(CAMERA.K).float()
    lifted, _ = model.lift_frame(
        image_keypoints(seen, boxes), boxes, K, 0.0, [TrackState.empty()] * 2
    )
    for name in RESULTS:
        assert getattr(lifted, name).isfinite().all()


def test_initial_weights_follow_the_seed_and_leave_the_callers_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = STSPNet("edge", seed=3)
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(6)
    again, other = STSPNet("edge", seed=3).state_dict(), STSPNet("edge", seed=2).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.state_dict().items())
    name = "epe.backbone.conv1.weight"
    assert not torch.equal(again[name], other[name])


def test_printed_forms_are_selectable():
    preset = replace(PRESETS["edge"], literal_motion=True, context=False)
    model, usual = STSPNet(preset).eval(), STSPNet("edge").eval()
    assert model.lifter.gsr.context is None
    usual.epe.load_state_dict(model.epe.state_dict())
    crop, still = torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 16, 16)
    with torch.no_grad():
        literal, default = model.observe(crop, still).heatmaps, usual.observe(crop, still).heatmaps
    torch.testing.assert_close(literal, 2 * default)  # 1 + gamma, and the head's bias is 0


@pytest.mark.parametrize(
    "change", [{"crop": 200}, {"crop": 32}, {"crop": 0}, {"graph_layers": -1}, {"tau": -1}]
)
def test_a_preset_that_cannot_be_is_refused(change):
    (name,) = change
    with pytest.raises(ValueError, match=f"{name} is {change[name]}, expected"):
        replace(PRESETS["edge"], **change)


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match=r"'tiny'.*edge, base, large"):
        STSPNet("tiny")


def test_lift_is_what_frames_one_by_one_give(model):
    points = random_walk(7)
    stamps = 1.7e9 + np.arange(7) / 25
    confidence = np.full((7, 17), 0.7)
    confidence[3, 5] = 0
    points[4, 2] = np.nan
    result = model.lift(points, stamps, CAMERA, confidence, subject_height=1.4)
    assert result.shape == (7, 17, 3)
    state = [TrackState.empty()]
    for t in range(7):
        there = np.isfinite(points[t]).all(axis=-1) & (confidence[t] > 0)
        low, high = points[t][there].min(axis=0), points[t][there].max(axis=0)
        box = torch.from_numpy(np.concatenate([low, high])).float()[None]
        deviation = 0.03 * (high - low).max() / 2
        keypoints = Keypoints(
            torch.from_numpy(points[t]).float()[None],
            torch.from_numpy(confidence[t]).float()[None],
            (torch.eye(2) * deviation**2).float().expand(1, 17, 2, 2),
        )
        K = torch.tensor(CAMERA.K).float()
        with torch.no_grad():
            pose, state = model.lift_frame(keypoints, box, K, stamps[t], state, torch.tensor([1.4]))
        np.testing.assert_allclose(result[t], pose.joints[0], atol=1e-5)


def test_lift_leaves_out_frames_without_a_joint(model):
    points, stamps = random_walk(6), np.arange(6) / 10
    points[2] = np.nan
    result = model.lift(points, stamps, CAMERA)
    assert np.isnan(result[2]).all()
    rest = [0, 1, 3, 4, 5]
    np.testing.assert_allclose(result[rest], model.lift(points[rest], stamps[rest], CAMERA))
    assert np.isnan(model.lift(np.full((3, 17, 2), np.nan), np.arange(3), CAMERA)).all()
    assert model.lift(np.empty((0, 17, 2)), np.empty(0), CAMERA).shape == (0, 17, 3)


@pytest.mark.parametrize("pixels", [np.inf, 1e39, -1e30])
def test_lift_takes_a_joint_beyond_all_numbers_for_missing(model, pixels):
    points, stamps = random_walk(6), np.arange(6) / 10
    points[2, 9] = np.nan
    expected = model.lift(points, stamps, CAMERA)
    points[2, 9] = pixels
    np.testing.assert_array_equal(model.lift(points, stamps, CAMERA), expected)
    assert np.isfinite(expected).all()


def test_lift_takes_a_joint_of_no_confidence_for_missing(model):
    points, confidence = random_walk(3), np.ones((3, 17))
    gone = points.copy()
    gone[:, 9] = np.nan
    confidence[:, 9] = 0
    expected = model.lift(gone, np.arange(3) / 10, CAMERA)
    np.testing.assert_array_equal(
        model.lift(points, np.arange(3) / 10, CAMERA, confidence), expected
    )
    assert np.isfinite(expected).all()


def test_lift_of_long_clips_goes_piece_by_piece_without_seams(model, monkeypatch):
    points, stamps = random_walk(100), np.arange(100) / 30
    whole = model.lift(points, stamps, CAMERA)
    monkeypatch.setattr(network_module, "_LIFT_FRAMES", 16)
    np.testing.assert_allclose(model.lift(points, stamps, CAMERA), whole, atol=1e-5)


def test_lift_sees_through_lens_distortion(model):
    lens = Camera(CAMERA.K, 640, 480, D=np.array([-0.2, 0.05, 0.001, -0.001, 0]))
    points, stamps = random_walk(4), np.arange(4) / 30
    result = model.lift(lens.distort(points), stamps, lens)
    np.testing.assert_allclose(result, model.lift(points, stamps, CAMERA), atol=1e-3)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_lift_takes_tensors_and_a_single_visible_joint(model, kind):
    points = torch.full((2, 17, 2), torch.nan, dtype=kind)
    points[:, 3] = 100.0
    result = model.lift(points, torch.tensor([0.0, 0.1]), CAMERA)
    assert isinstance(result, np.ndarray)
    assert np.isfinite(result).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"joints_2d": np.zeros((4, 16, 2))}, ValueError, r"joints_2d has shape \(4, 16, 2\)"),
        ({"joints_2d": [["a"]]}, TypeError, "joints_2d"),
        ({"stamps": np.arange(3.0)}, ValueError, "stamps has shape"),
        ({"stamps": np.array([0, 1, 1, 2.0])}, ValueError, "stamps must .* increase"),
        ({"stamps": np.array([0, 1, np.nan, 2.0])}, ValueError, "stamps must be finite"),
        ({"camera": np.eye(3)}, TypeError, "camera is a ndarray"),
        ({"confidence": np.ones((4, 2))}, ValueError, "confidence has shape"),
        ({"confidence": np.full((4, 17), 1.1)}, ValueError, "confidence must lie"),
        ({"confidence": np.full((4, 17), np.nan)}, ValueError, "confidence must lie"),
        ({"subject_height": 3.0}, ValueError, "subject_height is 3.0 m"),
        ({"subject_height": float("nan")}, ValueError, "subject_height"),
        ({"subject_height": "tall"}, TypeError, "subject_height is 'tall'"),
        ({"subject_height": True}, TypeError, "subject_height"),
    ],
)
def test_lift_names_the_argument_that_does_not_fit(model, change, error, message):
    arguments = {"joints_2d": np.zeros((4, 17, 2)), "stamps": np.arange(4.0), "camera": CAMERA}
    with pytest.raises(error, match=message):
        model.lift(**{**arguments, **change})


def test_heights_that_are_none_or_zero_are_to_be_estimated():
    assert checked_height(None) is checked_height(0) is None
    assert checked_height(np.float32(1.5)) == 1.5


def test_networks_can_be_exported_with_static_shapes(model):
    class Traced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.epe = model.epe

        def forward(self, crops: torch.Tensor, saliency: torch.Tensor) -> tuple[torch.Tensor, ...]:
            seen = self.epe(crops, saliency)
            return seen.joints, seen.covariance, seen.features

    inputs = torch.rand(1, 3, 64, 64), torch.rand(1, 1, 16, 16)
    exported = torch.export.export(Traced().eval(), inputs).module()
    with torch.no_grad():
        for result, expected in zip(exported(*inputs), Traced().eval()(*inputs), strict=True):
            torch.testing.assert_close(result, expected, atol=1e-4, rtol=1e-4)


def test_lift_takes_how_sure_and_how_precise_the_2d_joints_are(model):
    joints, stamps = random_walk(8), np.arange(8) / 30
    joints[3] = np.nan  # a frame without anybody
    plain = model.lift(joints, stamps, CAMERA)
    side = np.nan_to_num(np.ptp(joints, axis=1)).max(axis=-1) / 2
    nominal = ((0.03 * side) ** 2)[:, None, None, None] * np.eye(2)
    nominal = np.broadcast_to(nominal, (8, 17, 2, 2))
    same = model.lift(joints, stamps, CAMERA, covariance=nominal)
    np.testing.assert_allclose(same, plain, atol=1e-6)
    vaguer = model.lift(joints, stamps, CAMERA, covariance=9 * nominal)
    assert np.nanmax(abs(vaguer - plain)) > 1e-4
    with pytest.raises(ValueError, match=r"covariance has shape \(8, 17, 2\)"):
        model.lift(joints, stamps, CAMERA, covariance=nominal[..., 0])
    with pytest.raises(ValueError, match="covariance must be finite"):
        model.lift(joints, stamps, CAMERA, covariance=nominal * np.nan)


def test_joints_through_a_lens_are_lifted_as_those_of_a_camera_without_one(model):
    lens = Camera(CAMERA.K, CAMERA.width, CAMERA.height, [-0.3, 0.1, 0, 0, 0])
    joints, stamps = random_walk(6), np.arange(6) / 30
    straight = lens.undistort(joints)
    covariance = np.broadcast_to([[9.0, 2], [2, 4]], (6, 17, 2, 2))
    through = model.lift(joints, stamps, lens, covariance=covariance)
    spread = lens.undistort_spread(straight, covariance)
    without = model.lift(straight, stamps, CAMERA, covariance=spread)
    np.testing.assert_allclose(through, without, atol=1e-6)
    untold = model.lift(straight, stamps, CAMERA, covariance=covariance)
    assert np.abs(through - untold).max() > 1e-5


def test_a_preset_says_how_much_past_and_how_deep_a_graph():
    assert (PRESETS["edge"].tau, PRESETS["edge"].graph_layers) == (5, 2)
    small = STSPNet(replace(PRESETS["edge"], tau=0, graph_layers=0)).eval()
    deep = STSPNet(replace(PRESETS["edge"], tau=9, graph_layers=3)).eval()
    assert small.lifter.tmp is None
    assert len(deep.lifter.gsr.layers) == 3
    for model in (small, deep):
        lifted = model.lift(random_walk(12), np.arange(12) / 30, CAMERA)
        assert np.isfinite(lifted).all()
    for wrong in ({"tau": -1}, {"graph_layers": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            replace(PRESETS["edge"], **wrong)
