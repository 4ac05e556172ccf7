"""`stsp ablate`: the command. What trains and scores is imported when it runs."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stsp_model.data.errors import DataError
from stsp_model.data.formats import open_dataset, split_spec
from stsp_model.training.command import PRESET_NAMES, lacking_packages

if TYPE_CHECKING:
    from stsp_model.evaluation.views import Trial
    from stsp_model.network import Preset, STSPNet

# The part of each set that scores: none of them is trained on.
SCORED = {"bvh": "validation", "deepmimic": "validation", "h36m": "report", "humaneva": "report"}
_TABLES = (3, 4, 5)


def ablate(options: argparse.Namespace) -> int:
    """Run `stsp ablate`; returns the exit code."""
    lacking = lacking_packages()
    if lacking:
        print(f"stsp ablate: {lacking}", file=sys.stderr)
        return 1
    from stsp_model.evaluation import ablation
    from stsp_model.evaluation.report import plain
    from stsp_model.files import write_json
    from stsp_model.network import PRESETS
    from stsp_model.training.config import ConfigError
    from stsp_model.training.config_file import load_config
    from stsp_model.training.loop import TrainingError

    try:
        if options.seeds < 1:
            raise DataError(f"seeds is {options.seeds}, expected 1 or more")
        every = _trials(options)
        out = options.out
        load_config(options.preset, "lift", options.config, options.set)  # before a folder is made
        _claim(out, options)

        def train(preset: Preset, seed: int, folder: Path) -> STSPNet:
            return _trained(options, preset, seed, folder)

        results = ablation.run_table(
            options.table, PRESETS[options.preset], range(options.seeds), every, train, out
        )
        write_json(out / f"table{options.table}.json", plain(results))
    except (DataError, ConfigError, TrainingError, ImportError, ValueError, OSError) as error:
        print(f"stsp ablate: {error}", file=sys.stderr)
        return 1
    print(ablation.text(options.table, results))
    return 0


def _trials(options: argparse.Namespace) -> list[Trial]:
    from stsp_model.evaluation.lifting import Protocol, trials

    protocol = Protocol(
        views=options.views,
        fps=options.fps,
        noise=0.0 if options.detector else options.noise,
        detector=options.detector,
        children=options.bodies == "children",
    )
    every: list[Trial] = []
    for spec in options.data:
        name, _ = split_spec(spec)
        if name not in SCORED:
            raise DataError(
                f"{spec}: expected one of {', '.join(SCORED)}, which have a held-out part"
            )
        every += trials(open_dataset(spec, SCORED[name]), protocol)
    return every


def _claim(out: Path, options: argparse.Namespace) -> None:
    """Make the folder this run's. Raises DataError if what it holds came about otherwise."""
    from stsp_model.evaluation.detector import noise_model

    config = None if options.config is None else options.config.read_text(encoding="utf-8")
    # Not the detector's name: what the file of that name says may change.
    detector = None if options.detector is None else asdict(noise_model(options.detector))
    names = ("preset", "data", "set", "views", "fps", "noise", "bodies")
    settings = {name: getattr(options, name) for name in names}
    settings |= {"config": config, "detector": detector}
    file = out / "settings.json"
    text = json.dumps(settings, indent=1, ensure_ascii=False) + "\n"
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise DataError(f"{out} holds rows of other settings ({file}); give another --out")
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def _trained(options: argparse.Namespace, preset: Preset, seed: int, folder: Path) -> STSPNet:
    from stsp_model.checkpoint import load_model
    from stsp_model.training.config_file import load_config
    from stsp_model.training.run import best_weights, initial_model, train_stage
    from stsp_model.training.state import CHECKPOINT

    changes = [*options.set, f"optimisation.seed={seed}"]
    config = load_config(options.preset, "lift", options.config, changes)
    model = initial_model(preset, config, None)
    print(f"training {folder}", file=sys.stderr)
    resume = (folder / CHECKPOINT).exists()
    train_stage(model, config, options.data, folder, resume=resume, device=options.device)
    return load_model(best_weights(folder), preset=preset)


def add_command(commands: Any) -> None:
    """Add `ablate` to the subparsers of the `stsp` command."""
    command = commands.add_parser(
        "ablate",
        help="train and score the rows of the paper's tables",
        description=(
            "Train and score the networks of the paper's Table 3 (modules), 4 (past poses) or 5 "
            "(graph layers), each with several seeds, on the lifting part. What is finished is not "
            "done again, nor what two tables share. Needs the extra [train]."
        ),
    )
    command.add_argument("--table", type=int, choices=_TABLES, required=True)
    command.add_argument(
        "--data",
        action="append",
        required=True,
        metavar="FORMAT:PATH",
        help=f"motions, FORMAT one of {', '.join(SCORED)}; trained on, and scored on what they "
        "hold out; may be repeated",
    )
    command.add_argument("--seeds", type=int, default=3, metavar="N", help="default: 3")
    command.add_argument("--preset", choices=PRESET_NAMES, default="edge", help="default: edge")
    command.add_argument(
        "--out", type=Path, default=Path("out/ablate"), metavar="DIR", help="default: out/ablate"
    )
    command.add_argument(
        "--config", type=Path, metavar="FILE", help="of stage lift; default: the preset's own"
    )
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as of stsp train"
    )
    command.add_argument(
        "--views", type=int, default=4, metavar="N", help="cameras for each motion; default: 4"
    )
    command.add_argument(
        "--fps", type=float, default=30.0, metavar="HZ", help="rate to score at; default: 30"
    )
    command.add_argument(
        "--noise",
        type=float,
        default=0.025,
        metavar="SHARE",
        help="deviation of the 2D joints scored on, of the box's longer side; default: 0.025",
    )
    command.add_argument(
        "--detector",
        metavar="PRESET",
        help="motions: instead of --noise, errors as the noise model of a preset's stage lift, or "
        "of a configuration file of that stage, has them",
    )
    command.add_argument(
        "--bodies",
        choices=("captured", "children"),
        default="captured",
        help="whose proportions to score on; children needs BVH and the extra [synth]",
    )
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto"
    )
    command.set_defaults(run=ablate)
