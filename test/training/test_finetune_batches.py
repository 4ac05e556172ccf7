"""Clips of rendered video: what the network is given agrees with the truth it is held to."""

from __future__ import annotations

from dataclasses import replace

import minisets
import numpy as np
import pytest
import torch

from stsp_model.camera import Camera
from stsp_model.crop import to_image
from stsp_model.data.errors import DataError
from stsp_model.data.shards import load_clip
from stsp_model.training.datasets import TRAINED, open_clips
from stsp_model.training.finetune_batches import (
    FinetuneBatches,
    follow,
    mirrored,
    observed,
    true_depths,
)


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


def test_the_first_frame_has_no_previous_one(clip):
    batch = observed(follow(clip, 0, np.arange(4)), 64)
    assert not batch.saliency[0, 0].any()


def test_in_a_mirror_the_truth_is_mirrored_with_the_picture(clip):
    frames = np.arange(4)
    track = follow(clip, 0, frames)
    mirror = mirrored(track)
    K, solid = mirror.K, mirror.joints_3d
    flat = solid[..., :2] / solid[..., 2:] * K[[0, 1], [0, 1]] + K[:2, 2]
    np.testing.assert_allclose(flat, mirror.joints_2d, atol=1e-3)
    np.testing.assert_array_equal(mirror.images[0], track.images[0][:, ::-1])
    again = mirrored(mirror)
    np.testing.assert_allclose(again.joints_2d, track.joints_2d)
    np.testing.assert_allclose(again.joints_3d, track.joints_3d)
    np.testing.assert_allclose(again.boxes, track.boxes)


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


def test_clips_that_are_too_short_are_named(films):
    config = replace(minisets.finetune_config(batch=80), frames=20)
    batches = FinetuneBatches(config, None, open_clips([films[0]], TRAINED), None, 64)
    with pytest.raises(DataError, match="shows anybody for 20 frames"):
        batches._clip(0, 0)
    with pytest.raises(DataError, match="no rendered video"):
        open_clips([], TRAINED)
