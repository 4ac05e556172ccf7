"""`stsp compare`: the command. What compares is imported when it runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

# Keys of compare.MEASURES, here so that --help needs no network.
METRICS = (
    *("mpjpe", "n_mpjpe", "pa_mpjpe", "pck_150", "pck_2d", "coverage", "mpjve"),
    *("acceleration_error", "height_error"),
)
_WORSE, _UNFIT = 1, 2  # exit codes


def compare(options: argparse.Namespace) -> int:
    """Run `stsp compare`; returns the exit code: 1 if B is worse, 2 if the runs do not fit."""
    from dataclasses import asdict

    from stsp_model.evaluation.report import plain
    from stsp_model.files import write_json
    from stsp_model.replay import compare as comparing
    from stsp_model.replay.compare_text import text
    from stsp_model.replay.record import RecordError

    try:
        a, b = comparing.records(options.a), comparing.records(options.b)
        common = sorted(a.keys() & b.keys())
        if not common:
            raise comparing.CompareError(
                f"the runs have no bag in common: A has {_bags(a)}, B has {_bags(b)}; of a run of "
                "several bags, the folder of one in there is compared with a run of that bag alone"
            )
        result = comparing.compare([(a[name], b[name]) for name in common])
        worse = comparing.is_worse(result, options.metric)
        if options.json:
            facts = {
                "a": str(options.a),
                "b": str(options.b),
                "bags": [a[name].bag for name in common],
                "metric": options.metric,
                "worse": worse,
                **asdict(result),
            }
            write_json(options.json, plain(facts))
    except (comparing.CompareError, RecordError, OSError) as error:
        print(f"stsp compare: {error}", file=sys.stderr)
        return _UNFIT
    print("\n".join(_about(options, a, b, common)) + "\n\n" + text(result))
    if worse:
        row = result.row(options.metric)
        print(f"\nB is worse than A: {row.title} {row.difference:+.1f} {row.unit}")
    return _WORSE if worse and options.fail_if_worse else 0


def _bags(runs: Any) -> str:
    return f"{runs[''].bag} alone" if "" in runs else ", ".join(sorted(runs))


def _about(options: argparse.Namespace, a: Any, b: Any, common: list[str]) -> list[str]:
    lines = []
    for letter, path, runs in (("A", options.a, a), ("B", options.b, b)):
        every = [runs[name] for name in common]
        models = sorted(
            {
                f"{record.model}, weights {record.weights_sha256[:12]}"
                + ("" if record.trained else " (untrained: its skeletons mean nothing)")
                for record in every
            }
        )
        lines.append(f"{letter}: {path} ({'; '.join(models)})")
        parts = [record.bag for record in every if not record.complete]
        if parts:
            lines.append(
                f"{letter} was stopped before the end of {', '.join(parts)}: only images of both "
                "are compared"
            )
    left_out = sorted(a.keys() ^ b.keys())
    if left_out:
        lines.append(f"left out, as only one of the runs has them: {', '.join(left_out)}")
    return lines


def add_command(commands: Any) -> None:
    """Add `compare` to the subparsers of the `stsp` command."""
    command = commands.add_parser(
        "compare",
        help="tell whether one replay is better than another, or only lucky",
        description=(
            "Compare two replays of the same bags, with ground truth, frame by frame: differences "
            "by measure and joint with intervals of a paired block bootstrap. Exit code 0, 1 if B "
            "is worse and --fail-if-worse was given, 2 if the runs cannot be compared."
        ),
    )
    command.add_argument("a", type=Path, metavar="RUN_A", help="folder of `stsp replay`: before")
    command.add_argument("b", type=Path, metavar="RUN_B", help="the same: after")
    command.add_argument(
        "--metric",
        choices=METRICS,
        default=METRICS[0],
        help=f"by which B is judged; default: {METRICS[0]}",
    )
    command.add_argument(
        "--fail-if-worse",
        action="store_true",
        help="exit code 1 if the interval of the metric lies wholly on the wrong side",
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    command.set_defaults(run=compare)
