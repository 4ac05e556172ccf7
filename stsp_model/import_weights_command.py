"""`stsp import-weights`: the command. What reads weights is imported when it runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def import_file(options: argparse.Namespace) -> int:
    """Run `stsp import-weights`; returns the exit code."""
    from stsp_model.checkpoint import save
    from stsp_model.import_weights import import_weights, summary

    try:
        imported = import_weights(options.file, options.preset)
        save(imported.model, options.output)
    except (ValueError, OSError) as error:
        print(f"stsp import-weights: {error}", file=sys.stderr)
        return 1
    print(f"{options.file} -> {options.output}\n{summary(imported)}")
    return 0


def add_command(commands: Any) -> None:
    """Add `import-weights` to the subparsers of the `stsp` command."""
    command = commands.add_parser(
        "import-weights",
        help="start from published weights of HRNet",
        description=(
            "Turn weights of the authors' pose HRNet, of mmpose or of a timm classifier (W32, W48) "
            "into a network to train from, of preset base or large. Nothing that the file holds is "
            "run."
        ),
    )
    command.add_argument("file", type=Path, metavar="FILE", help=".pth or .safetensors")
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="the network, a .safetensors file for `stsp train --weights`",
    )
    command.add_argument(
        "--preset", choices=("base", "large"), help="refuse a file of the other one"
    )
    command.set_defaults(run=import_file)
