"""`stsp data show`: the command. What it draws is imported when it runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import cv2

from stsp_model.bag import BagError
from stsp_model.data.errors import DataError
from stsp_model.data.formats import FORMATS, VIDEO, split_spec
from stsp_model.sources import SourceError

COUNT = 12


def show(options: argparse.Namespace) -> int:
    """Run `stsp data show`; returns the exit code."""
    from stsp_model.data.show import sheet

    try:
        name, path = split_spec(options.data)
        out = options.out or Path("out/data") / f"{name}_{path.name.split('.')[0] or 'set'}.png"
        if not cv2.haveImageWriter(str(out)):
            raise DataError(f"{out} cannot be written; expected a .png or .jpg")
        picture = sheet(options.data, options.count, options.split)
        out.parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(out), picture):
            raise DataError(f"{out} cannot be written")
    except (DataError, SourceError, BagError, OSError, cv2.error) as error:
        print(f"stsp data show: {error}", file=sys.stderr)
        return 1
    print(f"{out}: {picture.shape[1]}x{picture.shape[0]} px")
    return 0


def add_command(commands: Any) -> None:
    """Add `data show` to the subparsers of the `stsp` command."""
    data = commands.add_parser("data", help="look at data sets", description="Look at data sets.")
    actions = data.add_subparsers(title="commands", metavar="COMMAND", required=True)
    command = actions.add_parser(
        "show",
        help="a contact sheet of a data set with the joints drawn in",
        description=(
            "Draw a contact sheet of a data set: people in images with their joints, motions as "
            "stick figures from the front and from the side, videos as frames."
        ),
    )
    command.add_argument(
        "data",
        metavar="FORMAT:PATH",
        help=f"FORMAT is one of {', '.join(FORMATS)}, {VIDEO} (a video, a folder, a bag)",
    )
    command.add_argument("--out", type=Path, metavar="FILE", help="default: out/data/NAME.png")
    command.add_argument(
        "--count", type=int, default=COUNT, metavar="N", help=f"tiles; default: {COUNT}"
    )
    command.add_argument("--split", help="of the data set, such as train; default: all of it")
    command.set_defaults(run=show)
