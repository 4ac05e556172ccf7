"""Frames of nobody and of several people, and what the finder should say of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stsp_model.finder import FINDER_SIZE, FINDER_STRIDE, decode_people
from stsp_model.training import scenes


def picture(seed, size=(140, 100)):
    """A dark picture in which somebody is a white rectangle that fills the box."""
    rng = np.random.default_rng(seed)
    image = np.full((size[1], size[0], 3), 20, np.uint8)
    x, y = rng.integers(10, 40, 2)
    image[y : y + 40, x : x + 25] = 250
    return image, np.array([[x, y, x + 25, y + 40]]) - 0.5


@given(st.integers(0, 10**6), st.integers(1, 4))
def test_boxes_hold_the_people_of_the_frame(seed, count):
    rng = np.random.default_rng(seed)
    frame, boxes = scenes.scene(rng, count, lambda number: picture(seed + number))
    assert frame.shape == (FINDER_SIZE[1], FINDER_SIZE[0], 3)
    assert len(boxes) <= count
    white = np.zeros(frame.shape[:2], bool)
    for box in boxes:
        x0, y0, x1, y1 = np.ceil(box + 1).astype(int)
        inside = frame[max(y0, 0) : y1 - 2, max(x0, 0) : x1 - 2]
        assert inside.size == 0 or inside.mean() > 200
        low, high = np.floor(box[:2] - 2).astype(int), np.ceil(box[2:] + 3).astype(int)
        white[max(low[1], 0) : high[1], max(low[0], 0) : high[0]] = True
    if len(boxes) == count:
        assert not (frame.min(axis=2)[~white] > 200).any()


def test_some_people_are_small_in_a_wide_frame():
    shares = []
    for seed in range(60):
        _, boxes = scenes.scene(np.random.default_rng(seed), 1, lambda number: picture(number))
        shares += [(box[3] - box[1]) / FINDER_SIZE[1] for box in boxes]
    assert 0.1 < np.mean(np.array(shares) < 0.3) < 0.6
    assert min(shares) < 0.15
    assert max(shares) > 0.4


@given(st.integers(0, 10**6))
def test_a_frame_of_nobody_shows_nobody(seed):
    rng = np.random.default_rng(seed)
    frame, boxes = scenes.scene(rng, 0, lambda number: picture(seed + number))
    assert boxes.shape == (0, 4)
    region = scenes.empty_region(rng, (140, 100), picture(seed)[1], 1.25)
    if region is not None:
        person = picture(seed)[1][0]
        shared = np.minimum(region[2:], person[2:]) - np.maximum(region[:2], person[:2])
        assert np.prod(np.clip(shared, 0, None)) <= 0.05 * np.prod(region[2:] - region[:2])
    assert (frame > 240).mean() < 0.2


def test_somebody_who_fills_the_picture_leaves_no_empty_region():
    people = np.array([[0.0, 0, 140, 100]])
    assert scenes.empty_region(np.random.default_rng(0), (140, 100), people, 1.0) is None
    frame = scenes.nobody(
        np.random.default_rng(0), (np.zeros((100, 140, 3), np.uint8), people), (64, 64)
    )
    assert frame.std() > 0  # a pattern instead


def test_the_finder_s_targets_decode_to_the_boxes_they_were_made_of():
    boxes = np.array([[20.0, 30, 80, 200], [150, 40, 260, 120], [270, 200, 290, 240]])
    centres, distances, known = scenes.finder_targets(boxes)
    assert (centres == 1).sum() == 3
    logits = torch.logit(torch.from_numpy(centres)[None].clamp(1e-4, 1 - 1e-4))
    found, scores = decode_people(logits, torch.from_numpy(distances)[None], limit=4)
    assert scores[0, 2] > 0.9
    best = found[0, :3].numpy()
    np.testing.assert_allclose(best[np.argsort(best[:, 0])], boxes, atol=1e-3)
    assert known.sum() >= 3
    assert (distances[:, known] > 0).all()


def test_where_people_overlap_the_smaller_goes_first():
    large, small = np.array([0.0, 0, 200, 200]), np.array([80.0, 80, 120, 120])
    _, distances, _ = scenes.finder_targets(np.stack([small, large]))
    cell = round((100 - (FINDER_STRIDE - 1) / 2) / FINDER_STRIDE)
    assert distances[:, cell, cell].max() < 40


def test_without_people_the_targets_are_empty():
    centres, _, known = scenes.finder_targets(np.zeros((0, 4)))
    assert not centres.any()
    assert not known.any()


def test_a_picture_with_two_people_keeps_both_boxes():
    image = np.zeros((100, 100, 3), np.uint8)
    two = np.array([[10.0, 20, 40, 90], [60, 20, 90, 90]])
    counts = {
        len(scenes.scene(np.random.default_rng(seed), 1, lambda _: (image, two))[1])
        for seed in range(10)
    }
    assert 2 in counts


@pytest.mark.parametrize("size", [(64, 64), (96, 160)])
def test_textures_have_the_size_asked_for(size):
    assert scenes.texture(np.random.default_rng(0), size).shape == (size[1], size[0], 3)
