"""DeepMimic: which way joints turn, and that real clips are the motions they are called."""

from __future__ import annotations

import json

import numpy as np
import pytest
from people import DEEPMIMIC, needs
from scipy.spatial.transform import Rotation

from stsp_model.data.deepmimic import CHARACTER_FILE, DeepMimicDataset, read_character, read_motion
from stsp_model.data.errors import DataError
from stsp_model.skeleton import INDEX, JOINTS, PARENTS

# Name, type, parent, offset: a humanoid in the format's order, facing x, y up, z its right.
HUMANOID = [
    ("root", "none", -1, (0, 0, 0)),
    ("chest", "spherical", 0, (0, 0.25, 0)),
    ("neck", "spherical", 1, (0, 0.25, 0)),
    ("right_hip", "spherical", 0, (0, 0, 0.1)),
    ("right_knee", "revolute", 3, (0, -0.4, 0)),
    ("right_ankle", "spherical", 4, (0, -0.4, 0)),
    ("right_shoulder", "spherical", 1, (0, 0.25, 0.2)),
    ("right_elbow", "revolute", 6, (0, -0.3, 0)),
    ("right_wrist", "fixed", 7, (0, -0.25, 0)),
    ("left_hip", "spherical", 0, (0, 0, -0.1)),
    ("left_knee", "revolute", 9, (0, -0.4, 0)),
    ("left_ankle", "spherical", 10, (0, -0.4, 0)),
    ("left_shoulder", "spherical", 1, (0, 0.25, -0.2)),
    ("left_elbow", "revolute", 12, (0, -0.3, 0)),
    ("left_wrist", "fixed", 13, (0, -0.25, 0)),
]
IDENTITY = [1.0, 0, 0, 0]
COLUMNS = {"chest": 8, "right_hip": 16, "right_knee": 20, "left_elbow": 43}  # in a frame


def frame(duration=0.05, root=IDENTITY, **turns):
    values = [duration, 0, 0.9, 0, *root]
    for _, kind, *_ in HUMANOID[1:]:
        values += {"spherical": IDENTITY, "revolute": [0.0], "fixed": []}[kind]
    for name, turn in turns.items():
        column = COLUMNS[name]
        values[column : column + len(turn)] = turn
    return values


def write(folder, clips, joints=HUMANOID):
    described = [
        {
            "ID": i,
            "Name": name,
            "Type": kind,
            "Parent": parent,
            "AttachX": x,
            "AttachY": y,
            "AttachZ": z,
        }
        for i, (name, kind, parent, (x, y, z)) in enumerate(joints)
    ]
    (folder / CHARACTER_FILE).write_text(json.dumps({"Skeleton": {"Joints": described}}))
    for name, frames in clips.items():
        content = {"Loop": "wrap", "Frames": frames}
        (folder / f"humanoid3d_{name}.txt").write_text(json.dumps(content))
    return folder


def first(folder, name):
    return DeepMimicDataset(folder / f"humanoid3d_{name}.txt")[0].joints[0]


def test_without_turns_joints_hang_by_their_offsets(tmp_path):
    joints = first(write(tmp_path, {"walk": [frame()]}), "walk")
    assert joints[INDEX["right_ankle"]] == pytest.approx([0, 0.1, 0.1])
    assert joints[INDEX["left_wrist"]] == pytest.approx([0, 0.85, -0.2])
    assert joints[INDEX["thorax"]] == pytest.approx([0, 1.4, 0])
    assert joints[INDEX["pelvis"]] == pytest.approx([0, 0.9, 0])
    assert [name for name in JOINTS if np.isnan(joints[INDEX[name]]).any()] == ["nose", "head_top"]


def test_knees_bend_backwards_and_elbows_forwards(tmp_path):
    turned = frame(right_knee=[-np.pi / 2], left_elbow=[np.pi / 2])
    joints = first(write(tmp_path, {"walk": [turned]}), "walk")
    assert joints[INDEX["right_ankle"]] == pytest.approx([-0.4, 0.5, 0.1])
    assert joints[INDEX["left_wrist"]] == pytest.approx([0.25, 1.1, -0.2])


def test_quaternions_are_w_x_y_z_and_follow_the_chain(tmp_path):
    root, hip = Rotation.from_euler("y", 40, degrees=True), Rotation.from_euler("zx", [30, 10])
    scalar_first = [[turn.as_quat()[i] for i in (3, 0, 1, 2)] for turn in (root, hip)]
    turned = frame(root=scalar_first[0], right_hip=scalar_first[1], right_knee=[-0.7])
    joints = first(write(tmp_path, {"walk": [turned]}), "walk")
    pelvis = np.array([0, 0.9, 0])
    knee = pelvis + root.apply(np.array([0, 0, 0.1]) + hip.apply([0, -0.4, 0]))
    ankle = knee + (root * hip * Rotation.from_euler("z", -0.7)).apply([0, -0.4, 0])
    assert joints[INDEX["right_knee"]] == pytest.approx(knee)
    assert joints[INDEX["right_ankle"]] == pytest.approx(ankle)


def test_a_frame_lasts_until_the_next(tmp_path):
    write(tmp_path, {"walk": [frame(0.02), frame(0.04), frame(0.0)]})
    assert DeepMimicDataset(tmp_path)[0].stamps == pytest.approx([0, 0.02, 0.06])
    write(tmp_path, {"walk": [frame(0.02), frame(0.0), frame(0.0)]})
    with pytest.raises(DataError, match="frames without duration"):
        DeepMimicDataset(tmp_path)[0]
    write(tmp_path, {"walk": [frame(0.1), frame(-0.05), frame(0.1), frame(0.0)]})
    with pytest.raises(DataError, match="frames without duration"):
        DeepMimicDataset(tmp_path).capture(0)  # as a child performs it


def test_the_cartwheel_is_held_out(tmp_path):
    write(tmp_path, {name: [frame()] for name in ("cartwheel", "walk")})
    actions = {
        split: [data[i].action for i in range(len(data))]
        for split in (None, "train", "validation")
        for data in [DeepMimicDataset(tmp_path, split)]
    }
    assert actions == {
        None: ["cartwheel", "walk"],
        "train": ["walk"],
        "validation": ["cartwheel"],
    }


def test_mistakes_are_told(tmp_path):
    with pytest.raises(DataError, match=r"humanoid3d_character.txt does not exist"):
        DeepMimicDataset(tmp_path)
    write(tmp_path, {})
    with pytest.raises(DataError, match=r"holds no clip humanoid3d_\*.txt"):
        DeepMimicDataset(tmp_path)
    write(tmp_path, {"walk": [frame()[:-1]]})
    with pytest.raises(DataError, match=r"frames of \[43\] numbers, expected 44"):
        DeepMimicDataset(tmp_path)[0]
    write(tmp_path, {"walk": [frame(duration=float("nan"))]})
    with pytest.raises(DataError, match="not finite"):
        DeepMimicDataset(tmp_path)[0]
    for frames in (5, [1, 2], [["x"] * 44], [frame(), frame()[:-1]], [[[1.0]] * 44], []):
        write(tmp_path, {"walk": frames})
        with pytest.raises(DataError, match=r"walk\.txt has (no `Frames`|frames of)"):
            DeepMimicDataset(tmp_path)[0]
    (tmp_path / "humanoid3d_walk.txt").write_text("[" * 100_000)
    with pytest.raises(DataError, match="no whole JSON file"):
        DeepMimicDataset(tmp_path)[0]
    write(tmp_path, {"walk": [frame(root=[0.0, 0, 0, 0])]})
    with pytest.raises(DataError, match=r"walk\.txt has rotations of no length"):
        DeepMimicDataset(tmp_path)[0]
    write(tmp_path, {}, joints=[*HUMANOID[:-1], ("left_wrist", 3, 13, (0, -0.25, 0))])
    with pytest.raises(DataError, match="of types 3, fixed"):
        DeepMimicDataset(tmp_path)
    write(tmp_path, {}, joints=HUMANOID[:9])
    with pytest.raises(DataError, match="expected the humanoid's, parents first"):
        DeepMimicDataset(tmp_path)
    (tmp_path / CHARACTER_FILE).write_text('{"Skeleton": {}}')
    with pytest.raises(DataError, match="is no character"):
        read_character(tmp_path / CHARACTER_FILE)
    (tmp_path / CHARACTER_FILE).write_text('{"Skeleton": ')
    with pytest.raises(DataError, match="no whole JSON file"):
        read_character(tmp_path / CHARACTER_FILE)


@pytest.fixture(scope="module")
def clips():
    data = DeepMimicDataset(DEEPMIMIC)
    return {data[i].action: data[i] for i in range(len(data))}


@needs(DEEPMIMIC)
def test_real_bones_keep_their_length(clips):
    assert len(clips) == 15
    limbs = [(PARENTS[j], j) for j, name in enumerate(JOINTS) if name.endswith(("knee", "ankle"))]
    limbs += [(PARENTS[j], j) for j, name in enumerate(JOINTS) if name.endswith(("elbow", "wrist"))]
    for motion in clips.values():
        for a, b in limbs:
            length = np.linalg.norm(motion.joints[:, a] - motion.joints[:, b], axis=1)
            assert np.ptp(length) < 1e-9


@needs(DEEPMIMIC)
def test_real_knees_bend_the_right_way(clips):
    for name in ("walk", "run", "jog", "jump", "kick"):
        joints = clips[name].joints
        across = joints[:, INDEX["right_hip"]] - joints[:, INDEX["left_hip"]]
        ahead = np.cross([0, 1, 0], across)
        for side in ("left", "right"):
            hip, knee, ankle = (joints[:, INDEX[f"{side}_{p}"]] for p in ("hip", "knee", "ankle"))
            assert np.einsum("ti,ti->t", knee - (hip + ankle) / 2, ahead).min() > -0.01


@needs(DEEPMIMIC)
def test_the_real_cartwheel_stands_on_its_hands(clips):
    height = clips["cartwheel"].joints[..., 1]
    ankles = height[:, [INDEX["left_ankle"], INDEX["right_ankle"]]]
    wrists = height[:, [INDEX["left_wrist"], INDEX["right_wrist"]]]
    on_hands = np.argmax(ankles.max(axis=1))
    assert wrists[on_hands].min() < 0.15
    assert ankles[on_hands].max() > 1.3
    assert height[on_hands, INDEX["pelvis"]] > height[on_hands, INDEX["thorax"]]
    assert ankles[[0, -1]].max() < 0.3


@needs(DEEPMIMIC)
def test_the_real_character_is_the_humanoid():
    character = read_character(DEEPMIMIC / CHARACTER_FILE)
    assert [(n, t, p) for n, t, p, _ in HUMANOID] == list(
        zip(character.names, character.types, character.parents, strict=True)
    )
    stamps, _, positions = read_motion(DEEPMIMIC / "humanoid3d_walk.txt", character)
    assert positions.shape == (len(stamps), 15, 3)
