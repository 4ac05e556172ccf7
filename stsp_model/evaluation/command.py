"""`stsp evaluate`: the command. What scores is imported when it runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stsp_model.bag import BagError
from stsp_model.data.errors import DataError
from stsp_model.data.formats import FORMATS, check_format, open_dataset, split_spec
from stsp_model.runtime import AUTO, BACKENDS
from stsp_model.sources import SourceError

if TYPE_CHECKING:
    from stsp_model.evaluation.run import Method, Outcome

# Video with ground truth. The format of bags stands beside those of data.formats.
BAG, RENDERED = "bag", "synth"
_FORMATS = (*(name for name in FORMATS if name != "childplay"), BAG)  # that has no joints
ALL = "all"
# Of these some items are for training, so it must be said which ones are meant.
WITH_SPLITS = ("lsp", "lspet", "h36m", "humaneva", "bvh", "deepmimic")
# What only some data have, or only networks, and what it is where nobody asks for it.
_OF_IMAGES: dict[str, Any] = {"jitter": False}
_OF_MOTIONS: dict[str, Any] = {
    "views": 4,
    "fps": None,
    "noise": 0.0,
    "detector": None,
    "bodies": "captured",
    "save_inputs": None,
}
_OF_NETWORKS: dict[str, Any] = {"jitter": False, "subject_height": "given", "backend": AUTO}


def evaluate(options: argparse.Namespace) -> int:
    """Run `stsp evaluate`; returns the exit code."""
    from stsp_model.files import no_folder

    try:
        for path in (options.json, options.reliability, options.save_predictions):
            no_folder(path)
        if options.reliability:
            # Before hours of work, as Matplotlib may be missing.
            import stsp_model.evaluation.reliability  # noqa: F401
        method, name = _method(options)
        outcome = _evaluated(options, method)
    except (DataError, BagError, SourceError, ImportError, OSError) as error:
        print(f"stsp evaluate: {error}", file=sys.stderr)
        return 1
    # Before anything is written, as that may fail.
    print(f"{_title(options, name)}\n\n{outcome.text}", flush=True)
    try:
        _write(options, name, outcome)
    except (DataError, OSError) as error:
        print(f"stsp evaluate: {error}", file=sys.stderr)
        return 1
    return 0


def _write(options: argparse.Namespace, name: str, outcome: Outcome) -> None:
    from stsp_model.evaluation.predictions import save_predictions
    from stsp_model.evaluation.report import plain
    from stsp_model.files import write_json

    if options.save_predictions:
        save_predictions(options.save_predictions, outcome.predictions)
    if options.json:
        facts = {
            "data": options.data,
            "split": options.split,
            "scored": name,
            "subject_height": options.subject_height,
            "views": options.views,
            "fps": options.fps,
            "noise": options.noise,
            "detector": options.detector,
            "bodies": options.bodies,
            "seed": options.seed,
        }
        write_json(options.json, plain(facts | outcome.values))
    if options.reliability:
        from stsp_model.evaluation.reliability import draw_reliability

        if not outcome.calibration:
            raise DataError(
                f"{options.reliability} cannot be drawn: {name} says nothing of how sure it "
                "is, or nowhere where the truth is known"
            )
        options.reliability.parent.mkdir(parents=True, exist_ok=True)
        draw_reliability(options.reliability, outcome.calibration, _title(options, name))


def _title(options: argparse.Namespace, name: str) -> str:
    split = "" if options.split in (None, ALL) else f", {options.split}"
    return f"{name} on {options.data}{split}"


def _method(options: argparse.Namespace) -> tuple[Method, str]:
    import torch

    from stsp_model.evaluation.predictions import load_predictions
    from stsp_model.evaluation.run import Method
    from stsp_model.runtime.backends import chosen, load

    if options.truth or options.predictions:
        _refuse(options, "networks", _OF_NETWORKS, "the truth" if options.truth else "predictions")
    if options.truth:
        return Method(), "the truth itself"
    if options.predictions:
        return Method(predictions=load_predictions(options.predictions)), str(options.predictions)
    try:
        model = load(options.model, options.device)
        backend = chosen(options.backend, torch.device(options.device), model)
    except ValueError as error:
        raise DataError(str(error)) from None
    name = options.model if model.trained else f"{options.model} (untrained)"
    return Method(model, backend), name


def _evaluated(options: argparse.Namespace, method: Method) -> Outcome:
    from stsp_model.data.samples import ImagePose
    from stsp_model.evaluation.lifting import Protocol, save_inputs, trials
    from stsp_model.evaluation.run import evaluate_images, evaluate_motions, evaluate_video
    from stsp_model.evaluation.video import bags, rendered

    if options.seed < 0:
        raise DataError(f"seed is {options.seed}, expected 0 or more")
    format, path = split_spec(options.data)
    check_format(format, _FORMATS)
    given = options.subject_height == "given"
    if format in (BAG, RENDERED):
        _refuse(options, "images", _OF_IMAGES, options.data)
        _refuse(options, "motions", _OF_MOTIONS, options.data)
    if format == BAG:
        if options.split not in (None, ALL):
            raise DataError(f"split is {options.split!r}, but bags have none")
        return evaluate_video(bags(path), method, given)
    if format == RENDERED:
        return evaluate_video(rendered(path, _part(options.split)), method, given)
    if format in WITH_SPLITS and options.split is None:
        raise DataError(
            f"{options.data} holds items for training too; say which ones with --split, such as "
            "selection, validation or report, or all"
        )
    data: Any = open_dataset(options.data, _part(options.split))
    if isinstance(data[0], ImagePose):
        _refuse(options, "motions", _OF_MOTIONS, options.data)
        return evaluate_images(data, method, options.seed if options.jitter else None)
    _refuse(options, "images", _OF_IMAGES, options.data)
    try:
        protocol = Protocol(
            views=options.views,
            fps=options.fps,
            noise=options.noise,
            detector=options.detector,
            children=options.bodies == "children",
            seed=options.seed,
        )
        every = list(trials(data, protocol))
    except ValueError as error:  # of the configuration of a detector, too
        raise DataError(str(error)) from None
    if options.save_inputs:
        save_inputs(options.save_inputs, every)
    return evaluate_motions(every, method, given)


def _refuse(options: argparse.Namespace, kind: str, defaults: dict[str, Any], scored: str) -> None:
    """Raises DataError for an option that is for another kind alone: it would do nothing."""
    for name, default in defaults.items():
        if getattr(options, name) != default:
            raise DataError(f"--{name.replace('_', '-')} is for {kind}, not for {scored}")


def _part(split: str | None) -> str | None:
    return None if split == ALL else split


def add_command(commands: Any) -> None:
    """Add `evaluate` to the subparsers of the `stsp` command."""
    command = commands.add_parser(
        "evaluate",
        help="score the network, or any other method's poses",
        description=(
            "Score 2D joints in images (PCK), 3D poses lifted from motion data, or both in bags "
            "with ground truth; of the network, of the predictions in a file, or of the truth "
            "itself, which must come out perfect."
        ),
    )
    command.add_argument(
        "--data",
        required=True,
        metavar="FORMAT:PATH",
        help=f"FORMAT is one of {', '.join(_FORMATS)} (with ground_truth/skeletons)",
    )
    command.add_argument("--split", help=f"of the data set; {ALL} takes all of it")
    scored = command.add_mutually_exclusive_group()
    scored.add_argument(
        "--model",
        default="edge",
        metavar="W",
        help="a preset, its weights, or a folder that stsp export wrote; default: edge",
    )
    scored.add_argument("--predictions", type=Path, metavar="FILE", help="another method's poses")
    scored.add_argument("--truth", action="store_true", help="the truth against itself, a check")
    command.add_argument("--device", default="cpu", help="where the network runs; default: cpu")
    command.add_argument(
        "--backend",
        choices=BACKENDS,
        default=AUTO,
        help="images and video: what runs the network; default: auto, as the node",
    )
    command.add_argument(
        "--subject-height",
        choices=("given", "estimated"),
        default="given",
        help="whether the network is told the true standing height; default: given",
    )
    command.add_argument(
        "--jitter", action="store_true", help="images: score with jittered boxes, too"
    )
    command.add_argument(
        "--views",
        type=int,
        metavar="N",
        help="motions: cameras for each; default: %(default)s",
    )
    command.add_argument("--fps", type=float, metavar="HZ", help="motions: resample to this rate")
    command.add_argument(
        "--noise",
        type=float,
        metavar="SHARE",
        help="motions: deviation of 2D joints, of the box's longer side; default: 0, exact",
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
        help="motions: whose proportions; children needs BVH and the extra [synth]",
    )
    command.add_argument(
        "--seed", type=int, default=0, help="of jitter, cameras, noise and bodies; default: 0"
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="write the scores there, too")
    command.add_argument(
        "--reliability",
        type=Path,
        metavar="PNG",
        help="draw there what confidences and variances are worth; needs the extra [report]",
    )
    command.add_argument(
        "--save-predictions", type=Path, metavar="FILE", help="write the scored poses there"
    )
    command.add_argument(
        "--save-inputs",
        type=Path,
        metavar="FILE",
        help="motions: write the 2D joints to be lifted there, for other methods",
    )
    command.set_defaults(run=evaluate, **_OF_IMAGES, **_OF_MOTIONS)
