"""Rendered clips with exact ground truth: the files that `stsp synth` writes, and their readers.

A clip is one safetensors file: the JPEG pictures one after another beside arrays of the truth.
It is written under another name and renamed when whole, so what bears its name is whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch.utils.data import Dataset

from stsp_model.camera import Camera
from stsp_model.data.errors import DataError
from stsp_model.data.samples import BoolArray, FloatArray, ImagePose, Motion, read_json
from stsp_model.images import decode_compressed
from stsp_model.skeleton import JOINT_COUNT

SUFFIX = ".safetensors"
INDEX_FILE = "dataset.json"
_VERSION = 1
_MIN_VISIBLE = 4  # joints; a person seen less than that is no sample of ShardPeople


@dataclass(frozen=True, eq=False)
class RenderedClip:
    """T pictures of P people, and the truth about them; joints as `skeleton.JOINTS`.

    Args:
        name: of the clip.
        motions: P names of the captured motions.
        camera: of all pictures.
        stamps: (T,) s, the middle of each exposure.
        jpegs: T pictures.
        joints_3d: (T, P, 17, 3) m in the camera's axes.
        joints_2d: (T, P, 17, 2) px, distortion included; NaN behind the camera.
        visible: (T, P, 17) bool; in the picture and not hidden.
        boxes: (T, P, 4) x0 y0 x1 y1 px around what of a person lies in the picture, or NaN.
        heights: (P,) m, standing.
        up: (T, 3) unit vector that points up, camera axes.

    Raises:
        ValueError: naming what has another shape.
    """

    name: str
    motions: tuple[str, ...]
    camera: Camera
    stamps: FloatArray
    jpegs: Sequence[bytes]
    joints_3d: FloatArray
    joints_2d: FloatArray
    visible: BoolArray
    boxes: FloatArray
    heights: FloatArray
    up: FloatArray

    def __post_init__(self) -> None:
        found = {name: np.shape(getattr(self, name)) for name in _ARRAYS}
        _check_shapes(found, len(self.jpegs), len(self.motions))

    def image(self, frame: int) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 BGR. Raises DataError if the picture is damaged."""
        return _decoded(self.jpegs[frame], f"picture {frame} of {self.name}")

    def motion(self, person: int) -> Motion:
        """One person's way through the clip, in the axes of the camera at each moment.

        Up is the first picture's; a driving camera turns a little while it looks.
        """
        return Motion(
            joints=self.joints_3d[:, person],
            stamps=self.stamps,
            name=f"{self.name}[{person}]",
            subject=f"{self.heights[person]:.2f} m",
            action=self.motions[person],
            up=self.up[0],
            camera=self.camera,
            joints_2d=self.joints_2d[:, person],
        )


def _check_shapes(found: Mapping[str, Sequence[int]], frames: int, people: int) -> None:
    for name, shape in (
        ("stamps", (frames,)),
        ("joints_3d", (frames, people, JOINT_COUNT, 3)),
        ("joints_2d", (frames, people, JOINT_COUNT, 2)),
        ("visible", (frames, people, JOINT_COUNT)),
        ("boxes", (frames, people, 4)),
        ("heights", (people,)),
        ("up", (frames, 3)),
    ):
        if tuple(found[name]) != shape:
            raise ValueError(f"{name} has shape {tuple(found[name])}, expected {shape}")


def _decoded(data: bytes, name: str) -> npt.NDArray[np.uint8]:
    try:
        return decode_compressed(data, "jpeg")
    except ValueError as error:
        raise DataError(f"{name} does not decode; the file is damaged ({error})") from None


# As stored: exact to a tenth of a millimetre and a hundredth of a pixel at any sensible distance.
_ARRAYS = {
    "stamps": np.float64,
    "joints_3d": np.float32,
    "joints_2d": np.float32,
    "visible": np.bool_,
    "boxes": np.float32,
    "heights": np.float32,
    "up": np.float32,
}


def save_clip(path: str | Path, clip: RenderedClip) -> None:
    """Write a clip to `path`, all of it or nothing. The same clip gives the same bytes."""
    path = Path(path)
    tensors: dict[str, npt.NDArray[Any]] = {
        name: np.ascontiguousarray(getattr(clip, name), kind) for name, kind in _ARRAYS.items()
    }
    tensors["jpegs"] = np.frombuffer(b"".join(clip.jpegs), np.uint8)
    tensors["jpeg_ends"] = np.cumsum([len(data) for data in clip.jpegs], dtype=np.int64)
    camera = clip.camera
    facts = {
        "version": _VERSION,
        "name": clip.name,
        "motions": list(clip.motions),
        "width": camera.width,
        "height": camera.height,
        "K": camera.K.tolist(),
        "D": None if camera.D is None else camera.D.tolist(),
        "distortion_model": camera.distortion_model,
    }
    # Always the same name, so that what a killed run left is written over by the one that goes on.
    part = path.with_name(f".{path.name}.part")
    # One entry alone: safetensors keeps several in no order of theirs.
    part.write_bytes(save(tensors, {"clip": json.dumps(facts, sort_keys=True)}))
    os.replace(part, path)


class _OpenClip:
    """A clip's file, from which pictures are read one by one."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = safe_open(path, framework="numpy")
            facts = json.loads((self._file.metadata() or {})["clip"])
            names = set(self._file.keys())
            if facts["version"] != _VERSION or not {*_ARRAYS, "jpegs", "jpeg_ends"} <= names:
                raise KeyError(f"version {facts['version']}, {sorted(names)}")
            D = facts["D"]
            K, width, height = np.array(facts["K"]), facts["width"], facts["height"]
            self.camera = Camera(
                K, width, height, None if D is None else np.array(D), facts["distortion_model"]
            )
            self.name, self.motions = str(facts["name"]), tuple(map(str, facts["motions"]))
            self.ends = self._file.get_tensor("jpeg_ends")
            shapes = {name: self._file.get_slice(name).get_shape() for name in names}
            _check_shapes(shapes, len(self.ends), len(self.motions))
            ends = [0, *self.ends.tolist()]
            if ends != sorted(ends) or ends[-1:] != shapes["jpegs"]:
                raise ValueError(f"its pictures end at {ends[1:]} of {shapes['jpegs']} bytes")
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{path} is no whole clip of `stsp synth` ({error!r})") from None
        self.path = path

    def array(self, name: str) -> npt.NDArray[Any]:
        value = np.asarray(self._file.get_tensor(name))
        return value.astype(np.float64) if value.dtype == np.float32 else value

    def jpeg(self, frame: int) -> bytes:
        start = 0 if frame == 0 else int(self.ends[frame - 1])
        return bytes(self._file.get_slice("jpegs")[start : int(self.ends[frame])])


def load_clip(path: str | Path) -> RenderedClip:
    """Read a clip. Raises DataError if the file is none, or cut off."""
    opened = _OpenClip(Path(path))
    return RenderedClip(
        name=opened.name,
        motions=opened.motions,
        camera=opened.camera,
        jpegs=[opened.jpeg(frame) for frame in range(len(opened.ends))],
        **{name: opened.array(name) for name in _ARRAYS},
    )


def clip_files(folder: str | Path, split: str | None = None) -> list[Path]:
    """The clips of a folder that `stsp synth` wrote.

    Args:
        split: what the folder must hold, "train" or "validation"; None takes either.

    Raises:
        DataError: if it is none, holds no clip or another split.
    """
    folder = Path(folder)
    try:
        found = read_json(folder / INDEX_FILE)["split"]
    except (DataError, KeyError, TypeError):
        raise DataError(f"{folder} is no folder of `stsp synth`: it has no {INDEX_FILE}") from None
    if split not in (None, found):
        raise DataError(f"{folder} holds the split {found!r}, not {split!r}")
    files = sorted(folder.glob(f"*{SUFFIX}"))
    if not files:
        raise DataError(f"{folder} holds no clip (*{SUFFIX})")
    return files


class ShardClips(Dataset[RenderedClip]):
    """The clips of a folder, each read when asked for; arguments and errors of `clip_files`."""

    def __init__(self, folder: str | Path, split: str | None = None) -> None:
        self.files = clip_files(folder, split)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> RenderedClip:
        return load_clip(self.files[index])


class ShardPeople(Dataset[ImagePose]):
    """Every person in every picture of a folder who shows at least four joints.

    Of each file only what is asked for is read. Arguments and errors of `clip_files`.
    """

    def __init__(self, folder: str | Path, split: str | None = None) -> None:
        self.files = clip_files(folder, split)
        self._items: list[tuple[int, int, int]] = []
        for file, path in enumerate(self.files):
            seen = _OpenClip(path).array("visible").sum(axis=-1) >= _MIN_VISIBLE
            self._items += [(file, int(t), int(p)) for t, p in np.argwhere(seen)]
        if not self._items:
            raise DataError(f"{folder} holds no picture with a person in it")

    def __len__(self) -> int:
        return len(self._items)

    def boxes(self, index: int) -> FloatArray:
        """(P, 4) x0 y0 x1 y1 px of everybody who shows enough in the picture of item `index`."""
        file, frame, _ = self._items[index]
        opened = _OpenClip(self.files[file])
        shown = opened.array("visible")[frame].sum(axis=-1) >= _MIN_VISIBLE
        return np.asarray(opened.array("boxes")[frame][shown])

    def __getitem__(self, index: int) -> ImagePose:
        file, frame, person = self._items[index]
        opened = _OpenClip(self.files[file])
        name = f"{opened.name}/{frame:03d}[{person}]"
        return ImagePose(
            image=_decoded(opened.jpeg(frame), name),
            joints=opened.array("joints_2d")[frame, person],
            visible=opened.array("visible")[frame, person],
            box=opened.array("boxes")[frame, person],
            name=name,
            joints_3d=opened.array("joints_3d")[frame, person],
            camera=opened.camera,
        )
