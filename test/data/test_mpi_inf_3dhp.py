"""MPI-INF-3DHP: metres, the camera found from the data, invalid frames left out."""

from __future__ import annotations

import numpy as np
import pytest
from people import points_of, walking

from stsp_model.camera import Camera
from stsp_model.data.errors import DataError
from stsp_model.data.mpi_inf_3dhp import MPIINF3DHP, fit_pinhole
from stsp_model.skeleton import INDEX, JOINTS, MPI_INF_3DHP_17

K = np.array([[1500.0, 0, 1020], [0, 1490, 1030], [0, 0, 1]])
SIZE = (2048, 2048)
# The figure before the camera: x right, y down, z ahead.
SEEN = walking(6) @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]) + [0.2, 0.9, 3.5]


def take(joints=SEEN, **changes):
    solid = points_of(MPI_INF_3DHP_17, 1000 * joints)
    # Pelvis, spine and head are points of their own, which ours do not use.
    for point in ("pelvis", "spine", "head"):
        solid[:, MPI_INF_3DHP_17.points.index(point)] = (0, 0, 3500)
    flat = Camera(K, *SIZE).project(solid / 1000)
    return {"data_3d": solid.astype(np.float32), "data_2d": flat.astype(np.float32), **changes}


def write_train(path, cameras=("0", "4")):
    np.savez_compressed(path, data={"S1 Seq1": [{c: take() for c in cameras}, 25]})
    return path


def write_test(path, sequence="TS1", **changes):
    np.savez_compressed(path, data={sequence: take(valid=np.ones(6), **changes)})
    return path


def test_the_order_is_that_of_the_published_files():
    """Users of these files root the pose at point 14 and swap these points to mirror it."""
    points = MPI_INF_3DHP_17.points
    assert points[14] == "pelvis"
    assert [i for i, p in enumerate(points) if p.startswith("left")] == [5, 6, 7, 11, 12, 13]
    assert [i for i, p in enumerate(points) if p.startswith("right")] == [2, 3, 4, 8, 9, 10]


def test_a_sequence_is_an_item_per_camera(tmp_path):
    data = MPIINF3DHP(write_train(tmp_path / "data_train_3dhp.npz"))
    assert [data[i].name for i in range(len(data))] == ["S1 Seq1/0", "S1 Seq1/4"]
    motion = data[1]
    assert (motion.subject, motion.action) == ("S1", "Seq1")
    assert motion.stamps == pytest.approx(np.arange(6) / 25)
    assert np.isnan(motion.up).all()
    known = [i for i, name in enumerate(JOINTS) if name != "nose"]
    assert motion.joints[:, known] == pytest.approx(SEEN[:, known], abs=1e-5)
    assert np.isnan(motion.joints[:, INDEX["nose"]]).all()


def test_the_camera_is_found_from_the_data(tmp_path):
    motion = MPIINF3DHP(write_train(tmp_path / "a.npz"))[0]
    assert motion.camera is not None
    assert pytest.approx(K, abs=0.1) == motion.camera.K
    assert (motion.camera.width, motion.camera.height) == SIZE
    assert motion.joints_2d == pytest.approx(
        motion.camera.project(motion.joints), abs=0.1, nan_ok=True
    )


def test_where_no_pinhole_explains_the_pixels_there_is_no_camera():
    flat = Camera(K, *SIZE).project(SEEN)
    assert fit_pinhole(SEEN, flat, SIZE) is not None
    noise = np.random.default_rng(0).normal(0, 5, flat.shape)
    assert fit_pinhole(SEEN, flat + noise, SIZE) is None
    assert fit_pinhole(SEEN, -flat, SIZE) is None  # mirrored
    assert fit_pinhole(SEEN[:1], flat[:1], SIZE) is None  # too few points


def test_invalid_frames_of_the_test_set_have_no_joints(tmp_path):
    valid = np.array([[1, 0, 1, 1, 0, 1]])
    path = tmp_path / "data_test_3dhp.npz"
    np.savez_compressed(path, data={"TS5": take(valid=valid)})
    motion = MPIINF3DHP(path, test_fps=50)[0]
    assert motion.mask[:, INDEX["pelvis"]].tolist() == [True, False, True, True, False, True]
    assert np.isfinite(motion.joints_2d[:, INDEX["pelvis"]]).all()
    assert (motion.camera.width, motion.camera.height) == (1920, 1080)
    assert motion.stamps[1] == pytest.approx(0.02)
    assert motion.action == "TS5"


def test_the_fourth_axis_of_matlab_files_is_dropped(tmp_path):
    whole = take()
    extra = {key: whole[key][:, None] for key in ("data_2d", "data_3d")}
    motion = MPIINF3DHP(write_test(tmp_path / "a.npz", **extra))[0]
    assert motion.joints.shape == (6, 17, 3)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data_3d": np.zeros((6, 28, 3))}, r"shape \(6, 28, 3\), expected \(6, 17, 3\)"),
        ({"data_2d": np.zeros((5, 17, 2))}, r"data_2d of TS1 has shape \(5, 17, 2\)"),
        ({"valid": np.ones(3)}, "6 frames, but 3 `valid`"),
        ({"data_3d": take()["data_3d"] / 1000}, "another unit"),
        ({"data_3d": take()["data_3d"][:, ::-1]}, "another order"),
    ],
)
def test_other_arrays_are_told(tmp_path, changes, told):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, data={"TS1": take(**{"valid": np.ones(6), **changes})})
    with pytest.raises(DataError, match=told):
        MPIINF3DHP(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"positions_3d": {}}, "holds positions_3d, expected `data`"),
        ({"data": {"TS1": 3}}, r"sequence TS1 is a int, expected \[cameras"),
        ({"data": {"TS1": {"data_3d": np.zeros((6, 17, 3))}}}, "TS1 has no data_2d"),
        ({"data": {"S1 Seq1": [{"0": take()}, 0]}}, "S1 Seq1/0 has 0.0 frames a second, expected"),
        ({"data": {"S1 Seq1": [{"0": take()}, np.nan]}}, "has nan frames a second"),
        ({"data": {"S1 Seq1": [{}, 25]}}, "no camera in any of its sequences"),
        ({"data": {"TS1": {"data_3d": 1.0, "data_2d": 2.0}}}, "none of numbers"),
        ({"data": {"TS1": take(data_3d=np.full((6, 17, 3), "x"))}}, "none of numbers"),
    ],
)
def test_other_files_are_told(tmp_path, content, told):
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(DataError, match=told):
        MPIINF3DHP(tmp_path / "a.npz")
