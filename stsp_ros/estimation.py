"""The seam between the node and the estimator it runs."""

from __future__ import annotations

import gc
import os
import warnings
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from stsp_model import Camera, Pose, PoseEstimator
from stsp_model.estimator import warm_up
from stsp_model.runtime import ONNXRUNTIME, OPENVINO
from stsp_model.runtime.backends import load, open_network
from stsp_model.threads import leave_a_core_free
from stsp_ros.parameters import Settings

Region = tuple[float, float, float, float]  # x0 y0 x1 y1 px


class Model(Protocol):
    """What the node needs to know of the network."""

    @property
    def trained(self) -> bool:
        """Whether its weights come from training."""

    @property
    def note(self) -> str:
        """Where its weights come from."""

    @property
    def precision(self) -> str:
        """In which it computes 2D joints: float32, float16 or int8."""


class Estimator(Protocol):
    """What the node needs of stsp_model.PoseEstimator."""

    @property
    def model(self) -> Model:
        """The network."""

    def step(
        self,
        image: npt.NDArray[np.uint8],
        stamp: float,
        *,
        camera: Camera | None,
        region: Region | None,
    ) -> list[Pose]:
        """Poses in one image."""

    def reset(self) -> None:
        """Forget all tracks."""

    def configure(self, **options: float) -> None:
        """Change options between two images; names as in the constructor."""


def resolved_device(settings: Settings) -> str:
    """The device that the settings mean."""
    if settings.device != "auto":
        return settings.device
    if settings.backend in (ONNXRUNTIME, OPENVINO):
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"


def build_estimator(settings: Settings) -> Estimator:
    """The real estimator, warmed up. Raises ValueError or OSError if the model does not load."""
    leave_a_core_free()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is untrained, the node says by its own means
        # No shell has expanded the ~ of a parameter file.
        model = load(os.path.expanduser(settings.model), resolved_device(settings))
    network = open_network(model, settings.backend, resolved_device(settings))
    warm_up(network, settings.max_people)
    return PoseEstimator(network, **estimator_options(settings))


def release_device_memory() -> None:
    """Give back what PyTorch keeps of a GPU's memory for models that are gone."""
    if torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def estimator_options(settings: Settings) -> dict[str, Any]:
    """The settings that are the estimator's, by its names."""
    return {
        "subject_height": settings.subject_height,
        "max_people": settings.max_people,
        "max_gap": settings.max_gap,
        "min_confidence": settings.min_confidence,
        "image_rotation": settings.image_rotation,
    }
