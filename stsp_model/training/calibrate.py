"""Calibration: what a trained network says of its own errors, set right by data it has not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from stsp_model.epe import mass_logit
from stsp_model.evaluation.pck import ImagePoses, detect
from stsp_model.lifter import Keypoints, Lifted
from stsp_model.metrics import PCK_2D_THRESHOLD, PCK_3D_THRESHOLD
from stsp_model.network import STSPNet
from stsp_model.skeleton import TORSO
from stsp_model.training.lift_batches import LiftBatch

FloatArray = npt.NDArray[np.float64]

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
    """Set `epe.calibration`, so that a confidence is the chance of being right by PCK@0.2."""
    calibration = network.epe.calibration
    calibration.copy_(torch.tensor([0.0, 1.0]))  # so that the confidence is the mass itself
    found = detect(network, selection)
    torso = np.full(len(found.names), np.nan)
    for a, b in reversed(TORSO):
        both = found.visible[:, a] & found.visible[:, b]
        torso[both] = np.linalg.norm(found.target[both, a] - found.target[both, b], axis=-1)
    counted = found.visible & np.isfinite(torso)[:, None] & np.isfinite(found.joints).all(axis=-1)
    if not counted.any():
        return
    error = np.linalg.norm(found.joints - found.target, axis=-1)
    right = error <= PCK_2D_THRESHOLD * torso[:, None]
    mass = mass_logit(torch.from_numpy(found.confidence[counted])).numpy()
    fitted = fit_logistic(mass[:, None], right[counted])
    # More mass must never mean less confidence, whatever a small set of images suggests.
    fitted[1] = max(fitted[1], 0.0)
    calibration.copy_(torch.from_numpy(fitted))


@torch.inference_mode()
def calibrate_lifter(network: STSPNet, clips: Sequence[LiftBatch]) -> None:
    """Set the lifter's calibration: variances that fit the errors, confidences that are chances.

    A joint is right within 150 mm of the truth, the height given (PCK of MPI-INF-3DHP).
    """
    lifter = network.lifter
    lifter.variance_scale.fill_(1.0)
    lifter.height_variance_scale.fill_(1.0)
    device = lifter.variance_scale.device

    def lifted(calibration: tuple[float, float, float], given: bool) -> list[Lifted]:
        lifter.calibration.copy_(torch.tensor(calibration))
        results = []
        for batch in clips:
            K, stamps, valid, height = (
                x.to(device) for x in (batch.K, batch.stamps, batch.valid, batch.height)
            )
            points = Keypoints(
                *(x.to(device) for x in (batch.joints, batch.mass, batch.covariance))
            )
            boxes = batch.boxes.to(device)
            results.append(lifter.clip(points, boxes, K, stamps, valid, height if given else None))
        return results

    error, variance, height_error, height_variance = [], [], [], []
    for batch, result in zip(clips, lifted((0.0, 0.0, 1.0), False), strict=True):
        valid, target = batch.valid.to(device), batch.target.to(device)
        error.append((result.corrected - target)[..., 1:, :][valid].square())
        variance.append(result.corrected_log_variance[..., 1:, :][valid].exp())
        wrong = result.height - batch.height.to(device).unsqueeze(1)
        height_error.append(wrong[valid].square())
        height_variance.append(result.height_variance[valid])
    scale = (torch.cat(error) / torch.cat(variance)).mean()
    lifter.variance_scale.copy_(scale)
    lifter.height_variance_scale.copy_(
        (torch.cat(height_error) / torch.cat(height_variance)).mean()
    )

    # With one slope at a time set to 1, the confidence's logit is that input itself.
    inputs, right = [], []
    by_mass, by_deviation = (lifted(unit, True) for unit in ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
    for batch, one, other in zip(clips, by_mass, by_deviation, strict=True):
        seen = batch.valid.to(device)[..., None] & (batch.mass.to(device) > 0)
        seen = seen & (torch.arange(seen.shape[-1], device=device) > 0)  # the pelvis is the origin
        both = [torch.logit(result.confidence, eps=1e-6)[seen] for result in (one, other)]
        inputs.append(torch.stack(both, dim=-1))
        goal = batch.target.to(device) * batch.height.to(device)[:, None, None, None]
        right.append(((one.joints - goal).norm(dim=-1) <= PCK_3D_THRESHOLD)[seen])
    fitted = fit_logistic(torch.cat(inputs).double().cpu().numpy(), torch.cat(right).cpu().numpy())
    # More mass must never mean less confidence, nor more deviation more of it.
    fitted[1], fitted[2] = max(fitted[1], 0.0), min(fitted[2], 0.0)
    lifter.calibration.copy_(torch.from_numpy(fitted))
