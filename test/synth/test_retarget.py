"""Retargeting: limbs point as captured, soles meet the ground, jumps obey gravity."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from figures import child, child_of, dancer, limb_angles, standing
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from stsp_model.data.bvh import capture_joints
from stsp_model.data.rotations import swing
from stsp_model.skeleton import INDEX
from stsp_model.synth.body import SEGMENT, anatomy, joints, pose, skin
from stsp_model.synth.retarget import (
    LIMBS,
    angle_errors,
    blend,
    captured_leg,
    grounded,
    resample,
    retarget,
    tumbling,
    with_limbs_of,
)
from stsp_model.synth.rigs import CMU_RIG, DEEPMIMIC_RIG

sys.path.append(str(Path(__file__).parents[1] / "data"))
from people import CMU, DEEPMIMIC, needs

directions = st.lists(st.floats(-1, 1), min_size=3, max_size=3).filter(
    lambda v: np.linalg.norm(v) > 0.1
)


def lowest(body, performance):
    """(T,) m, the lowest point of the skin."""
    used = np.unique(anatomy().faces["body"])
    transforms = pose(body, performance.rotations, performance.root)
    return skin(body.vertices[used], anatomy().weights[used], transforms)[..., 2].min(axis=1)


@pytest.mark.parametrize("seed", range(4))
def test_limbs_point_as_captured(seed):
    capture, body = dancer(seed=seed), child(seed)
    performance = retarget(capture, body)
    own = joints(body, pose(body, performance.rotations, performance.root))
    captured = capture_joints(capture) @ CMU_RIG.axes.T
    assert limb_angles(own, captured).max() < 0.03


def test_the_trunk_leans_as_captured():
    errors = angle_errors(dancer(reach=30.0), capture_joints(dancer(reach=30.0)), child())
    assert errors["pelvis-left_hip"].max() < 0.03
    assert errors["pelvis-spine"].mean() < 3
    assert errors["pelvis-spine"].max() < 8


def test_bones_keep_the_childs_own_lengths():
    body = child(5)
    performance = retarget(dancer(seed=9), body)
    own = joints(body, pose(body, performance.rotations, performance.root))
    for a, b in (("left_hip", "left_knee"), ("right_elbow", "right_wrist"), ("nose", "head_top")):
        length = np.linalg.norm(own[:, INDEX[a]] - own[:, INDEX[b]], axis=1)
        assert np.ptp(length) < 1e-5


def test_whoever_stands_stands_on_the_ground():
    for seed in range(3):
        body = child(seed)
        assert np.abs(lowest(body, retarget(standing(np.zeros(60)), body))).max() < 0.003


def test_a_jump_falls_as_on_earth():
    """4 m/s upwards for as long as that lasts; the child is off the ground under the same g."""
    t = np.arange(120) / 60
    heights = np.maximum(0, 3 * (t - 0.7) - 9.81 / 2 * (t - 0.7) ** 2) * (t > 0.7)
    capture, body = standing(heights), child_of(6.0)
    performance = retarget(capture, body)
    scale = body.leg / captured_leg(capture)
    assert performance.stamps[-1] == pytest.approx(t[-1] * np.sqrt(scale))
    assert lowest(body, performance).max() == pytest.approx(scale * heights.max(), abs=0.005)
    flight = slice(48, 72)
    step = np.diff(performance.stamps)[0]
    fall = np.diff(performance.root[flight, 2], 2) / step**2
    assert fall == pytest.approx(np.full(len(fall), -9.81), rel=0.02)


def test_whoever_climbs_for_long_stands_on_what_there_is_no_more():
    heights = np.interp(np.arange(600), [100, 200, 400, 500], [0, 2, 2, 0])
    body = child(2)
    assert np.abs(lowest(body, retarget(standing(heights), body))[270:330]).max() < 0.01


def test_ways_shrink_with_the_leg():
    capture, body = standing(np.zeros(60), ahead=1.5), child_of(5.0)
    performance = retarget(capture, body)
    scale = body.leg / captured_leg(capture)
    assert scale < 0.75
    moved = performance.root[-1] - performance.root[0]
    assert moved == pytest.approx([0, -1.5 * scale, 0], abs=1e-6)  # a body's front is -y


@given(directions, directions)
def test_swing_is_the_turn_between_two_directions(a, b):
    a, b = np.array(a), np.array(b)
    turn = swing(a, b)
    assert turn @ turn.T == pytest.approx(np.eye(3), abs=1e-6)
    assert np.linalg.det(turn) == pytest.approx(1)
    assert turn @ (a / np.linalg.norm(a)) == pytest.approx(b / np.linalg.norm(b), abs=1e-6)
    smallest = np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))
    assert Rotation.from_matrix(turn).magnitude() == pytest.approx(smallest, abs=1e-4)


def test_swing_of_no_direction_turns_nothing():
    for ends in ((np.zeros(3), np.ones(3)), (np.ones(3), np.zeros(3))):
        np.testing.assert_array_equal(swing(*ends), np.eye(3))


def test_swing_turns_round():
    assert swing(np.array([0, 0, 2.0]), np.array([0, 0, -1.0])) @ [0, 0, 1] == pytest.approx(
        [0, 0, -1]
    )


def test_blend_is_slerp():
    ends = Rotation.random(2, rng=np.random.default_rng(0))
    t = np.linspace(0, 1, 7)
    ours = blend(*np.broadcast_arrays(ends[0].as_matrix()[None], ends[1].as_matrix()[None]), t)
    assert ours == pytest.approx(Slerp([0, 1], ends)(t).as_matrix(), abs=1e-9)


def test_resampling_keeps_the_captured_frames():
    performance = retarget(dancer(), child())
    again = resample(performance, performance.stamps)
    assert again.rotations == pytest.approx(performance.rotations, abs=1e-9)
    assert again.root == pytest.approx(performance.root, abs=1e-9)
    between = resample(performance, np.linspace(0, performance.stamps[-1], 91))
    assert np.linalg.det(between.rotations) == pytest.approx(np.ones((91, len(SEGMENT))))
    assert np.abs(np.diff(between.root, axis=0)).max() < 0.03


def test_resampling_beyond_the_end_is_told():
    performance = retarget(dancer(), child())
    with pytest.raises(ValueError, match=r"expected them within 0\.000 to"):
        resample(performance, [performance.stamps[-1] + 0.1])


def test_a_capture_of_another_skeleton_is_told():
    capture = dancer()
    other = replace(capture, names=tuple(n.replace("Shin", "Calf") for n in capture.names))
    with pytest.raises(ValueError, match="lacks the joints lShin, rShin"):
        retarget(other, child())


@pytest.mark.parametrize("limb", LIMBS)
def test_a_limb_moves_as_in_another_motion(limb):
    """In the axes of what it hangs on; all others stay where they were."""
    body = child(2)
    own, other = (retarget(dancer(seed=seed, reach=70.0), body) for seed in (1, 2))
    mixed = with_limbs_of(own, {limb: other})
    trunk, ends, others = {
        "left_arm": ("chest", ("left_elbow", "left_wrist"), ("right_wrist", "left_ankle")),
        "right_arm": ("chest", ("right_elbow", "right_wrist"), ("left_wrist", "right_ankle")),
        "legs": ("hips", ("left_knee", "left_ankle", "right_ankle"), ("left_wrist", "right_wrist")),
    }[limb]

    def seen(performance, names):
        transforms = pose(body, performance.rotations, performance.root)
        base = transforms[:, SEGMENT[trunk]]
        places = joints(body, transforms)[:, [INDEX[name] for name in names]]
        return (places - base[:, None, :, 3]) @ base[..., :3]

    np.testing.assert_allclose(seen(mixed, ends), seen(other, ends), atol=1e-5)
    assert np.abs(seen(mixed, ends) - seen(own, ends)).max() > 0.05
    np.testing.assert_allclose(seen(mixed, others), seen(own, others), atol=1e-5)


def test_somebody_tumbles_about_the_hips():
    body = child(3)
    still = retarget(standing(np.zeros(61)), body)
    seconds = still.stamps[-1]
    turned = tumbling(still, 0.0, np.pi / 2, np.pi / 2 / seconds)
    own = joints(body, pose(body, turned.rotations, turned.root))
    head = own[:, INDEX["head_top"]] - turned.root
    upright = joints(body, pose(body, still.rotations, still.root))[0, INDEX["head_top"]]
    x, y, z = upright - still.root[0]
    # A quarter of a turn about x takes z to -y, and another one -y to -z.
    assert head[0] == pytest.approx([x, -z, y], abs=1e-4)
    assert head[-1] == pytest.approx([x, -y, -z], abs=1e-4)


def test_who_is_turned_over_stays_as_far_above_the_ground():
    body = child(4)
    t = np.arange(120) / 60
    jump = np.maximum(0, 3 * (t - 0.7) - 9.81 / 2 * (t - 0.7) ** 2) * (t > 0.7)
    performance = retarget(standing(jump), body)
    for speed in (0.0, 2.0):
        turned = tumbling(performance, 0.4, 2.0, speed)
        assert np.ptp(lowest(body, turned) - lowest(body, performance)) > 0.1 * speed
        again = grounded(turned, performance, body)
        # Another part of the body becomes the lowest at once, and the correction is smooth.
        off = 0.003 + 0.03 * speed
        assert lowest(body, again) == pytest.approx(lowest(body, performance), abs=off)
        np.testing.assert_array_equal(again.root[:, :2], performance.root[:, :2])


@needs(CMU)
def test_real_clips_reach_the_angle_and_the_ground():
    from stsp_model.data.bvh import BVHDataset

    clips = BVHDataset(CMU, "validation")
    body = child(1)
    for index in (0, len(clips) - 1):
        capture = clips.capture(index)
        errors = angle_errors(capture, clips[index].joints, body)
        limbs = [e.max() for name, e in errors.items() if "knee" in name or "elbow" in name]
        assert len(limbs) == 8
        assert max(limbs) < 0.03
        assert np.percentile(lowest(body, retarget(capture, body)), 5) > -0.03


@needs(DEEPMIMIC)
def test_a_real_cartwheel_goes_over_the_hands():
    from stsp_model.data.deepmimic import DeepMimicDataset

    clips = DeepMimicDataset(DEEPMIMIC, "validation")
    capture, body = clips.capture(0), child(1)
    performance = retarget(capture, body, DEEPMIMIC_RIG)
    own = joints(body, pose(body, performance.rotations, performance.root))
    assert limb_angles(own, clips[0].joints @ DEEPMIMIC_RIG.axes.T).max() < 0.03
    upside_down = own[:, INDEX["pelvis"], 2] - own[:, INDEX["head_top"], 2]
    top = int(upside_down.argmax())
    hands = own[top, [INDEX["left_wrist"], INDEX["right_wrist"]], 2]
    assert upside_down[top] > 0.2
    assert 0 < hands.min() < 0.2
    assert np.abs(lowest(body, performance)).max() < 0.08
