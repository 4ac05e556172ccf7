"""Scores that metrics.py, the papers' own, does not have: lag and bone lengths.

Joints (T, 17, 3) in metres of one person over T frames of equal distance in time; `mask` (T, 17)
tells which joints count, and is True only where prediction and truth are finite.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stsp_model.skeleton import BONES, INDEX

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# What moves most, and so shows best when it moved.
LAG_JOINTS: tuple[int, ...] = tuple(
    INDEX[f"{side}_{part}"] for side in ("left", "right") for part in ("wrist", "ankle")
)
MAX_LAG = 15  # frames
_MIN_OVERLAP = 8  # frames
_MIN_CORRELATION = 0.5  # at the best shift; less is no likeness that could be late
_MIN_MOTION = 0.01  # m, standard deviation; who stands still shows no lag


def lag(prediction: FloatArray, target: FloatArray, mask: BoolArray) -> float:
    """By how many frames the prediction comes late, negative where it comes early.

    The place of the highest correlation between the tracks of wrists and ankles and the true ones,
    shifted against each other by up to 15 frames, between frames by the parabola through it and its
    neighbours. Every shift is judged on the frames that both have then, each track about its mean
    there. NaN where nothing moves, and where no shift within reach fits best.
    """
    joints = list(LAG_JOINTS)
    known = np.repeat(mask[:, joints], 3, axis=1)
    ours = np.where(known, prediction[:, joints].reshape(len(known), -1), 0.0)
    true = np.where(known, target[:, joints].reshape(len(known), -1), 0.0)
    reach = min(MAX_LAG, len(known) - _MIN_OVERLAP)
    if reach < 1:
        return float("nan")
    shifts = range(-reach, reach + 1)
    correlation = np.array([_correlation(ours, true, known, shift) for shift in shifts])
    if not np.isfinite(correlation).all():
        return float("nan")
    best = int(correlation.argmax())
    if best in (0, 2 * reach) or correlation[best] < _MIN_CORRELATION:
        return float("nan")
    before, peak, after = correlation[best - 1 : best + 2]
    bend = before - 2 * peak + after
    return best - reach + (float((before - after) / (2 * bend)) if bend < 0 else 0.0)


def _correlation(ours: FloatArray, true: FloatArray, known: BoolArray, shift: int) -> float:
    """Of all tracks (T, N) together, the prediction's `shift` frames after the truth's."""
    late, early = slice(max(shift, 0), len(ours) + min(shift, 0)), slice(max(-shift, 0), None)
    early = slice(early.start, early.start + late.stop - late.start)
    both = known[late] & known[early]
    count = both.sum(axis=0)
    used = count >= _MIN_OVERLAP
    if not used.any():
        return float("nan")
    weights = np.where(both, 1.0, 0.0)[:, used]

    def centred(tracks: FloatArray) -> FloatArray:
        mean = (weights * tracks).sum(axis=0) / count[used]
        return np.asarray(weights * (tracks - mean))

    a, b = centred(ours[late][:, used]), centred(true[early][:, used])
    spread = float((a**2).sum() * (b**2).sum())
    if spread <= (_MIN_MOTION**2 * weights.sum()) ** 2:
        return float("nan")
    return float((a * b).sum()) / spread**0.5


def _bones(joints: FloatArray, mask: BoolArray) -> tuple[FloatArray, BoolArray]:
    """Lengths (T, 16) m, and which of them are known."""
    parents, children = ([bone[i] for bone in BONES] for i in (0, 1))
    known = mask[:, parents] & mask[:, children]
    lengths = np.linalg.norm(joints[:, children] - joints[:, parents], axis=-1)
    return np.where(known, lengths, 0.0), known


def bone_length_error(prediction: FloatArray, target: FloatArray, mask: BoolArray) -> float:
    """Mean distance of bone lengths from the true ones, millimetres."""
    ours, known = _bones(prediction, mask)
    true, _ = _bones(target, mask)
    return float(1000 * np.abs(ours - true)[known].mean()) if known.any() else float("nan")


def bone_length_deviation(joints: FloatArray, mask: BoolArray) -> float:
    """By how much bones change their length: standard deviation over time, millimetres.

    The mean over the bones. The truth's own is not zero: thorax and spine are midpoints of joints
    that move against each other.
    """
    lengths, known = _bones(joints, mask)
    count = known.sum(axis=0)
    used = count >= 2
    if not used.any():
        return float("nan")
    mean = lengths.sum(axis=0)[used] / count[used]
    square = np.where(known[:, used], (lengths[:, used] - mean) ** 2, 0.0).sum(axis=0)
    return float(1000 * np.sqrt(square / count[used]).mean())
