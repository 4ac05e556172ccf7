"""Fitting the noise model of 2D joints to the real errors of a keypoint module.

`python -m stsp_model.training.noise_fit WEIGHTS FORMAT:PATH` prints what belongs into the
configuration of stage lift; it measures on the set's selection part.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from stsp_model.checkpoint import load_model
from stsp_model.crop import crop_box
from stsp_model.data.errors import DataError
from stsp_model.data.samples import BoolArray, FloatArray
from stsp_model.epe import mass_logit
from stsp_model.evaluation.pck import ImagePoses
from stsp_model.network import STSPNet, image_keypoints
from stsp_model.perception import still_inputs
from stsp_model.skeleton import FLIP, JOINT_COUNT
from stsp_model.training.config_3d import LiftConfig, Noise
from stsp_model.training.config_file import load_config
from stsp_model.training.datasets import IMAGES, People, open_selection
from stsp_model.training.noise import PAIRS

_OUTSIDE = 4.0  # deviations beyond which an error is no longer the bulk's
_MISSED = 0.05  # of mass; what is seen with less is as good as not seen
_NEARER = 0.5  # a swapped joint is nearer to its counterpart than by this share to its own place


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


@torch.inference_mode()
def measure(network: STSPNet, people: ImagePoses) -> Errors:
    """The errors of a keypoint module, in evaluation mode, on annotated people in images."""
    device = next(network.parameters()).device
    found, true, known, mass, deviation, half = [], [], [], [], [], []
    for index in range(len(people)):
        pose = people[index]
        if not (pose.box[2:] > pose.box[:2]).all():
            continue
        box = crop_box(pose.box, network.input_size)[None]
        observation = network.observe(*still_inputs(pose.image, box, network.input_size, device))
        seen = image_keypoints(observation, torch.from_numpy(box).to(device))
        spread = torch.diagonal(seen.covariance, dim1=-2, dim2=-1).mean(dim=-1).sqrt()
        found.append(seen.joints[0].double().cpu().numpy())
        mass.append(seen.mass[0].double().cpu().numpy())
        deviation.append(spread[0].double().cpu().numpy())
        true.append(pose.joints)
        known.append(pose.visible)
        half.append((pose.box[2:] - pose.box[:2]).max() / 2)
    arrays = (found, true, known, mass, deviation, half)
    return Errors(*(np.array(part) for part in arrays))


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
    logit = mass_logit(torch.from_numpy(errors.mass)).numpy()

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


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see the top of the file.

    Raises:
        DataError, OSError, ValueError: what does not fit.
    """
    parser = argparse.ArgumentParser(
        "python -m stsp_model.training.noise_fit",
        description="Prints, as YAML, the noise of a keypoint module's 2D joints.",
    )
    parser.add_argument("weights", metavar="WEIGHTS", help="a preset or a file of weights")
    parser.add_argument("data", metavar="FORMAT:PATH", help=f"of {', '.join(IMAGES)}")
    given = parser.parse_args(arguments)
    network = load_model(given.weights)
    config = load_config(network.preset.name, "lift")
    assert isinstance(config, LiftConfig)
    people = People(tuple(open_selection([given.data], [], IMAGES)))
    fitted = fit(measure(network, people), config.noise)
    lines = ["noise:"]
    for field in fields(fitted):
        value = getattr(fitted, field.name)
        numbers = [round(x, 4) for x in (value if isinstance(value, tuple) else (value,))]
        lines.append(f"  {field.name}: {numbers if len(numbers) > 1 else numbers[0]}")
    print("\n".join(lines))


if __name__ == "__main__":
    try:
        main()
    except (DataError, OSError, ValueError) as error:
        sys.exit(f"noise_fit: {error}")
