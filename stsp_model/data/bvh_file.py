"""The BVH file: its text, its skeleton, and where forward kinematics puts the joints, in metres."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stsp_model.data.errors import DataError
from stsp_model.data.samples import FloatArray

CENTIMETRE = 0.01  # m; what the CMU clips are in
_ARCHIVES = (".tar", ".tar.xz", ".tar.gz", ".tgz", ".tar.bz2")
# Of the rest pose, m. BVH states no unit; a person of another size was read in the wrong one.
_PLAUSIBLE_SIZE = (0.4, 3.0)
_PERIOD = (1e-4, 1.0)  # s, at least and at most; 8.33 are milliseconds


@dataclass(frozen=True, eq=False)
class Capture:
    """A BVH clip after forward kinematics, in the file's axes (x left, y up, z ahead for CMU).

    Each joint carries the bones that start at it: its world rotation turns its children's offsets.
    The tip of a last bone is a joint too, called after its bone ("lFoot_end").

    Args:
        names: B joint names; parents come before their children.
        parents: B indices, -1 for the root.
        offsets: (B, 3) m from the parent in the rest pose.
        rotations: (T, B, 3, 3) from the joint's axes to the world's.
        positions: (T, B, 3) m.
        fps: frames a second.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: FloatArray
    rotations: FloatArray
    positions: FloatArray
    fps: float


@dataclass(frozen=True)
class _Hierarchy:
    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: tuple[tuple[float, float, float], ...]
    channels: tuple[tuple[str, ...], ...]


def _parse_hierarchy(text: str, name: str) -> _Hierarchy:
    words = iter(text.split())
    names: list[str] = []
    parents: list[int] = []
    offsets: list[tuple[float, float, float]] = []
    channels: list[tuple[str, ...]] = []
    open_joints: list[int] = []  # of the blocks we are in

    def begin(joint: str) -> None:
        if next(words) != "{":
            raise DataError(f"{name}: joint {joint} is not followed by {{")
        names.append(joint)
        parents.append(open_joints[-1] if open_joints else -1)
        offsets.append((0.0, 0.0, 0.0))
        channels.append(())
        open_joints.append(len(names) - 1)

    try:
        if next(words) != "HIERARCHY":
            raise DataError(f"{name} is no BVH file: it does not begin with HIERARCHY")
        for word in words:
            if word in ("ROOT", "JOINT"):
                begin(next(words))
            elif word == "End":
                next(words)  # "Site"
                begin(f"{names[open_joints[-1]]}_end")
            elif word == "OFFSET":
                offsets[open_joints[-1]] = (
                    float(next(words)),
                    float(next(words)),
                    float(next(words)),
                )
            elif word == "CHANNELS":
                count = int(next(words))
                channels[open_joints[-1]] = tuple(next(words) for _ in range(count))
            elif word == "}":
                open_joints.pop()
            else:
                raise DataError(f"{name}: {word!r} is no part of a BVH hierarchy")
    except (StopIteration, RuntimeError, IndexError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name}: its hierarchy is cut off or damaged ({error})") from None
    if open_joints or not names:
        raise DataError(f"{name}: its hierarchy is cut off")
    if parents.count(-1) > 1:
        raise DataError(f"{name} holds {parents.count(-1)} roots, expected one")
    known = {f"{axis}{kind}" for axis in "XYZ" for kind in ("position", "rotation")}
    unknown = {channel for joint in channels for channel in joint} - known
    if unknown:
        raise DataError(f"{name} has channels {sorted(unknown)}, which BVH does not know")
    return _Hierarchy(tuple(names), tuple(parents), tuple(offsets), tuple(channels))


def _turn(rotation: FloatArray, axis: str, degrees: FloatArray) -> None:
    """Multiply rotations (T, 3, 3) from the right, in place, by turns about "X", "Y" or "Z"."""
    radians = np.radians(degrees)[:, None]
    cosine, sine = np.cos(radians), np.sin(radians)
    a, b = {"X": (1, 2), "Y": (2, 0), "Z": (0, 1)}[axis]
    first, second = rotation[:, :, a].copy(), rotation[:, :, b].copy()
    rotation[:, :, a] = cosine * first + sine * second
    rotation[:, :, b] = cosine * second - sine * first


def parse_bvh(text: str, name: str = "BVH", unit: float = CENTIMETRE) -> Capture:
    """Read a BVH file's text and work out where its joints are.

    Rotations apply in the order of the channels; position channels replace the offset.

    Args:
        text: the file's content.
        name: what errors call it.
        unit: metres per unit of the file.

    Raises:
        DataError: if it is damaged, or `unit` gives a body of no person's size.
    """
    head, motion, body = text.partition("MOTION")
    if not motion:
        raise DataError(f"{name} is no whole BVH file: it has no MOTION part")
    tree = _parse_hierarchy(head, name)
    found = re.match(r"\s*Frames:\s*(\d+)\s+Frame Time:\s*(\S+)\s", body)
    if not found:
        raise DataError(f"{name}: MOTION is not followed by Frames: and Frame Time:")
    count = sum(map(len, tree.channels))
    try:
        frames, period = int(found[1]), float(found[2])
        values = np.array(body[found.end() :].split(), dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{name}: its motion holds something that is no number ({error})") from None
    if frames < 1 or not _PERIOD[0] <= period <= _PERIOD[1] or not count:
        raise DataError(
            f"{name} says {frames} frames of {count} channels, {period} s each; expected some of "
            f"each, and {_PERIOD[0]} to {_PERIOD[1]} s"
        )
    if values.size != frames * count:
        raise DataError(
            f"{name} holds {values.size} numbers, expected {frames} frames x {count} channels = "
            f"{frames * count}; is it half a download?"
        )
    if not np.isfinite(values).all():
        raise DataError(f"{name}: its motion holds values that are not finite")
    capture = _forward_kinematics(tree, values.reshape(frames, count), unit, 1 / period)
    size = float(np.ptp(_rest_pose(capture), axis=0).max())
    if not _PLAUSIBLE_SIZE[0] < size < _PLAUSIBLE_SIZE[1]:
        raise DataError(
            f"{name}: with {unit} m per unit its rest pose measures {size:.3g} m; the commands "
            "take centimetres: convert it, or in Python give BVHDataset its own unit"
        )
    return capture


def _forward_kinematics(tree: _Hierarchy, values: FloatArray, unit: float, fps: float) -> Capture:
    frames, joints = len(values), len(tree.names)
    rotations = np.empty((frames, joints, 3, 3))
    positions = np.empty((frames, joints, 3))
    offsets = np.array(tree.offsets) * unit
    column = 0
    for joint, parent in enumerate(tree.parents):
        local = np.tile(offsets[joint], (frames, 1))
        above = np.eye(3)[None] if parent < 0 else rotations[:, parent]
        rotation = np.tile(above, (frames, 1, 1)) if parent < 0 else above.copy()
        for channel in tree.channels[joint]:
            if channel.endswith("position"):
                local[:, "XYZ".index(channel[0])] = values[:, column] * unit
            else:
                _turn(rotation, channel[0], values[:, column])
            column += 1
        rotations[:, joint] = rotation
        positions[:, joint] = np.einsum("tij,tj->ti", np.broadcast_to(above, rotation.shape), local)
        if parent >= 0:
            positions[:, joint] += positions[:, parent]
    return Capture(tree.names, tree.parents, offsets, rotations, positions, fps)


def _rest_pose(capture: Capture) -> FloatArray:
    """(B, 3) m, where the joints are with every rotation zero, the root at the origin."""
    rest = np.zeros_like(capture.offsets)
    for joint, parent in enumerate(capture.parents):
        if parent >= 0:
            rest[joint] = rest[parent] + capture.offsets[joint]
    return rest


def read_bvh(path: str | Path, unit: float = CENTIMETRE) -> Capture:
    """`parse_bvh` of a file. Raises DataError if it cannot be read."""
    path = Path(path)
    return parse_bvh(_text(path), path.name, unit)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _is_clip(path: Path) -> bool:
    """By its name: .bvh in any case, and none of the files that macOS puts beside others."""
    return path.suffix.lower() == ".bvh" and not path.name.startswith("._")


def bvh_texts(path: str | Path) -> Iterator[tuple[str, str]]:
    """Paths within and texts of the clips in a file, a folder or an archive.

    One clip is held at a time; archives, compressed or not, are read as a stream and never
    unpacked to disk. A folder is gone through in order of names.

    Raises:
        DataError: if the path does not exist, holds no clip, or the archive is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; expected a .bvh file, a folder or an archive")
    count = 0
    if path.is_dir() or path.suffix.lower() == ".bvh":
        files = [path]
        if path.is_dir():
            files = sorted(f for f in path.rglob("*") if _is_clip(f) and not f.is_dir())
        count = len(files)
        for file in files:
            within = file.relative_to(path) if path.is_dir() else Path(file.name)
            yield within.as_posix(), _text(file)
    elif path.name.lower().endswith(_ARCHIVES):
        try:
            with tarfile.open(path, "r|*") as archive:
                for member in archive:
                    stream = archive.extractfile(member) if member.isfile() else None
                    if stream is not None and _is_clip(Path(member.name)):
                        count += 1
                        yield Path(member.name).as_posix(), stream.read().decode("utf-8", "replace")
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"archive {path} is damaged or cut off ({error})") from None
    else:
        raise DataError(f"{path} is neither a .bvh file, a folder nor one of {_ARCHIVES}")
    if not count:
        raise DataError(f"{path} holds no .bvh file")
