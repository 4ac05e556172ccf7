"""`stsp export`: the command. What exports is imported when it runs."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

from stsp_model.data.errors import DataError
from stsp_model.runtime import TENSORRT


def export(options: argparse.Namespace) -> int:
    """Run `stsp export`; returns the exit code."""
    try:
        _export(options)
    except (ValueError, OSError, DataError) as error:
        print(f"stsp export: {error}", file=sys.stderr)
        return 1
    return 0


def _export(options: argparse.Namespace) -> None:
    from stsp_model.checkpoint import load_model
    from stsp_model.data.formats import open_dataset
    from stsp_model.runtime import exported, with_tensorrt
    from stsp_model.runtime.backends import open_network

    if options.int8 != (options.data is not None):
        raise ValueError("--int8 needs --data, such as lspet:PATH, and --data serves --int8 alone")
    if options.int8 and options.half:
        raise ValueError("--int8 and --half exclude each other")
    if options.out.exists():
        if not options.out.is_dir():
            raise ValueError(f"{options.out} is a file; name a folder")
        found = sorted(entry.name for entry in options.out.iterdir())
        if found:  # perhaps a network that somebody runs
            raise ValueError(
                f"{options.out} holds files already ({', '.join(found[:3])}); choose another "
                "folder, or remove that one"
            )
    if options.tensorrt:
        with_tensorrt.package()  # before minutes of work
    if options.int8:
        from stsp_model.runtime.quantise import quantised

        training: Any = open_dataset(options.data, "train")
        selection: Any = open_dataset(options.data, "selection")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is untrained is said below
        model = load_model(options.model)
    if not model.trained:
        print(f"{options.model} is not trained: its poses mean nothing", file=sys.stderr)
    network = exported.export(model, options.batch, options.half, mirrored=options.mirrored)
    if options.int8:
        network, cost = quantised(network, training, selection, progress=True)
        print(cost)
    exported.write(network, options.out)
    for graph, content in network.files.items():
        print(f"{options.out / exported.file_name(graph)}: {len(content) / 1e6:.1f} MB")
    if options.tensorrt:
        open_network(model, TENSORRT, "cuda")
        print(f"the TensorRT engines of {options.model} are ready for this machine")


def add_command(commands: Any) -> None:
    """Add `export` to the subparsers of the `stsp` command."""
    command = commands.add_parser(
        "export",
        help="write a network as ONNX, for ONNX Runtime, OpenVINO, TensorRT and others",
        description=(
            "Write finder.onnx, epe.onnx and lifter.onnx (opset 17) into a folder, which the "
            "node's parameter model and stsp replay --model take. Inputs and outputs stand "
            "in docs/performance.md; what the network is, in the files' metadata."
        ),
    )
    command.add_argument(
        "model",
        nargs="?",
        default="edge",
        metavar="W",
        help="a preset or its weights; default: edge",
    )
    command.add_argument(
        "-o", "--out", type=Path, required=True, metavar="OUT", help="a new or an empty folder"
    )
    command.add_argument(
        "--batch",
        type=int,
        default=1,
        metavar="N",
        help="people per call, 64 at most; 0 leaves it open; default: 1",
    )
    command.add_argument("--half", action="store_true", help="finder and EPE in 16 bits, for GPUs")
    command.add_argument(
        "--mirrored",
        action="store_true",
        help="EPE looks at each crop's mirror image as well: fewer errors, twice its time",
    )
    command.add_argument(
        "--int8",
        action="store_true",
        help="EPE in 8 bits, for CPUs; tells, and stores, what that costs in PCK",
    )
    command.add_argument(
        "--data",
        metavar="FORMAT:PATH",
        help="for --int8: images to calibrate on (part train) and to score (part selection), such "
        "as lspet:PATH",
    )
    command.add_argument(
        "--tensorrt",
        action="store_true",
        help="build the engines for this machine's GPU as well, which takes minutes, so that "
        "backend tensorrt starts at once",
    )
    command.set_defaults(run=export)
