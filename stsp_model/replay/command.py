"""`stsp replay`: the command. What replays is imported when it runs."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stsp_model.bag import BagError
from stsp_model.data.errors import DataError
from stsp_model.runtime import AUTO, BACKENDS

_RAY = "ray"


def replay(options: argparse.Namespace) -> int:
    """Run `stsp replay`; returns the exit code, 130 if it was stopped."""
    from stsp_model.network import PRESETS
    from stsp_model.replay import batch
    from stsp_model.replay.options import Options, ReplayError
    from stsp_model.threads import leave_a_core_free

    out: Path = options.out.resolve()
    try:
        if options.address is not None and options.engine != _RAY:
            raise ReplayError(f"--address is of a cluster of Ray: add --engine {_RAY}")
        how = Options(
            model=options.model if options.model in PRESETS else _absolute(options.model),
            device=options.device,
            backend=options.backend,
            subject_height=options.subject_height,
            max_people=options.max_people,
            rectified=options.rectified,
            image_rotation=options.image_rotation,
            image_topic=options.image_topic,
            camera_info_topic=options.camera_info_topic,
            live=options.live,
            ground_truth=options.ground_truth and _absolute(options.ground_truth),
            copy_images=options.copy_images,
            images=options.images,
        )
        jobs = batch.plan([bag.resolve() for bag in options.bags], out)
        if len(jobs) > 1:
            out.mkdir(parents=True, exist_ok=True)  # or none of them need begin
        with _stopping() as stop:
            bar = sys.stderr.isatty()
            if options.engine == _RAY:
                coming = batch.on_ray(jobs, how, stop.is_set, bar, options.address)
            else:
                leave_a_core_free()  # images are decoded while the network works
                coming = batch.one_by_one(jobs, how, stop.is_set, bar)
            found = {}
            for result in coming:
                found[result.job] = result
                _tell(result)
        results = [found[job] for job in jobs if job in found]
        if len(jobs) > 1:
            batch.write_summary(out, results)
    except (ReplayError, BagError, DataError, OSError) as error:
        print(f"stsp replay: {error}", file=sys.stderr)
        return 1
    if any(result.metrics for result in results):
        print(batch.text(results))
    if stop.is_set():
        print(
            f"stopped: what was done until then is whole and in {out}; the same command goes on "
            "with the bags that are not complete",
            file=sys.stderr,
        )
        return 130
    return int(any(result.error for result in results))


def _absolute(path: str | Path) -> str:
    """As processes elsewhere can find it."""
    return str(Path(path).resolve())


def _tell(result: Any) -> None:
    """What a user should know of one bag."""
    name = result.job.bag.name
    if result.error:
        print(f"stsp replay: {name}: {result.error}", file=sys.stderr)
    else:
        print(f"{name}: {result.status}, in {result.job.out}", file=sys.stderr)
    for note in result.metrics.get("notes", ()):
        print(f"{name}: {note}", file=sys.stderr)


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets; a second one ends the process as usual."""
    stop = threading.Event()

    def request(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, signal.default_int_handler)
        print("stopping; once more ends at once and leaves the bag unfinished", file=sys.stderr)

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _live(value: str) -> float | str:
    from stsp_model.replay.live import checked_live

    try:
        return checked_live(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_command(commands: Any) -> None:
    """Add `replay` to the subparsers of the `stsp` command."""
    command = commands.add_parser(
        "replay",
        help="skeletons, scores and a report of recorded bags",
        description=(
            "Run every image of a bag through the network as the live node would, without ROS. "
            "OUT gets skeletons/ (a bag), report.html, metrics.json and record.npz; of several "
            "bags each in a folder of its own, and a summary. Bags that are complete in OUT "
            "already are not run again."
        ),
    )
    command.add_argument(
        "bags",
        type=Path,
        nargs="+",
        metavar="BAG",
        help="a rosbag2 folder, .mcap or .db3 file",
    )
    command.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="a folder")
    command.add_argument(
        "--model",
        default="edge",
        metavar="W",
        help="a preset, its weights, or what stsp export wrote; default: edge",
    )
    command.add_argument("--device", default="cpu", help="where the network runs; default: cpu")
    command.add_argument(
        "--backend",
        choices=BACKENDS,
        default=AUTO,
        help="what runs the network; default: auto, as the node",
    )
    command.add_argument(
        "--subject-height", type=float, metavar="M", help="standing height; default: estimated"
    )
    command.add_argument(
        "--max-people", type=int, default=1, metavar="N", help="to follow at most; default: 1"
    )
    command.add_argument(
        "--rectified", action="store_true", help="the images are undistorted: use P of camera info"
    )
    command.add_argument(
        "--image-rotation",
        type=int,
        default=0,
        metavar="DEG",
        help="turns the images upright, clockwise: 0, 90, 180 or 270; default: 0",
    )
    command.add_argument("--image-topic", metavar="TOPIC", help="which of the bag's cameras")
    command.add_argument("--camera-info-topic", metavar="TOPIC", help="if not beside the images")
    command.add_argument(
        "--live",
        type=_live,
        metavar="MS",
        help="drop images as a node that works MS milliseconds on each; measured: as long as it "
        "takes here",
    )
    command.add_argument(
        "--ground-truth",
        type=Path,
        metavar="BAG",
        help="with a topic ground_truth/skeletons; default: that of the bag itself, if any",
    )
    command.add_argument(
        "--copy-images", action="store_true", help="copy the images into the bag of skeletons"
    )
    command.add_argument(
        "--images", action="store_true", help="store pictures of the people in the report"
    )
    command.add_argument(
        "--engine", choices=(_RAY,), help="several bags at a time, each as a task of Ray"
    )
    command.add_argument(
        "--address",
        help=f"with --engine {_RAY}: of a running cluster; default: start one on this machine",
    )
    command.set_defaults(run=replay)
