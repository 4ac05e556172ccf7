"""MPI-INF-3DHP in the widely used data_train_3dhp.npz and data_test_3dhp.npz (of P-STMO).

Both hold `data`, a dictionary of sequences. Train: "S1 Seq1" -> [{camera: {data_2d, data_3d}},
frames a second]. Test: "TS1" -> {data_2d, data_3d, valid}. `data_3d` (T, 17, 3) are millimetres in
the camera's frame, bodies scaled to one height ("universal"), `data_2d` (T, 17, 2) pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from stsp_model.camera import Camera
from stsp_model.data.errors import DataError
from stsp_model.data.npz import load_npz
from stsp_model.data.samples import BoolArray, FloatArray, Motion, check_body
from stsp_model.skeleton import MPI_INF_3DHP_17, map_joints

_POINTS = len(MPI_INF_3DHP_17.points)
_STUDIO, _OUTDOORS = (2048, 2048), (1920, 1080)  # px
_OUTDOOR_SEQUENCES = frozenset({"TS5", "TS6"})
TEST_FPS = 25.0  # the file does not say; most training sequences of its length have this
_PINHOLE_ERROR = 2.0  # px; above this the positions are not what the camera saw


def fit_pinhole(joints: FloatArray, joints_2d: FloatArray, size: tuple[int, int]) -> Camera | None:
    """The pinhole camera through which points are seen where they are, by least squares.

    Args:
        joints: (..., 3) m in the camera's frame.
        joints_2d: (..., 2) px.
        size: (width, height) of the image, px.

    Returns:
        The camera, or None where no pinhole explains the pixels within 2 px (root mean square).
    """
    usable = np.isfinite(joints).all(-1) & np.isfinite(joints_2d).all(-1) & (joints[..., 2] > 0)
    solid, flat = joints[usable], joints_2d[usable]
    if len(solid) < 2 * _POINTS:
        return None
    K, error = np.eye(3), np.empty_like(flat)
    for axis in (0, 1):
        rows = np.stack([solid[:, axis] / solid[:, 2], np.ones(len(solid))], axis=1)
        solution = np.linalg.lstsq(rows, flat[:, axis], rcond=None)[0]
        K[axis, axis], K[axis, 2] = solution
        error[:, axis] = rows @ solution - flat[:, axis]
    if min(K[0, 0], K[1, 1]) <= 0 or np.sqrt(np.square(error).sum(1).mean()) > _PINHOLE_ERROR:
        return None
    return Camera(K, *size)


class MPIINF3DHP(Dataset[Motion]):
    """One item per sequence and camera, in the camera's frame; which way is up is not in the file.

    The cameras come from the data (`fit_pinhole`), for it holds no calibration. Joints of test
    frames that are marked invalid are NaN.

    Args:
        path: data_train_3dhp.npz or data_test_3dhp.npz.
        test_fps: frames a second of the test sequences.

    Raises:
        DataError: for another file, joint count, joint order or unit.
    """

    def __init__(self, path: str | Path, test_fps: float = TEST_FPS) -> None:
        path = Path(path)
        content = load_npz(path)
        sequences = content.get("data")
        if not isinstance(sequences, dict) or not sequences:
            raise DataError(
                f"{path} holds {', '.join(content) or 'nothing'}, expected `data`, a dictionary of "
                "sequences"
            )
        self._takes: list[tuple[str, str, float, dict[str, Any]]] = []
        for key, sequence in sequences.items():
            name = str(key)
            if isinstance(sequence, dict):
                self._takes.append((name, name, test_fps, sequence))
                continue
            try:
                cameras, fps = sequence
                self._takes += [(name, f"{name}/{c}", float(fps), v) for c, v in cameras.items()]
            except (TypeError, ValueError, AttributeError):
                raise DataError(
                    f"{path}: sequence {name} is a {type(sequence).__name__}, expected [cameras, "
                    "frames a second] or a dictionary"
                ) from None
        if not self._takes:
            raise DataError(f"{path} has no camera in any of its sequences")
        try:
            for _, name, fps, take in self._takes:
                _check_take(path, name, fps, take)
            some = [self._joints(take)[::50] for *_, take in self._takes]
        except (TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path} holds arrays that are none of numbers ({error})") from None
        check_body(np.concatenate(some), str(path))

    def __len__(self) -> int:
        return len(self._takes)

    @staticmethod
    def _joints(take: dict[str, Any]) -> FloatArray:
        solid = np.asarray(take["data_3d"], np.float64).reshape(-1, _POINTS, 3) / 1000
        return map_joints(solid, MPI_INF_3DHP_17, _valid(take)[:, None].repeat(_POINTS, 1))[0]

    def __getitem__(self, index: int) -> Motion:
        sequence, name, fps, take = self._takes[index]
        subject, _, action = sequence.partition(" ")
        joints = self._joints(take)
        points = np.asarray(take["data_2d"], np.float64)
        points = points.reshape(-1, _POINTS, points.shape[-1])[..., :2]
        joints_2d = map_joints(points, MPI_INF_3DHP_17)[0]
        size = _OUTDOORS if sequence in _OUTDOOR_SEQUENCES else _STUDIO
        return Motion(
            joints=joints,
            stamps=np.arange(len(joints)) / fps,
            name=name,
            subject=subject,
            action=action or sequence,
            up=np.full(3, np.nan),
            camera=fit_pinhole(joints, joints_2d, size),
            joints_2d=joints_2d,
        )


def _valid(take: dict[str, Any]) -> BoolArray:
    frames = len(take["data_3d"])
    return np.asarray(take.get("valid", np.ones(frames)), dtype=bool).ravel()


def _check_take(path: Path, name: str, fps: float, take: Any) -> None:
    if not 0 < fps < np.inf:
        raise DataError(f"{path}: {name} has {fps} frames a second, expected more than 0")
    lacking = {"data_2d", "data_3d"} - set(take) if isinstance(take, dict) else {"data_2d"}
    if lacking:
        raise DataError(f"{path}: {name} has no {' and '.join(sorted(lacking))}")
    frames = len(take["data_3d"])
    for key, last in (("data_3d", (3,)), ("data_2d", (2, 3))):
        shape = np.shape(take[key])
        # As read from the test set's MATLAB files there is a fourth axis of length 1.
        fits = shape == (frames, 1, *shape[-2:]) or len(shape) == 3
        if not fits or shape[0] != frames or shape[-2] != _POINTS or shape[-1] not in last:
            raise DataError(
                f"{path}: {key} of {name} has shape {shape}, expected ({frames}, {_POINTS}, "
                f"{last[0]})"
            )
    if len(_valid(take)) != frames:
        raise DataError(f"{path}: {name} has {frames} frames, but {len(_valid(take))} `valid`")
