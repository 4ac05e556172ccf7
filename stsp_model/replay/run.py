"""One bag replayed into a folder: skeletons, markers, a record, scores, a report."""

from __future__ import annotations

import json
import math
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from stsp_model.bag import (
    CAMERA_INFO_TYPE,
    BagError,
    BagReader,
    BagWriter,
    camera_info_beside,
    camera_info_topic,
    image_topic,
)
from stsp_model.checkpoint import weights_sha256
from stsp_model.evaluation.report import plain
from stsp_model.evaluation.video import TRUTH_TOPIC, true_poses
from stsp_model.files import write_json
from stsp_model.lock import locked
from stsp_model.network import STSPNet
from stsp_model.outcomes import PROCESSED
from stsp_model.pose import UNTRAINED
from stsp_model.replay.beside import beside
from stsp_model.replay.charts import PlotlyError
from stsp_model.replay.frames import Frame, prepared
from stsp_model.replay.images import Run
from stsp_model.replay.options import Options, ReplayError
from stsp_model.replay.record import OUTCOMES, Record, write_record
from stsp_model.replay.report import write_report
from stsp_model.replay.scores import scores
from stsp_model.runtime.backends import chosen, load, open_network, precision
from stsp_model.runtime.exported import Exported

# What a run's folder holds.
SKELETONS, RECORD, REPORT, METRICS = "skeletons", "record.npz", "report.html", "metrics.json"
# These, and what a killed process leaves of them.
_FILES = "|".join(map(re.escape, (RECORD, REPORT, METRICS)))
_OURS = re.compile(rf"{SKELETONS}|{_FILES}|\.({_FILES})\.\d+")

_SECOND = 1_000_000_000  # ns


def _load(options: Options) -> tuple[STSPNet | Exported, str]:
    """The network and what is to run it. Raises ReplayError if there is none such."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is untrained, the notes say
            model = load(options.model, options.device)
        return model, chosen(options.backend, torch.device(options.device), model)
    except (ValueError, OSError) as error:
        raise ReplayError(str(error)) from None


def _facts(bag: Path, options: Options, model: STSPNet | Exported, backend: str) -> dict[str, Any]:
    """What the result of a replay depends on, as metrics.json has it."""
    files = [bag] if bag.is_file() else sorted(file for file in bag.iterdir() if file.is_file())
    checksum = model.sha256 if isinstance(model, Exported) else weights_sha256(model)
    return plain(
        {
            "bag": bag.name,
            "bag_bytes": sum(file.stat().st_size for file in files),
            "model": Path(options.model).name,
            "weights_sha256": checksum,
            "settings": {
                **{k: v for k, v in asdict(options).items() if k != "model"},
                "backend": backend,
                "precision": precision(backend, model, torch.device(options.device)),
            },
        }
    )


def _apart(out: Path, inputs: Sequence[Path]) -> None:
    """Raise ReplayError if a replay into the folder `out` could touch what it reads."""
    folder = out.resolve()
    for path in inputs:
        if folder in (path.resolve(), *path.resolve().parents):
            raise ReplayError(f"{path} lies in {out}, where the results go; choose another folder")


def finished(out: Path, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The metrics of a replay that is complete in the folder `out`; None if there is none.

    Raises ReplayError for a file, and for a folder that holds other files, or a complete replay of
    something else.
    """
    if not out.exists():
        return None
    if not out.is_dir():
        raise ReplayError(f"{out} is a file; choose a folder")
    found = [entry.name for entry in out.iterdir()]
    foreign = [name for name in sorted(found) if not _OURS.fullmatch(name)]
    if foreign:
        raise ReplayError(
            f"{out} holds other files ({', '.join(foreign[:3])}); choose an empty folder"
        )
    metrics = _read_json(out / METRICS)
    if metrics.get("complete") is True:
        other = _differing(facts, metrics)
        if other:
            raise ReplayError(
                f"{out} holds a complete replay that differs in {', '.join(other)}; choose another "
                "folder, or remove that one"
            )
        return metrics
    return None


def _differing(facts: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    """Names of the facts that are others in the metrics."""
    settings, found = facts["settings"], metrics.get("settings")
    found = found if isinstance(found, Mapping) else {}
    return [
        *(key for key in facts if key != "settings" and metrics.get(key) != facts[key]),
        *(key for key in settings if found.get(key) != settings[key]),
    ]


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a file; an empty one where there is none or it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def replay(
    bag: Path,
    out: Path,
    options: Options,
    *,
    stopped: Callable[[], bool] = lambda: False,
    bar: bool = False,
) -> dict[str, Any]:
    """Replay a bag into the folder `out`, unless it holds a complete replay already.

    The same bag, weights and options give the same bytes in the bag of skeletons on the same
    machine, but for `live` "measured".

    Args:
        stopped: asked before each image whether to stop; what there is then is written.
        bar: whether to show a progress bar.

    Returns:
        the content of metrics.json, which is written last. `complete` is False after a stop.

    Raises:
        ReplayError, BagError, DataError: with a sentence. After damage in the middle of a bag what
            there is then is written first.
        OSError: if `out` cannot be written, or another process writes into it.
    """
    truth_file = Path(options.ground_truth or bag)
    _apart(out, [bag, truth_file])
    model, backend = _load(options)
    with BagReader(bag) as reader:
        facts = _facts(bag, options, model, backend)
        done = finished(out, facts)
        if done is not None:
            return done
        topic = image_topic(reader, options.image_topic)
        info_topic = camera_info_topic(reader, topic, options.camera_info_topic)
        count = reader.topics[topic].count
        infos = sum(t.type == CAMERA_INFO_TYPE and t.count > 0 for t in reader.topics.values())
    truth = true_poses(truth_file)
    if options.ground_truth and not truth:
        raise ReplayError(f"bag {truth_file} has nobody on a topic {TRUTH_TOPIC}")
    notes = []
    if info_topic is None:
        notes.append(
            f"there is camera info on {infos} topics, none of them beside {topic}: distances are "
            "unknown; say with --camera-info-topic which one belongs to it"
            if infos
            else "there is no camera info: 60 degrees field of view are assumed, and distances are "
            "unknown"
        )
    elif options.camera_info_topic is None and info_topic != camera_info_beside(topic):
        notes.append(
            f"there is no camera info beside {topic}: {info_topic} is taken, the bag's only one; "
            "say with --camera-info-topic that it belongs to these images"
        )
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        done = finished(out, facts)  # whoever was here may have ended since
        if done is not None:
            return done
        for left in list(out.iterdir()):  # by a stopped replay
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        with (
            BagWriter(out / SKELETONS) as writer,
            beside() as thread,
            prepared(bag, topic, info_topic, options.live, lambda: run.took, thread) as frames,
        ):
            run = Run(options, open_network(model, backend, options.device), writer, thread)
            with tqdm(total=count, desc=bag.name, unit=" images", disable=not bar) as progress:
                began = time.perf_counter()
                damage, on_demand = _process(run, frames, stopped, progress)
                run.finish_writing()
                seconds = time.perf_counter() - began
        complete = damage is None and (not on_demand or len(run.stamps) == count)
        record, pictures, left_out = run.record(facts, topic, truth, complete)
        notes += run.notes()
        if complete and left_out:
            notes.append(f"{left_out} true poses are at the stamp of no image, and are left out")
        if complete and len(run.stamps) < count:
            notes.append(f"the bag says that it holds {count} images, and holds {len(run.stamps)}")
        if not complete:
            why = f"at damage: {damage}" if damage else "on demand"
            notes.append(f"stopped {why}, after {len(run.stamps)} of {count} images")
        write_record(out / RECORD, record)
        try:
            write_report(out / REPORT, record, pictures if options.images else None, notes)
        except PlotlyError as error:
            notes.append(f"there is no report: {error}")
        if not model.trained:  # which the report says by itself
            notes.insert(0, UNTRAINED)
        metrics = _metrics(record, facts, notes, seconds)
        write_json(out / METRICS, metrics)
        if damage is not None:
            raise damage
        return metrics


def _process(
    run: Run, frames: Iterator[Frame], stopped: Callable[[], bool], progress: tqdm[Any]
) -> tuple[BagError | None, bool]:
    """Put images through the network, to the last, to damage in the bag, or until `stopped`.

    Returns the damage, if any, and whether it was stopped.
    """
    try:
        while not stopped():
            frame = next(frames, None)
            if frame is None:
                return None, False
            run.process(frame)
            progress.update()
    except BagError as error:
        return error, False
    return None, True


def _metrics(
    record: Record, about: Mapping[str, Any], notes: Sequence[str], seconds: float
) -> dict[str, Any]:
    counts = np.bincount(record.outcome, minlength=len(OUTCOMES)).tolist()
    processed = counts[OUTCOMES.index(PROCESSED)]
    known = 1000 * record.latency[np.isfinite(record.latency)]
    span = record.stamps[[0, -1]] if len(record.stamps) else np.zeros(2, np.int64)
    return plain(
        {
            **about,
            "trained": record.trained,
            "complete": record.complete,
            "notes": list(notes),
            "image_topic": record.image_topic,
            "image_size": list(record.image_size),
            "images": len(record.stamps),
            "seconds": float(np.diff(span)[0] / _SECOND),
            "outcomes": dict(zip(OUTCOMES, counts, strict=True)),
            "latency_ms": {
                f"p{q}": float(np.percentile(known, q)) if len(known) else math.nan
                for q in (50, 99)
            },
            "replay": {"seconds": seconds, "images_per_second": processed / seconds},
            **scores(record),
        }
    )
