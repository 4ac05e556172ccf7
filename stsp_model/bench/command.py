"""`stsp bench`: times every stage, the whole step and the whole node, side by side."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from stsp_model.bag import BagError
from stsp_model.bench.stream import BGR8, ENCODINGS
from stsp_model.runtime import AUTO, BACKENDS
from stsp_model.sources import SAMPLE, SourceError


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1e5:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0, up to 100000")
    return value


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdigit() and 64 <= int(side) <= 4096 for side in sides):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no image size such as 640x480, with sides of 64 to 4096"
        )
    return int(sides[0]), int(sides[1])


def add_command(commands: Any) -> None:
    """Add `bench` to the subcommands."""
    command = commands.add_parser(
        "bench",
        help="how long it all takes on this machine",
        description=(
            "Time each stage from image message to skeleton, the whole step, the whole node over "
            "ROS 2, and what the machine could do at best. Options that take several values are "
            "measured side by side, in turns, in processes of their own."
        ),
    )
    command.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help="step, node or floor; default: all, the node where ROS 2 is to be had",
    )
    command.add_argument(
        "--model",
        nargs="+",
        default=["edge"],
        help="presets, weights files, or folders that stsp export wrote (default: edge)",
    )
    command.add_argument(
        "--backend", nargs="+", choices=BACKENDS, default=[AUTO], help="default: auto"
    )
    command.add_argument(
        "--threads",
        nargs="+",
        type=_count,
        metavar="N",
        help="of the network (default: as the node, all cores but one, four at most)",
    )
    command.add_argument(
        "--size",
        nargs="+",
        type=_size,
        default=[(640, 480)],
        metavar="WxH",
        help="of the images (default: 640x480)",
    )
    command.add_argument(
        "--encoding",
        nargs="+",
        choices=ENCODINGS,
        default=[BGR8],
        help="in which the images come; jpeg: compressed (default: bgr8)",
    )
    command.add_argument(
        "--people",
        nargs="+",
        type=_count,
        default=[1],
        metavar="N",
        help="in each image (default: 1)",
    )
    command.add_argument(
        "--transports",
        nargs="+",
        default=["default"],
        metavar="T",
        help="of Fast DDS: 'default', a profile such as stsp_ros/fastdds.xml, or what "
        "FASTDDS_BUILTIN_TRANSPORTS takes; camera:T and node:T are for one of the two "
        "(default: 'default')",
    )
    command.add_argument(
        "--camera-qos",
        nargs="+",
        choices=("reliable", "best_effort"),
        default=["reliable"],
        help="what the camera offers (default: reliable)",
    )
    command.add_argument("--device", default="cpu", help="cpu (default), cuda ...")
    command.add_argument(
        "--source",
        type=Path,
        default=SAMPLE,
        metavar="FILE",
        help="bag, video or folder of images with a person (default: the sample bag)",
    )
    command.add_argument("--warm-up", type=_count, default=50, metavar="N", help="default: 50")
    command.add_argument(
        "--frames", type=_count, default=200, metavar="N", help="timed ones (default: 200)"
    )
    command.add_argument(
        "--rounds", type=_count, default=5, metavar="N", help="all take turns so often (default: 5)"
    )
    command.add_argument(
        "--rate", type=_positive, default=30.0, metavar="HZ", help="of the camera (default: 30)"
    )
    command.add_argument(
        "--duration",
        type=_positive,
        default=0.0,
        metavar="S",
        help="node only: so many seconds in one go, the end compared with the beginning",
    )
    command.add_argument(
        "--out",
        type=Path,
        default=Path("out/bench.json"),
        metavar="FILE",
        help="figures as JSON (default: out/bench.json)",
    )
    command.set_defaults(run=bench)


def bench(options: argparse.Namespace) -> int:
    """Measure, print the tables, write the JSON."""
    from stsp_model.bench.child import BenchError
    from stsp_model.bench.run import run

    try:
        run(options)
    except (ValueError, OSError, BagError, SourceError, BenchError) as error:
        print(f"stsp bench: {error}", file=sys.stderr)
        return 1
    return 0
