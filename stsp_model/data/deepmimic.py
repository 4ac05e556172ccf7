"""DeepMimic's motion clips: JSON frames of joint rotations, and the character they turn.

The character faces x, y is up, z is its right. It has no nose, and its head is a sphere, so nose
and head_top are NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from stsp_model.data.bvh_file import Capture
from stsp_model.data.errors import DataError, NothingOfSplitError
from stsp_model.data.rotations import rotation_matrix
from stsp_model.data.samples import Y_UP, FloatArray, Motion, read_json
from stsp_model.data.splits import check_split, deepmimic_split
from stsp_model.skeleton import DEEPMIMIC, map_joints

CHARACTER_FILE = "humanoid3d_character.txt"
_PREFIX = "humanoid3d_"
# Numbers in a frame per type of joint; the root has its position (3) and rotation (4) instead.
_NUMBERS: Mapping[str, int] = {"spherical": 4, "revolute": 1, "fixed": 0}


@dataclass(frozen=True)
class Character:
    """Joints in the order of the frames' numbers: name, type, parent, offset (m) in its axes."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: tuple[tuple[float, float, float], ...]

    @property
    def frame_length(self) -> int:
        """Numbers in a frame: duration, root, joints."""
        return 8 + sum(_NUMBERS[kind] for kind in self.types[1:])


def read_character(path: str | Path) -> Character:
    """The skeleton of a character file. Raises DataError if it is none."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist")
    content = read_json(path)
    try:
        joints = content["Skeleton"]["Joints"]
        character = Character(
            tuple(str(joint["Name"]) for joint in joints),
            tuple(str(joint["Type"]) for joint in joints),
            tuple(int(joint["Parent"]) for joint in joints),
            tuple(
                (float(joint["AttachX"]), float(joint["AttachY"]), float(joint["AttachZ"]))
                for joint in joints
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no character of DeepMimic ({error!r})") from None
    ordered = all(-1 <= parent < i for i, parent in enumerate(character.parents))
    lacking = [name for name in DEEPMIMIC.points if name not in character.names]
    if not ordered or lacking or not set(character.types[1:]) <= set(_NUMBERS):
        raise DataError(
            f"{path} holds joints {', '.join(character.names)} of types "
            f"{', '.join(sorted(set(character.types)))}; expected the humanoid's, parents first"
        )
    return character


def read_motion(
    path: str | Path, character: Character
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Stamps (T,) s, world rotations (T, B, 3, 3) and places (T, B, 3) m of a clip's joints.

    These are in the character's order. Quaternions are w x y z; a revolute joint turns about its z
    axis, radians. Raises DataError if the file is no clip of this character.
    """
    content = read_json(Path(path))
    try:
        values = np.array(content["Frames"], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{path} has no `Frames` of numbers, each as long as the first") from None
    if values.ndim != 2 or values.shape[1] != character.frame_length:
        raise DataError(
            f"{path} has frames of {list(values.shape[1:])} numbers, expected "
            f"{character.frame_length} as the character has"
        )
    if not np.isfinite(values).all():
        raise DataError(f"{path} holds values that are not finite")
    # A frame's duration is the time to the next.
    stamps = np.concatenate([[0.0], np.cumsum(values[:-1, 0])])
    if (np.diff(stamps) <= 0).any():
        raise DataError(f"{path} has frames without duration before its last")

    positions = np.empty((len(values), len(character.names), 3))
    rotations = np.empty((len(values), len(character.names), 3, 3))
    positions[:, 0] = values[:, 1:4]
    rotations[:, 0] = rotation_matrix(values[:, 4:8])
    column = 8
    for joint in range(1, len(character.names)):
        parent, count = character.parents[joint], _NUMBERS[character.types[joint]]
        own = values[:, column : column + count]
        column += count
        if count == 1:
            half = np.concatenate([np.cos(own / 2), 0 * own, 0 * own, np.sin(own / 2)], axis=1)
            own = half
        turn = rotation_matrix(own) if count else np.eye(3)[None]
        rotations[:, joint] = rotations[:, parent] @ turn
        positions[:, joint] = positions[:, parent] + rotations[:, parent] @ np.array(
            character.offsets[joint]
        )
    if not np.isfinite(positions).all():
        raise DataError(f"{path} has rotations of no length, or its character offsets of no number")
    return stamps, rotations, positions


class DeepMimicDataset(Dataset[Motion]):
    """The clips of a folder, or one clip, each a `Motion`; the character file lies beside them.

    Args:
        path: the folder with humanoid3d_*.txt, or one of these files.
        split: "train" or "validation" by `splits.deepmimic_split`; None takes all.

    Raises:
        DataError: if there is no clip or no character.
    """

    def __init__(self, path: str | Path, split: str | None = None) -> None:
        path = Path(path)
        check_split(split, ("train", "validation"))
        if not path.exists():
            raise DataError(f"{path} does not exist, expected a folder of DeepMimic's clips")
        folder = path if path.is_dir() else path.parent
        self.character = read_character(folder / CHARACTER_FILE)
        files = sorted(folder.glob(f"{_PREFIX}*.txt")) if path.is_dir() else [path]
        self.files = [
            file
            for file in files
            if file.name != CHARACTER_FILE and split in (None, deepmimic_split(_action(file)))
        ]
        if not self.files:
            raise NothingOfSplitError(f"{path} holds no clip {_PREFIX}*.txt for split {split!r}")

    def __len__(self) -> int:
        return len(self.files)

    def clip(self, index: int) -> str:
        """The name of the clip that item `index` is."""
        return _action(self.files[index])

    def capture(self, index: int) -> Capture:
        """All bones of item `index`; its frames are taken as evenly spaced."""
        character = self.character
        stamps, rotations, positions = read_motion(self.files[index], character)
        if len(stamps) < 2:
            raise DataError(f"{self.files[index]} is too short to move")
        fps = float((len(stamps) - 1) / stamps[-1])
        offsets = np.array(character.offsets)
        return Capture(character.names, character.parents, offsets, rotations, positions, fps)

    def __getitem__(self, index: int) -> Motion:
        file = self.files[index]
        stamps, _, positions = read_motion(file, self.character)
        points = [self.character.names.index(name) for name in DEEPMIMIC.points]
        return Motion(
            joints=map_joints(positions[:, points], DEEPMIMIC)[0],
            stamps=stamps,
            name=_action(file),
            subject="humanoid",
            action=_action(file),
            up=np.array(Y_UP),
        )


def _action(file: Path) -> str:
    return file.stem.removeprefix(_PREFIX)
