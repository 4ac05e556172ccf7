"""Calibration: what a trained network says of its own errors, set right by data it has not seen.

    python -m stsp_model.training.calibrate WEIGHTS FORMAT:PATH ...

sets it anew for a file of weights, by the selection parts of image sets (2D) and of rendered video
(3D), as the end of stage finetune does.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stsp_model.checkpoint import load_model, save, stored_in_half
from stsp_model.data.errors import DataError
from stsp_model.data.formats import check_format, split_spec
from stsp_model.epe import mass_logit
from stsp_model.evaluation.calibration import claims_2d, nominal
from stsp_model.evaluation.pck import ImagePoses, detect
from stsp_model.evaluation.video import Footage, predict, rendered
from stsp_model.lifter import log_deviation
from stsp_model.metrics import PCK_3D_THRESHOLD
from stsp_model.network import STSPNet
from stsp_model.runtime.backends import open_network
from stsp_model.skeleton import FLIP
from stsp_model.training.datasets import (
    IMAGES,
    RENDERED,
    SELECTED,
    People,
    of_format,
    open_selection,
)
from stsp_model.training.lift_batches import LiftBatch, lift

FloatArray = npt.NDArray[np.float64]

WITHIN = nominal(1)  # share of errors that belongs within one standard deviation
_JITTERS = (None, 0)  # boxes of which confidences are to be right: the true ones, and about those
_RIDGE = 1e-3  # keeps a fit finite where all joints are right, or none
_ROUNDS = 50


def fit_logistic(inputs: FloatArray, right: npt.NDArray[np.bool_]) -> FloatArray:
    """Offset and slopes (1 + F,) of a logistic regression, by Newton's method.

    Args:
        inputs: (N, F); right: (N,).
    """
    design = np.concatenate([np.ones((len(inputs), 1)), inputs], axis=1)
    weights = np.zeros(design.shape[1])
    for _ in range(_ROUNDS):
        chance = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (right - chance) / len(design) - _RIDGE * weights
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design / len(design)
        step = np.linalg.solve(curvature + _RIDGE * np.eye(len(weights)), gradient)
        # Far from the optimum a whole Newton step can overshoot.
        weights = weights + step * min(1.0, 2.0 / max(float(np.linalg.norm(step)), 1e-12))
    return weights


def calibrate_keypoints(network: STSPNet, selection: ImagePoses) -> None:
    """Set `epe.calibration`, so that a confidence is the chance of being right by PCK@0.2.

    On the visible joints of images, half of them within boxes that are a little off, as those of
    the finder and of a track are. Where no joint counts all is left as it is, with a warning.
    """
    calibration = network.epe.calibration
    before = calibration.clone()
    calibration.copy_(torch.tensor([0.0, 1.0]))  # so that the confidence is the mass itself
    claims = [claims_2d(detect(network, selection, jitter)) for jitter in _JITTERS]
    mass = np.concatenate([claim.confidence for claim in claims])
    if not len(mass):
        calibration.copy_(before)
        warnings.warn(
            "no image for selection has visible joints and a torso; confidences in 2D are not "
            "calibrated anew",
            stacklevel=2,
        )
        return
    inputs = mass_logit(torch.from_numpy(mass)).numpy()[:, None]
    fitted = fit_logistic(inputs, np.concatenate([claim.right for claim in claims]))
    # More mass must never mean less confidence, whatever a small set of images suggests.
    fitted[1] = max(fitted[1], 0.0)
    calibration.copy_(torch.from_numpy(fitted))


class Errors(NamedTuple):
    """What a lifter that is not calibrated got wrong, and what it says of that.

    error, variance: (N, 17, 3) m and m^2, the height given. mass: (N, 17), 0 where missed.
    height_error, height_variance: (M,) m and m^2.
    """

    error: FloatArray
    variance: FloatArray
    mass: FloatArray
    height_error: FloatArray
    height_variance: FloatArray


@torch.inference_mode()
def calibrate_lifter(network: STSPNet, clips: Sequence[LiftBatch]) -> None:
    """Set the lifter's calibration by clips whose 2D joints carry made-up errors; see `_fit`."""
    _make_neutral(network)
    found = []
    for batch in clips:
        there = LiftBatch(*(part.to(network.lifter.calibration.device) for part in batch))
        given, estimated = (lift(network, there, height) for height in (there.height, None))
        target = batch.target * batch.height[:, None, None, None]
        parts = (
            given.joints.cpu() - target,
            given.variance.cpu(),
            batch.mass,
            estimated.height.cpu() - batch.height.unsqueeze(1),
            estimated.height_variance.cpu(),
        )
        found.append(Errors(*(part[batch.valid].double().numpy() for part in parts)))
    _fit(network, found)


def calibrate_chain(network: STSPNet, footage: Iterable[Footage]) -> None:
    """Set the lifter's calibration by videos with truth, from whole images on; see `_fit`.

    Where the estimator finds nobody in any of them all is left as it is, with a warning.
    """
    before = _make_neutral(network)
    neutral = open_network(network)
    found = []
    for one in footage:
        (given, _), (estimated, _) = (predict(neutral, one, known) for known in (True, False))
        for person in one.people:
            take, free = (person.take(poses[person.name]) for poses in (given, estimated))
            error = take.prediction - take.target
            seen = np.isfinite(error).all(axis=(1, 2))
            assert take.variance is not None
            assert take.confidence is not None
            assert free.height_error is not None
            assert free.height_variance is not None
            known = np.isfinite(free.height_error)
            found.append(
                Errors(
                    error[seen],
                    take.variance[seen],
                    take.confidence[seen],  # the mass itself, as the network is neutral
                    free.height_error[known],
                    free.height_variance[known],
                )
            )
    if not any(len(one.error) and len(one.height_error) for one in found):
        network.lifter.load_state_dict(before)
        warnings.warn(
            "the network found nobody in the video to calibrate by: its 3D confidences and "
            "variances stay what they were",
            stacklevel=2,
        )
        return
    _fit(network, found)


def _make_neutral(network: STSPNet) -> dict[str, Tensor]:
    """Let the lifter's variances be as trained and its confidences the mass; returns what was."""
    lifter = network.lifter
    before = {name: value.clone() for name, value in lifter.state_dict().items()}
    lifter.variance_scale.fill_(1.0)
    lifter.height_variance_scale.fill_(1.0)
    lifter.calibration.copy_(torch.tensor([0.0, 1.0, 0.0]))
    return before


def _fit(network: STSPNet, found: Sequence[Errors]) -> None:
    """Set the lifter's calibration by its own errors.

    Variances are scaled so that 68.3 % of the errors lie within one standard deviation, for each
    joint and axis, left and right alike, and for the height. (The mean of squared errors would be
    that of outliers.) A confidence becomes the chance of being within 150 mm, the height given.
    """
    error, variance, mass, height_error, height_variance = map(
        np.concatenate, zip(*found, strict=True)
    )
    lifter = network.lifter
    ratio = error**2 / variance
    scale = np.quantile(np.concatenate([ratio, ratio[:, list(FLIP)]]), WITHIN, axis=0)
    scale[0] = 1  # the pelvis is the origin and has no error
    lifter.variance_scale.copy_(torch.from_numpy(scale))
    height_scale = np.quantile(height_error**2 / height_variance, WITHIN)
    lifter.height_variance_scale.fill_(float(height_scale))

    logit = mass_logit(torch.from_numpy(mass)).numpy()
    deviation = log_deviation(torch.from_numpy(variance * scale)).numpy()
    inputs = np.stack([logit, deviation], axis=-1)[:, 1:].reshape(-1, 2)
    right = np.linalg.norm(error, axis=-1)[:, 1:].ravel() <= PCK_3D_THRESHOLD
    fitted = fit_logistic(inputs, right)
    # More mass must never mean less confidence, nor more deviation more of it.
    fitted[1], fitted[2] = max(fitted[1], 0.0), min(fitted[2], 0.0)
    lifter.calibration.copy_(torch.from_numpy(fitted))


def footage_of(specs: Sequence[str], most: int | None = None) -> Iterator[Footage]:
    """The clips of "synth:DIR" each, of split "validation"; the first `most` of them."""
    folders = [rendered(split_spec(spec)[1], SELECTED[RENDERED]) for spec in specs]
    return islice(chain.from_iterable(folders), most)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see the top of the file.

    Raises:
        DataError, OSError, ValueError: what does not fit; then the file stays as it was.
    """
    parser = argparse.ArgumentParser(
        "python -m stsp_model.training.calibrate",
        description="Sets anew, in place, what a file of weights says of its own errors.",
    )
    formats = (*IMAGES, RENDERED)
    parser.add_argument("weights", type=Path, metavar="WEIGHTS")
    parser.add_argument("data", nargs="+", metavar="FORMAT:PATH", help=f"of {', '.join(formats)}")
    given = parser.parse_args(arguments)
    for spec in given.data:
        check_format(split_spec(spec)[0], formats)
    images, films = of_format(given.data, IMAGES), of_format(given.data, (RENDERED,))
    network = load_model(given.weights)
    if images:
        calibrate_keypoints(network, People(tuple(open_selection(images, [], IMAGES))))
    if films:
        calibrate_chain(network, footage_of(films))
    save(network, given.weights, half=stored_in_half(given.weights))
    print(f"calibrated {given.weights}")


if __name__ == "__main__":
    try:
        main()
    except (DataError, OSError, ValueError) as error:
        sys.exit(f"calibrate: {error}")
