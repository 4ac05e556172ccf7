"""`stsp data show` draws what is there, and tells in a sentence what is not."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
import test_childplay
import test_coco
import test_deepmimic
from people import standing, walking

from stsp_model import cli
from stsp_model.data.errors import DataError
from stsp_model.data.formats import FORMATS, open_dataset, split_spec
from stsp_model.data.samples import ImagePose, Motion
from stsp_model.data.show import FIGURE_WIDTH, TILE, figure_axes, image_tile, motion_tiles, sheet
from stsp_model.drawing import SIDE_COLOURS, TITLE_HEIGHT
from stsp_model.skeleton import INDEX

GAP = 8  # px between tiles


def motion(**changes):
    values = {"joints": walking(9), "stamps": np.arange(9) / 30, "up": np.array([0, 0, 1])}
    return Motion(**{**values, "name": "walk", "subject": "s", "action": "walk", **changes})


def middles(tile, side):
    """The mean column of a side's colour in the front view and in the side view."""
    colour = np.array(SIDE_COLOURS[side][::-1])
    alike = np.abs(tile.astype(int) - colour).sum(axis=2) < 30
    half = FIGURE_WIDTH // 2
    return [np.nonzero(part)[1].mean() for part in (alike[:, :half], alike[:, half:])]


def test_axes_follow_the_person():
    right, up, front = figure_axes(motion())
    assert right == pytest.approx([-1, 0, 0])
    assert up == pytest.approx([0, 0, 1])
    assert front == pytest.approx([0, -1, 0])


def test_axes_take_the_cameras_up_where_none_is_known():
    seen = walking(9) @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # x right, y down, z ahead
    right, up, front = figure_axes(motion(joints=seen, up=np.full(3, np.nan)))
    assert up.tolist() == [0, -1, 0]
    assert right == pytest.approx([-1, 0, 0])
    assert front == pytest.approx([0, 0, -1])  # towards the camera


def test_from_the_front_the_persons_left_is_on_the_right():
    tile, caption = motion_tiles(motion(), 1)[0]
    assert tile.shape == (TILE, FIGURE_WIDTH, 3)
    assert caption == "walk 0.00 s"
    assert middles(tile, "left")[0] > middles(tile, "right")[0] + 10


def test_from_its_right_side_the_person_looks_to_the_right():
    joints = np.full((9, 17, 3), np.nan)
    for name in ("pelvis", "left_hip", "right_hip", "head_top", "nose"):
        joints[:, INDEX[name]] = standing()[INDEX[name]]
    joints[:, INDEX["nose"]] += (0, -0.5, 0)  # ahead
    tile, _ = motion_tiles(motion(joints=joints), 1)[0]
    front, side = middles(tile, "middle")
    assert front == pytest.approx(FIGURE_WIDTH / 4, abs=2)
    assert side > FIGURE_WIDTH / 4 + 10


def test_nothing_of_a_figure_is_cut_off():
    spread = walking(9)
    spread[:, INDEX["left_wrist"]] += (3.0, 0, 1.0)
    for tile, _ in motion_tiles(motion(joints=spread), 3):
        border = np.concatenate([tile[0], tile[:, 0], tile[:, -1]])
        assert len(np.unique(border.reshape(-1, 3), axis=0)) <= 2  # background and ground


def test_a_motion_whose_hips_are_unknown_is_told():
    joints = walking(9)
    joints[:, INDEX["left_hip"]] = joints[:, INDEX["right_hip"]]
    with pytest.raises(DataError, match="walk has no frame with both hips"):
        motion_tiles(motion(joints=joints), 1)


def test_a_person_fills_the_tile_and_hidden_joints_fade():
    joints = np.full((17, 2), np.nan)
    joints[INDEX["left_wrist"]], joints[INDEX["right_wrist"]] = (20, 30), (40, 30)
    visible = np.isfinite(joints).all(1)
    visible[INDEX["right_wrist"]] = False
    tile = image_tile(
        ImagePose(np.zeros((60, 60, 3), np.uint8), joints, visible, np.array([10, 10, 50, 50]), "a")
    )
    assert tile.shape == (TILE, TILE, 3)
    scale = TILE / (1.6 * 40)
    places = [((x + 0.0 - (30 - 32)) * scale, (30 - (30 - 32)) * scale) for x in (20, 40)]
    left, right = (tile[round(y), round(x)] for x, y in places)
    assert left == pytest.approx(np.array(SIDE_COLOURS["left"][::-1]), abs=3)
    assert np.ptp(right.astype(int)) < np.ptp(np.array(SIDE_COLOURS["right"])) / 2


def test_a_box_of_no_size_shows_the_whole_image():
    joints = np.full((17, 2), np.nan)
    image = np.full((30, 60, 3), 50, np.uint8)
    sample = ImagePose(image, joints, np.zeros(17, bool), np.full(4, np.nan), "a")
    assert (image_tile(sample)[TILE // 2, TILE // 2] == 50).all()


def test_motions_of_a_folder_fill_a_sheet(tmp_path):
    frames = [test_deepmimic.frame() for _ in range(20)]
    test_deepmimic.write(tmp_path, {"walk": frames, "run": frames, "cartwheel": frames})
    picture = sheet(f"deepmimic:{tmp_path}", 8)
    assert picture.shape[0] == TITLE_HEIGHT + 2 * (TILE + GAP) + GAP
    assert picture.shape[1] == 4 * (FIGURE_WIDTH + GAP) + GAP


def test_people_in_images_fill_a_sheet(tmp_path):
    people = [test_coco.person(i, 7 + i % 2) for i in range(5)]
    path = test_coco.write(tmp_path, test_coco.content(people))
    assert sheet(f"coco:{path}", 3).shape[1] == 3 * (TILE + GAP) + GAP


def test_heads_and_plain_videos_fill_a_sheet(tmp_path):
    test_childplay.write_csv(tmp_path)
    test_childplay.write_video(tmp_path)
    assert sheet(f"childplay:{tmp_path}", 4).shape[1] == TILE + 2 * GAP
    video = tmp_path / "clips" / f"{test_childplay.NAME}.mp4"
    # Frames keep their shape: 64x48.
    assert sheet(f"video:{video}", 2).shape[:2] == (TITLE_HEIGHT + 240 + 2 * GAP, 2 * 328 + GAP)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_opened_and_tells_a_wrong_path(name, tmp_path):
    with pytest.raises(DataError, match=str(tmp_path)):
        open_dataset(f"{name}:{tmp_path / 'none'}")


@pytest.mark.parametrize(
    ("spec", "split", "told"),
    [
        ("lspet", None, "no FORMAT:PATH"),
        ("lspet:", None, "no FORMAT:PATH"),
        ("mpii:there", None, r"format is 'mpii', expected one of lsp, lspet"),
        ("coco:there", "train", "with coco each file is a split of its own"),
    ],
)
def test_a_wrong_specification_is_told(spec, split, told):
    with pytest.raises(DataError, match=told):
        open_dataset(spec, split)


def test_a_path_may_hold_a_colon():
    assert split_spec("bvh:a:b/c")[1].as_posix() == "a:b/c"


def test_the_command_writes_the_sheet_and_says_where(tmp_path, capsys):
    test_deepmimic.write(tmp_path, {"walk": [test_deepmimic.frame()] * 9})
    out = tmp_path / "sheets" / "walk.png"
    arguments = ["data", "show", f"deepmimic:{tmp_path}", "--out", str(out), "--count", "4"]
    assert cli.main(arguments) == 0
    height, width = cv2.imread(str(out)).shape[:2]
    assert capsys.readouterr().out == f"{out}: {width}x{height} px\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["lspet:none"], "none/joints.mat does not exist"),
        (["video:none.mp4"], "none.mp4 does not exist"),
        (["video:none.mp4", "--count", "0"], "count is 0, expected at least 1"),
        (["video:none.mp4", "--split", "train"], "split is 'train', but a video has none"),
        (["bvh:none", "--split", "test"], "split is 'test'"),
        (["video:none.mp4", "--out", "a.xyz"], "a.xyz cannot be written; expected a .png or .jpg"),
        (["video:none.mp4", "--out", "a"], "a cannot be written; expected a .png or .jpg"),
    ],
)
def test_the_command_tells_a_mistake_in_a_line(arguments, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["data", "show", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("stsp data show: ")
    assert told in error
    assert error.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_help_names_every_format_without_waiting_for_pytorch(capsys):
    with pytest.raises(SystemExit):
        cli.main(["data", "show", "--help"])
    text = "".join(capsys.readouterr().out.split())
    assert ",".join(FORMATS) in text
    code = "import sys, stsp_model.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
