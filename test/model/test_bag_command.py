"""`stsp bag` makes of a video the bag that a camera's driver would have recorded."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from mcap_ros2.reader import read_ros2_messages

from stsp_model import cli
from stsp_model.bag_command import CAMERA_INFO_TOPIC, IMAGE_TOPIC, write_bag
from stsp_model.sources import Source, open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, 64x48, each of one grey."""
    images = tmp_path / "images"
    images.mkdir()
    for i in range(3):
        cv2.imwrite(str(images / f"{i}.png"), np.full((48, 64, 3), 50 * (i + 1), np.uint8))
    return images


def test_frames_stamps_and_camera_info_come_back(folder: Path, tmp_path: Path) -> None:
    bag = tmp_path / "new" / "bag"
    assert cli.main(["bag", str(folder), "-o", str(bag), "--fov", "90"]) == 0
    frames = list(open_source(bag).frames())
    assert [frame.image.mean().round() for frame in frames] == [50, 100, 150]
    assert [frame.stamp for frame in frames] == [f.stamp for f in open_source(folder).frames()]
    # Half of 64 px at 45 degrees: as many px away. The middle of 64 px is between two of them.
    np.testing.assert_allclose(frames[-1].camera_info.k, [32, 0, 31.5, 0, 32, 23.5, 0, 0, 1])
    (file,) = bag.glob("*.mcap")
    assert [m.channel.topic for m in read_ros2_messages(str(file))] == [
        CAMERA_INFO_TOPIC,
        IMAGE_TOPIC,
    ] * 3
    assert "version: 8" in (bag / "metadata.yaml").read_text()  # Humble reads no later one


def test_without_a_field_of_view_there_is_no_camera_info(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bag", str(folder), "-o", str(tmp_path / "bag")]) == 0
    assert "3 images on /camera/image/compressed, and no camera info" in capsys.readouterr().out
    assert [frame.camera_info for frame in open_source(tmp_path / "bag").frames()] == [None] * 3


@pytest.mark.parametrize(
    ("source", "extra", "sentence"),
    [
        ("images", ["--fov", "180"], "field of view is 180 degrees, expected between 0 and 180"),
        ("images", ["--fov", "nan"], "field of view is nan degrees"),
        ("nothing", [], "nothing does not exist"),
        ("bag", [], "bag is a bag already"),
    ],
)
def test_what_cannot_be_is_said(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    source: str,
    extra: list[str],
    sentence: str,
) -> None:
    write_bag(open_source(folder), tmp_path / "bag")
    assert cli.main(["bag", str(tmp_path / source), "-o", str(tmp_path / "new"), *extra]) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_bag_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    write_bag(open_source(folder), tmp_path / "bag")
    before = {file: file.read_bytes() for file in (tmp_path / "bag").iterdir()}
    assert cli.main(["bag", str(folder), "-o", str(tmp_path / "bag")]) == 1
    assert {file: file.read_bytes() for file in (tmp_path / "bag").iterdir()} == before


def test_a_link_to_nowhere_is_no_place_for_a_bag(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert cli.main(["bag", str(folder), "-o", str(tmp_path / "link")]) == 1
    assert "link exists already and is not overwritten" in capsys.readouterr().err


def test_an_image_that_no_jpeg_can_hold_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(folder / "9.png"), np.zeros((1, 66_000, 3), np.uint8))
    assert cli.main(["bag", str(folder), "-o", str(tmp_path / "bag")]) == 1
    assert "image of 66000x1 px at 1.100 s cannot be a JPEG" in capsys.readouterr().err
    assert not (tmp_path / "bag").exists()


def test_ctrl_c_leaves_nothing_half_done(folder: Path, tmp_path: Path) -> None:
    whole = open_source(folder)

    def interrupted():
        yield next(whole.frames())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_bag(Source("video", whole.size, 3, interrupted), tmp_path / "bag")
    assert not (tmp_path / "bag").exists()
