"""The errors of 2D joints: what a noise model makes of exact ones; noise_fit.py fits the model.

Errors that last are a first-order autoregressive process in time, so they come out right at any
frame rate. Outliers, misses and swaps happen while such a process is beyond the quantile that gives
their rate: they last, too.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    # Some clips are as 2D joints from elsewhere are: nothing is known of how sure they are, so
    # they are taken at their word; a joint that is somewhere else has no mass of 1.
    given = (draws.clip[:, 1] < quantile(settings.given_share))[:, None, None]
    slow = lasting(draws.correlated, stamps, settings.correlation_time)
    error = settings.correlated**0.5 * slow + (1 - settings.correlated) ** 0.5 * draws.white
    seen = joints + (deviation * scale)[..., None] * error

    def happens(values: FrameArray, rate: tuple[float, ...] | float) -> BoolArray:
        lasts = lasting(values, stamps, settings.event_time)
        return np.asarray(lasts < quantile(np.array(rate)), bool)

    outlier = happens(draws.outlier, settings.outlier_rate) & ~given
    away = settings.outlier_deviation * lasting(draws.elsewhere, stamps, settings.event_time)
    seen = seen + np.where(outlier[..., None], away * half[:, :, None, None], 0)
    # Half of the swaps are of one pair, half of all.
    swap = happens(draws.swap, settings.swap_rate / 2) & ~given
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
    mass = np.where(missed, 0, np.where(given, 1, mass))
    told = np.where(given, NOMINAL_DEVIATION * half[:, :, None], told)
    covariance = (told**2)[..., None, None] * np.eye(2)
    seen = np.where(missed[..., None], np.nan, seen)
    return seen.astype("f4"), mass.astype("f4"), covariance.astype("f4")
