"""`stsp synth`: render children in sport with exact ground truth."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path


def _size(text: str) -> tuple[int, int]:
    """ "256" or "640x480" as width and height."""
    width, _, height = text.partition("x")
    try:
        return int(width), int(height or width)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 256 or 640x480") from None


def _people(text: str) -> tuple[int, int]:
    """ "1" or "0-4" as the least and the most."""
    low, _, high = text.partition("-")
    try:
        return int(low), int(high or low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no count such as 1 or 0-4") from None


def run(options: argparse.Namespace) -> int:
    from stsp_model.data.errors import DataError
    from stsp_model.synth.body import require_anny

    try:
        require_anny()
        from stsp_model.synth.clips import CLIP_LENGTH, ClipSettings
        from stsp_model.synth.write import Job, render_set

        width, height = options.size
        frames = options.clip_length
        if not CLIP_LENGTH[0] <= frames <= CLIP_LENGTH[1]:  # as --frames is something else
            raise ValueError(
                f"clip-length is {frames}, expected {' to '.join(map(str, CLIP_LENGTH))}"
            )
        settings = ClipSettings(
            seed=options.seed,
            split=options.split,
            width=width,
            height=height,
            frames=frames,
            people=options.people,
            samples=options.samples,
            mixed=options.mixed,
            tumbled=options.tumbled,
        )
        job = Job(options.out, tuple(options.mocap), settings, options.format, options.backgrounds)
        clips = options.clips
        if clips is None:
            if options.frames < 1:
                raise ValueError(f"frames is {options.frames}, expected at least 1")
            clips = -(-options.frames // frames)
        start = time.monotonic()
        tally = render_set(job, clips, options.workers)
    except (DataError, ValueError, ImportError, RuntimeError, OSError) as error:
        print(f"stsp synth: {error}", file=sys.stderr)
        return 1
    seconds = time.monotonic() - start
    print(
        f"{tally.clips} clips, {tally.frames} frames, {tally.bytes / 1e6:.1f} MB in "
        f"{seconds:.0f} s ({tally.frames / seconds:.1f} frames/s); "
        f"{tally.kept} clips were there already"
    )
    return 0


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `stsp synth` to the command line."""
    command = commands.add_parser(
        "synth",
        help="render children doing sport, with exact ground truth",
        description=(
            "Render clothed children of 4 to 14 years who move as motion capture does, with their "
            "joints in 2D and 3D. Needs the extra [synth]. A stopped run goes on where it was; "
            "the same seed gives the same bytes."
        ),
    )
    command.add_argument("out", type=Path, metavar="OUT", help="folder of the set")
    command.add_argument(
        "--mocap",
        type=Path,
        action="append",
        required=True,
        metavar="PATH",
        help="BVH file, folder or archive, or a folder of DeepMimic's clips; may be repeated",
    )
    amount = command.add_mutually_exclusive_group(required=True)
    amount.add_argument("--clips", type=int, help="how many clips the set has")
    amount.add_argument("--frames", type=int, help="about how many: as many clips as hold them")
    command.add_argument(
        "--split",
        choices=("train", "validation"),
        default="train",
        help="of the motions; default: train",
    )
    command.add_argument("--seed", type=int, default=0, help="default: 0")
    command.add_argument(
        "--format",
        choices=("shards", "bag"),
        default="shards",
        help="files for training (default), or an MCAP bag for each clip",
    )
    command.add_argument(
        "--size", type=_size, default=(256, 256), metavar="PX", help="256 (default) or 640x480"
    )
    command.add_argument(
        "--people", type=_people, default=(1, 1), metavar="N", help="in a clip: 1 (default) or 0-4"
    )
    command.add_argument(
        "--clip-length", type=int, default=48, metavar="FRAMES", help="of each clip; default: 48"
    )
    command.add_argument(
        "--samples", type=int, default=4, help="moments in each exposure; default: 4"
    )
    command.add_argument(
        "--mixed",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of children whose limbs move as in motions of their own; default: 0",
    )
    command.add_argument(
        "--tumbled",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of children turned any way up, as in a cartwheel; default: 0",
    )
    command.add_argument(
        "--backgrounds", type=Path, metavar="DIR", help="pictures without people to stand before"
    )
    command.add_argument("--workers", type=int, default=2, help="processes; default: 2")
    command.set_defaults(run=run)
