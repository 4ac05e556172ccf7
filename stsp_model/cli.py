"""The `stsp` command. Subcommands that need ROS 2 import stsp_ros when they are called."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import os
import signal
import sys
from pathlib import Path

from stsp_model.bag import BagError
from stsp_model.bag_command import add_command as add_bag_command
from stsp_model.bench.command import add_command as add_bench_command
from stsp_model.data.command import add_command as add_data_command
from stsp_model.evaluation.ablate_command import add_command as add_ablate_command
from stsp_model.evaluation.command import add_command as add_evaluate_command
from stsp_model.import_weights_command import add_command as add_import_command
from stsp_model.replay.command import add_command as add_replay_command
from stsp_model.replay.compare_command import add_command as add_compare_command
from stsp_model.runtime.command import add_command as add_export_command
from stsp_model.sources import SAMPLE, SourceError
from stsp_model.synth.command import add_command as add_synth_command
from stsp_model.training.command import add_command as add_train_command


def version() -> str:
    """The installed version: pip knows the package as stsp-pose, ROS as stsp."""
    for name in ("stsp-pose", "stsp"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return "unknown (not installed)"


def what_ros_lacks() -> str:
    """A sentence that says what to install when ROS 2 or our messages are missing, else empty."""
    if importlib.util.find_spec("rclpy") is None:
        return (
            "this needs ROS 2, which is not here: on a machine with ROS source its setup.bash; "
            "elsewhere `make demo` in a checkout of stsp sets up all of it"
        )
    try:
        found = importlib.util.find_spec("stsp.msg") is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        return (
            "ROS 2 is here, but not the messages of stsp: build the package with colcon and source "
            "its install/setup.bash, or run `python scripts/build_messages.py` in a checkout"
        )
    return ""


def demo(options: argparse.Namespace) -> int:
    lacking = what_ros_lacks()
    if lacking:
        print(f"stsp demo: {lacking}", file=sys.stderr)
        return 1
    from stsp_ros.demo import DemoError, run

    parameters = [f"model:={options.model}"] if options.model else []
    try:
        run(
            options.video or options.bag,
            options.out,
            image_topic=options.image_topic,
            node_parameters=parameters,
        )
    except (BagError, SourceError, DemoError) as error:
        print(f"stsp demo: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="stsp", description="3D skeletons of children doing sport, from a camera or a bag."
    )
    top.add_argument("--version", action="version", version=f"stsp {version()}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = commands.add_parser(
        "demo",
        help="images in, skeletons out, over ROS 2",
        description=(
            "Play a video or a bag to the node over ROS 2, record its skeletons, and draw them "
            "over a dozen frames. Without --video or --bag a sample bag is played. Needs ROS 2."
        ),
    )
    source = command.add_mutually_exclusive_group()
    source.add_argument("--video", type=Path, metavar="FILE", help="a video, or a folder of images")
    source.add_argument(
        "--bag",
        type=Path,
        default=SAMPLE,
        help="a rosbag2 folder, or a .mcap or .db3 file (default: the sample bag)",
    )
    command.add_argument("--image-topic", metavar="TOPIC", help="which of the bag's cameras")
    command.add_argument(
        "--model",
        metavar="W",
        help="a preset, its weights, or what stsp export wrote; default: edge",
    )
    command.add_argument(
        "--out", type=Path, default=Path("out/demo"), metavar="DIR", help="default: out/demo"
    )
    command.set_defaults(run=demo)

    add_bag_command(commands)
    add_data_command(commands)
    add_synth_command(commands)
    add_evaluate_command(commands)
    add_ablate_command(commands)
    add_replay_command(commands)
    add_bench_command(commands)
    add_compare_command(commands)
    add_train_command(commands)
    add_import_command(commands)
    add_export_command(commands)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code, 130 after Ctrl-C or SIGTERM."""
    options = parser().parse_args(arguments)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # a damaged video gets our sentence only
    # SIGINT as well: a script's background job inherits it ignored, and Python leaves it at that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who read the output has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 1


if __name__ == "__main__":
    sys.exit(main())
