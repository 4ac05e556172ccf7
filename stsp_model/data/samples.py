"""What every reader yields: a person in an image, or a motion; and what readers check alike."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from stsp_model.camera import Camera
from stsp_model.data.errors import DataError
from stsp_model.images import decode_compressed, is_compressed
from stsp_model.skeleton import INDEX, JOINT_COUNT

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Which way is up in the axes of common captures.
Y_UP = (0.0, 1.0, 0.0)
Z_UP = (0.0, 0.0, 1.0)


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """An image file as (H, W, 3) uint8 BGR, as stored: labels ignore the EXIF orientation too.

    Raises DataError if it does not decode, or only in part.
    """
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if is_compressed(encoded):
        try:
            return decode_compressed(encoded)
        except ValueError as error:
            raise DataError(f"{path}: {error}") from None
    # Of other formats OpenCV itself says whether they are whole.
    image = None
    if encoded:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        with contextlib.suppress(cv2.error):  # of a size beyond all reason, say
            image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    if image is None:
        raise DataError(f"{path} does not decode as an image; it may be cut off")
    return np.asarray(image, np.uint8)


def read_json(path: Path) -> Any:
    """What a file of JSON holds. Raises DataError if it cannot be read, or is not whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no whole JSON file ({error}); is it half a download?") from None


def check_images(folder: Path, names: Iterable[str]) -> None:
    """Raise DataError if the folder or some of the images in it are missing."""
    if not folder.is_dir():
        raise DataError(f"{folder} is missing, expected the folder of the set's images")
    wanted = set(names)
    there: set[str] = set()
    for within in {os.path.dirname(name) for name in wanted}:
        with contextlib.suppress(FileNotFoundError):
            there.update(os.path.join(within, name) for name in os.listdir(folder / within))
    missing = sorted(wanted - there)
    if missing:
        raise DataError(
            f"{folder} lacks {len(missing)} of {len(wanted)} images ({missing[0]} first); "
            "is the download complete?"
        )


# Bones whose two sides are alike; joint orders that differ from the expected give other lengths.
_PAIRS = tuple(
    (f"left_{a}", f"left_{b}", f"right_{a}", f"right_{b}")
    for a, b in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
)
_LIKE_SIDES = 1.6  # ratio of the medians of a left bone and its right one
_LONGEST_LIMB = 1.3  # of the distance between the shoulders' and the hips' middles
_TORSO = (0.2, 0.8)  # m, children to adults
_FEWEST_FLAT = 50  # poses, for images foreshorten bones by chance


def median_length(a: FloatArray, b: FloatArray) -> float:
    """Of the distances between points (N, D) those that are known; NaN without any."""
    lengths = np.linalg.norm(a - b, axis=-1)
    known = lengths[np.isfinite(lengths)]
    return float(np.median(known)) if len(known) else np.nan


def check_body(joints: npt.ArrayLike, name: str) -> None:
    """Raise DataError if joints are no body in our order, or 3D ones are not in metres.

    Compares median lengths: the sides with each other, limbs with the torso. Whole sides
    exchanged cannot be told that way.

    Args:
        joints: (N, 17, 2) or (N, 17, 3), NaN where missing; some hundred poses are enough. Fewer
            than 50 in 2D tell nothing and pass.
        name: the file, for the error.
    """
    joints = np.asarray(joints, dtype=np.float64)
    if joints.shape[-1] == 2 and len(joints) < _FEWEST_FLAT:
        return

    def middle(part: str) -> FloatArray:
        return (joints[:, INDEX[f"left_{part}"]] + joints[:, INDEX[f"right_{part}"]]) / 2

    torso = median_length(middle("shoulder"), middle("hip"))
    for a, b, c, d in _PAIRS:
        left = median_length(joints[:, INDEX[a]], joints[:, INDEX[b]])
        right = median_length(joints[:, INDEX[c]], joints[:, INDEX[d]])
        unlike = max(left, right) > _LIKE_SIDES * min(left, right)
        if unlike or max(left, right) > _LONGEST_LIMB * torso:
            raise DataError(
                f"{name}: from {a} to {b} it is {left:.3g}, from {c} to {d} {right:.3g}, with a "
                f"torso of {torso:.3g}; the joints are probably in another order than expected"
            )
    if joints.shape[-1] == 3 and not _TORSO[0] < torso < _TORSO[1]:
        raise DataError(
            f"{name}: the torso measures {torso:.3g} m, expected {_TORSO[0]} to {_TORSO[1]}; the "
            "positions are probably in another unit than expected"
        )


def _checked(name: str, value: npt.ArrayLike, shape: tuple[int | None, ...]) -> FloatArray:
    array = np.asarray(value, dtype=np.float64)
    fits = array.ndim == len(shape) and all(
        want is None or have == want for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("T" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} has shape {array.shape}, expected ({wanted})")
    return array


def box_around(points: npt.ArrayLike) -> FloatArray:
    """The tight box (4,) x0 y0 x1 y1 of points (N, 2), NaN ones left out; all NaN without any."""
    points = np.asarray(points, dtype=np.float64)
    known = points[np.isfinite(points).all(axis=1)]
    if not len(known):
        return np.full(4, np.nan)
    return np.concatenate([known.min(axis=0), known.max(axis=0)])


@dataclass(frozen=True, eq=False)
class ImagePose:
    """One annotated person in one image.

    Args:
        image: (H, W, 3) uint8 BGR.
        joints: (17, 2) px, NaN where the set has no label.
        visible: (17,) bool; True where a joint is labelled and marked visible.
        box: (4,) x0 y0 x1 y1 px around the person: the set's own where it has one, else around
            the visible joints (`box_around`).
        name: tells the person apart within the set.
        joints_3d: (17, 3) m in the camera's axes, where the set has them.
        camera: where the set has one.

    Raises:
        ValueError: for another shape, or a visible joint that is not finite.
    """

    image: npt.NDArray[np.uint8]
    joints: FloatArray
    visible: BoolArray
    box: FloatArray
    name: str
    joints_3d: FloatArray | None = None
    camera: Camera | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(
                f"image is {self.image.shape} {self.image.dtype}, expected (H, W, 3) uint8"
            )
        joints = _checked("joints", self.joints, (JOINT_COUNT, 2))
        visible = np.asarray(self.visible, dtype=bool)
        if visible.shape != (JOINT_COUNT,):
            raise ValueError(f"visible has shape {visible.shape}, expected ({JOINT_COUNT},)")
        if not np.isfinite(joints[visible]).all():
            raise ValueError("visible is True for joints that are not finite")
        object.__setattr__(self, "joints", joints)
        object.__setattr__(self, "visible", visible)
        object.__setattr__(self, "box", _checked("box", self.box, (4,)))
        if self.joints_3d is not None:
            solid = _checked("joints_3d", self.joints_3d, (JOINT_COUNT, 3))
            object.__setattr__(self, "joints_3d", solid)


@dataclass(frozen=True, eq=False)
class Motion:
    """One take of one person in 3D, from motion capture or as a camera saw it.

    Args:
        joints: (T, 17, 3) m, NaN where the source lacks a joint.
        stamps: (T,) s, rising.
        name: tells the take apart within its set.
        subject, action: as the set names them, for splits and for scores per action.
        up: (3,) unit vector that points up in the frame of `joints`; NaN where unknown.
        camera: that took it, where its lens is known; `joints` are then in its optical frame
            (x right, y down, z forward).
        joints_2d: (T, 17, 2) px of that camera's image, distortion included: detections or
            projections, as the set provides.

    Raises:
        ValueError: for another shape, stamps that do not rise, or an `up` that is no unit vector.
    """

    joints: FloatArray
    stamps: FloatArray
    name: str
    subject: str
    action: str
    up: FloatArray
    camera: Camera | None = None
    joints_2d: FloatArray | None = None

    def __post_init__(self) -> None:
        joints = _checked("joints", self.joints, (None, JOINT_COUNT, 3))
        stamps = _checked("stamps", self.stamps, (len(joints),))
        up = _checked("up", self.up, (3,))
        if not len(joints):
            raise ValueError("joints holds no frame")
        if not np.isfinite(stamps).all() or (np.diff(stamps) <= 0).any():
            raise ValueError("stamps must be finite and rise from frame to frame")
        if not np.isnan(up).all() and not abs(np.linalg.norm(up) - 1) < 1e-6:
            raise ValueError(f"up is {up.tolist()}, expected a unit vector, or NaN for unknown")
        for name, value in (("joints", joints), ("stamps", stamps), ("up", up)):
            object.__setattr__(self, name, value)
        if self.joints_2d is not None:
            flat = _checked("joints_2d", self.joints_2d, (len(joints), JOINT_COUNT, 2))
            object.__setattr__(self, "joints_2d", flat)

    @property
    def mask(self) -> BoolArray:
        """(T, 17), True where a joint is known."""
        return np.asarray(np.isfinite(self.joints).all(axis=-1))
