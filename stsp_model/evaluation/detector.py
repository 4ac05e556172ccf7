"""2D joints as a detector would report them: the noise model of stage lift, fitted to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stsp_model.data.errors import DataError
from stsp_model.data.samples import Motion
from stsp_model.evaluation.views import longer_side
from stsp_model.network import PRESETS
from stsp_model.training.config_3d import LiftConfig, Noise
from stsp_model.training.config_file import load_config
from stsp_model.training.noise import distort, draw

FloatArray = npt.NDArray[np.float64]


def noise_model(name: str) -> Noise:
    """The noise model of a preset's stage lift, or of a configuration file of that stage.

    Raises:
        DataError: if it is neither; ConfigError: if the file is wrong.
    """
    if name in PRESETS:
        config = load_config(name, "lift")
    else:
        import yaml

        try:
            content = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            content = None
        if not isinstance(content, dict) or content.get("preset") not in PRESETS:
            raise DataError(
                f"noise model {name!r} is neither one of {', '.join(PRESETS)} nor a configuration "
                "file of stage lift"
            )
        config = load_config(content["preset"], "lift", name)
    assert isinstance(config, LiftConfig)
    return config.noise


def detected(
    motion: Motion, settings: Noise, seed: Sequence[int]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """A motion's 2D joints with a detector's errors, how sure it is, and how precise.

    Args:
        motion: with `joints_2d`.
        settings: its `given_share` counts for nothing, as a detector always says how sure it is.
        seed: numbers; the same ones, the same errors.

    Returns:
        joints (T, 17, 2) px, NaN where missed; confidence (T, 17), the mass of the heat map;
        covariance (T, 17, 2, 2) px^2.
    """
    assert motion.joints_2d is not None
    flat = motion.joints_2d
    half = longer_side(flat) / 2
    joints, mass, covariance = distort(
        replace(settings, given_share=0.0),
        draw([np.random.default_rng(list(seed))], len(flat)),
        flat[None].astype(np.float32),
        motion.stamps[None],
        half[None].astype(np.float32),
    )
    return joints[0].astype(float), mass[0].astype(float), covariance[0].astype(float)
