"""Crops hold the pixels that their geometry says, also across the border."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stsp_model import crop as crops
from stsp_model.perception import PreviousFrame


def ramp(width=200, height=100):
    """An image whose colour says where it is: blue = u, green = v."""
    v, u = np.mgrid[:height, :width]
    return np.stack([u, v, np.full_like(u, 50)], axis=-1).astype(np.uint8)


def test_crop_box_is_square_with_margin():
    box = crops.crop_box([10.0, 20, 30, 60], (160, 160))
    assert box.tolist() == [20 - 27, 40 - 27, 20 + 27, 40 + 27]


def test_crop_box_takes_the_shape_of_the_input():
    box = crops.crop_box([[0.0, 0, 30, 40], [0, 0, 60, 40]], (192, 256), margin=1)
    np.testing.assert_allclose(box, [[0, 0, 30, 40], [0, -20, 60, 60]])


def test_a_box_of_the_inputs_size_is_copied_pixel_by_pixel():
    image = ramp()
    cut = crops.crop(image, [19.5, 9.5, 83.5, 73.5], (64, 64))
    np.testing.assert_array_equal(cut, image[10:74, 20:84])


@given(
    st.floats(-50, 150),
    st.floats(-50, 80),
    st.floats(8, 150),
    st.sampled_from([(64, 64), (48, 64)]),
)
@settings(max_examples=60, deadline=None)
def test_crop_pixels_come_from_where_the_mapping_says(x, y, side, size):
    box = np.array([x, y, x + side, y + side * size[1] / size[0]])
    cut = crops.crop(ramp(), box, size).astype(float)
    v, u = np.mgrid[: size[1], : size[0]]
    source = crops.to_image(np.stack([u, v], axis=-1).astype(float), box, np.array(size))
    scale = max(1.0, side / size[0])
    inside = (source > scale).all(axis=-1) & (source < [199 - scale, 99 - scale]).all(axis=-1)
    np.testing.assert_allclose(cut[..., :2][inside], source[inside], atol=1.1)
    outside = ((source < -1 - scale) | (source > [200 + scale, 100 + scale])).any(axis=-1)
    assert (cut[outside] == crops.BORDER_BGR).all()


def test_strong_shrinking_averages_instead_of_skipping():
    stripes = np.zeros((1600, 1600), dtype=np.uint8)
    stripes[:, ::2] = 200
    cut = crops.crop(stripes, crops.whole_image(1600, 1600), (64, 64))
    assert np.abs(cut.astype(int) - 100).max() <= 5


def test_strong_shrinking_keeps_the_geometry():
    image = np.zeros((2160, 3840), dtype=np.uint8)
    image[1000:1041, 2000:2041] = 255  # its centre is pixel (2020, 1020)
    box = np.array([1200.3, 200.7, 2800.3, 1800.7])
    cut = crops.crop(image, box, (160, 160)).astype(float)
    v, u = np.mgrid[:160, :160]
    middle = np.array([(u * cut).sum(), (v * cut).sum()]) / cut.sum()
    expected = crops.to_crop(np.array([2020.0, 1020.0]), box, np.array([160, 160]))
    np.testing.assert_allclose(middle, expected, atol=0.05)


@given(st.integers(0, 2**32 - 1))
def test_to_image_inverts_to_crop(seed):
    rng = np.random.default_rng(seed)
    points, corner = rng.uniform(-500, 500, size=(5, 2)), rng.uniform(-100, 100, size=2)
    box = np.concatenate([corner, corner + rng.uniform(1, 300, size=2)])
    size = np.array([192, 256])
    there = crops.to_crop(points, box, size)
    np.testing.assert_allclose(crops.to_image(there, box, size), points, atol=1e-9)


def test_corners_map_to_corners_for_tensors_too():
    box, size = torch.tensor([10.0, 20, 50, 100]), torch.tensor([160.0, 320])
    corners = torch.tensor([[10.0, 20], [50, 100]])
    assert crops.to_crop(corners, box, size).tolist() == [[-0.5, -0.5], [159.5, 319.5]]


def test_read_only_and_strided_images_are_read_and_left_alone():
    image = ramp(400, 200)[::2, ::-2, ::-1]
    image.setflags(write=False)
    box = crops.whole_image(200, 100)
    cut = crops.crop(image, box, (200, 100))
    np.testing.assert_array_equal(cut, image)
    assert not np.shares_memory(cut, image)


@pytest.mark.parametrize("box", [[-300.0, 0, -100, 200], [500, 500, 900, 900]])
def test_a_box_beyond_the_image_is_all_border(box):
    assert (crops.crop(ramp(), box, (32, 32)) == crops.BORDER_BGR).all()


def test_the_frame_before_is_cut_where_the_frame_is_though_it_was_reduced():
    slope = np.clip(4 * (np.arange(4000.0) - 1000), 0, 250).astype(np.uint8)
    image = np.repeat(np.tile(slope, (64, 1))[..., None], 3, axis=2)
    kept = PreviousFrame.of(image, 0.0)
    assert max(kept.grey.shape) <= 1920
    box = np.array([1009.5, -0.5, 1049.5, 39.5])  # 40 px a side, on the slope
    now, before = crops.crop(image[..., 0], box, (40, 40)), kept.crop(box, (40, 40))
    assert abs(before.mean() - now.mean()) < 0.5  # it rises by 4 a pixel
