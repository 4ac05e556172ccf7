"""Losses agree with numbers worked out by hand, heed masks, and have correct gradients."""

import math

import pytest
import torch
from torch import tensor

from stsp_model import losses
from stsp_model.skeleton import ANGLES, BONES, INDEX

CLIP = (2, 4, 17, 3)


def clip(seed, *shape):
    return torch.randn(shape or CLIP, generator=torch.Generator().manual_seed(seed)).double()


def stamps(rate=30.0, frames=4):
    return (torch.arange(frames).double() / rate).expand(2, frames)


def along_x(*values):
    """One joint on the x axis at the given places: (1, T, 1, 3)."""
    joints = torch.zeros(1, len(values), 1, 3, dtype=torch.float64)
    joints[0, :, 0, 0] = tensor(values)
    return joints


def test_heatmap_mse_by_hand():
    maps = torch.zeros(1, 2, 2, 2)
    maps[0, 0] = tensor([[1.0, 0], [0, 1]])
    assert losses.heatmap_mse(maps, torch.zeros_like(maps)).item() == pytest.approx(0.25)
    mask = tensor([[True, False]])
    assert losses.heatmap_mse(maps, torch.zeros_like(maps), mask).item() == pytest.approx(0.5)


def test_heatmap_cross_entropy_by_hand():
    logits = tensor([[[0.0, math.log(3)], [0, 0]]])  # softmax 1/6, 3/6, 1/6, 1/6
    target = tensor([[[2.0, 2], [0, 0]]])  # 1/2, 1/2 once normalised
    expected = -(math.log(1 / 6) + math.log(1 / 2)) / 2
    assert losses.heatmap_cross_entropy(logits, target).item() == pytest.approx(expected)


def test_an_empty_target_map_does_not_count():
    logits = clip(0, 1, 2, 4, 4).requires_grad_()
    target = torch.zeros(1, 2, 4, 4).double()
    target[0, 0, 1, 1] = 1
    one = losses.heatmap_cross_entropy(logits[:, :1], target[:, :1])
    both = losses.heatmap_cross_entropy(logits, target)
    assert both.item() == pytest.approx(one.item())
    both.backward()
    assert logits.grad.isfinite().all()


def test_a_heat_map_that_is_masked_does_not_count():
    logits, target = clip(0, 1, 2, 4, 4), clip(5, 1, 2, 4, 4).exp()
    one = losses.heatmap_cross_entropy(logits[:, :1], target[:, :1])
    both = losses.heatmap_cross_entropy(logits, target, tensor([[True, False]]))
    assert both.item() == pytest.approx(one.item())


def test_trajectory_loss_ignores_true_motion_unless_literal():
    truth = along_x(0.0, 1, 2)
    predicted = along_x(0.0, 1, 4)
    times = torch.arange(3)[None].double() / 30
    assert losses.trajectory_loss(truth, truth, times).item() == 0
    # The error steps by 0 and 2; the prediction itself by 1 and 3.
    assert losses.trajectory_loss(predicted, truth, times).item() == pytest.approx(2)
    assert losses.trajectory_loss(predicted, truth, times, literal=True).item() == pytest.approx(5)


def test_velocity_and_acceleration_by_hand():
    truth = along_x(0.0, 0, 0, 0)
    predicted = along_x(0.0, 1, 3, 3)  # velocities 1 2 0, accelerations 1 -2
    times = torch.arange(4)[None].double() / 30
    assert losses.velocity_loss(predicted, truth, times).item() == pytest.approx(5 / 3)
    assert losses.acceleration_loss(predicted, truth, times).item() == pytest.approx(5 / 2)


def test_as_printed_velocity_and_acceleration_are_one_quantity():
    joints = clip(1)
    printed = [
        loss(joints, clip(2), stamps(), literal=True)
        for loss in (losses.velocity_loss, losses.acceleration_loss)
    ]
    assert printed[0].item() == printed[1].item()
    assert printed[0].item() == pytest.approx(
        losses.acceleration_loss(joints, torch.zeros_like(joints), stamps()).item()
    )


def test_rates_come_from_stamps():
    # The error grows by 0.3 m/s whatever the frames' times: 0.01 m per 1/30 s.
    times = tensor([[0.0, 0.02, 0.1, 0.13]]).double()
    predicted = along_x(*(0.3 * times[0]).tolist())
    truth = torch.zeros_like(predicted)
    assert losses.velocity_loss(predicted, truth, times).item() == pytest.approx(1e-4)
    assert losses.acceleration_loss(predicted, truth, times).item() == pytest.approx(0, abs=1e-12)


def test_acceleration_between_uneven_frames_by_hand():
    # Velocities 1 and 2 per 1/30 s in the middles of steps of 1/30 and 2/30 s: 1.5 / 30 s apart.
    predicted, times = along_x(0.0, 1, 5), tensor([[0.0, 1, 3]]).double() / 30
    loss = losses.acceleration_loss(predicted, torch.zeros_like(predicted), times)
    assert loss.item() == pytest.approx((1 / 1.5) ** 2)


def test_rates_of_change_need_both_ends():
    predicted, times = along_x(2.0, 0, 7, 8), torch.arange(4)[None].double() / 30
    truth = torch.zeros_like(predicted)
    mask = tensor([[True, False, True, True]]).unsqueeze(-1)
    for loss in (losses.velocity_loss, losses.trajectory_loss):
        assert loss(predicted, truth, times, mask).item() == pytest.approx(1)
    printed = losses.trajectory_loss(predicted, truth, times, mask, literal=True)
    assert printed.item() == pytest.approx(1)
    assert losses.acceleration_loss(predicted, truth, times, mask).item() == 0


@pytest.mark.parametrize("rate", [15.0, 60.0])
def test_one_motion_costs_the_same_at_every_frame_rate(rate):
    times = torch.arange(20)[None].double() / rate
    predicted = along_x(*(2 * times[0] ** 2).tolist())  # 4 m/s^2
    loss = losses.acceleration_loss(predicted, torch.zeros_like(predicted), times)
    assert loss.item() == pytest.approx((4 / 900) ** 2)


def test_epoch_stamps_do_not_lose_their_differences():
    times = stamps() + 1.7e9
    joints = clip(1)
    near = losses.velocity_loss(joints, clip(2), stamps())
    assert losses.velocity_loss(joints, clip(2), times).item() == pytest.approx(
        near.item(), rel=1e-4
    )


def test_stamps_that_stand_still_are_refused():
    with pytest.raises(ValueError, match="stamps do not increase"):
        losses.velocity_loss(clip(1), clip(2), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"expected joints \(B, T, J, D\)"):
        losses.velocity_loss(clip(1), clip(2), stamps(frames=5))


def test_pose_loss_by_hand():
    predicted = tensor([[[3.0, 4, 0], [0, 0, 0]]])
    truth = torch.zeros_like(predicted)
    assert losses.pose_loss(predicted, truth).item() == pytest.approx(12.5)
    assert losses.pose_loss(predicted, truth, squared=False).item() == pytest.approx(2.5)
    assert losses.pose_loss(predicted, truth, tensor([[True, False]])).item() == pytest.approx(25)


def test_bone_lengths_and_their_loss_by_hand():
    joints = torch.zeros(17, 3)
    joints[INDEX["right_hip"]] = tensor([0.1, 0, 0])
    joints[INDEX["right_knee"]] = tensor([0.1, 0.4, 0])
    lengths = losses.bone_lengths(joints)
    names = [(INDEX["pelvis"], INDEX["right_hip"]), (INDEX["right_hip"], INDEX["right_knee"])]
    assert [lengths[BONES.index(bone)].item() for bone in names] == pytest.approx([0.1, 0.4])
    reference = lengths.clone()
    reference[BONES.index(names[1])] = 0.6
    assert losses.bone_length_loss(joints, reference).item() == pytest.approx(0.04 / 16)
    mask = torch.zeros(17, dtype=torch.bool)
    mask[[INDEX["right_hip"], INDEX["right_knee"]]] = True
    assert losses.bone_length_loss(joints, reference, mask).item() == pytest.approx(0.04)


def bent_knee(degrees):
    """A standing skeleton, head up, whose right knee has this inner angle."""
    joints = clip(3, 17, 3) * 1e-3
    place = {
        "right_hip": (-0.1, 0, 0),
        "left_hip": (0.1, 0, 0),
        "spine": (0, -0.2, 0),
        "thorax": (0, -0.4, 0),
        "head_top": (0, -0.7, 0),
        "left_shoulder": (0.15, -0.4, 0),
        "right_shoulder": (-0.15, -0.4, 0),
        "left_elbow": (0.15, -0.2, 0),
        "right_elbow": (-0.15, -0.2, 0),
        "left_wrist": (0.15, 0, 0),
        "right_wrist": (-0.15, 0, 0),
        "left_knee": (0.1, 0.4, 0),
        "left_ankle": (0.1, 0.8, 0),
        "right_knee": (-0.1, 0.4, 0),
    }
    for name, at in place.items():
        joints[INDEX[name]] = tensor(at).double()
    angle = math.radians(degrees)
    joints[INDEX["right_ankle"]] = joints[INDEX["right_knee"]] + 0.4 * tensor(
        [0, -math.cos(angle), math.sin(angle)]
    )
    return joints


@pytest.mark.parametrize("degrees", [5.0, 90.0, 180.0])
def test_included_angles_by_hand(degrees):
    names = [limit.name for limit in ANGLES]
    angles = losses.included_angles(bent_knee(degrees)).rad2deg()
    assert angles[names.index("right_knee")].item() == pytest.approx(degrees, abs=1e-4)
    assert angles[names.index("left_knee")].item() == pytest.approx(180)
    assert angles[names.index("neck")].item() == pytest.approx(180)


def test_joint_angle_loss_is_the_squared_excess():
    assert losses.joint_angle_loss(bent_knee(90)).item() == 0
    limit = next(limit for limit in ANGLES if limit.name == "right_knee").min_deg
    loss = losses.joint_angle_loss(bent_knee(limit - 3))
    assert loss.item() == pytest.approx(math.radians(3) ** 2 / len(ANGLES), rel=1e-4)
    unseen = torch.ones(17, dtype=torch.bool)
    unseen[INDEX["right_ankle"]] = False
    assert losses.joint_angle_loss(bent_knee(limit - 3), unseen).item() == 0


def test_a_bone_without_length_costs_nothing_and_has_a_gradient():
    joints = torch.zeros(17, 3, requires_grad=True)
    loss = losses.joint_angle_loss(joints)
    loss.backward()
    assert loss.item() == 0
    assert joints.grad.isfinite().all()


def test_centre_loss_by_hand():
    logits = torch.zeros(1, 1, 3)  # every score is one half
    target = tensor([[[1.0, 0.5, 0.0]]])
    half = math.log(2)
    expected = 0.25 * half + 0.5**4 * 0.25 * half + 0.25 * half
    assert losses.centre_loss(logits, target).item() == pytest.approx(expected)
    empty = losses.centre_loss(logits, torch.zeros_like(target))
    assert empty.item() == pytest.approx(3 * 0.25 * half)


def test_size_loss_reads_only_cells_with_people_and_only_ratios():
    sizes = torch.full((1, 2, 1, 2), 10.0)
    target = tensor([[[[20.0, math.nan]], [[5.0, math.nan]]]])
    mask = tensor([[[True, False]]])
    for scale in (1, 7):
        loss = losses.size_loss(scale * sizes, scale * target, mask)
        assert loss.item() == pytest.approx(math.log(2))


def test_depth_loss_by_hand():
    depth = tensor([[[0.5, 0.0], [1.0, math.log(2)], [9.0, 0.0]]])
    target, mask = tensor([[0.0, 2.0, math.nan]]), tensor([[True, True, False]])
    # Errors 0.5 and 1; e / b + log b is 0.5 and 0.5 + log 2.
    loss = losses.depth_loss(depth, target, mask)
    assert loss.item() == pytest.approx((1.5 + 0.1 * (1 + math.log(2))) / 2)
    with pytest.raises(ValueError, match=r"target has shape \(1, 2\), expected \(1, 3\)"):
        losses.depth_loss(depth, target[:, :2], mask)


def test_presence_loss_by_hand():
    loss = losses.presence_loss(tensor([0.0, math.log(3)]), tensor([1, 0]))
    assert loss.item() == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_gaussian_nll_by_hand_and_is_least_at_the_true_variance():
    error, truth = tensor([2.0, -2.0]), torch.zeros(2)
    nll = [losses.gaussian_nll(error, truth, torch.full((2,), v)).item() for v in (2.0, 4.0, 8.0)]
    assert nll[0] == pytest.approx((math.log(2) + 2) / 2)
    assert nll[1] == min(nll)
    small = losses.gaussian_nll(error / 1000, truth, torch.full((2,), 1e-6))  # as of millimetres
    assert small.item() == pytest.approx((math.log(1e-6) + 4) / 2)


def test_masked_truth_may_be_nan_and_its_prediction_gets_no_gradient():
    mask = torch.ones(CLIP[:3], dtype=torch.bool)
    mask[0, 1, 5] = False
    truth = clip(2)
    truth[0, 1, 5] = torch.nan
    lengths = losses.bone_lengths(truth)
    for loss in (
        lambda joints: losses.pose_loss(joints, truth, mask),
        lambda joints: losses.pose_loss(joints, truth, mask, squared=False),
        lambda joints: losses.velocity_loss(joints, truth, stamps(), mask),
        lambda joints: losses.acceleration_loss(joints, truth, stamps(), mask),
        lambda joints: losses.trajectory_loss(joints, truth, stamps(), mask),
        lambda joints: losses.bone_length_loss(joints, lengths, mask),
        lambda joints: losses.joint_angle_loss(joints, mask),
        lambda joints: losses.gaussian_nll(joints, truth, torch.ones_like(joints), mask),
    ):
        joints = clip(1).requires_grad_()
        loss(joints).backward()
        assert joints.grad.isfinite().all()
        assert (joints.grad[0, 1, 5] == 0).all()
        assert (joints.grad != 0).any()


def test_nothing_to_learn_from_is_zero():
    nothing = torch.zeros(CLIP[:3], dtype=torch.bool)
    joints = clip(1).requires_grad_()
    loss = losses.pose_loss(joints, clip(2) * torch.nan, nothing)
    loss.backward()
    assert loss.item() == 0
    assert (joints.grad == 0).all()


def test_wrong_shapes_are_refused_by_name():
    with pytest.raises(ValueError, match="target has shape"):
        losses.pose_loss(torch.zeros(2, 17, 3), torch.zeros(17, 3))
    with pytest.raises(ValueError, match="mask has shape"):
        losses.masked_mean(torch.zeros(2, 17), torch.ones(3, dtype=torch.bool))


@pytest.mark.parametrize(
    "loss",
    [
        lambda joints: losses.velocity_loss(joints, clip(2, 1, 3, 17, 3), stamps(25.0, 3)[:1]),
        lambda joints: losses.acceleration_loss(joints, clip(2, 1, 3, 17, 3), stamps(25.0, 3)[:1]),
        lambda joints: losses.bone_length_loss(joints, torch.full((1, 3, 16), 0.3).double()),
        lambda joints: losses.joint_angle_loss(joints),
        lambda joints: losses.pose_loss(joints, clip(2, 1, 3, 17, 3), squared=False),
        lambda joints: losses.gaussian_nll(joints, clip(2, 1, 3, 17, 3), joints.square() + 1),
        lambda joints: losses.centre_loss(joints, clip(2, 1, 3, 17, 3).sigmoid()),
    ],
)
def test_gradients_are_those_of_finite_differences(loss):
    assert torch.autograd.gradcheck(loss, clip(4, 1, 3, 17, 3).requires_grad_(), atol=1e-6)
