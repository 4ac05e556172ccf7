"""One stage from its configuration to trained weights: what `stsp train` runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from stsp_model.checkpoint import load_model
from stsp_model.network import PRESETS, Preset, STSPNet
from stsp_model.training.config import EPEConfig, FinderConfig
from stsp_model.training.config_3d import LiftConfig, StageConfig
from stsp_model.training.config_file import load_config
from stsp_model.training.loop import HISTORY, Run, TrainingError, train
from stsp_model.training.stage import Stage
from stsp_model.training.stage_epe import epe_stage
from stsp_model.training.stage_finder import finder_stage
from stsp_model.training.stage_finetune import finetune_stage
from stsp_model.training.stage_lift import lift_stage
from stsp_model.training.state import BEST


def run_stage(
    preset: str,
    stage: str,
    data: Sequence[str],
    out: str | Path,
    *,
    select: Sequence[str] = (),
    weights: str | os.PathLike[str] | None = None,
    resume: bool = False,
    config_file: str | Path | None = None,
    changes: Sequence[str] = (),
    device: str = "auto",
) -> list[dict[str, float]]:
    """Train one stage of a preset.

    Args:
        preset, stage: names.
        data: "FORMAT:PATH" each, to train on.
        out: folder of checkpoint, best weights (best.safetensors), history.json and logs.
        select: data sets to select by; empty: the parts of `data` kept for that.
        weights: to start from; None: untrained ones.
        resume: go on from the checkpoint in `out`.
        config_file, changes: see `load_config`.
        device: "auto", "cpu" or "cuda".

    Returns:
        the scores of each epoch, see `loop.train`.

    Raises:
        DataError, ConfigError, ValueError, FileNotFoundError: for what cannot be used, named.
        TrainingError: if the loss is no longer finite, or no epoch was better than the start.
    """
    config = load_config(preset, stage, config_file, changes)
    model = initial_model(PRESETS[preset], config, weights)
    history = train_stage(model, config, data, out, select, resume=resume, device=device)
    best_weights(Path(out))
    return history


def best_weights(out: Path) -> Path:
    """The file that a run wrote. Raises TrainingError if none of its epochs was worth it."""
    best = out / BEST
    if not best.exists():
        raise TrainingError(
            f"no epoch was better than the weights it began with, so no {BEST} was written; the "
            f"scores stand in {out / HISTORY}"
        )
    return best


def initial_model(
    preset: Preset, config: StageConfig, weights: str | os.PathLike[str] | None
) -> STSPNet:
    """The network a run begins with: from a file, or untrained, seeded by the configuration."""
    if weights is None:
        return STSPNet(preset, seed=config.optimisation.seed)
    return load_model(weights, preset=preset)


def train_stage(
    model: STSPNet,
    config: StageConfig,
    data: Sequence[str],
    out: str | Path,
    select: Sequence[str] = (),
    *,
    resume: bool = False,
    device: str = "auto",
) -> list[dict[str, float]]:
    """`run_stage` with a network and a configuration at hand."""
    stage = make_stage(model, config, data, select)
    run = Run(config, stage, Path(out), tuple(data), tuple(select))
    return train(model, run, resume=resume, device=device)


def make_stage(
    model: STSPNet, config: StageConfig, data: Sequence[str], select: Sequence[str]
) -> Stage:
    """The stage that a configuration is of."""
    if isinstance(config, EPEConfig):
        return epe_stage(model, config, data, select)
    if isinstance(config, FinderConfig):
        return finder_stage(model, config, data, select)
    if isinstance(config, LiftConfig):
        return lift_stage(model, config, data, select)
    return finetune_stage(model, config, data, select)
