"""Clips for the lifter: bodies, motions and cameras that agree with each other."""

from __future__ import annotations

from dataclasses import replace

import minisets
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from stsp_model.data.bvh import BVHDataset
from stsp_model.data.errors import DataError
from stsp_model.data.samples import Motion
from stsp_model.gsr import FramePose
from stsp_model.lifter import Lifted
from stsp_model.losses import bone_lengths
from stsp_model.network import STSPNet
from stsp_model.skeleton import BONES, INDEX, JOINT_COUNT, JOINTS
from stsp_model.training.bodies import children
from stsp_model.training.config_file import load_config
from stsp_model.training.lift_batches import LiftBatches
from stsp_model.training.motions import (
    PARTS,
    TURNS,
    bent,
    between,
    collect,
    perform,
    with_part_of,
)
from stsp_model.training.stage_lift import LiftLosses, lift_losses

QUIET = replace(
    minisets.lift_config().noise, deviation=(0.0,), outlier_rate=(0.0,), miss_rate=(0.0,),
    swap_rate=0.0, given_share=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def captures(cmu):
    return BVHDataset(cmu.removeprefix("bvh:"), "train")


@pytest.fixture(scope="module")
def motions(captures):
    return collect([captures], children().shoulder.mean(axis=0))


@pytest.fixture(scope="module")
def exact(motions):
    config = replace(minisets.lift_config(batch=32), noise=QUIET)
    config = replace(config, clips=replace(config.clips, frames=12))
    return LiftBatches(config, motions, children(), "test", 32)


def test_bodies_are_children_and_their_parts_add_up_to_their_height():
    bodies = children()
    assert 0.9 < bodies.height.min() < bodies.height.max() < 1.85
    bone = {JOINTS[child]: i for i, (_, child) in enumerate(BONES)}
    upright = bodies.lengths[:, [bone[n] for n in ("left_knee", "left_ankle", "spine", "thorax")]]
    total = upright.sum(axis=1) + (bodies.neck + bodies.head_top)[:, 1]
    # What is left is the foot, by which the ankle is above the floor.
    assert 0.02 < (1 - total).min() < (1 - total).max() < 0.12
    smallest, tallest = bodies.height < 1.1, bodies.height > 1.5
    assert bodies.head_top[smallest, 1].mean() > bodies.head_top[tallest, 1].mean()


def test_bodies_of_the_validation_are_not_trained_on():
    trained, kept = (set(map(tuple, children(v).lengths)) for v in (False, True))
    assert len(kept) == 100
    assert not trained & kept


@given(st.integers(0, 1000))
def test_varied_bodies_keep_their_sides_alike_and_their_height_adds_up(seed):
    bodies = children()[:5]
    factors = np.exp(0.1 * np.random.default_rng(seed).standard_normal((5, 7)))
    varied = bodies.varied(factors)
    bone = {JOINTS[child]: i for i, (_, child) in enumerate(BONES)}
    for name, i in bone.items():
        if name.startswith("left_"):
            other = bone[name.replace("left_", "right_")]
            np.testing.assert_allclose(varied.lengths[:, i], varied.lengths[:, other], rtol=1e-3)
    upright = [bone[n] for n in ("left_knee", "left_ankle", "spine", "thorax")]

    def foot(of):
        return of.height * (1 - of.lengths[:, upright].sum(axis=1) - (of.neck + of.head_top)[:, 1])

    np.testing.assert_allclose(foot(varied), foot(bodies), rtol=1e-6)


def test_limbs_point_where_the_capture_s_do(captures, motions):
    bodies = children()[:1]
    frames = np.arange(20)[None]
    joints, _ = perform(between(motions, frames, np.zeros((1, 20))), bodies)
    captured = captures[0].joints[:20]
    for parent, child in BONES:
        name = JOINTS[child]
        if not name.startswith(("left", "right")) or "shoulder" in name:
            continue
        a, b = joints[0, :, child] - joints[0, :, parent], captured[:, child] - captured[:, parent]
        a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
        np.testing.assert_allclose(a, b, atol=1e-3)
    # The head looks ahead (z), its top is above the neck.
    nose = joints[0, 0, INDEX["nose"]] - joints[0, 0, INDEX["thorax"]]
    top = joints[0, 0, INDEX["head_top"]] - joints[0, 0, INDEX["thorax"]]
    assert nose[2] > 0.05
    assert top[1] > 0.1 > abs(top[0])


@pytest.mark.parametrize("part", list(PARTS))
def test_a_part_of_another_motion_moves_as_there_relative_to_the_trunk(motions, part):
    moved = {
        "left_arm": ("left_elbow", "left_wrist"),
        "right_arm": ("right_elbow", "right_wrist"),
        "legs": ("left_knee", "left_ankle", "right_knee", "right_ankle"),
        "head": ("nose", "head_top"),
    }[part]
    still = np.zeros((2, 6))
    frames = np.arange(6)[None] + np.array([[10], [30]])
    own, other = between(motions, frames, still), between(motions, frames[:1] + 215, still[:1])
    # The other one has turned away from the camera and nods.
    away = np.array([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]], "f4")
    nod = np.array([[1, 0, 0], [0, 0.8, 0.6], [0, -0.6, 0.8]], "f4")
    other = replace(
        other,
        directions=other.directions @ away,
        chest=other.chest @ away,
        head=nod @ other.head @ away,
    )
    mixed = with_part_of(part, own, other, np.array([True, False]))
    got, mine, theirs = (
        perform(moments, children()[: len(moments.head)])[0] for moments in (mixed, own, other)
    )
    at = [INDEX[name] for name in moved]
    rest = [i for i in range(JOINT_COUNT) if i not in at]
    # How each bone stands to the trunk and the line through the shoulders or hips.
    trunk = [("pelvis", "thorax"), ("left_hip", "right_hip")]
    if part != "legs":
        trunk[1] = ("left_shoulder", "right_shoulder")
    parents = {child: parent for parent, child in BONES}

    def stands(joints):
        ways = joints[0][:, at] - joints[0][:, [parents[i] for i in at]]
        if part == "head":  # the neck is shared between head and chest
            ways = ways[:, 1:] - ways[:, :1]
        axes = [joints[0][:, INDEX[b]] - joints[0][:, INDEX[a]] for a, b in trunk]
        axes = np.stack([a / np.linalg.norm(a, axis=-1, keepdims=True) for a in axes], axis=1)
        return np.einsum("tjx,tax->tja", ways, axes)

    np.testing.assert_allclose(stands(got), stands(theirs), atol=1e-4)
    assert np.abs(stands(got) - stands(mine)).max() > 0.003
    np.testing.assert_allclose(got[0][:, rest], mine[0][:, rest], atol=1e-6)
    np.testing.assert_array_equal(got[1], mine[1])


ARM, LEG = ("elbow", "wrist"), ("knee", "ankle")
TURNED = (
    JOINTS[1:],
    [n for n in JOINTS[1:] if not n.endswith(("hip", "knee", "ankle"))],
    ["nose", "head_top"],
    *[[f"{side}_{n}" for n in names] for pair in (ARM, LEG) for side in ("left", "right")
      for names in (pair, pair[1:])],
)  # fmt: skip


@pytest.mark.parametrize("turn", range(TURNS))
def test_a_turn_moves_what_hangs_on_it_in_the_axes_of_what_that_hangs_on(motions, turn):
    moments = between(motions, np.arange(40)[None] + 30, np.zeros((1, 40)))
    vector = np.array([0.3, -0.2, 0.4])
    turns = np.zeros((1, TURNS, 3))
    body = children()[:1]
    np.testing.assert_allclose(
        perform(bent(moments, turns), body)[0], perform(moments, body)[0], atol=1e-6
    )
    turns[:, turn] = vector
    got, mine = (perform(m, body)[0][0] for m in (bent(moments, turns), moments))
    at = [INDEX[name] for name in TURNED[turn]]
    rest = [i for i in range(JOINT_COUNT) if i not in at]
    np.testing.assert_allclose(got[:, rest], mine[:, rest], atol=1e-6)
    assert (np.linalg.norm(got - mine, axis=-1).max(axis=0)[at] > 0.01).all()
    if turn == 2:
        return  # the neck goes half of the head's way
    root = {child: parent for parent, child in BONES}[at[0]] if turn > 2 else 0
    axes = np.eye(3)[None].repeat(40, axis=0)
    if turn in (1, 7, 8, 9, 10):
        left, up = (
            mine[:, INDEX[b]] - mine[:, INDEX[a]]
            for a, b in (("right_hip", "left_hip"), ("pelvis", "spine"))
        )
        up /= np.linalg.norm(up, axis=-1, keepdims=True)
        forwards = np.cross(left, up)
        forwards /= np.linalg.norm(forwards, axis=-1, keepdims=True)
        axes = np.stack([np.cross(up, forwards), up, forwards], axis=-2)
    elif turn:
        axes = moments.chest[0] / np.linalg.norm(moments.chest[0], axis=-1, keepdims=True)
    rotation = Rotation.from_rotvec(vector).as_matrix()
    for joint in at:
        before, after = (
            np.einsum("tij,tj->ti", axes, pose[:, joint] - pose[:, root]) for pose in (mine, got)
        )
        np.testing.assert_allclose(after, before @ rotation.T, atol=1e-4)


def test_clips_tumble_as_often_as_they_should(motions):
    config = replace(minisets.lift_config(batch=200), noise=QUIET)

    def upright(share):
        clips = replace(config.clips, frames=1, tumbled=share, mixed=0.0)
        batch = LiftBatches(replace(config, clips=clips), motions, children(), "test", 200).batch(
            0, 0, 1
        )
        trunk = batch.target[:, 0, INDEX["thorax"], 1]  # y down
        return (trunk < 0).float().mean()

    assert upright(0.0) > 0.97
    assert upright(1.0) < 0.7
    assert 0.75 < upright(0.3) < 0.95


def test_motions_stand_upright_whatever_their_axes(captures):
    """The same take with z up gives the same directions."""
    motion = captures[0]
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # y up to z up
    turned = replace(motion, joints=motion.joints @ turn.T, up=turn @ motion.up)
    shoulder = np.array([0.1, -0.05, 0])
    first, second = collect([[motion]], shoulder), collect([[turned]], shoulder)
    # Which way along the ground is ahead is any choice; what is up is not.
    np.testing.assert_allclose(first.directions[..., 1], second.directions[..., 1], atol=1e-5)
    np.testing.assert_allclose(first.pelvis[:, 1], second.pelvis[:, 1], atol=1e-5)


def test_without_a_known_up_the_trunk_is_upright_on_average(captures):
    """A camera that hangs over by 40 degrees, and a set that does not say so."""
    motion = captures[0]
    slope = np.radians(40)
    tilt = np.array(
        [[1, 0, 0], [0, np.cos(slope), -np.sin(slope)], [0, np.sin(slope), np.cos(slope)]]
    )
    tilted = replace(motion, joints=motion.joints @ tilt.T, up=np.full(3, np.nan))
    found = collect([[tilted]], np.array([0.1, -0.05, 0]))
    bone = BONES.index((INDEX["spine"], INDEX["thorax"]))
    np.testing.assert_allclose(found.directions[:, bone].mean(axis=0), [0, 1, 0], atol=0.05)


def test_motions_without_limbs_are_left_out(captures):
    motion = captures[0]
    gone = motion.joints.copy()
    gone[40:60, INDEX["left_wrist"]] = np.nan
    found = collect([[replace(motion, joints=gone)]], np.array([0.1, 0, 0]))
    assert [int(n) for n in np.diff(found.starts)] == [40, 60]
    lost = replace(motion, joints=np.full_like(motion.joints, np.nan), up=np.full(3, np.nan))
    with pytest.raises(DataError, match="no motion has all limbs"):
        collect([[lost]], np.array([0.1, 0, 0]))


def test_clips_are_what_their_cameras_see(exact):
    batch = exact.batch(0, 0, 1)
    # The pelvis is where the 2D joints agree with the 3D ones: project from the found root.
    K = batch.K[:, None]
    solid = batch.target.double()
    rays = (batch.joints.double() - K[..., :2, 2].unsqueeze(2)) / K[..., 0, 0, None, None]
    # x + tx = a (z + tz), y + ty = b (z + tz), solved for t by least squares.
    rows = torch.zeros(*rays.shape, 3, dtype=torch.float64)
    rows[..., 0, 0] = rows[..., 1, 1] = 1
    rows[..., 2] = -rays
    goal = rays * solid[..., 2:] - solid[..., :2]
    seen = batch.mass > 0
    checked = 0
    for b, t in torch.nonzero(seen.sum(dim=-1) >= 6).tolist():
        A, y = rows[b, t, seen[b, t]].reshape(-1, 3), goal[b, t, seen[b, t]].reshape(-1)
        root = torch.linalg.lstsq(A, y[:, None]).solution[:, 0]
        assert root[2] > 0.3
        assert float((A @ root - y).abs().max()) < 1e-4
        checked += 1
    assert checked > 200


def test_a_body_keeps_its_bones_through_a_clip(exact):
    lengths = bone_lengths(exact.batch(1, 0, 1).target)
    assert float(lengths.std(dim=1).max()) < 1e-4


def test_boxes_hold_the_joints_and_stamps_rise(exact):
    batch = exact.batch(2, 0, 1)
    assert (batch.stamps.diff(dim=1) > 0).all()
    assert batch.stamps.dtype == torch.float64
    sides = batch.boxes[..., 2:] - batch.boxes[..., :2]
    assert (sides > 0).all()
    slack = 0.3 * sides.amax(dim=-1)[..., None]
    seen = batch.mass > 0
    for axis in (0, 1):
        low, high = batch.boxes[..., axis, None] - slack, batch.boxes[..., axis + 2, None] + slack
        place = batch.joints[..., axis]
        assert ((place > low) & (place < high))[seen].all()
    assert torch.isnan(batch.joints[~seen]).all()


def test_parts_make_up_the_batch(exact):
    whole = exact.batch(3, 0, 1)
    halves = [exact.batch(3, part, 2) for part in (0, 1)]
    for of_whole, *of_halves in zip(whole, *halves, strict=True):
        for part, half in enumerate(of_halves):
            torch.testing.assert_close(half, of_whole[part::2], equal_nan=True)


def as_if_true(batch):
    """A lifter that says the truth, with a deviation of its own."""
    variance = torch.full_like(batch.target, -8.0)
    height = batch.height[:, None].expand(batch.stamps.shape)
    log_height_variance = torch.full_like(height, -4.0)
    frame = FramePose(
        batch.target, variance, batch.joints, batch.target, height, log_height_variance
    )
    nothing = torch.zeros(())
    return Lifted(
        batch.target, nothing, nothing, nothing, nothing, nothing, frame, batch.target, variance
    )


def losses_of_truth(batch, settings):
    known = batch.valid.unsqueeze(-1).expand(batch.mass.shape)
    return lift_losses(as_if_true(batch), batch.target, batch.height, known, batch.stamps, settings)


def test_the_truth_has_no_loss_but_that_of_its_variance(exact):
    losses = losses_of_truth(exact.batch(4, 0, 1), exact.config.weights)
    for name in ("frame", "corrected", "bone", "velocity", "acceleration"):
        assert float(losses[name]) == pytest.approx(0, abs=1e-9)
    assert float(losses["likelihood"]) == pytest.approx(-4)  # half of its logarithm
    assert float(losses["height"]) == pytest.approx(-2)


def test_as_printed_true_motion_has_a_loss(exact):
    """And micro-batches weigh by what the printed forms are means over."""
    literal = load_config("edge", "lift", changes=["weights.literal=true"]).weights
    batch = exact.batch(4, 0, 1)
    valid = batch.valid.clone()
    valid[:, 1] = False  # so that accelerations are fewer than velocities by more than a frame
    batch = batch._replace(valid=valid)
    losses = losses_of_truth(batch, literal)
    assert float(losses["velocity"]) == float(losses["acceleration"]) > 1e-6
    count = LiftLosses(STSPNet(minisets.TINY), literal).counts(batch)
    assert int(count["velocity"]) == int(count["acceleration"])
    usual = LiftLosses(STSPNet(minisets.TINY), exact.config.weights).counts(batch)
    assert int(usual["velocity"]) > int(count["velocity"])


def test_a_motion_of_another_set_is_taken_too(captures):
    """Sets with a nose and a top of the head, such as Human3.6M, turn the head by them."""
    joints = captures[0].joints.copy()
    thorax = joints[:, INDEX["thorax"]]
    joints[:, INDEX["nose"]] = thorax + np.array([0, 0.1, 0.1])
    joints[:, INDEX["head_top"]] = thorax + np.array([0, 0.25, 0])
    own = captures[0]
    motion = Motion(joints, own.stamps, "x", "s", "a", own.up)
    found = collect([[motion]], np.array([0.1, 0, 0]))
    np.testing.assert_allclose(found.head[0, 1], (0, 1, 0), atol=1e-5)  # up
    np.testing.assert_allclose(found.head[0, 2], (0, 0, 1), atol=1e-5)  # ahead
