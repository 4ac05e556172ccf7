"""The benchmark's camera: its pictures never jump, keep their shape, and fit its camera matrix."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from stsp_model.bench.stream import ENCODINGS, JPEG, load_stream
from stsp_model.sources import SourceError, open_source

SAMPLE = Path(__file__).resolve().parents[2] / "assets" / "sample.mcap"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five 80x64 images, each of one grey, that tells its place."""
    for i in range(5):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((64, 80, 3), 10 + i, np.uint8))
    return tmp_path


def test_it_goes_forwards_and_backwards_for_ever(folder):
    stream = load_stream(folder, (80, 64))
    shown = [int(picture.decode()[0, 0, 0]) - 10 for picture in islice(stream.endless(), 12)]
    assert shown == [0, 1, 2, 3, 4, 3, 2, 1, 0, 1, 2, 3]


def test_a_single_frame_is_shown_again_and_again(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((64, 80, 3), np.uint8))
    stream = load_stream(tmp_path, (80, 64))
    assert len(list(islice(stream.endless(), 3))) == 3


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("size", [(640, 480), (320, 240), (1280, 720)])
def test_every_encoding_and_size_shows_the_source(encoding, size):
    stream = load_stream(SAMPLE, size, encoding)
    image = stream.pictures[0].decode()
    assert image.shape == (size[1], size[0], 3)
    original = next(open_source(SAMPLE).frames()).image
    scale = min(size[0] / 640, size[1] / 480)
    there: np.ndarray = cv2.resize(image, None, fx=1 / scale, fy=1 / scale)
    error = np.abs(there[:480, :640].astype(int) - original.astype(int)).mean()
    assert error < (8 if encoding == JPEG else 4)


def test_its_matrix_is_that_of_the_source_resized():
    K = load_stream(SAMPLE, (640, 480)).camera.K
    doubled = load_stream(SAMPLE, (1280, 960)).camera.K
    np.testing.assert_allclose(doubled[[0, 1], [0, 1]], 2 * K[[0, 1], [0, 1]])
    # The centre of pixel (0, 0) comes to lie between the first two pixels.
    np.testing.assert_allclose(doubled[:2, 2], 2 * K[:2, 2] + 0.5)


def test_several_people_stand_side_by_side(folder):
    image = load_stream(folder, (160, 128), people=3).pictures[2].decode()
    assert image.shape == (128, 160, 3)
    assert np.unique(image).tolist() == [12]
    pair = load_stream(SAMPLE, (640, 240), people=2).pictures[0].decode()
    left, right = pair[:, :320], pair[:, 320:]
    np.testing.assert_array_equal(left, right)


def test_a_source_without_frames_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(SourceError, match=r"holds no \.jpg"):
        load_stream(tmp_path, (640, 480))
