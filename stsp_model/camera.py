"""The camera: its model and distortion. Without PyTorch, whose import takes seconds.

Pixels are continuous, the centre of the top-left pixel is (0, 0). Directions are those of the
camera's optical frame: x right, y down, z forward.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# Lengths of D that each distortion model of sensor_msgs/CameraInfo may have; OpenCV orders alike.
DISTORTION_LENGTHS: dict[str, tuple[int, ...]] = {
    "plumb_bob": (4, 5),
    "rational_polynomial": (8, 12, 14),
    "equidistant": (4,),
}
ASSUMED_FIELD_OF_VIEW_DEG = 60.0
ROUND_TRIP_PX = 0.5  # a point that does not come back within this has no counterpart
_CLOSE_PX = 0.01  # nearer than this what OpenCV's iteration finds is good enough
_NEWTON_STEPS = 12
_WAY_STEPS = 12  # from the axis to a point
_DIRECTIONS = 16
_REACHES = (2.0, 1.0, 0.5, 0.25)  # focal lengths; 2 are 63 degrees
_ROUNDING = 1e-9  # focal lengths
_AROUND = 0.5 * np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])  # pixels
_LEAST_AREA = 1e-6  # px^2 of the image that a square pixel of the pinhole camera has, far outside
_NEWTON_REACH = 0.25  # focal lengths, at most, that one step goes
# Where x and y of the middles of a box's edges stand in x0 y0 x1 y1 and its centre's x y.
_EDGES = [[0, 5], [2, 5], [4, 1], [4, 3]]


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera with lens distortion.

    Args:
        K: (3, 3) camera matrix in pixels, without skew.
        width, height: image size in pixels that K is for.
        D: distortion coefficients in OpenCV's order; None or empty is no distortion, and so is
            zero but for "equidistant", where the lens alone bends rays.
        distortion_model: "plumb_bob", "rational_polynomial" or "equidistant" (fisheye).
        assumed: True for a guessed K: fit to look through, not to measure distances with.

    Raises:
        ValueError: naming the argument that does not fit.
    """

    K: FloatArray
    width: int
    height: int
    D: FloatArray | None = None
    distortion_model: str = "plumb_bob"
    assumed: bool = False

    def __post_init__(self) -> None:
        for name, size in (("width", self.width), ("height", self.height)):
            # Before K, which scaling to such a size spoils.
            if not (isinstance(size, Real) and float(size).is_integer() and size >= 1):
                raise ValueError(f"{name} is {size!r}, expected a whole number of pixels above 0")
        K = np.array(self.K, dtype=np.float64)
        if K.shape != (3, 3):
            raise ValueError(f"K has shape {K.shape}, expected (3, 3)")
        if not np.isfinite(K).all():
            raise ValueError(f"K holds values that are not finite: {K.tolist()}")
        if K[0, 0] <= 0 or K[1, 1] <= 0:
            raise ValueError(f"K has focal lengths {K[0, 0]}, {K[1, 1]}, expected positive ones")
        if K[0, 1] != 0 or K[1, 0] != 0 or K[2].tolist() != [0, 0, 1]:
            raise ValueError(f"K is {K.tolist()}, expected [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]")
        D = None if self.D is None else np.array(self.D, dtype=np.float64).ravel()
        if D is not None and not np.isfinite(D).all():
            raise ValueError(f"D holds values that are not finite: {D.tolist()}")
        if D is not None and D.size and not D.any():
            # However many zeros there are: drivers fill up. An equidistant lens bends rays even
            # with zero coefficients; no other model does.
            D = np.zeros(4) if self.distortion_model == "equidistant" else None
        if D is not None and D.size:
            if self.distortion_model not in DISTORTION_LENGTHS:
                raise ValueError(
                    f"distortion_model is {self.distortion_model!r}, expected one of "
                    f"{', '.join(DISTORTION_LENGTHS)}"
                )
            lengths = DISTORTION_LENGTHS[self.distortion_model]
            if D.size not in lengths:
                raise ValueError(
                    f"D has {D.size} values, expected {' or '.join(map(str, lengths))} "
                    f"for {self.distortion_model}"
                )
            D.setflags(write=False)
        else:
            D = None
        K.setflags(write=False)
        object.__setattr__(self, "K", K)
        object.__setattr__(self, "D", D)

    @classmethod
    def of_field_of_view(cls, degrees: float, width: int, height: int) -> Camera:
        """One without distortion, its longer side so many degrees across.

        Raises ValueError unless that is between 0 and 180.
        """
        if not 0 < degrees < 180:
            raise ValueError(f"field of view is {degrees:g} degrees, expected between 0 and 180")
        focal = max(width, height) / 2 / math.tan(math.radians(degrees) / 2)
        return cls(
            np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]]),
            width,
            height,
        )

    @classmethod
    def guess(cls, width: int, height: int) -> Camera:
        """A stand-in for an unknown camera, flagged: 60 degrees across the longer side."""
        view = cls.of_field_of_view(ASSUMED_FIELD_OF_VIEW_DEG, width, height)
        return replace(view, assumed=True)

    def scaled(self, width: int, height: int) -> Camera:
        """The same camera for its image resized to width x height pixels."""
        if (width, height) == (self.width, self.height):
            return self
        scale = np.array([width / self.width, height / self.height])
        K = self.K.copy()
        K[[0, 1], [0, 1]] *= scale
        K[:2, 2] = (K[:2, 2] + 0.5) * scale - 0.5
        return Camera(K, width, height, self.D, self.distortion_model, self.assumed)

    def undistort(self, points: npt.ArrayLike) -> FloatArray:
        """Where points of the image would lie without lens distortion.

        Args:
            points: (..., 2) pixels of the image.

        Returns:
            (..., 2) pixels of the pinhole camera K; NaN where no ray in front of the camera
            reaches the point.
        """
        return self._converted(points, self._straightened)

    def distort(self, points: npt.ArrayLike) -> FloatArray:
        """The inverse of `undistort`: (..., 2) pixels of the pinhole camera to the image.

        NaN for rays so far off the axis that the distortion model no longer holds.
        """
        return self._converted(points, self._bent)

    def project(self, points: npt.ArrayLike) -> FloatArray:
        """Pixels (..., 2) of the image for points (..., 3) m in the camera's frame.

        NaN behind the camera and up to five centimetres before it, and as in `distort`.
        """
        points = np.asarray(points, np.float64)
        depth = np.where(points[..., 2:] > 0.05, points[..., 2:], np.nan)
        return self.distort(points[..., :2] / depth * self.K[[0, 1], [0, 1]] + self.K[:2, 2])

    def undistort_people(
        self, joints: npt.ArrayLike, boxes: npt.ArrayLike
    ) -> tuple[FloatArray, FloatArray]:
        """`undistort` joints and boxes at once: a call costs more than so few points do.

        Args:
            joints: (..., J, 2) pixels of the image.
            boxes: (..., 4) x0 y0 x1 y1 in the same pixels.

        Returns:
            joints (..., J, 2), and boxes (..., 4) around where the middles of the edges go.
        """
        joints, boxes = np.asarray(joints, np.float64), np.asarray(boxes, np.float64)
        if self.D is None:
            return joints.copy(), boxes.copy()
        centre = (boxes[..., :2] + boxes[..., 2:]) / 2
        edges = np.concatenate([boxes, centre], axis=-1)[..., _EDGES]
        straight = self.undistort(np.concatenate([joints, edges], axis=-2))
        ends = straight[..., -len(_EDGES) :, :]
        # Where an edge has no counterpart, as outside the image, its distorted place must do.
        ends = np.where(np.isnan(ends), edges, ends)
        around = np.concatenate([ends.min(axis=-2), ends.max(axis=-2)], axis=-1)
        return straight[..., : -len(_EDGES), :], around

    def undistort_spread(self, straight: npt.ArrayLike, covariance: npt.ArrayLike) -> FloatArray:
        """How points of the image stray once they are undistorted.

        Args:
            straight: (..., 2) what `undistort` made of the points.
            covariance: (..., 2, 2) of the points, pixels of the image squared.

        Returns:
            (..., 2, 2) pixels of the pinhole camera squared; as it came where a point is NaN.
        """
        spread = np.array(covariance, np.float64)
        known = np.isfinite(straight).all(axis=-1)
        if self.D is None or not known.any():
            return spread
        there = np.asarray(straight, np.float64)[known]
        ends = self._to_image((there + _AROUND[:, None]).reshape(-1, 2)).reshape(2, 2, -1, 2)
        # What the lens makes of a step of one pixel of the pinhole camera, and the inverse of that.
        (a, c), (b, d) = (ends[0] - ends[1]).swapaxes(-1, -2)
        back = np.stack([d, -b, -c, a], axis=-1).reshape(-1, 2, 2)
        back /= np.maximum(np.abs(a * d - b * c), _LEAST_AREA)[:, None, None]
        spread[known] = back @ spread[known] @ back.swapaxes(-1, -2)
        return spread

    def _converted(
        self, points: npt.ArrayLike, convert: Callable[[FloatArray], FloatArray]
    ) -> FloatArray:
        points = np.asarray(points, dtype=np.float64)
        if points.ndim < 1 or points.shape[-1] != 2:
            raise ValueError(f"points has shape {points.shape}, expected (..., 2)")
        if self.D is None or points.size == 0:
            return points.copy()
        flat = points.reshape(-1, 2)
        known = np.isfinite(flat).all(axis=1)
        if known.all():
            return convert(flat).reshape(points.shape)
        result = np.full_like(flat, np.nan)
        if known.any():
            result[known] = convert(flat[known])
        return result.reshape(points.shape)

    def _bent(self, points: FloatArray) -> FloatArray:
        moved = self._to_image(points)
        return _where_near(self._straightened(moved), points, moved)

    def _straightened(self, points: FloatArray) -> FloatArray:
        moved = self._to_pinhole(points)
        left = np.abs(self._to_image(moved) - points).max(axis=1) > _CLOSE_PX
        if left.any():
            moved[left] = self._solved(points[left])
        # Where the lens bends rays back the model means nothing: the image shows something else.
        away = np.linalg.norm((moved - self.K[:2, 2]) / self.K[[0, 1], [0, 1]], axis=1)
        far = away > self._unfolded
        if far.any():
            moved[far] = np.where(self._turns(moved[far])[:, None], np.nan, moved[far])
        return moved

    @cached_property
    def _unfolded(self) -> float:
        """How far off the axis, in focal lengths, no ray is bent back; kept, as most frames ask."""
        angle = np.linspace(0, 2 * np.pi, _DIRECTIONS, endpoint=False)
        around = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        for reach in _REACHES:
            ends = self.K[:2, 2] + reach * around * self.K[[0, 1], [0, 1]]
            if not self._turns(ends).any():
                return reach
        return 0.0

    def _turns(self, moved: FloatArray) -> npt.NDArray[np.bool_]:
        """(N,) whether the lens bends rays back on the way from the axis to pinhole pixels."""
        centre, focal = self.K[:2, 2], self.K[[0, 1], [0, 1]]
        share = np.linspace(0, 1, _WAY_STEPS)[:, None, None]
        way = self._to_image((centre + share * (moved - centre)).reshape(-1, 2)) - centre
        away = np.linalg.norm(way / focal, axis=-1).reshape(_WAY_STEPS, -1)
        return np.asarray((np.diff(away, axis=0) < -_ROUNDING).any(axis=0))

    def _solved(self, points: FloatArray) -> FloatArray:
        """By Newton's method what OpenCV's iteration misses; NaN where there is nothing.

        That one swings between two places where a strong lens bends most, though it can be undone.
        """
        focal = self.K[[0, 1], [0, 1]]
        moved = points.copy()
        with np.errstate(all="ignore"):
            for _ in range(_NEWTON_STEPS):
                x, y = (self._to_image(moved) - points).T
                (a, b), (c, d) = (
                    (self._to_image(moved + side) - self._to_image(moved - side)).T / 2
                    for side in np.eye(2)
                )
                step = np.stack([d * x - c * y, a * y - b * x], axis=1) / (a * d - b * c)[:, None]
                moved -= np.clip(step, -_NEWTON_REACH * focal, _NEWTON_REACH * focal)
            return _where_near(self._to_image(moved), points, moved)

    def _to_pinhole(self, points: FloatArray) -> FloatArray:
        moved: Any
        D: Any = self.D
        points = points[:, None]
        if self.distortion_model == "equidistant":
            moved = cv2.fisheye.undistortPoints(points, self.K, D, P=self.K)
        else:
            stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-9)
            if hasattr(cv2, "undistortPointsIter"):  # OpenCV 4: only this name takes criteria
                moved = cv2.undistortPointsIter(points, self.K, D, None, self.K, stop)
            else:
                moved = cv2.undistortPoints(points, self.K, D, P=self.K, criteria=stop)
        return np.asarray(moved, dtype=np.float64)[:, 0]

    def _to_image(self, points: FloatArray) -> FloatArray:
        moved: Any
        D: Any = self.D
        rays = (points - self.K[:2, 2]) / self.K[[0, 1], [0, 1]]
        if self.distortion_model == "equidistant":
            moved = cv2.fisheye.distortPoints(rays[:, None], self.K, D)
        else:
            solid = np.concatenate([rays, np.ones((len(rays), 1))], axis=1)
            moved, _ = cv2.projectPoints(solid, np.zeros(3), np.zeros(3), self.K, D)
        return np.asarray(moved, dtype=np.float64)[:, 0]


def _where_near(back: FloatArray, points: FloatArray, moved: FloatArray) -> FloatArray:
    """`moved` (N, 2), NaN where going back does not lead to the points."""
    near = np.abs(back - points).max(axis=1) < ROUND_TRIP_PX
    return np.where(near[:, None], moved, np.nan)
