"""Human3.6M and HumanEva in VideoPose3D's files: data_3d_*.npz and data_2d_*.npz.

Positions are metres in the world, Z up, every take seen by several cameras. The calibrations stand
in h36m_cameras.json and humaneva_cameras.json; that of HumanEva knows where the cameras are, but
not their lenses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from stsp_model.camera import Camera
from stsp_model.data.errors import DataError
from stsp_model.data.npz import load_npz
from stsp_model.data.rotations import rotation_matrix
from stsp_model.data.samples import Z_UP, FloatArray, Motion, check_body
from stsp_model.data.splits import H36M, HUMANEVA, check_split
from stsp_model.skeleton import COCO_17, H36M_32, HUMANEVA_15, JOINTS, Source, map_joints

_HERE = Path(__file__).parent
_OURS = Source("Human3.6M-17", JOINTS, {name: (name,) for name in JOINTS})
_BY_COUNT = {len(source.points): source for source in (H36M_32, _OURS, HUMANEVA_15)}
# How a data_2d file tells its order: the left points in its `keypoints_symmetry`.
_BY_LEFT_POINTS: dict[tuple[int, ...], Source] = {
    (4, 5, 6, 11, 12, 13): _OURS,
    (2, 3, 4, 8, 9, 10): HUMANEVA_15,
    (1, 3, 5, 7, 9, 11, 13, 15): COCO_17,
}
Takes = dict[str, dict[str, Any]]  # by subject, then by take


@dataclass(frozen=True, eq=False)
class View:
    """A calibrated camera in a studio.

    Args:
        id: its name.
        rotation: (3, 3) from the camera's axes to the world's.
        place: (3,) m in the world.
        lens: None where it is not published.
    """

    id: str
    rotation: FloatArray
    place: FloatArray
    lens: Camera | None

    def seen(self, points: FloatArray) -> FloatArray:
        """Points (..., 3) m of the world in the camera's optical frame."""
        return np.asarray((points - self.place) @ self.rotation)


@cache
def _views(file: str) -> dict[str, tuple[View, ...]]:
    table = json.loads((_HERE / file).read_text(encoding="utf-8"))
    lenses = []
    for camera in table["cameras"]:
        lens = None
        if "focal" in camera:
            (fx, fy), (cx, cy) = camera["focal"], camera["centre"]
            k1, k2, k3 = camera["radial"]
            K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
            width, height = camera["size"]
            lens = Camera(K, width, height, np.array([k1, k2, *camera["tangential"], k3]))
        lenses.append((camera["id"], lens))
    return {
        subject: tuple(
            View(
                name,
                rotation_matrix(np.array(place["orientation"])),
                np.array(place["translation"]) / 1000,
                lens,
            )
            for place, (name, lens) in zip(places, lenses, strict=True)
        )
        for subject, places in table["subjects"].items()
    }


def h36m_views(subject: str) -> tuple[View, ...]:
    """The four cameras as they stood for subject S1, S5, S6, S7, S8, S9 or S11.

    Their distortion is OpenCV's, which weighs the tangential part a little otherwise than Human3.6M
    does: projections differ by up to a pixel in the image's corners.
    """
    return _views("h36m_cameras.json")[subject]


def humaneva_views(subject: str) -> tuple[View, ...]:
    """The three colour cameras as they stood for subject S1, S2 or S3."""
    return _views("humaneva_cameras.json")[subject]


def _takes(path: Path, key: str) -> tuple[Takes, dict[str, Any]]:
    content = load_npz(path)
    takes = content.get(key)
    whole = isinstance(takes, dict) and takes and all(isinstance(t, dict) for t in takes.values())
    if not whole:
        raise DataError(
            f"{path} holds {', '.join(content) or 'nothing'}, expected `{key}` by subject and take"
        )
    assert isinstance(takes, dict)
    return takes, content


def _positions(path: Path, expected: tuple[Source, ...]) -> Takes:
    """The joints (T, 17, 3) of every take."""
    takes, _ = _takes(path, "positions_3d")
    counts = " or ".join(str(len(source.points)) for source in expected)
    for subject, actions in takes.items():
        for action, positions in actions.items():
            try:
                array = np.asarray(positions, dtype=np.float64)
            except (TypeError, ValueError):
                raise DataError(f"{path}: take {subject}/{action} is no array of numbers") from None
            whole = array.ndim == 3 and array.shape[2] == 3 and len(array) > 0
            source = _BY_COUNT.get(array.shape[1]) if whole else None
            if source not in expected:
                raise DataError(
                    f"{path}: take {subject}/{action} has shape {array.shape}, expected "
                    f"(T, {counts}, 3)"
                )
            assert source is not None
            actions[action] = map_joints(array, source)[0].astype(np.float32)
    every = [take[::50] for actions in takes.values() for take in actions.values()]
    if not every:
        raise DataError(f"{path} holds no take of any subject")
    check_body(np.concatenate(every), str(path))
    return takes


class _Keypoints:
    """A data_2d file: for every take one array of detections per camera."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.takes, content = _takes(path, "positions_2d")
        symmetry = (content.get("metadata") or {}).get("keypoints_symmetry")
        source = _BY_LEFT_POINTS.get(tuple(int(i) for i in symmetry[0])) if symmetry else None
        if source is None:
            known = ", ".join(source.name for source in _BY_LEFT_POINTS.values())
            raise DataError(
                f"{path} has keypoints_symmetry {symmetry}, which is none of {known}: its "
                "keypoints are in another order than expected"
            )
        self.source = source

    def joints(self, subject: str, action: str, view: int, frames: int) -> FloatArray:
        """(T, 17, 2) px. Videos that run on after the motion capture are cut."""
        name = f"{subject}/{action}"
        try:
            points = np.asarray(self.takes[subject][action][view], dtype=np.float64)
        except (KeyError, IndexError):
            raise DataError(f"{self.path} has no detections of {name}, camera {view + 1}") from None
        count = len(self.source.points)
        if points.ndim != 3 or points.shape[1] != count or points.shape[2] not in (2, 3):
            raise DataError(
                f"{self.path}: {name} has shape {points.shape}, expected (T, {count}, 2 or 3)"
            )
        if len(points) < frames:
            raise DataError(
                f"{self.path}: {name} has {len(points)} frames, the motion capture has {frames}"
            )
        return map_joints(points[:frames, :, :2], self.source)[0]


class _StudioTakes(Dataset[Motion]):
    """Takes of several subjects, as every camera saw them or in the world."""

    def __init__(
        self,
        takes: Takes,
        keypoints: str | Path | None,
        views: dict[str, tuple[View, ...]],
        fps: float,
        world: bool,
    ) -> None:
        self._takes, self._views, self._fps = takes, views, fps
        self._keypoints = None if keypoints is None else _Keypoints(Path(keypoints))
        self._items: list[tuple[str, str, int | None]] = [
            (subject, action, view)
            for subject, actions in takes.items()
            for action in actions
            for view in ([None] if world else range(len(views[subject])))
        ]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Motion:
        subject, action, number = self._items[index]
        joints = self._takes[subject][action].astype(np.float64)
        up, name = np.array(Z_UP), f"{subject}/{action}"
        lens, joints_2d = None, None
        if number is not None:
            view = self._views[subject][number]
            joints, up, lens = view.seen(joints), view.seen(view.place + up), view.lens
            name = f"{name}/{view.id}"
            if self._keypoints is not None:
                joints_2d = self._keypoints.joints(subject, action, number, len(joints))
            elif lens is not None:
                joints_2d = lens.project(joints)
        return Motion(
            joints=joints,
            stamps=np.arange(len(joints)) / self._fps,
            name=name,
            subject=subject,
            action=str(action).split(" ")[0],
            up=up / np.linalg.norm(up),
            camera=lens,
            joints_2d=joints_2d,
        )


def h36m(
    path: str | Path,
    split: str | None = None,
    keypoints: str | Path | None = None,
    world: bool = False,
) -> Dataset[Motion]:
    """Human3.6M: 50 Hz, every take once per camera in that camera's frame.

    Args:
        path: data_3d_h36m.npz, with 32 joints or reduced to 17.
        split: "train" (S1, S5-S8) or "report" (S9, S11); None takes all.
        keypoints: data_2d_h36m_*.npz for `joints_2d` (H36M's or COCO's keypoints); without it they
            are the projections of the joints.
        world: every take once, in the world's frame, Z up, without camera.

    Raises:
        DataError: for another file, joint count or order, unit, or subjects without calibration.
    """
    check_split(split, tuple(H36M))
    takes = _positions(Path(path), (H36M_32, _OURS))
    views = _views("h36m_cameras.json")
    unknown = set(takes) - set(views)
    if unknown:
        raise DataError(f"{path} holds subjects {sorted(unknown)}, expected {', '.join(views)}")
    takes = _chosen(takes, split, H36M, path)
    return _StudioTakes(takes, keypoints, views, 50.0, world)


def humaneva(
    path: str | Path,
    split: str | None = None,
    keypoints: str | Path | None = None,
    world: bool = False,
) -> Dataset[Motion]:
    """HumanEva-I: 60 Hz, without nose, every chunk once per camera in that camera's frame.

    Subjects are named as in the file ("Train/S1", "Validate/S1"); the lenses are unknown.

    Args:
        path: data_3d_humaneva15.npz.
        split: "train" (Train/*) or "report" (Validate/*); None takes all.
        keypoints: data_2d_humaneva15_*.npz for `joints_2d`.
        world: every chunk once, in the world's frame, Z up.

    Raises:
        DataError: for another file, joint count or order, unit, or subjects without calibration.
    """
    check_split(split, tuple(HUMANEVA))
    takes = _chosen(_positions(Path(path), (HUMANEVA_15,)), split, HUMANEVA, path)
    known = _views("humaneva_cameras.json")
    views = {subject: known.get(subject.split("/")[-1], ()) for subject in takes}
    unknown = sorted(subject for subject, places in views.items() if not places)
    if unknown and not world:
        raise DataError(f"{path} holds {unknown}, whose cameras are not known; read it with world")
    return _StudioTakes(takes, keypoints, views, 60.0, world)


def _chosen(
    takes: Takes, split: str | None, ranges: Mapping[str, tuple[str, ...]], path: str | Path
) -> Takes:
    if split is None:
        return takes
    lacking = [subject for subject in ranges[split] if subject not in takes]
    if lacking:
        raise DataError(
            f"{path} lacks subjects {', '.join(lacking)} of split {split!r}; it has "
            f"{', '.join(takes)}"
        )
    return {subject: takes[subject] for subject in ranges[split]}
