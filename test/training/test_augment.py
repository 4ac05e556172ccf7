"""Augmentation: joints go where their pixels go."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import cv2
import minisets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stsp_model.crop import crop, crop_box
from stsp_model.data.samples import ImagePose, box_around
from stsp_model.skeleton import FLIP, INDEX
from stsp_model.training import augment
from stsp_model.training.config import Look
from stsp_model.training.config_file import load_config
from stsp_model.training.epe_batches import empty_crop, person_crop

USUAL = load_config("edge", "epe").augmentation
AS_IT_IS = Look(blur=0, low_resolution=0, colour=0, grey=0, sensor_noise=0, jpeg=0)
STILL = replace(
    USUAL, rotation_deg=0, any_rotation=0, scale=1, shift=0, flip=0, truncate=0, occlude=0,
    look=AS_IT_IS,
)  # fmt: skip


def dots(joints, size=160):
    """A picture with a bright dot at each joint."""
    image = np.zeros((size, size, 3), np.uint8)
    for joint in joints:
        cv2.circle(image, tuple(np.rint(joint).astype(int).tolist()), 3, (255, 255, 255), -1)
    return image


def pose_of(image, joints):
    visible = np.isfinite(joints).all(axis=1)
    return ImagePose(image, joints, visible, box_around(joints), "one")


def test_without_changes_it_is_the_crop_that_the_estimator_cuts():
    image = np.random.default_rng(0).integers(0, 255, (120, 90, 3), dtype=np.uint8)
    joints = np.random.default_rng(1).uniform(20, 70, (17, 2))
    pose = pose_of(image, joints)
    cut, saliency, *_ = person_crop(np.random.default_rng(0), pose, 64, STILL, 0.0)
    expected = crop(image, crop_box(pose.box, (64, 64)), (64, 64))
    assert np.abs(cut.astype(int) - expected).max() <= 2  # OpenCV's fixed-point coordinates
    assert not saliency.any()


@given(st.integers(0, 10**6), st.booleans())
def test_joints_lie_on_their_pixels_after_any_turn_scale_and_flip(seed, truncate):
    rng = np.random.default_rng(seed)
    joints = np.full((17, 2), np.nan)
    joints[INDEX["left_wrist"]], joints[INDEX["right_knee"]] = rng.uniform(50, 110, (2, 2))
    box = np.array([40.0, 40, 120, 120])
    pose = ImagePose(
        dots(joints[~np.isnan(joints[:, 0])]), joints, ~np.isnan(joints[:, 0]), box, ""
    )
    strong = replace(
        STILL, any_rotation=1, scale=1.5, shift=0.1, flip=0.5, truncate=float(truncate)
    )
    cut, _, found, known, present = person_crop(rng, pose, 96, strong, 0.0)
    assert present
    for place in found[known]:
        x, y = np.clip(np.rint(place).astype(int), 0, 95)
        assert cut[y, x].min() > 100
    flipped = known[[FLIP[INDEX["left_wrist"]], FLIP[INDEX["right_knee"]]]].any()
    kept = known[[INDEX["left_wrist"], INDEX["right_knee"]]].any()
    assert not (flipped and kept)
    assert (~known).sum() >= 15  # what was not labelled is not known


def test_hidden_joints_are_learnt_where_they_have_a_place_in_the_picture():
    joints = np.random.default_rng(1).uniform(30, 60, (17, 2))
    hidden, unknown, outside = (INDEX[name] for name in ("left_elbow", "left_wrist", "left_knee"))
    joints[unknown], joints[outside] = np.nan, (-3, 40)
    visible = np.ones(17, bool)
    visible[[hidden, unknown, outside]] = False
    image = np.zeros((120, 90, 3), np.uint8)
    pose = ImagePose(image, joints, visible, np.array([0.0, 0, 89, 119]), "")
    known = person_crop(np.random.default_rng(0), pose, 64, STILL, 0.0)[3]
    assert np.flatnonzero(~known).tolist() == sorted([unknown, outside])


def test_a_large_picture_is_averaged_before_it_shrinks():
    """One-pixel stripes must become grey, not stripes of another width."""
    image = np.zeros((640, 640, 3), np.uint8)
    image[:, ::2] = 255
    small = augment.warp(
        image, augment.crop_matrix(np.array([-0.5, -0.5, 639.5, 639.5]), 64), (64, 64)
    )
    assert np.abs(small.astype(int) - 127).max() < 30


def test_a_truncated_person_touches_the_edge_of_what_is_left():
    rng = np.random.default_rng(3)
    joints = rng.uniform(40, 120, (17, 2))
    pose = pose_of(dots(joints), joints)
    cut = replace(STILL, truncate=1.0)
    known = [person_crop(rng, pose, 96, cut, 0.0)[3].sum() for _ in range(20)]
    assert min(known) < 17  # some joints lie outside the crop
    assert max(known) > 4


@pytest.mark.parametrize("name", ["occlude", *(f.name for f in fields(Look))])
def test_each_look_changes_the_picture_and_keeps_its_shape(name):
    image, _ = minisets.figure(np.random.default_rng(0))
    if name == "occlude":
        settings = replace(STILL, occlude=1.0)
    else:
        settings = replace(STILL, look=replace(AS_IT_IS, **{name: 1.0}))
    changed = augment.spoil(np.random.default_rng(1), image, settings)
    assert changed.shape == image.shape
    assert changed.dtype == np.uint8
    assert (changed != image).any()
    assert (augment.spoil(np.random.default_rng(1), image, STILL) == image).all()


def test_a_still_picture_gets_motion_where_a_limb_moves():
    image = cv2.resize(
        np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8), (128, 128)
    )
    joints, known = np.zeros((17, 2)), np.zeros(17, bool)
    joints[4], known[4] = (96, 32), True
    near, far = [], []
    for seed in range(20):
        saliency = augment.still_saliency(np.random.default_rng(seed), image, joints, known)
        assert saliency.shape == (32, 32)
        assert 0 <= saliency.min() <= saliency.max() <= 1
        near.append(saliency[6:10, 22:26].mean())
        far.append(saliency[22:28, 4:10].mean())
    assert np.mean(near) > 2 * np.mean(far)


def test_a_picture_of_nobody_says_so():
    image = np.full((100, 100, 3), 50, np.uint8)
    crop_, _, _, known, present = empty_crop(
        np.random.default_rng(0), (image, np.array([[40.0, 40, 60, 60]])), 64, STILL, 0.5
    )
    assert crop_.shape == (64, 64, 3)
    assert not known.any()
    assert not present


@given(st.floats(-math.pi, math.pi), st.booleans())
def test_a_crop_matrix_keeps_the_centre_and_the_scale(turn, flip):
    matrix = augment.crop_matrix(np.array([10.0, 20, 50, 60]), 80, turn, flip)
    np.testing.assert_allclose(matrix @ (30, 40, 1), (39.5, 39.5), atol=1e-9)
    assert np.linalg.det(matrix[:, :2]) == pytest.approx(-4 if flip else 4)
