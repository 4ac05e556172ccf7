"""What every reader yields: a person in an image, or a motion; and the error of a data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stsp_model.camera import Camera
from stsp_model.skeleton import JOINT_COUNT

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# The axes of a camera's optical frame (x right, y down, z forward), and of common captures.
Y_UP = (0.0, 1.0, 0.0)
Z_UP = (0.0, 0.0, 1.0)


class DataError(ValueError):
    """A data set that is not what its reader expects; the sentence says what was found."""


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
        up: (3,) unit vector that points up in the frame of `joints`.
        camera: given where `joints` are in a camera's optical frame (x right, y down, z forward).
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
        if abs(np.linalg.norm(up) - 1) > 1e-6:
            raise ValueError(f"up is {up.tolist()}, expected a unit vector")
        for name, value in (("joints", joints), ("stamps", stamps), ("up", up)):
            object.__setattr__(self, name, value)
        if self.joints_2d is not None:
            flat = _checked("joints_2d", self.joints_2d, (len(joints), JOINT_COUNT, 2))
            object.__setattr__(self, "joints_2d", flat)

    @property
    def mask(self) -> BoolArray:
        """(T, 17), True where a joint is known."""
        return np.isfinite(self.joints).all(axis=-1)
