"""A standing figure for the files that tests write, and where the real data may lie."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from stsp_model.skeleton import INDEX, JOINTS

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
LSPET, CMU = SHARED / "lspet", SHARED / "mocap" / "cmu_bvh60.tar.xz"
DEEPMIMIC = SHARED / "mocap" / "deepmimic"


def needs(path: Path) -> pytest.MarkDecorator:
    """Skip where data that are kept beside the project are absent."""
    return pytest.mark.skipif(not path.exists(), reason=f"the real data set {path} is not here")


# Metres, x to the figure's left, y behind it, z up: it faces -y.
_PLACES = {
    "pelvis": (0, 0, 0.9),
    "hip": (0.1, 0, 0.9),
    "knee": (0.1, -0.02, 0.5),
    "ankle": (0.1, 0, 0.1),
    "spine": (0, 0, 1.15),
    "thorax": (0, 0, 1.4),
    "nose": (0, -0.1, 1.5),
    "head_top": (0, 0, 1.65),
    "shoulder": (0.18, 0, 1.4),
    "elbow": (0.2, 0, 1.12),
    "wrist": (0.2, -0.05, 0.87),
}


def standing() -> np.ndarray:
    """(17, 3) m of the standing figure, Z up."""
    joints = np.empty((len(JOINTS), 3))
    for name, index in INDEX.items():
        part = name.removeprefix("left_").removeprefix("right_")
        joints[index] = _PLACES[part]
        joints[index, 0] *= -1 if name.startswith("right_") else 1
    return joints


def walking(frames: int = 6, speed: float = 0.02) -> np.ndarray:
    """(T, 17, 3) m: the figure glides along x, `speed` m a frame."""
    shift = np.zeros((frames, 1, 3))
    shift[:, 0, 0] = speed * np.arange(frames)
    return standing() + shift


def points_of(source, joints: np.ndarray) -> np.ndarray:
    """(..., P, D): the points of another skeleton, those it does not share with ours at zero."""
    points = np.zeros((*joints.shape[:-2], len(source.points), joints.shape[-1]))
    for joint, names in source.joints.items():
        for name in names:
            points[..., source.points.index(name), :] = joints[..., INDEX[joint], :]
    return points


def write_images(folder: Path, names: list[str], size: tuple[int, int] = (64, 48)) -> None:
    """Grey JPEG images of (width, height), as many as there are names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        assert cv2.imwrite(str(folder / name), np.full((size[1], size[0], 3), 90, np.uint8))
