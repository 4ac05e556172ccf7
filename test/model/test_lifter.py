"""A track lifted frame by frame, or all at once, gives the same poses; and only from its past."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from stsp_model.body import BODY_FRAMES
from stsp_model.lifter import Keypoints, Lifter, TrackState
from stsp_model.losses import bone_lengths
from stsp_model.virtual_camera import virtual_camera

CHANNELS = 4
EPOCH = 1.7e9  # stamps as cameras give them
K = torch.tensor([[500.0, 0, 320], [0, 510.0, 240], [0, 0, 1]])
RESULTS = ("joints", "variance", "confidence", "height", "height_variance", "frames_used")


@pytest.fixture(scope="module")
def lifter():
    """As if trained: the temporal head says something."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lifter = Lifter(CHANNELS).eval()
        nn.init.normal_(lifter.tmp.last.weight, std=0.01)
    return lifter


def track(frames: int, seed: int = 0, features: bool = True) -> tuple[Keypoints, torch.Tensor]:
    """A person who wanders through the image: (T, ...) keypoints and boxes."""
    rng = torch.Generator().manual_seed(seed)
    walk = torch.randn(frames, 1, 2, generator=rng).cumsum(dim=0) * 5 + 250
    joints = walk + torch.randn(17, 2, generator=rng) * 40
    joints = joints + torch.randn(frames, 17, 2, generator=rng) * 3
    joints[torch.rand(frames, 17, generator=rng) < 0.05] = torch.nan
    covariance = torch.diag_embed(torch.rand(frames, 17, 2, generator=rng) * 9 + 1)
    keypoints = Keypoints(
        joints,
        torch.rand(frames, 17, generator=rng),
        covariance,
        torch.randn(frames, 17, CHANNELS, generator=rng) if features else None,
    )
    centre = walk.squeeze(1)
    return keypoints, torch.cat([centre - 90, centre + 100], dim=-1)


def at(keypoints: Keypoints, index) -> Keypoints:
    features = keypoints.features
    return Keypoints(
        keypoints.joints[index],
        keypoints.mass[index],
        keypoints.covariance[index],
        None if features is None else features[index],
    )


@torch.no_grad()
def online(lifter, keypoints, boxes, stamps, frames=None, **options):
    """Frame by frame: results by frame index."""
    state, results = [TrackState.empty()], {}
    for t in range(len(stamps)) if frames is None else frames:
        now = slice(t, t + 1)
        results[t], state = lifter.step(
            at(keypoints, now), boxes[now], K, float(stamps[t]), state, **options
        )
    return results


@torch.no_grad()
def offline(lifter, keypoints, boxes, stamps, **options):
    return lifter.clip(
        at(keypoints, None), boxes[None], K, torch.as_tensor(stamps)[None], **options
    )


def assert_same(results, clip, frames):
    for name in RESULTS:
        for t in frames:
            expected, result = getattr(results[t], name)[0], getattr(clip, name)[0, t]
            torch.testing.assert_close(
                result, expected, atol=1e-5, rtol=1e-5, msg=f"{name} of frame {t}"
            )


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 1000),
    intervals=st.lists(
        st.sampled_from([1 / 120, 1 / 30, 1 / 15, 0.1, 0.3, 0.49, 0.51, 2.0]),
        min_size=1,
        max_size=14,
    ),
    features=st.booleans(),
)
def test_online_equals_offline_at_any_frame_rate_and_over_gaps(lifter, seed, intervals, features):
    stamps = EPOCH + np.cumsum(intervals)
    keypoints, boxes = track(len(stamps), seed, features)
    results = online(lifter, keypoints, boxes, stamps)
    assert_same(results, offline(lifter, keypoints, boxes, stamps), range(len(stamps)))


@settings(max_examples=10, deadline=None)
@given(valid=st.lists(st.booleans(), min_size=2, max_size=16))
def test_frames_left_out_of_a_clip_are_as_if_they_had_not_come(lifter, valid):
    stamps = EPOCH + np.arange(len(valid)) / 10
    keypoints, boxes = track(len(valid))
    frames = np.flatnonzero(valid)
    results = online(lifter, keypoints, boxes, stamps, frames)
    clip = offline(lifter, keypoints, boxes, stamps, valid=torch.tensor([valid]))
    assert_same(results, clip, frames)
    assert clip.joints.isfinite().all()


def test_online_equals_offline_beyond_the_body_window(lifter):
    count = BODY_FRAMES + 8
    stamps = EPOCH + np.arange(count) / 30
    keypoints, boxes = track(count)
    results = online(lifter, keypoints, boxes, stamps)
    assert_same(results, offline(lifter, keypoints, boxes, stamps), range(count))


@torch.no_grad()
def test_time_that_jumps_back_starts_the_track_anew(lifter):
    stamps = np.array([10.0, 10.1, 10.2, 3.0, 3.1])
    keypoints, boxes = track(5)
    results = online(lifter, keypoints, boxes, stamps)
    assert [int(results[t].frames_used) for t in range(5)] == [0, 1, 2, 0, 1]
    assert_same(results, offline(lifter, keypoints, boxes, stamps), range(5))
    fresh = online(lifter, at(keypoints, slice(3, 5)), boxes[3:], stamps[3:])
    for name in RESULTS:
        assert torch.equal(getattr(results[4], name), getattr(fresh[1], name))


def test_frames_used_counts_history_and_stops_at_five(lifter):
    keypoints, boxes = track(9)
    stamps = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1.2, 1.3])
    clip = offline(lifter, keypoints, boxes, stamps)
    assert clip.frames_used[0].tolist() == [0, 1, 2, 3, 4, 5, 5, 0, 1]


def test_a_pause_of_max_gap_and_a_stamp_that_stands_still_end_no_track(lifter):
    keypoints, boxes = track(5)
    stamps = np.array([0, 0.5, 0.5, 1.0, 1.5 + 1e-9])
    results = online(lifter, keypoints, boxes, stamps)
    assert [int(results[t].frames_used) for t in range(5)] == [0, 1, 2, 3, 0]
    assert_same(results, offline(lifter, keypoints, boxes, stamps), range(5))


def test_the_future_does_not_change_the_past(lifter):
    stamps = np.arange(12) / 30
    keypoints, boxes = track(12)
    other, _ = track(12, seed=9)
    mixed = Keypoints(
        *(
            torch.cat([getattr(keypoints, name)[:7], getattr(other, name)[7:]])
            for name in ("joints", "mass", "covariance", "features")
        )
    )
    first = offline(lifter, keypoints, boxes, stamps)
    second = offline(lifter, mixed, boxes, stamps)
    for name in RESULTS:
        assert torch.equal(getattr(first, name)[:, :7], getattr(second, name)[:, :7])
    assert not torch.equal(first.joints[:, 7:], second.joints[:, 7:])


@torch.no_grad()
def test_several_people_in_one_batch_are_as_if_each_were_alone(lifter):
    tracks = [track(6, seed) for seed in range(3)]
    starts = [0, 2, 5]  # people come one after the other
    stamps = np.arange(6) / 30
    states: list[TrackState] = [TrackState.empty() for _ in tracks]
    alone = [
        online(lifter, keypoints, boxes, stamps, range(start, 6))
        for (keypoints, boxes), start in zip(tracks, starts, strict=True)
    ]
    for t in range(6):
        here = [i for i, start in enumerate(starts) if start <= t]
        keypoints = Keypoints(
            *(
                torch.stack([getattr(tracks[i][0], name)[t] for i in here])
                for name in ("joints", "mass", "covariance", "features")
            )
        )
        boxes = torch.stack([tracks[i][1][t] for i in here])
        lifted, after = lifter.step(keypoints, boxes, K, stamps[t], [states[i] for i in here])
        for row, i in enumerate(here):
            states[i] = after[row]
            for name in RESULTS:
                torch.testing.assert_close(
                    getattr(lifted, name)[row], getattr(alone[i][t], name)[0], atol=1e-5, rtol=1e-5
                )


@torch.no_grad()
def test_a_step_leaves_the_state_it_came_from_as_it_was(lifter):
    keypoints, boxes = track(2)
    _, (state,) = lifter.step(at(keypoints, slice(1)), boxes[:1], K, 0.0, [TrackState.empty()])
    before = replace(state, joints=state.joints.clone(), body=state.body.clone())
    first, _ = lifter.step(at(keypoints, slice(1, 2)), boxes[1:], K, 0.1, [state])
    second, _ = lifter.step(at(keypoints, slice(1, 2)), boxes[1:], K, 0.1, [state])
    assert torch.equal(state.joints, before.joints)
    assert torch.equal(state.body, before.body)
    assert torch.equal(first.joints, second.joints)


def test_a_given_height_sizes_the_pose_and_is_certain(lifter):
    keypoints, boxes = track(8)
    stamps = np.arange(8) / 30
    free = offline(lifter, keypoints, boxes, stamps)
    given_height = offline(
        lifter, keypoints, boxes, stamps, subject_height=torch.tensor([1.2], dtype=torch.float64)
    )
    scale = 1.2 / free.height[..., None, None]
    torch.testing.assert_close(given_height.joints, free.joints * scale)
    torch.testing.assert_close(given_height.height, torch.full((1, 8), 1.2))
    assert (given_height.height_variance == 0).all()
    assert (free.height_variance > 0).all()
    # What the unknown height adds to the variance is the height's relative variance.
    relative = free.height_variance / free.height.square()
    expected = given_height.variance / scale.square()
    expected = expected + free.joints.square() * relative[..., None, None]
    torch.testing.assert_close(free.variance, expected)
    unknown = offline(lifter, keypoints, boxes, stamps, subject_height=torch.tensor([torch.nan]))
    assert torch.equal(unknown.joints, free.joints)


def test_bone_lengths_and_height_are_the_running_median_of_single_frames(lifter):
    count = BODY_FRAMES + 5
    keypoints, boxes = track(count)
    clip = offline(lifter, keypoints, boxes, np.arange(count) / 30)
    single = bone_lengths(clip.frame.joints[0]).numpy()
    lengths = (bone_lengths(clip.joints) / clip.height[..., None])[0].numpy()
    for t in range(count):
        past = slice(max(t - BODY_FRAMES + 1, 0), t + 1)
        np.testing.assert_allclose(lengths[t], np.median(single[past], axis=0), atol=1e-5)
        height = np.median(clip.frame.height[0, past])
        np.testing.assert_allclose(clip.height[0, t], height, atol=1e-5)


@torch.no_grad()
def test_poses_are_turned_back_from_the_virtual_camera(lifter):
    keypoints, boxes = track(3)
    boxes = boxes + torch.tensor([250.0, -150, 250, -150])  # well off the image's centre
    seen = []
    hook = lifter.gsr.register_forward_hook(lambda _, __, pose: seen.append(pose))
    frame = offline(lifter, keypoints, boxes, np.arange(3) / 30).frame
    hook.remove()
    rotations = virtual_camera(keypoints.joints, boxes, K)[2].numpy()
    for t, R in enumerate(rotations):
        for j in range(17):
            pose = R @ seen[0].joints[t, j].numpy()
            np.testing.assert_allclose(frame.joints[0, t, j], pose, atol=1e-6)
            variance = R @ np.diag(np.exp(seen[0].log_variance[t, j].numpy())) @ R.T
            found = frame.log_variance[0, t, j].exp()
            np.testing.assert_allclose(found, np.diag(variance), rtol=1e-4)


@torch.no_grad()
def test_gsr_takes_2d_joints_and_their_covariance_in_half_box_sides(lifter):
    keypoints, boxes = track(3)
    boxes = boxes + torch.tensor([0.0, 30, 0, -30])  # 190 by 130 pixels
    seen = []
    hook = lifter.gsr.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs))
    offline(lifter, keypoints, boxes, np.arange(3) / 30)
    hook.remove()
    missing = keypoints.joints.isnan().any(dim=-1)
    assert torch.equal(seen[0].missing, missing)
    expected = virtual_camera(keypoints.joints, boxes, K)[0]
    torch.testing.assert_close(seen[0].joints, torch.where(missing[..., None], 0.0, expected))
    torch.testing.assert_close(seen[0].covariance, keypoints.covariance / 95**2)
    torch.testing.assert_close(seen[0].mass, torch.where(missing, 0.0, keypoints.mass))


def test_missing_joints_are_those_that_are_nan_or_without_mass(lifter):
    keypoints, boxes = track(4)
    stamps = np.arange(4) / 30
    nan, massless = keypoints.joints.clone(), keypoints.mass.clone()
    nan[:, 13] = torch.nan
    massless[:, 13] = 0
    first = offline(lifter, replace(keypoints, joints=nan, mass=massless), boxes, stamps)
    second = offline(lifter, replace(keypoints, mass=massless), boxes, stamps)
    third = offline(lifter, replace(keypoints, joints=nan), boxes, stamps)
    for name in ("joints", "confidence"):
        assert torch.equal(getattr(first, name), getattr(second, name))
        assert torch.equal(getattr(first, name), getattr(third, name))
    assert first.joints.isfinite().all()
    assert not torch.equal(first.joints, offline(lifter, keypoints, boxes, stamps).joints)


def test_what_pictures_tell_counts_where_there_are_pictures(lifter):
    keypoints, boxes = track(3)
    stamps = np.arange(3) / 30
    other = replace(keypoints, features=-keypoints.features)
    poses = [
        offline(lifter, seen, boxes, stamps).frame.joints
        for seen in (keypoints, other, replace(keypoints, features=None))
    ]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert (poses[first] - poses[second]).abs().max() > 1e-4


def test_confidence_falls_with_variance_and_grows_with_mass(lifter):
    keypoints, boxes = track(1)
    sure = offline(lifter, replace(keypoints, mass=torch.full((1, 17), 0.99)), boxes, [0.0])
    unsure = offline(lifter, replace(keypoints, mass=torch.full((1, 17), 0.01)), boxes, [0.0])
    assert sure.confidence.mean() > unsure.confidence.mean()
    with torch.random.fork_rng():
        wide = Lifter(CHANNELS).eval()
    wide.load_state_dict(lifter.state_dict())
    wide.variance_scale.fill_(4.0)
    wide.height_variance_scale.fill_(9.0)
    result, reference = (offline(x, keypoints, boxes, [0.0]) for x in (wide, lifter))
    assert (result.confidence < reference.confidence)[..., 1:].all()
    assert (result.variance > reference.variance)[..., 1:, :].all()
    torch.testing.assert_close(result.height_variance, 9 * reference.height_variance)
    assert torch.equal(result.joints, reference.joints)


def test_confidence_is_by_hand_what_its_calibration_says(lifter):
    calibrated = copy.deepcopy(lifter)
    calibrated.calibration.copy_(torch.tensor([0.7, 0.3, -1.0]))
    keypoints, boxes = track(5)
    mass = keypoints.mass.clamp(0.01, 0.99)
    keypoints = replace(keypoints, joints=keypoints.joints.nan_to_num(250.0), mass=mass)
    clip = offline(calibrated, keypoints, boxes, np.arange(5) / 30)
    mass = mass.double().numpy()
    deviation = np.sqrt(clip.variance[0].double().numpy().mean(axis=-1))
    logit = 0.7 + 0.3 * np.log(mass / (1 - mass)) - np.log(deviation / 0.06)
    np.testing.assert_allclose(clip.confidence[0], 1 / (1 + np.exp(-logit)), rtol=1e-4)


def test_the_pelvis_is_the_origin_and_has_the_least_variance_whatever_the_calibration(lifter):
    calibrated = copy.deepcopy(lifter)
    calibrated.variance_scale.fill_(4.0)
    keypoints, boxes = track(5)
    clip = offline(calibrated, keypoints, boxes, np.arange(5) / 30)
    assert (clip.joints[..., 0, :] == 0).all()
    least = np.exp(-14.0) * clip.height[..., None].numpy() ** 2  # about 1 mm
    np.testing.assert_allclose(clip.variance[..., 0, :], np.tile(least, 3), rtol=1e-5)
    assert (clip.variance[..., 1:, :].amin(dim=(-2, -1)) > clip.variance[..., 0, 0]).all()


def test_gradients_reach_every_weight_and_stay_finite_with_missing_joints(lifter):
    keypoints, boxes = track(6)
    keypoints.joints[2] = torch.nan
    clip = lifter.clip(
        at(keypoints, None), boxes[None], K, torch.arange(6, dtype=torch.float64)[None] / 30
    )
    blind = lifter.clip(
        at(replace(keypoints, features=None), None), boxes[None], K, torch.zeros(1, 6).double()
    )
    total = sum(
        x.joints.square().sum() + x.variance.sum() + x.confidence.sum() for x in (clip, blind)
    )
    lifter.zero_grad()
    total.backward()
    for name, parameter in lifter.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    lifter.zero_grad()


@pytest.mark.parametrize("tau", [0, 1, 9])
@pytest.mark.parametrize("layers", [0, 3])
def test_ablated_lifters_run_online_as_offline_and_use_the_past_they_should(tau, layers):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lifter = Lifter(CHANNELS, tau=tau, layers=layers).eval()
        if lifter.tmp is not None:
            nn.init.normal_(lifter.tmp.last.weight, std=0.01)
    keypoints, boxes = track(14)
    stamps = np.arange(14) / 30
    clip = offline(lifter, keypoints, boxes, stamps)
    assert_same(online(lifter, keypoints, boxes, stamps), clip, range(14))
    assert clip.frames_used[0].tolist() == [min(t, tau) for t in range(14)]
    if tau == 0:
        torch.testing.assert_close(clip.corrected, clip.frame.joints, atol=0, rtol=0)


@torch.no_grad()
def test_without_a_graph_and_context_a_joint_depends_on_its_own_2d_joint_alone():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lifter = Lifter(CHANNELS, context=False, tau=0, layers=0).eval()
    keypoints, boxes = track(1, features=False)
    keypoints = replace(keypoints, joints=keypoints.joints.nan_to_num(300.0))
    moved = keypoints.joints.clone()
    moved[0, 3] += 9
    stamps = np.zeros(1)
    before = offline(lifter, keypoints, boxes, stamps).frame.joints[0, 0]
    after = offline(lifter, replace(keypoints, joints=moved), boxes, stamps).frame.joints[0, 0]
    changed = ((after - before).abs().amax(dim=-1) > 1e-6).tolist()
    assert [j for j, moves in enumerate(changed) if moves] == [3]
