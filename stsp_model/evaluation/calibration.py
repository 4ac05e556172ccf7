"""What confidences and variances are worth: what was claimed of joints beside what came true.

A confidence is a claim of a chance: of joints with confidence c, a share of c should be right. A
variance is a claim of how large errors are: 68.3 % of them should lie within one standard deviation
along each axis, 95.4 % within two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from stsp_model.evaluation.pck import Detections
from stsp_model.evaluation.scores import Take
from stsp_model.metrics import PCK_2D_THRESHOLD, PCK_3D_THRESHOLD, torso_lengths

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

BINS = 10
AXES = ("x", "y", "z")
SIGMAS = (1, 2)  # standard deviations within which errors are counted


@dataclass(frozen=True, eq=False)
class Claims:
    """N joints of which a chance was claimed: confidence (N,) 0..1, and whether right (N,)."""

    confidence: FloatArray
    right: BoolArray

    def __len__(self) -> int:
        return len(self.right)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What one evaluation has to say of what was claimed.

    claims: by what they are of, such as "2D, true box".
    deviations (N, 3): errors of 3D joints along the axes, in claimed standard deviations.
    heights (M,): errors of standing heights, likewise.
    """

    claims: Mapping[str, Claims] = field(default_factory=dict)
    deviations: FloatArray = field(default_factory=lambda: np.empty((0, 3)))
    heights: FloatArray = field(default_factory=lambda: np.empty(0))

    def __bool__(self) -> bool:
        return bool(self.claims) or bool(self.errors())

    def errors(self) -> dict[str, FloatArray]:
        """Errors in standard deviations, each (N,), by what is counted."""
        found: dict[str, FloatArray] = {}
        if len(self.deviations):
            found["all axes"] = self.deviations.ravel()
            found |= {axis: self.deviations[:, i] for i, axis in enumerate(AXES)}
        if len(self.heights):
            found["height"] = self.heights
        return found

    def values(self) -> dict[str, Any]:
        """For JSON, in percent."""
        found: dict[str, Any] = {
            title: {
                "joints": len(claims),
                "mean_confidence": 100 * float(claims.confidence.mean()),
                "right": 100 * float(claims.right.mean()),
                "expected_calibration_error": 100 * calibration_error(claims),
            }
            for title, claims in self.claims.items()
        }
        for sigma in SIGMAS if self.errors() else ():
            found[f"within_{sigma}_sigma"] = {
                title: 100 * float(coverage(one, sigma)) for title, one in self.errors().items()
            }
        return found


def calibration(found: Mapping[str, Detections], takes: Sequence[Take] = ()) -> Calibration:
    """Of 2D joints, by what they are of, and of takes, as far as either says how sure it is."""
    claims = {f"2D, {title}": claims_2d(detections) for title, detections in found.items()}
    claims["3D"] = claims_3d(takes)
    heights = [_in_deviations(take.height_error, take.height_variance) for take in takes]
    return Calibration(
        {title: claim for title, claim in claims.items() if len(claim)},
        deviations(takes),
        np.concatenate([np.empty(0), *heights]),
    )


def claims_2d(found: Detections) -> Claims:
    """Of the visible joints that were found: right is within 0.2 of the torso."""
    torso = torso_lengths(found.target, found.visible)[:, None]
    counted = found.visible & np.isfinite(torso) & np.isfinite(found.confidence)
    counted &= np.isfinite(found.joints).all(axis=-1)
    error = np.linalg.norm(found.joints - found.target, axis=-1)
    right = error <= PCK_2D_THRESHOLD * torso
    return Claims(found.confidence[counted], right[counted])


def claims_3d(takes: Iterable[Take]) -> Claims:
    """Of the joints that were found, the pelvis aside: right is within 150 mm."""
    confidence, right = [np.empty(0)], [np.empty(0, bool)]
    for take in takes:
        if take.confidence is not None:
            error = np.linalg.norm(take.prediction - take.target, axis=-1)[:, 1:]
            counted = np.isfinite(error) & np.isfinite(take.confidence[:, 1:])
            confidence.append(take.confidence[:, 1:][counted])
            right.append(error[counted] <= PCK_3D_THRESHOLD)
    return Claims(np.concatenate(confidence), np.concatenate(right))


def deviations(takes: Iterable[Take]) -> FloatArray:
    """(N, 3): errors of the joints that were found, the pelvis aside, in standard deviations."""
    found = [np.empty((0, 3))]
    for take in takes:
        if take.variance is not None:
            error, variance = (x[:, 1:] for x in (take.prediction - take.target, take.variance))
            counted = (np.isfinite(error) & np.isfinite(variance)).all(axis=-1)
            found.append(_in_deviations(error[counted], variance[counted]))
    return np.concatenate(found)


def _in_deviations(error: FloatArray | None, variance: FloatArray | None) -> FloatArray:
    """Errors over the deviations that were claimed of them; of those that are known."""
    if error is None or variance is None:
        return np.empty(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # No error at all is within any deviation, none included.
        result = np.where(error == 0, 0.0, error / np.sqrt(variance))
    return result if result.ndim > 1 else result[np.isfinite(error) & np.isfinite(variance)]


def reliability(claims: Claims, bins: int = BINS) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean confidence, share of right joints and number of joints, each (B,).

    The joints, in the order of their confidence, are cut into `bins` bins of equal counts, or into
    as many as there are joints.
    """
    order = np.argsort(claims.confidence, kind="stable")
    parts = np.array_split(order, max(min(bins, len(claims)), 1))
    if not len(order):
        return np.empty(0), np.empty(0), np.empty(0)
    confidence = np.array([claims.confidence[part].mean() for part in parts])
    right = np.array([claims.right[part].mean() for part in parts])
    return confidence, right, np.array([float(len(part)) for part in parts])


def calibration_error(claims: Claims, bins: int = BINS) -> float:
    """Expected calibration error over bins of equal counts, 0..1: |confidence - share right|.

    Of N joints chance alone leaves up to 0.4 sqrt(bins / N). NaN without joints.
    """
    confidence, right, count = reliability(claims, bins)
    return float(np.average(np.abs(confidence - right), weights=count)) if len(count) else math.nan


def coverage(deviations: FloatArray, within: npt.ArrayLike) -> FloatArray:
    """Share of deviations (N,) that lie within so many standard deviations, of `within`'s shape."""
    ordered = np.sort(np.abs(deviations))
    return np.searchsorted(ordered, np.asarray(within, float), side="right") / max(len(ordered), 1)


def nominal(within: float) -> float:
    """Share of normally distributed errors within so many standard deviations."""
    return math.erf(within / math.sqrt(2))
