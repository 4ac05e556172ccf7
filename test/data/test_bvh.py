"""BVH: forward kinematics against SciPy, faults of the capture left out, real clips rigid."""

from __future__ import annotations

import io
import re
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from people import CMU, needs, walking
from scipy.spatial.transform import Rotation

from stsp_model.data.bvh import MAX_JOINT_SPEED, BVHDataset, capture_joints, plausible_spans
from stsp_model.data.bvh_file import bvh_texts, parse_bvh, read_bvh
from stsp_model.data.errors import DataError, NothingOfSplitError
from stsp_model.skeleton import BONES, CMU_BVH, INDEX, JOINTS

# Rest places (cm, Y up) of the joints that make up ours, each hung from the hip by one offset.
REST = {
    "neck": (0, 50, 0),
    **{
        f"{side}{name}": (sign * x, y, 0)
        for side, sign in (("l", 1), ("r", -1))
        for name, x, y in (
            ("Thigh", 9, 0),
            ("Shin", 9, -38),
            ("Foot", 9, -80),
            ("Shldr", 16, 46),
            ("ForeArm", 44, 46),
            ("Hand", 70, 46),
        )
    },
}


def body(lines: list[list[float]], period: float = 1 / 60) -> str:
    """A BVH file of a rigid body with six numbers a frame: place and Z X Y turns of the hip."""
    joints = "".join(
        f"JOINT {name} {{ OFFSET {x} {y} {z} CHANNELS 0\nEnd Site {{ OFFSET 0 -1 0 }} }}\n"
        for name, (x, y, z) in REST.items()
    )
    rows = "\n".join(" ".join(map(str, line)) for line in lines)
    return (
        "HIERARCHY\nROOT hip {\nOFFSET 0 0 0\nCHANNELS 6 Xposition Yposition Zposition "
        f"Zrotation Xrotation Yrotation\n{joints}}}\nMOTION\nFrames: {len(lines)}\n"
        f"Frame Time: {period}\n{rows}\n"
    )


def still(frames: int) -> list[list[float]]:
    return [[0, 90, 0, 0, 0, 0]] * frames


ARM = """HIERARCHY
ROOT a
{
  OFFSET 1 2 3
  CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation
  JOINT b
  {
    OFFSET 0 100 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 50 0 0
    }
  }
}
MOTION
Frames: 1
Frame Time: 0.02
"""


def test_a_turn_by_hand():
    """The root, at (10, 20, 30) cm, leans left by 90 degrees; the next joint bends back up."""
    capture = parse_bvh(ARM + "10 20 30 90 0 0 -90 0 0")
    assert capture.names == ("a", "b", "b_end")
    assert capture.parents == (-1, 0, 1)
    expected = [[0.1, 0.2, 0.3], [-0.9, 0.2, 0.3], [-0.4, 0.2, 0.3]]
    assert capture.positions[0] == pytest.approx(np.array(expected), abs=1e-12)
    assert capture.fps == pytest.approx(50)


@given(st.lists(st.floats(-180, 180), min_size=6, max_size=6))
def test_turns_follow_the_order_of_the_channels(angles):
    capture = parse_bvh(ARM + "0 0 0 " + " ".join(map(str, angles)))
    root = Rotation.from_euler("ZYX", angles[:3], degrees=True)
    joint = root * Rotation.from_euler("ZXY", angles[3:], degrees=True)
    assert capture.rotations[0, 0] == pytest.approx(root.as_matrix(), abs=1e-9)
    assert capture.rotations[0, 1] == pytest.approx(joint.as_matrix(), abs=1e-9)
    tip = root.apply([0, 1, 0]) + joint.apply([0.5, 0, 0])
    assert capture.positions[0, 2] == pytest.approx(tip, abs=1e-9)


def test_our_joints_come_from_theirs_by_name():
    joints = capture_joints(parse_bvh(body(still(1))))[0]
    assert joints[INDEX["left_wrist"]] == pytest.approx([0.7, 1.36, 0])
    assert joints[INDEX["pelvis"]] == pytest.approx([0, 0.9, 0])
    assert joints[INDEX["spine"]] == pytest.approx([0, 1.15, 0])
    lacking = [name for name in JOINTS if np.isnan(joints[INDEX[name]]).any()]
    assert lacking == ["nose", "head_top"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("not a motion", "no MOTION part"),
        ("hello MOTION", "does not begin with HIERARCHY"),
        (ARM.replace("}\nMOTION", "MOTION") + "1", "cut off"),
        (ARM.replace("OFFSET 0 100 0", "OFFSET 0 x 0") + "1", "cut off or damaged"),
        (ARM.replace("Zrotation X", "Wrotation X") + "1", r"channels \['Wrotation'\]"),
        (ARM.replace("JOINT b", "LINK b") + "1", "'LINK' is no part"),
        (ARM + "10 20 30 90", "4 numbers, expected 1 frames x 9 channels = 9; is it half"),
        (ARM + "10 20 30 90 0 0 -90 0 abc", "no number"),
        (ARM + "10 20 30 90 0 0 -90 0 nan", "not finite"),
        (ARM.replace("Frames:", "Frame:") + "1", "not followed by Frames"),
        (ARM.replace("0.02", "0") + "1", "0.0 s each"),
        (ARM.replace("0.02", "1e-320") + "0 " * 9, "1e-320 s each"),
        (ARM.replace("0.02", "8.33") + "0 " * 9, r"8\.33 s each.*0\.0001 to 1\.0 s"),
        (
            re.sub("CHANNELS .*", "CHANNELS 0", ARM).replace(" 1\n", " 999999999999\n"),
            "999999999999 frames of 0 channels",
        ),
        (ARM.replace("OFFSET 0 100", "OFFSET 0 10000") + "0 " * 9, "measures 100 m; the commands"),
    ],
)
def test_a_damaged_file_is_told_in_a_sentence(text, told):
    with pytest.raises(DataError, match=told):
        parse_bvh(text, "clip")


def test_a_file_in_another_unit_is_read_in_it():
    inches = parse_bvh(body(still(1)), unit=0.0254 / 2.54)
    assert inches.offsets == pytest.approx(parse_bvh(body(still(1))).offsets)


def test_a_skeleton_with_other_names_is_told():
    with pytest.raises(DataError, match=r"lacks neck, rThigh.*expected the joints of CMU-BVH"):
        capture_joints(parse_bvh(ARM + "0 " * 9))


def test_nothing_faster_than_a_person_is_left():
    motion = walking(120, speed=0.01)
    motion[60:, INDEX["left_wrist"], 2] += MAX_JOINT_SPEED / 60 * 1.01
    assert plausible_spans(motion, 60) == [(0, 57), (63, 120)]
    motion[60:, INDEX["left_wrist"], 2] -= MAX_JOINT_SPEED / 60 * 0.1
    assert plausible_spans(motion, 60) == [(0, 120)]


@pytest.mark.parametrize("fps", [8, 10])
def test_however_few_the_frames_a_jump_ends_a_span(fps):
    motion = walking(60, speed=0.01)
    motion[30:] += 5.0
    assert plausible_spans(motion, fps) == [(0, 29), (31, 60)]


def test_a_leap_of_the_whole_body_ends_a_span():
    motion = walking(100)
    motion[:20] += 1.0
    assert plausible_spans(motion, 60) == [(23, 100)]  # 17 frames before it are too short


def test_a_rest_pose_before_the_first_frame_is_left_out(tmp_path):
    (tmp_path / "02_01.bvh").write_text(body([[0, 90, 0, 0, 0, 0], *[[0, 90, 0, 0, 0, 90]] * 59]))
    data = BVHDataset(tmp_path)
    assert len(data) == 1
    assert data[0].name == "02_01[4:60]"
    assert data[0].stamps[0] == pytest.approx(4 / 60)
    assert len(data.capture(0).positions) == len(data[0].joints) == 56


def test_folder_file_and_archive_give_the_same(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("02_01", "02_04"):
        (folder / f"{name}.bvh").write_text(body(still(40)))
    for mode, suffix in (("w:xz", "tar.xz"), ("w", "tar")):
        with tarfile.open(tmp_path / f"clips.{suffix}", mode) as archive:
            archive.add(folder, arcname=".")
    whole = BVHDataset(folder)
    assert [whole.clip(i) for i in range(len(whole))] == ["02_01", "02_04"]
    for suffix in ("tar.xz", "tar"):
        packed = BVHDataset(tmp_path / f"clips.{suffix}")
        assert {packed[i].name for i in range(len(packed))} == {"02_01", "02_04"}
        assert packed[0].joints == pytest.approx(whole[0].joints, nan_ok=True)
    single = BVHDataset(folder / "02_04.bvh")
    assert (single[0].subject, single[0].action) == ("02", "02_04")
    assert single[0].up.tolist() == [0, 1, 0]
    held_out = BVHDataset(folder, "validation")
    assert [held_out.clip(i) for i in range(len(held_out))] == ["02_04"]


def test_clips_are_known_by_their_suffix_in_any_case(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "02_01.BVH").write_text(body(still(40)))
    (folder / "._02_01.BVH").write_bytes(b"\0\5\26\7")  # what macOS puts beside it
    with tarfile.open(tmp_path / "clips.tar", "w") as archive:
        archive.add(folder, arcname=".")
    for path in (folder, tmp_path / "clips.tar"):
        data = BVHDataset(path)
        assert [data.clip(i) for i in range(len(data))] == ["02_01"]
        assert data[0].name == data[0].action == "02_01"


def test_a_file_that_cannot_be_read_is_named_and_a_folder_called_as_a_clip_gone_through(tmp_path):
    (tmp_path / "a.bvh").mkdir()
    (tmp_path / "a.bvh" / "02_01.bvh").write_text(body(still(40)))
    data = BVHDataset(tmp_path)
    assert [data.clip(i) for i in range(len(data))] == ["a.bvh/02_01"]
    assert len(data[0].stamps) == 40
    (tmp_path / "b.bvh").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"b\.bvh cannot be read: No such file"):
        BVHDataset(tmp_path)


def test_a_single_frame_is_no_motion_and_two_are(tmp_path):
    (tmp_path / "02_01.bvh").write_text(body(still(1)))
    with pytest.raises(NothingOfSplitError, match="no plausible motion"):
        BVHDataset(tmp_path)
    (tmp_path / "02_02.bvh").write_text(body(still(2)))
    data = BVHDataset(tmp_path)
    assert [data[i].name for i in range(len(data))] == ["02_02"]


def test_wrong_paths_are_told(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        list(bvh_texts(tmp_path / "none"))
    with pytest.raises(DataError, match=r"holds no .bvh file"):
        list(bvh_texts(tmp_path))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"neither a .bvh file"):
        list(bvh_texts(tmp_path / "a.txt"))
    with pytest.raises(DataError, match="cannot be read"):
        read_bvh(tmp_path / "none.bvh")


def test_half_an_archive_is_told(tmp_path):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz") as archive:
        text = body(np.random.default_rng(0).normal(size=(300, 6)).tolist()).encode()
        info = tarfile.TarInfo("a.bvh")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    (tmp_path / "half.tar.xz").write_bytes(content.getvalue()[: len(content.getvalue()) // 2])
    with pytest.raises(DataError, match="damaged or cut off"):
        list(bvh_texts(tmp_path / "half.tar.xz"))


@pytest.fixture(scope="module")
def validation():
    return BVHDataset(CMU, "validation")


@needs(CMU)
def test_real_validation_clips_are_the_held_out_ones(validation):
    clips = {validation.clip(i) for i in range(len(validation))}
    assert {clip for clip in clips if not clip.startswith("09")} == {
        *("02_04", "05_06", "05_17", "06_15", "10_06", "13_15", "13_31", "13_41")
    }
    assert len(clips) == 17  # of subject 09's ten clips, 09_10 is faulty throughout


@needs(CMU)
def test_real_limbs_keep_their_length(validation):
    """To a nanometre. The trunk bends and the collar bones turn: these are not looked at."""
    limbs = [(a, b) for a, b in BONES if {JOINTS[a], JOINTS[b]} <= set(CMU_BVH.joints) - {"thorax"}]
    assert len(limbs) == 8
    for i in range(len(validation)):
        joints = validation[i].joints
        for a, b in limbs:
            assert np.ptp(np.linalg.norm(joints[:, a] - joints[:, b], axis=1)) < 1e-9


@needs(CMU)
def test_real_people_stand_on_the_ground_and_bend_their_knees_forwards(validation):
    for i in range(len(validation)):
        joints = validation[i].joints
        ankles = joints[:, [INDEX["left_ankle"], INDEX["right_ankle"]]]
        assert -0.1 < ankles[..., 1].min() < 0.2  # m above the floor
        across = joints[:, INDEX["left_hip"]] - joints[:, INDEX["right_hip"]]
        ahead = np.cross(across, [0, 1, 0])
        for side in ("left", "right"):
            hip, knee, ankle = (joints[:, INDEX[f"{side}_{p}"]] for p in ("hip", "knee", "ankle"))
            bend = np.einsum("ti,ti->t", knee - (hip + ankle) / 2, ahead)
            assert bend.mean() > 0
