"""Clips of rendered video: what the network is given agrees with the truth it is held to."""

from __future__ import annotations

from dataclasses import replace

import cv2
import minisets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stsp_model.camera import Camera
from stsp_model.crop import BORDER_BGR, to_image
from stsp_model.data.errors import DataError
from stsp_model.data.shards import load_clip
from stsp_model.network import STSPNet
from stsp_model.skeleton import INDEX
from stsp_model.training.augment import crop_matrix, warp_turned
from stsp_model.training.datasets import TRAINED, open_clips
from stsp_model.training.finetune_batches import (
    FinetuneBatches,
    follow,
    mirrored,
    observed,
    true_depths,
    turned,
)
from stsp_model.training.stage_finetune import finetune_stage


@pytest.fixture(scope="module")
def clip(films):
    return load_clip(f"{films[0].removeprefix('synth:')}/clip0.safetensors")


def test_crops_and_truth_agree(clip):
    batch = observed(follow(clip, 0, np.arange(1, 7)), 64)
    found = to_image(batch.joints, batch.crop_boxes.unsqueeze(2), torch.tensor([64.0, 64.0]))
    solid = batch.target * batch.height[:, None, None, None]
    np.testing.assert_allclose(found[0], clip.joints_2d[1:7, 0], atol=1e-3)
    truth = clip.joints_3d[1:7, 0]
    np.testing.assert_allclose(solid[0], truth - truth[:, :1], atol=1e-5)
    np.testing.assert_allclose(batch.stamps[0], clip.stamps[1:7] - clip.stamps[1])
    assert batch.valid.all()
    assert batch.saliency.shape == (1, 6, 1, 16, 16)


def test_true_depths_are_those_of_the_scene_by_what_a_half_box_side_measures_there(clip):
    batch = observed(follow(clip, 0, np.arange(6)), 64)
    depths = true_depths(batch)[0].numpy()
    for t in range(6):
        box, K, joints = batch.boxes[0, t].numpy(), clip.camera.K, clip.joints_3d[t, 0]
        centre = np.append((box[:2] + box[2:]) / 2 - K[:2, 2], K[0, 0])  # fx is fy in these
        along = joints @ (centre / np.linalg.norm(centre))
        half = (box[2:] - box[:2]).max() / 2 * along.mean() / np.linalg.norm(centre)
        np.testing.assert_allclose(depths[t], (along - along[0]) / half, atol=0.05)
        assert np.ptp(depths[t]) > 0.1


def test_true_depths_stay_within_reason_where_what_is_labelled_tells_no_scale(clip):
    batch = observed(follow(clip, 0, np.arange(2)), 64)
    left, right, target = INDEX["left_hip"], INDEX["right_hip"], batch.target.clone()
    target[..., right, :] = target[..., left, :]  # apart in the picture, and at one place in space
    only = torch.zeros_like(batch.labelled)
    only[..., [left, right]] = True
    depths = true_depths(batch._replace(target=target, labelled=only))
    free = true_depths(batch)
    assert (depths.abs().amax(dim=-1) == 4).all()
    others = [j for j in range(17) if j not in (0, left, right) and free[..., j].abs().min() > 0.1]
    assert torch.equal(depths[..., others], 4 * free[..., others].sign())


def test_the_first_frame_has_no_previous_one(clip):
    batch = observed(follow(clip, 0, np.arange(4)), 64)
    assert not batch.saliency[0, 0].any()


def test_each_frame_s_previous_one_is_the_one_before_whenever_that_was(clip):
    track = follow(clip, 0, np.array([1, 3, 6]))
    np.testing.assert_allclose(track.gaps, clip.stamps[[1, 3, 6]] - clip.stamps[[0, 1, 3]])
    for found, frame in zip(track.previous, (0, 1, 3), strict=True):
        np.testing.assert_array_equal(found, clip.image(frame))


def test_boxes_are_a_little_off_and_looks_changed_alike_in_all_frames(clip):
    look = minisets.finetune_config().augmentation
    still = replace(
        clip,
        jpegs=clip.jpegs[:1] * len(clip.jpegs),
        boxes=np.repeat(clip.boxes[:1], len(clip.boxes), axis=0),
    )
    sides, places = [], []
    for seed in range(12):
        batch = observed(follow(still, 0, np.arange(4)), 64, np.random.default_rng(seed), look)
        for part in (batch.images, batch.boxes, batch.crop_boxes):
            assert torch.equal(part, part[:, :1].expand(part.shape))
        box = batch.boxes[0, 0]
        sides.append((box[2:] - box[:2]).numpy() / (clip.boxes[0, 0, 2:] - clip.boxes[0, 0, :2]))
        places.append((box[2:] + box[:2]).numpy() / 2)
    np.testing.assert_allclose(*np.transpose(sides), rtol=1e-4)  # as wide as it was high
    assert np.ptp(sides) > 0.1
    assert (np.ptp(places, axis=0) > 1).all()


def test_in_a_mirror_the_truth_is_mirrored_with_the_picture(clip):
    frames = np.arange(4)
    track = follow(clip, 0, frames)
    mirror = mirrored(track)
    K, solid = mirror.K, mirror.joints_3d
    flat = solid[..., :2] / solid[..., 2:] * K[[0, 1], [0, 1]] + K[:2, 2]
    np.testing.assert_allclose(flat, mirror.joints_2d, atol=1e-3)
    np.testing.assert_array_equal(mirror.images[0], track.images[0][:, ::-1])
    left, right = INDEX["left_wrist"], INDEX["right_wrist"]
    hidden = track.visible.copy()
    hidden[1, left] = False
    seen_there = mirrored(replace(track, visible=hidden)).visible
    assert np.argwhere(~seen_there).tolist() == [[1, right]]
    again = mirrored(mirror)
    np.testing.assert_allclose(again.joints_2d, track.joints_2d)
    np.testing.assert_allclose(again.joints_3d, track.joints_3d)
    np.testing.assert_allclose(again.boxes, track.boxes)


def seen(K, solid):
    """Pixels of points (..., 3)."""
    return solid[..., :2] / solid[..., 2:] * K[[0, 1], [0, 1]] + K[:2, 2]


ANGLES = st.floats(-np.pi, np.pi)


@settings(max_examples=30)
@given(ANGLES, st.booleans(), st.floats(0.6, 1.4))
def test_before_a_turned_camera_truth_and_2d_joints_agree(films, angle, mirror, squeeze):
    """Also where pixels are not square and the person is far off the axis."""
    clip = load_clip(f"{films[0].removeprefix('synth:')}/clip0.safetensors")
    K = clip.camera.K.copy()
    K[1, 1] *= squeeze
    K[:2, 2] -= 60, 25
    solid = clip.joints_3d[:, 0]
    flat = (clip.joints_2d[:, 0] - K[:2, 2]) / K[[0, 1], [0, 1]]
    solid = np.concatenate([flat * solid[..., 2:], solid[..., 2:]], axis=-1)[:, None]
    camera = Camera(K, clip.camera.width, clip.camera.height)
    track = follow(replace(clip, camera=camera, joints_3d=solid), 0, np.arange(1, 5))
    track = mirrored(track) if mirror else track
    turn = turned(track, angle)
    np.testing.assert_array_equal(turn.K, track.K)
    np.testing.assert_allclose(seen(turn.K, turn.joints_3d), turn.joints_2d, atol=1e-6)
    # The body is the same, and as far away; the middle of its boxes stays in its place.
    lengths = []
    for points in (turn.joints_3d, track.joints_3d):
        lengths.append(np.linalg.norm(points, axis=-1))
        lengths.append(np.linalg.norm(points[:, 1:] - points[:, :1], axis=-1))
    np.testing.assert_allclose(lengths[0], lengths[2])
    np.testing.assert_allclose(lengths[1], lengths[3])
    middle = (track.boxes[:, :2] + track.boxes[:, 2:]).mean(axis=0) / 2
    place = turn.turn @ np.append(middle, 1)
    np.testing.assert_allclose(place[:2] / place[2], middle, atol=1e-6)
    # And what the network gets of it agrees as well.
    batch = observed(turn, 64)
    found = to_image(batch.joints, batch.crop_boxes.unsqueeze(2), torch.tensor([64.0, 64.0]))
    known = batch.labelled[0].numpy()
    np.testing.assert_allclose(found[0].numpy()[known], turn.joints_2d[known], atol=1e-2)
    target = batch.target[0] * batch.height[0]
    np.testing.assert_allclose(target, turn.joints_3d - turn.joints_3d[:, :1], atol=1e-5)
    depths, before = (true_depths(observed(x, 64))[0].numpy() for x in (turn, track))
    np.testing.assert_allclose(depths, before, atol=0.35)


def test_a_turn_goes_the_way_it_says_and_back(clip):
    track = follow(clip, 0, np.arange(4))
    # The axis goes nearly through the middle of this camera's picture.
    quarter = turned(track, np.pi / 2)
    way = track.joints_2d[:, 1:] - track.joints_2d[:, :1]
    clockwise = np.stack([-way[..., 1], way[..., 0]], axis=-1)  # from right to down
    turned_way = quarter.joints_2d[:, 1:] - quarter.joints_2d[:, :1]
    assert np.abs(turned_way - clockwise).max() < 0.05 * np.abs(way).max()
    back = quarter.turn @ turned(track, -np.pi / 2).turn
    np.testing.assert_allclose(back / back[2, 2], np.eye(3), atol=1e-9)


@settings(max_examples=30)
@given(ANGLES)
def test_turned_joints_lie_on_their_pixels(films, angle):
    """A bright dot at one joint is found where that joint is said to be, in every frame."""
    clip = load_clip(f"{films[0].removeprefix('synth:')}/clip0.safetensors")
    joint = INDEX["left_ankle"]
    jpegs = []
    for place in clip.joints_2d[:, 0, joint]:
        image = np.zeros((minisets.SIDE, minisets.SIDE, 3), np.uint8)
        cv2.circle(image, np.rint(place).astype(int).tolist(), 2, (255, 255, 255), -1)
        jpegs.append(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes())
    batch = observed(turned(follow(replace(clip, jpegs=jpegs), 0, np.arange(1, 5)), angle), 96)
    boxes, crop_boxes = batch.boxes[0], batch.crop_boxes[0]
    assert ((boxes[:, :2] > crop_boxes[:, :2]) & (boxes[:, 2:] < crop_boxes[:, 2:])).all()
    for image, joints, known in zip(
        batch.images[0].numpy(), batch.joints[0], batch.labelled[0], strict=True
    ):
        assert known[joint]
        bright = np.argwhere(image.min(axis=-1) > 160)
        np.testing.assert_allclose(bright[:, ::-1].mean(axis=0), joints[joint], atol=1.5)


def test_of_a_turned_picture_only_what_it_holds_is_labelled_and_its_box_holds_that(clip):
    joints = clip.joints_2d.copy()
    joints[2, 0, 7] = -3.0, 40.0  # beside the picture, within the turned camera's
    margin = np.array([-3.0, -3, 3, 3])
    boxes = clip.boxes + margin  # a body reaches beyond its joints
    visible = clip.visible.copy()
    visible[3, 0, 4:] = False
    changed = replace(clip, joints_2d=joints, boxes=boxes, visible=visible)
    track = turned(follow(changed, 0, np.arange(5)), 0.8)
    batch = observed(track, 64)
    assert torch.argwhere(~batch.labelled[0]).tolist() == [[2, 7]]
    for t in range(5):
        points = np.delete(track.joints_2d[t], 7, axis=0) if t == 2 else track.joints_2d[t]
        around = np.concatenate([points.min(axis=0), points.max(axis=0)])
        if t != 2:
            np.testing.assert_allclose(track.boxes[t], around + margin, atol=1e-9)
        assert (track.boxes[t, :2] < around[:2]).all()
        assert (track.boxes[t, 2:] > around[2:]).all()


def test_nobody_is_turned_into_the_picture(clip):
    boxes, visible, joints = clip.boxes.copy(), clip.visible.copy(), clip.joints_2d.copy()
    boxes[2], visible[2], joints[2] = np.nan, False, np.nan
    gone = replace(clip, boxes=boxes, visible=visible, joints_2d=joints)
    batch = observed(turned(follow(gone, 0, np.arange(4)), 1.0), 64)
    assert batch.valid.tolist() == [[True, True, False, True]]
    assert not batch.labelled[0, 2].any()
    assert all(torch.isfinite(part.double()).all() for part in batch)
    nowhere = replace(gone, boxes=np.full_like(boxes, np.nan))
    track = follow(nowhere, 0, np.arange(4))
    assert turned(track, 1.0) is track


def test_a_still_scene_has_no_motion_when_turned(clip):
    def motion(jpegs):
        there = follow(replace(clip, jpegs=jpegs * 4), 0, np.arange(1, 5))
        boxes = np.repeat(there.boxes[:1], 4, axis=0)
        return float(observed(turned(replace(there, boxes=boxes), 0.7), 64).saliency.max())

    assert motion(clip.jpegs[:1] * 2) == 0
    assert motion([clip.jpegs[0], clip.jpegs[7]]) > 0.01


def test_what_lies_behind_the_camera_is_border():
    """The turned camera looks away from all that the picture shows."""
    K = np.array([[90.0, 0, 39.5], [0, 90.0, 39.5], [0, 0, 1]])
    turn = K @ cv2.Rodrigues(np.array([0, np.pi, 0]))[0] @ np.linalg.inv(K)
    matrix = np.concatenate([crop_matrix(np.array([-0.5, -0.5, 79.5, 79.5]), 64), [[0.0, 0, 1]]])
    white = np.full((80, 80, 3), 255, np.uint8)
    assert (warp_turned(white, matrix @ turn, 64) == BORDER_BGR).all()
    assert (warp_turned(white, matrix, 64)[2:-2, 2:-2] == 255).all()


def test_clips_are_turned_where_the_configuration_says_so_and_else_left_as_they_are(films):
    usual = minisets.finetune_config()
    assert (usual.clip_rotation_deg, usual.clip_any_rotation) == (0, 0)
    clips = open_clips([films[0]], TRAINED)

    def tracks(**changes):
        batches = FinetuneBatches(replace(usual, **changes), None, clips, None, 64)
        return [batches._clip(0, place) for place in range(24)]

    def lean(batch):  # of the trunk, from where it was
        up = batch.target[0, 0, INDEX["thorax"], :2]
        return float(torch.atan2(up[0], -up[1]))

    before, anyhow, little = (
        np.array([lean(batch) for batch in tracks(**changes)])
        for changes in ({}, {"clip_any_rotation": 1.0}, {"clip_rotation_deg": 5.0})
    )
    away, bit = (np.abs((x - before + np.pi) % (2 * np.pi) - np.pi) for x in (anyhow, little))
    assert (away > 2).any()
    assert (bit > 0.01).any()
    assert bit.max() < 0.35
    half = tracks(clip_any_rotation=0.5)
    same = [torch.equal(a.images, b.images) for a, b in zip(half, tracks(), strict=True)]
    assert 0 < sum(same) < 24


def test_lens_distortion_is_taken_out(clip):
    K = clip.camera.K
    bent = Camera(K, clip.camera.width, clip.camera.height, np.array([-0.2, 0.02, 0, 0, 0]))
    distorted = replace(clip, camera=bent, joints_2d=bent.distort(clip.joints_2d))
    track = follow(distorted, 0, np.arange(3))
    np.testing.assert_allclose(track.joints_2d, clip.joints_2d[:3, 0], atol=0.05)
    assert (track.images[0] != clip.image(0)).any()


def test_somebody_out_of_the_picture_is_not_valid(clip):
    boxes, visible = clip.boxes.copy(), clip.visible.copy()
    boxes[2], visible[2] = np.nan, False
    batch = observed(follow(replace(clip, boxes=boxes, visible=visible), 0, np.arange(4)), 64)
    assert batch.valid.tolist() == [[True, True, False, True]]
    assert all(torch.isfinite(part.double()).all() for part in batch)
    visible = clip.visible.copy()
    visible[1, 0, 2:] = visible[2, 0, 3:] = False
    batch = observed(follow(replace(clip, visible=visible), 0, np.arange(4)), 64)
    assert batch.valid.tolist() == [[True, False, True, True]]  # two joints are nobody
    assert not batch.labelled[0, 1].any()


def test_hidden_joints_are_learnt_and_those_out_of_the_picture_are_not(clip):
    visible, joints = clip.visible.copy(), clip.joints_2d.copy()
    visible[1, 0, 5:] = False  # hidden
    joints[2, 0, 7] = -1.0, 10.0  # in the crop all the same
    boxes = clip.boxes.copy()
    boxes[:, 0] = 0, 0, clip.camera.width - 1, clip.camera.height - 1
    changed = replace(clip, visible=visible, joints_2d=joints, boxes=boxes)
    labelled = observed(follow(changed, 0, np.arange(4)), 64).labelled[0]
    assert labelled[1].all()
    assert torch.argwhere(~labelled).tolist() == [[2, 7]]


def test_half_of_a_batch_is_real(lspet, films):
    from stsp_model.training.datasets import IMAGES, People, open_training

    config = minisets.finetune_config()
    people = People(tuple(open_training([lspet], IMAGES)))
    batches = FinetuneBatches(config, people, open_clips([films[0]], TRAINED), None, 64)
    batch = batches.batch(0, 0, 1)
    assert len(batch.crops.images) == 8
    assert batch.clips.images.shape[:2] == (2, 4)
    again = batches.batch(0, 0, 1)
    for one, other in zip(batch.clips, again.clips, strict=True):
        torch.testing.assert_close(one, other)


def test_processes_and_micro_batches_share_a_batch(lspet, films, cmu):
    data = [lspet, films[0], cmu]
    model = STSPNet(minisets.TINY)
    model.trained = True
    config = replace(minisets.finetune_config(batch=32), motion_clips=4, negative_share=0.5)
    batches = finetune_stage(model, config, data, [films[1]]).batches
    whole, *halves = (batches.batch(1, *of) for of in ((0, 1), (0, 2), (1, 2)))
    for kind in ("crops", "clips", "motion"):
        parts = [getattr(batch, kind) for batch in (whole, *halves)]
        for every, *own in zip(*parts, strict=True):
            for number, half in enumerate(own):
                torch.testing.assert_close(half, every[number::2], equal_nan=True)
    assert 0 < int(whole.crops.present.sum()) < 16  # and some of them show nobody
    # Clips come in pairs, with visual features and without.
    odd = replace(config, optimisation=replace(config.optimisation, batch=24))
    assert finetune_stage(model, odd, data, [films[1]]).batches.counts == (12, 2)


def test_frames_are_of_a_stretch_in_which_the_person_is_seen(clip, films):
    batches = FinetuneBatches(
        minisets.finetune_config(), None, open_clips([films[0]], TRAINED), None, 64
    )
    boxes = clip.boxes.copy()
    boxes[:4] = np.nan
    gone = replace(clip, boxes=boxes)
    rng = np.random.default_rng(0)
    found = [batches._frames(rng, gone, 0) for _ in range(30)]
    strides = {int(frames[1] - frames[0]) for frames in found}
    assert strides == {1, 2}  # eight frames are too few for more
    for frames in found:
        stride = frames[1] - frames[0]
        assert np.diff(frames).tolist() == [stride] * 3
        assert frames[-1] < 8
        if stride == 1:
            assert frames[0] == 4


def test_clips_that_are_too_short_are_named(films):
    config = replace(minisets.finetune_config(batch=80), frames=20)
    batches = FinetuneBatches(config, None, open_clips([films[0]], TRAINED), None, 64)
    with pytest.raises(DataError, match="shows anybody for 20 frames"):
        batches._clip(0, 0)


def test_which_rendered_video_is_missing_is_said(lspet, films):
    model = STSPNet(minisets.TINY)
    model.trained = True
    config = minisets.finetune_config()
    with pytest.raises(DataError, match="no rendered video to train on: give --data synth:DIR"):
        finetune_stage(model, config, [lspet], [films[1]])
    with pytest.raises(
        DataError, match=r"video to select by: give --select synth:DIR, .*--split va"
    ):
        finetune_stage(model, config, [lspet, films[0]])
