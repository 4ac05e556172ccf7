"""Human3.6M and HumanEva: joints, calibrations, detections and splits of VideoPose3D's files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from people import points_of, walking
from scipy.spatial.transform import Rotation

from stsp_model.data.errors import DataError
from stsp_model.data.rotations import rotation_matrix
from stsp_model.data.videopose3d import h36m, h36m_views, humaneva, humaneva_views
from stsp_model.skeleton import COCO_17, H36M_32, HUMANEVA_15, INDEX, JOINTS

H36M_SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
H36M_SYMMETRY = [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]]
COCO_SYMMETRY = [[1, 3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 12, 14, 16]]


def write_h36m(path, joints=None, subjects=H36M_SUBJECTS, actions=("Walking 1", "SittingDown")):
    joints = points_of(H36M_32, walking()).astype(np.float32) if joints is None else joints
    takes = {subject: dict.fromkeys(actions, joints) for subject in subjects}
    np.savez_compressed(path, positions_3d=takes)
    return path


def write_keypoints(path, points, symmetry, cameras=4, **metadata):
    takes = {"S1": {"Walking 1": [points + 100 * c for c in range(cameras)]}}
    metadata = {"num_joints": points.shape[1], "keypoints_symmetry": symmetry, **metadata}
    np.savez_compressed(path, positions_2d=takes, metadata=metadata)
    return path


def test_17_of_the_32_joints_are_ours():
    """The others that VideoPose3D removes: 4 5 9 10 11 16 20 21 22 23 24 28 29 30 31."""
    kept = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]
    assert H36M_32.matrix().argmax(axis=1).tolist() == kept
    assert (H36M_32.matrix().sum(axis=1) == 1).all()


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternions_are_w_x_y_z(quaternion):
    w, x, y, z = quaternion
    expected = Rotation.from_quat([x, y, z, w]).as_matrix()
    assert rotation_matrix(np.array(quaternion)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "view",
    [
        *(view for subject in H36M_SUBJECTS for view in h36m_views(subject)),
        *(view for subject in ("S1", "S2", "S3") for view in humaneva_views(subject)),
    ],
)
def test_every_camera_looks_at_the_middle_of_its_studio(view):
    """A person in the middle stands upright before it, at the distance that the studio has."""
    seen = view.seen(walking(1)[0])
    pelvis, head = seen[INDEX["pelvis"]], seen[INDEX["head_top"]]
    assert 2.5 < pelvis[2] < 7
    assert head[1] < pelvis[1] - 0.6  # up in the image
    assert np.abs(pelvis[:2]).max() < 0.35 * pelvis[2]
    assert np.linalg.norm(seen - view.seen(view.place), axis=1) == pytest.approx(
        np.linalg.norm(walking(1)[0] - view.place, axis=1)
    )
    if view.lens is not None:
        pixels = view.lens.project(seen)
        assert ((pixels > 0) & (pixels < 1000)).all()


def test_projection_is_the_published_one_within_a_pixel():
    """Human3.6M's own formula, which weighs the tangential distortion half as much off its axis."""
    for view in h36m_views("S1"):
        lens = view.lens
        k1, k2, p1, p2, k3 = lens.D
        points = view.seen(np.random.default_rng(0).uniform((-1, -1, 0), (1, 1, 1.8), (50, 3)))
        x, y = points[:, 0] / points[:, 2], points[:, 1] / points[:, 2]
        r2 = x * x + y * y
        scale = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + p1 * y + p2 * x
        expected = np.stack([x * scale + p2 * r2, y * scale + p1 * r2], axis=1)
        expected = expected * lens.K[[0, 1], [0, 1]] + lens.K[:2, 2]
        assert np.abs(lens.project(points) - expected).max() < 1


def test_what_is_behind_a_camera_is_not_seen():
    lens = h36m_views("S1")[0].lens
    assert np.isnan(lens.project([[0.1, 0.1, -2.0]])).all()


def test_every_take_is_seen_by_four_cameras(tmp_path):
    data = h36m(write_h36m(tmp_path / "data_3d_h36m.npz"))
    assert len(data) == 7 * 2 * 4
    motion = data[0]
    assert motion.name == "S1/Walking 1/54138969"
    assert (motion.subject, motion.action) == ("S1", "Walking")
    assert motion.stamps == pytest.approx(0.02 * np.arange(6))
    view = h36m_views("S1")[0]
    assert motion.joints == pytest.approx(view.seen(walking()), abs=1e-6)
    assert motion.camera is view.lens
    assert motion.joints_2d == pytest.approx(view.lens.project(motion.joints))
    upright = motion.joints[0, INDEX["head_top"]] - motion.joints[0, INDEX["pelvis"]]
    assert motion.up == pytest.approx(upright / np.linalg.norm(upright), abs=1e-6)


def test_the_world_has_every_take_once(tmp_path):
    data = h36m(write_h36m(tmp_path / "a.npz"), world=True)
    assert len(data) == 14
    assert data[0].joints == pytest.approx(walking(), abs=1e-6)
    assert data[0].up.tolist() == [0, 0, 1]
    assert data[0].camera is None


def test_a_file_of_17_joints_is_read_alike(tmp_path):
    path = write_h36m(tmp_path / "a.npz", joints=walking().astype(np.float32))
    assert h36m(path, world=True)[0].joints == pytest.approx(walking(), abs=1e-6)


def test_the_published_split(tmp_path):
    path = write_h36m(tmp_path / "a.npz")
    parts = {split: h36m(path, split, world=True) for split in ("train", "report")}
    subjects = {split: {data[i].subject for i in range(len(data))} for split, data in parts.items()}
    assert subjects["train"] == {"S1", "S5", "S6", "S7", "S8"}
    assert subjects["report"] == {"S9", "S11"}
    with pytest.raises(DataError, match="split is 'test'"):
        h36m(path, "test")
    with pytest.raises(DataError, match="lacks subjects S9, S11 of split 'report'; it has S1"):
        h36m(write_h36m(tmp_path / "b.npz", subjects=("S1", "S5")), "report")


def test_detections_take_the_place_of_projections(tmp_path):
    path = write_h36m(tmp_path / "a.npz", subjects=("S1",), actions=("Walking 1",))
    points = np.arange(8 * 17 * 2, dtype=np.float32).reshape(8, 17, 2)
    detections = write_keypoints(tmp_path / "2d.npz", points, H36M_SYMMETRY, layout_name="h36m")
    motion = h36m(path, keypoints=detections)[1]
    assert motion.joints_2d.tolist() == (points[:6] + 100).tolist()  # the video runs on for two


def test_detections_of_coco_joints_are_mapped(tmp_path):
    path = write_h36m(tmp_path / "a.npz", subjects=("S1",), actions=("Walking 1",))
    points = np.arange(6 * 17 * 2, dtype=np.float32).reshape(6, 17, 2)
    detections = write_keypoints(tmp_path / "2d.npz", points, COCO_SYMMETRY)
    joints = h36m(path, keypoints=detections)[0].joints_2d
    wrist = COCO_17.points.index("left_wrist")
    assert joints[:, INDEX["left_wrist"]].tolist() == points[:, wrist].tolist()
    assert np.isnan(joints[:, INDEX["head_top"]]).all()


@pytest.mark.parametrize(
    ("points", "symmetry", "told"),
    [
        (np.zeros((6, 16, 2)), [[3, 4, 5], [0, 1, 2]], r"which is none of Human3.6M-17, HumanEva"),
        (np.zeros((6, 16, 2)), H36M_SYMMETRY, r"shape \(6, 16, 2\), expected \(T, 17, 2 or 3\)"),
        (np.zeros((5, 17, 2)), H36M_SYMMETRY, r"has 5 frames, the motion capture has 6"),
    ],
)
def test_other_detections_are_told(tmp_path, points, symmetry, told):
    path = write_h36m(tmp_path / "a.npz", subjects=("S1",), actions=("Walking 1",))
    detections = write_keypoints(tmp_path / "2d.npz", points, symmetry)
    with pytest.raises(DataError, match=told):
        h36m(path, keypoints=detections)[0]


def test_detections_of_another_set_are_told(tmp_path):
    path = write_h36m(tmp_path / "a.npz")
    three = write_keypoints(tmp_path / "2d.npz", np.zeros((6, 17, 2)), H36M_SYMMETRY, cameras=3)
    data = h36m(path, keypoints=three)
    with pytest.raises(DataError, match="no detections of S1/Walking 1, camera 4"):
        data[3]
    with pytest.raises(DataError, match="no detections of S1/SittingDown"):
        data[4]


@pytest.mark.parametrize(
    ("joints", "told"),
    [
        (np.zeros((6, 25, 3)), r"shape \(6, 25, 3\), expected \(T, 32 or 17, 3\)"),
        (np.zeros((6, 96)), r"shape \(6, 96\), expected"),
        (np.zeros((0, 17, 3)), r"shape \(0, 17, 3\), expected"),
        (np.full((6, 17, 3), "x"), "S1/Walking 1 is no array of numbers"),
        (1000 * walking(), "another unit"),
        (walking()[:, ::-1], "another order"),
    ],
)
def test_other_positions_are_told(tmp_path, joints, told):
    with pytest.raises(DataError, match=told):
        h36m(write_h36m(tmp_path / "a.npz", joints=joints))


def test_other_files_are_told(tmp_path):
    keypoints = write_keypoints(tmp_path / "2d.npz", np.zeros((6, 17, 2)), H36M_SYMMETRY)
    with pytest.raises(DataError, match=r"holds positions_2d, metadata, expected `positions_3d`"):
        h36m(keypoints)
    with pytest.raises(DataError, match="holds no take of any subject"):
        h36m(write_h36m(tmp_path / "a.npz", actions=()))
    with pytest.raises(DataError, match=r"holds subjects \['S99'\], expected S1, S5"):
        h36m(write_h36m(tmp_path / "a.npz", subjects=("S99",)))


def write_humaneva(path, subjects=("Train/S1", "Train/S2", "Train/S3", "Validate/S1")):
    points = points_of(HUMANEVA_15, walking()).astype(np.float32)
    takes = {subject: {"Jog 1 chunk0": points} for subject in subjects}
    np.savez_compressed(path, positions_3d=takes)
    return path


def test_humaneva_has_three_cameras_without_a_lens_and_no_nose(tmp_path):
    path = write_humaneva(tmp_path / "data_3d_humaneva15.npz")
    data = humaneva(path)
    assert len(data) == 4 * 3
    motion = data[1]
    assert motion.name == "Train/S1/Jog 1 chunk0/C2"
    assert motion.action == "Jog"
    assert motion.camera is None
    assert np.diff(motion.stamps) == pytest.approx(1 / 60)
    missing = [name for name in JOINTS if np.isnan(motion.joints[:, INDEX[name]]).any()]
    assert missing == ["nose"]
    view = humaneva_views("S1")[1]
    expected = view.seen(walking())[:, INDEX["left_wrist"]]
    assert motion.joints[:, INDEX["left_wrist"]] == pytest.approx(expected, abs=1e-6)
    assert {humaneva(path, "train")[i].subject for i in range(9)} == {
        "Train/S1",
        "Train/S2",
        "Train/S3",
    }


def test_humaneva_subjects_without_calibration_are_told(tmp_path):
    path = write_humaneva(tmp_path / "a.npz", subjects=("Train/S4",))
    with pytest.raises(DataError, match=r"\['Train/S4'\], whose cameras are not known"):
        humaneva(path)
    assert len(humaneva(path, world=True)) == 1
    with pytest.raises(DataError, match=r"expected \(T, 15, 3\)"):
        humaneva(write_h36m(tmp_path / "b.npz"))
