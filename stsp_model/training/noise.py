"""The errors of 2D joints: applying a noise model to exact ones, and fitting it to real ones.

Errors that last are a first-order autoregressive process in time, so they come out right at any
frame rate. Outliers, misses and swaps happen while such a process is beyond the quantile that gives
their rate: they last, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from stsp_model.data.samples import BoolArray, FloatArray
from stsp_model.network import NOMINAL_DEVIATION
from stsp_model.skeleton import FLIP, JOINT_COUNT, JOINTS
from stsp_model.training.config_3d import Noise

FrameArray = npt.NDArray[np.float32]

# Left joints whose place can be taken for that of the right one.
PAIRS: tuple[int, ...] = tuple(i for i, name in enumerate(JOINTS) if name.startswith("left_"))
_SCALE_SHARE = 0.5  # how much of a clip's own noise factor shows in the reported deviation


@dataclass(frozen=True, eq=False)
class Draws:
    """Standard normal numbers for B clips of T frames, all that the noise model needs.

    clip (B, 2); correlated, white, elsewhere (B, T, 17, 2); outlier, miss, mass, reported
    (B, T, 17); swap (B, T, 1 + pairs), the first for all pairs at once.
    """

    clip: FrameArray
    correlated: FrameArray
    white: FrameArray
    elsewhere: FrameArray
    outlier: FrameArray
    miss: FrameArray
    mass: FrameArray
    reported: FrameArray
    swap: FrameArray


def draw(generators: list[np.random.Generator], frames: int) -> Draws:
    """Numbers for one clip from each generator."""
    sizes = {
        "clip": (2,),
        "correlated": (frames, JOINT_COUNT, 2),
        "white": (frames, JOINT_COUNT, 2),
        "elsewhere": (frames, JOINT_COUNT, 2),
        "outlier": (frames, JOINT_COUNT),
        "miss": (frames, JOINT_COUNT),
        "mass": (frames, JOINT_COUNT),
        "reported": (frames, JOINT_COUNT),
        "swap": (frames, 1 + len(PAIRS)),
    }
    counts = [int(np.prod(size)) for size in sizes.values()]
    rows = np.stack([rng.standard_normal(sum(counts), dtype=np.float32) for rng in generators])
    pieces = np.split(rows, np.cumsum(counts)[:-1], axis=1)
    return Draws(
        *(
            piece.reshape(len(rows), *size)
            for piece, size in zip(pieces, sizes.values(), strict=True)
        )
    )


def lasting(white: FrameArray, stamps: FloatArray, time: float) -> FrameArray:
    """White noise (B, T, ...) made to last about `time` s, its variance kept; stamps (B, T) s."""
    keep = np.exp(-np.diff(stamps, axis=1) / time).astype("f4")
    out = white.copy()
    for t in range(1, out.shape[1]):
        share = keep[:, t - 1].reshape(-1, *(1,) * (out.ndim - 2))
        out[:, t] = share * out[:, t - 1] + np.sqrt(1 - share**2) * out[:, t]
    return out


def quantile(rate: FloatArray | float) -> FrameArray:
    """Below which a standard normal number lies with probability `rate`."""
    values = torch.special.ndtri(torch.as_tensor(np.asarray(rate, np.float64)))
    return np.asarray(values.numpy(), np.float32)


def distort(
    settings: Noise, draws: Draws, joints: FrameArray, stamps: FloatArray, half: FrameArray
) -> tuple[FrameArray, FrameArray, FrameArray]:
    """What a detector would report of joints (B, T, 17, 2) px.

    Args:
        half: (B, T) half the longer side of the person's box, px.

    Returns:
        joints (B, T, 17, 2) px, NaN where missed; mass (B, T, 17), 0 where missed; covariance
        (B, T, 17, 2, 2) px^2.
    """
    # The clip's own factor has the mean square 1, so that `deviation` stays what it says.
    factor = np.exp(settings.spread * draws.clip[:, 0] - settings.spread**2)[:, None, None]
    scale = factor * half[:, :, None]  # (B, T, 1)
    deviation = np.broadcast_to(np.array(settings.deviation, "f4"), (JOINT_COUNT,))
    slow = lasting(draws.correlated, stamps, settings.correlation_time)
    error = settings.correlated**0.5 * slow + (1 - settings.correlated) ** 0.5 * draws.white
    seen = joints + (deviation * scale)[..., None] * error

    def happens(values: FrameArray, rate: tuple[float, ...] | float) -> BoolArray:
        lasts = lasting(values, stamps, settings.event_time)
        return np.asarray(lasts < quantile(np.array(rate)), bool)

    outlier = happens(draws.outlier, settings.outlier_rate)
    away = settings.outlier_deviation * lasting(draws.elsewhere, stamps, settings.event_time)
    seen = seen + np.where(outlier[..., None], away * half[:, :, None, None], 0)
    swap = happens(draws.swap, settings.swap_rate / 2)  # half of them of a pair, half of all
    exchanged = np.zeros(seen.shape[:3], bool)
    for i, left in enumerate(PAIRS):
        exchanged[:, :, left] = swap[:, :, 0] ^ swap[:, :, 1 + i]
        exchanged[:, :, FLIP[left]] = exchanged[:, :, left]
    seen = np.where(exchanged[..., None], seen[:, :, list(FLIP)], seen)
    missed = happens(draws.miss, settings.miss_rate)

    mean = np.where(outlier, settings.mass_wrong[0], settings.mass[0] - np.log(factor))
    spread = np.where(outlier, settings.mass_wrong[1], settings.mass[1])
    mass = 1 / (1 + np.exp(-(mean + spread * draws.mass)))
    told = settings.reported[0] * np.exp(settings.reported[1] * draws.reported)
    told = told * factor**_SCALE_SHARE * half[:, :, None]
    # Some clips are as 2D joints from elsewhere are: nothing is known of how sure they are.
    given = (draws.clip[:, 1] < quantile(settings.given_share))[:, None, None]
    mass = np.where(missed, 0, np.where(given, 1, mass))
    told = np.where(given, NOMINAL_DEVIATION * half[:, :, None], told)
    covariance = (told**2)[..., None, None] * np.eye(2)
    seen = np.where(missed[..., None], np.nan, seen)
    return seen.astype("f4"), mass.astype("f4"), covariance.astype("f4")


@dataclass(frozen=True, eq=False)
class Errors:
    """2D joints of a detector beside the truth, for `fit`.

    N frames of one or several videos, or N single images. found, true (N, 17, 2): px; known
    (N, 17): where the truth is. mass (N, 17); deviation (N, 17): reported, px. half (N,): half
    the longer side of the person's box, px. stamps (N,): s, a new video begins where they do not
    rise; None for single images.
    """

    found: FloatArray
    true: FloatArray
    known: BoolArray
    mass: FloatArray
    deviation: FloatArray
    half: FloatArray
    stamps: FloatArray | None = None


_OUTSIDE = 4.0  # deviations beyond which an error is no longer the bulk's
_MISSED = 0.05  # of mass; what is seen with less is as good as not seen
_NEARER = 0.5  # a swapped joint is nearer to its counterpart than by this share to its own place


def fit(errors: Errors, start: Noise) -> Noise:
    """The noise model of a detector's real errors.

    The bulk's deviation comes from the median error, which outliers hardly move; what lies beyond
    four deviations is an outlier, or a swap where it lies at the joint of the other side.

    Args:
        start: for what the errors don't tell: given_share; of single images the times and the
            share that lasts; rates of joints of which nothing is known.

    Raises:
        ValueError: if fewer than 100 joints are known.
    """
    scaled = (errors.found - errors.true) / errors.half[:, None, None]
    known = errors.known & np.isfinite(scaled).all(axis=-1)
    if known.sum() < 100:
        raise ValueError(f"{known.sum()} joints are known, expected 100 or more to fit noise to")
    length = np.linalg.norm(np.where(known[..., None], scaled, 0), axis=-1)
    missed = errors.mass < _MISSED
    other = errors.true[:, list(FLIP)]
    to_other = np.linalg.norm(errors.found - other, axis=-1) / errors.half[:, None]
    both = known & known[:, list(FLIP)] & (np.array(FLIP) != np.arange(JOINT_COUNT))
    swapped = both & (to_other < _NEARER * length)

    every = known & ~missed & ~swapped
    # Half of the lengths of a 2D normal error lie within 1.1774 deviations.
    common = float(np.median(length[every])) / 1.1774
    deviation, outliers, misses = np.full((3, JOINT_COUNT), np.nan)
    bulk = np.zeros_like(known)
    for joint in range(JOINT_COUNT):
        used = every[:, joint]
        own = float(np.median(length[used, joint])) / 1.1774 if used.sum() >= 10 else common
        bulk[:, joint] = used & (length[:, joint] <= _OUTSIDE * own)
        deviation[joint] = own
        if used.sum() >= 10:
            outliers[joint] = 1 - bulk[used, joint].mean()
            misses[joint] = missed[known[:, joint], joint].mean()
    # Swaps of one pair, the far end of a limb, stand out least from outliers where limbs cross.
    paired = both[:, list(PAIRS)]
    swap_rate = float(swapped[:, list(PAIRS)][paired].mean()) if paired.any() else start.swap_rate
    far = every & ~bulk
    logit = np.log(
        np.clip(errors.mass, 1e-4, 1 - 1e-4) / (1 - np.clip(errors.mass, 1e-4, 1 - 1e-4))
    )

    def spread_of(values: FloatArray, otherwise: tuple[float, ...]) -> tuple[float, ...]:
        return (float(values.mean()), float(values.std())) if len(values) >= 10 else otherwise

    def rates(values: FloatArray, otherwise: tuple[float, ...]) -> tuple[float, ...]:
        filled = np.where(np.isnan(values), np.broadcast_to(otherwise, JOINT_COUNT), values)
        return tuple(float(x) for x in np.clip(filled, 0, 0.5))

    told = np.log(np.maximum((errors.deviation / errors.half[:, None])[bulk], 1e-6))
    fitted = replace(
        start,
        deviation=tuple(float(x) for x in np.clip(deviation, 0, 2)),
        spread=_spread(length, bulk, deviation),
        outlier_rate=rates(outliers, start.outlier_rate),
        outlier_deviation=min(float(np.sqrt((length[far] ** 2).mean() / 2)), 2.0)
        if far.any()
        else start.outlier_deviation,
        miss_rate=rates(misses, start.miss_rate),
        swap_rate=min(swap_rate, 0.5),
        mass=spread_of(logit[bulk], start.mass),
        mass_wrong=spread_of(logit[far], start.mass_wrong),
        reported=(float(np.exp(np.median(told))), float(told.std())),
    )
    if errors.stamps is None:
        return fitted
    return _with_times(fitted, scaled, bulk, errors.stamps)


def _spread(length: FloatArray, bulk: BoolArray, deviation: FloatArray) -> float:
    """Deviation of the logarithm of a frame's own factor, beyond what chance gives."""
    relative = np.where(bulk, length / deviation, np.nan) ** 2 / 2  # mean 1 where all are alike
    enough = bulk.sum(axis=1) >= 8
    if enough.sum() < 20:
        return 0.0
    logs = np.log(np.maximum(np.nanmean(relative[enough], axis=1), 1e-9)) / 2
    # A mean of n exponential numbers has the relative variance 1 / n; half of that deviation here.
    chance = np.mean(1 / bulk.sum(axis=1)[enough]) / 4
    return float(np.clip(np.sqrt(max(logs.var() - chance, 0)), 0, 2))


def _with_times(fitted: Noise, scaled: FloatArray, bulk: BoolArray, stamps: FloatArray) -> Noise:
    """Share and time of the lasting errors, from how alike errors are after one and four frames.

    With share s and time c the correlation after dt is s exp(-dt / c).
    """
    alike, after = [], []
    for frames in (1, 4):
        gap = stamps[frames:] - stamps[:-frames]
        both = bulk[frames:] & bulk[:-frames] & (gap > 0)[:, None]
        if both.sum() < 100:
            return fitted
        now, then = scaled[frames:][both], scaled[:-frames][both]
        alike.append(float((now * then).mean() / np.sqrt((now**2).mean() * (then**2).mean())))
        after.append(float(np.median(gap[gap > 0])))
    if not alike[0] > alike[1] > 0:
        return replace(fitted, correlated=float(np.clip(alike[0], 0, 1)))
    time = (after[1] - after[0]) / np.log(alike[0] / alike[1])
    share = alike[0] * np.exp(after[0] / time)
    return replace(
        fitted,
        correlated=float(np.clip(share, 0, 1)),
        correlation_time=float(np.clip(time, 1e-3, 60)),
    )
