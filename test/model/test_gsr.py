"""Graph attention follows the skeleton, and GSR looks at what is there only."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stsp_model.gsr import (
    GSR,
    HEADS,
    LOG_VARIANCE_RANGE,
    WIDTH,
    GraphAttention,
    Keypoints2D,
    adjacency,
)
from stsp_model.skeleton import BONES, FLIP, INDEX, PARENTS

CHANNELS = 6


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def random_keypoints(count: int = 3) -> Keypoints2D:
    root = torch.randn(count, 17, 2, 2) * 0.05
    return Keypoints2D(
        joints=torch.randn(count, 17, 2) * 0.4,
        extras=torch.tensor([[-1.5, 0.1]]).repeat(count, 1),
        mass=torch.rand(count, 17),
        covariance=root @ root.transpose(-1, -2),
        missing=torch.zeros(count, 17, dtype=torch.bool),
        features=torch.randn(count, 17, CHANNELS),
        seen=torch.ones(count, dtype=torch.bool),
    )


def hops(start: int) -> dict[int, int]:
    """Bones between `start` and every joint."""
    distance = {start: 0}
    while len(distance) < 17:
        for a, b in (*BONES, *(bone[::-1] for bone in BONES)):
            if a in distance:
                distance.setdefault(b, distance[a] + 1)
    return distance


def test_the_graph_links_bones_and_every_joint_to_itself():
    linked = adjacency()
    assert linked.sum() == 17 + 2 * 16
    assert torch.equal(linked, linked.T)
    assert all(linked[j, j] and (j == 0 or linked[j, PARENTS[j]]) for j in range(17))


def test_attention_rows_sum_to_one_and_follow_the_graph():
    weights = GraphAttention().attention(torch.randn(4, 17, WIDTH) * 30)
    assert weights.shape == (4, HEADS, 17, 17)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(4, HEADS, 17))
    assert (weights[..., ~adjacency()] == 0).all()
    assert (weights >= 0).all()


def test_attention_is_that_of_the_equations():
    layer = GraphAttention().double()
    nodes = torch.randn(1, 17, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        result = layer(nodes)[0].numpy()
    W = layer.project.weight.detach().numpy().reshape(HEADS, WIDTH // HEADS, WIDTH)
    a_target, a_source = layer.from_target.detach().numpy(), layer.from_source.detach().numpy()
    h = nodes[0].numpy()
    for head in range(HEADS):
        for i in range(17):
            near = [j for j in range(17) if hops(i)[j] <= 1]
            both = [np.concatenate([W[head] @ h[i], W[head] @ h[j]]) for j in near]
            e = np.array([np.concatenate([a_target[head], a_source[head]]) @ x for x in both])
            e = np.where(e > 0, e, 0.2 * e)
            alpha = np.exp(e) / np.exp(e).sum()
            mixed = sum(w * (W[head] @ h[j]) for w, j in zip(alpha, near, strict=True))
            expected = np.where(mixed > 0, mixed, np.expm1(mixed))
            block = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
            np.testing.assert_allclose(result[i, block], expected, atol=1e-9)


@pytest.mark.parametrize("context", [False, True])
def test_as_printed_a_joint_sees_two_bones_far_and_with_context_the_whole_pose(context):
    network = GSR(CHANNELS, context).eval()
    keypoints = replace(random_keypoints(1), seen=torch.zeros(1, dtype=torch.bool))
    wrist = INDEX["left_wrist"]
    moved = replace(keypoints, joints=keypoints.joints.clone())
    moved.joints[0, wrist] += 0.5
    with torch.no_grad():
        change = (network(moved).nodes - network(keypoints).nodes)[0].abs().amax(dim=-1)
    distance = hops(wrist)
    for joint in range(17):
        assert (change[joint] > 0) == (context or distance[joint] <= 2)


def test_the_pose_is_relative_to_the_pelvis_and_sized_within_bounds():
    network = GSR(CHANNELS).eval()
    with torch.no_grad():
        pose = network(random_keypoints(5))
    assert (pose.joints[:, 0] == 0).all()
    assert pose.joints.shape == pose.log_variance.shape == (5, 17, 3)
    assert ((pose.height > 0.45) & (pose.height < 2.25)).all()
    assert pose.height_log_variance.shape == (5,)


def test_what_a_missing_joint_holds_does_not_matter_but_that_it_is_missing_does():
    network = GSR(CHANNELS).eval()
    keypoints = random_keypoints(1)
    missing = keypoints.missing.clone()
    missing[0, 3] = True
    first = replace(keypoints, missing=missing)
    second = Keypoints2D(
        *(getattr(first, name).clone() for name in Keypoints2D.__dataclass_fields__)
    )
    second.joints[0, 3] = 7
    second.mass[0, 3] = 1
    second.covariance[0, 3] = torch.nan
    second.features[0, 3] = torch.randn(CHANNELS)
    with torch.no_grad():
        assert torch.equal(network(first).joints, network(second).joints)
        assert not torch.equal(network(first).joints, network(keypoints).joints)


def test_visual_features_count_only_where_there_are_any():
    network = GSR(CHANNELS).eval()
    keypoints = random_keypoints(2)
    blind = replace(keypoints, seen=torch.tensor([True, False]))
    other = replace(blind, features=blind.features + torch.randn(17, CHANNELS))
    with torch.no_grad():
        change = (network(blind).joints - network(other).joints).abs().amax(dim=(1, 2))
    assert change[0] > 0
    assert change[1] == 0


def test_what_is_claimed_stays_within_bounds_whatever_the_weights_say():
    network = GSR(CHANNELS).eval()
    keypoints = random_keypoints(2)
    for sign, end in ((-1, 0), (1, 1)):
        with torch.no_grad():
            network.readout_bias[:, 3:] = sign * 100.0
            network.stature[-1].bias[1] = sign * 100.0
            network.depth.readout.bias[1] = sign * 100.0
            pose = network(keypoints)
        assert (pose.log_variance == LOG_VARIANCE_RANGE[end]).all()
        assert (pose.height_log_variance == LOG_VARIANCE_RANGE[end]).all()
        assert (pose.depth[..., 1] == (-6.0, 2.0)[end]).all()
    exact = replace(keypoints, covariance=torch.zeros(2, 17, 2, 2))
    with torch.no_grad():
        assert network(exact).joints.isfinite().all()


def test_people_of_a_batch_do_not_see_each_other():
    network = GSR(CHANNELS)  # in training mode, too
    keypoints = random_keypoints(3)
    alone = Keypoints2D(
        *(getattr(keypoints, name)[1:2] for name in Keypoints2D.__dataclass_fields__)
    )
    with torch.no_grad():
        torch.testing.assert_close(network(alone).joints, network(keypoints).joints[1:2])


def in_a_mirror(keypoints: Keypoints2D) -> Keypoints2D:
    across = keypoints.covariance.clone()
    across[..., 0, 1] *= -1
    across[..., 1, 0] *= -1
    joints = keypoints.joints * torch.tensor([-1.0, 1.0])
    swapped = {
        name: value[:, list(FLIP)]
        for name, value in (
            ("joints", joints),
            ("mass", keypoints.mass),
            ("covariance", across),
            ("missing", keypoints.missing),
            ("features", keypoints.features),
        )
    }
    return replace(keypoints, **swapped)


def test_in_use_joints_in_a_mirror_give_the_pose_in_a_mirror():
    network = GSR(CHANNELS)
    keypoints = replace(random_keypoints(4), seen=torch.zeros(4, dtype=torch.bool))
    keypoints.missing[1, 3] = True
    with torch.no_grad():
        learning = network(in_a_mirror(keypoints)).joints, network(keypoints).joints
        network.eval()
        pose, twin = network(keypoints), network(in_a_mirror(keypoints))
    back = torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(twin.joints, pose.joints[:, list(FLIP)] * back)
    torch.testing.assert_close(twin.log_variance, pose.log_variance[:, list(FLIP)])
    torch.testing.assert_close(twin.height, pose.height)
    assert (learning[0] - learning[1][:, list(FLIP)] * back).abs().max() > 0.01
    torch.testing.assert_close(pose.joints, (learning[1] + learning[0][:, list(FLIP)] * back) / 2)


class Told(torch.nn.Module):
    """Takes the first two features for depth and log deviation: such features can be mirrored."""

    def forward(self, keypoints: Keypoints2D) -> torch.Tensor:
        return keypoints.features[..., :2]


def test_in_use_depths_are_mirrored_along():
    network = GSR(CHANNELS).eval()
    network.depth = Told()
    keypoints = random_keypoints(2)
    with torch.no_grad():
        pose, twin = network(keypoints), network(in_a_mirror(keypoints))
        other = network(replace(keypoints, features=keypoints.features + 1))
    back = torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(twin.joints, pose.joints[:, list(FLIP)] * back)
    assert (other.joints - pose.joints).abs().max() > 1e-4


def test_depths_are_relative_to_the_pelvis_whatever_is_seen():
    network = GSR(CHANNELS)
    with torch.no_grad():
        depth = network(random_keypoints(3)).depth
    assert depth.shape == (3, 17, 2)
    assert (depth[:, 0, 0] == 0).all()
    assert depth[:, 1:, 0].std() > 0
