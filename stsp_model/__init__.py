"""3D skeletons of children doing sport from one camera: STSP-Net in plain PyTorch.

The names below are imported when first used, so that a tool that only reads bags or draws does
not wait for PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .camera import Camera
    from .checkpoint import load_model, save
    from .estimator import Pose, PoseEstimator, TrackingState
    from .network import PRESETS, Preset, STSPNet

__all__ = [
    "PRESETS",
    "Camera",
    "Pose",
    "PoseEstimator",
    "Preset",
    "STSPNet",
    "TrackingState",
    "load_model",
    "save",
]

_HOMES = {
    "camera": ("Camera",),
    "checkpoint": ("load_model", "save"),
    "estimator": ("Pose", "PoseEstimator", "TrackingState"),
    "network": ("PRESETS", "Preset", "STSPNet"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f".{home}", __name__), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
