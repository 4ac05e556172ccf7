"""`stsp train`: the command. What trains is imported when it runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

PRESET_NAMES = ("edge", "base", "large")
_STAGES = ("finder", "epe", "lift", "finetune")


def lacking_packages() -> str:
    """A sentence on what training needs and is not here, else empty."""
    try:
        import lightning_fabric  # noqa: F401
        import yaml  # noqa: F401
        from torch.utils import tensorboard  # noqa: F401
    except ImportError as error:
        return f"{error}; training needs more packages: pip install '.[train]' in stsp's checkout"
    return ""


def train(options: argparse.Namespace) -> int:
    """Run `stsp train`; returns the exit code."""
    lacking = lacking_packages()
    if lacking:
        print(f"stsp train: {lacking}", file=sys.stderr)
        return 1
    from stsp_model.data.errors import DataError
    from stsp_model.training.config import ConfigError
    from stsp_model.training.loop import TrainingError
    from stsp_model.training.run import run_stage

    try:
        run_stage(
            options.preset,
            options.stage,
            options.data,
            options.out,
            select=options.select,
            weights=options.weights,
            resume=options.resume,
            config_file=options.config,
            changes=options.set,
            device=options.device,
        )
    except (DataError, ConfigError, TrainingError, ValueError, OSError) as error:
        print(f"stsp train: {error}", file=sys.stderr)
        return 1
    return 0


def add_command(commands: Any) -> None:
    """Add `train` to the subparsers of the `stsp` command."""
    command = commands.add_parser(
        "train",
        help="train one of the four stages",
        description=(
            "Train a stage of STSP-Net: finder (where people are, from images), epe (2D, from "
            "images), lift (3D, from motion capture) or finetune (2D and 3D, on video with 3D). "
            "Under torchrun every process takes its share. Needs the extra [train]."
        ),
    )
    command.add_argument("--preset", choices=PRESET_NAMES, default="edge", help="default: edge")
    command.add_argument("--stage", choices=_STAGES, required=True)
    command.add_argument(
        "--data",
        action="append",
        required=True,
        metavar="FORMAT:PATH",
        help="a data set to train on, such as lspet:PATH; may be repeated",
    )
    command.add_argument(
        "--select",
        action="append",
        default=[],
        metavar="FORMAT:PATH",
        help="what the best weights are chosen by; default: the parts of --data kept for that",
    )
    command.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="checkpoint, weights and logs"
    )
    command.add_argument(
        "--weights", metavar="FILE", help="weights to start from; default: untrained ones"
    )
    command.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    command.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="default: stsp_model/training/configs/PRESET_STAGE.yaml",
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another value than the configuration's, such as optimisation.epochs=3",
    )
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto"
    )
    command.set_defaults(run=train)
