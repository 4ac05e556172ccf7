"""The rows of the paper's Tables 3, 4 and 5: networks that differ in one thing, trained alike.

The lifting part alone: GSR and TMP on 2D joints from motion capture. The paper's "EPE only" has no
3D of its own; here a per-joint MLP takes each joint's place in 3D from its own 2D joint.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stsp_model.evaluation.lifting import lift, take
from stsp_model.evaluation.report import number, plain, table
from stsp_model.evaluation.scores import Take, score
from stsp_model.evaluation.views import Trial
from stsp_model.files import write_json
from stsp_model.network import Preset, STSPNet

SCORES_FILE = "scores.json"


@dataclass(frozen=True)
class Row:
    """One row of a table: its name there, and what it changes in the preset."""

    name: str
    changes: Mapping[str, Any]

    def folder(self, preset: Preset) -> str:
        """A name for its files, that of any other row that makes the same of a preset."""
        changed = {k: v for k, v in self.changes.items() if getattr(preset, k) != v}
        return "-".join(f"{k}_{str(v).lower()}" for k, v in changed.items()) or "full"


@dataclass(frozen=True)
class Table:
    """A table of the paper: what it is about, the title of its first column, and its rows."""

    title: str
    varied: str
    rows: tuple[Row, ...]


_ALONE = {"graph_layers": 0, "context": False}  # no GSR
TABLES: Mapping[int, Table] = {
    3: Table(
        "Modules",
        "modules",
        (
            Row("EPE only (and a per-joint MLP)", {**_ALONE, "tau": 0}),
            Row("EPE + GSR", {"tau": 0}),
            Row("EPE + TMP (and a per-joint MLP)", _ALONE),
            Row("EPE + GSR + TMP", {}),
            Row("EPE + GSR as printed + TMP", {"context": False}),
        ),
    ),
    4: Table("Past poses", "tau", tuple(Row(str(tau), {"tau": tau}) for tau in (1, 3, 5, 7, 9))),
    5: Table(
        "Layers of graph attention",
        "layers",
        tuple(Row(str(layers), {"graph_layers": layers}) for layers in (1, 2, 3)),
    ),
}

# The paper's three columns, then what else tells the rows apart. TS, "temporal stability", is not
# defined there; the standard deviation of acceleration is what comes nearest to its name and unit.
COLUMNS: Mapping[str, str] = {
    "mpjpe": "MPJPE mm",
    "pck_150": "PCK@150 %",
    "acceleration_std": "TS mm/frame^2",
    "n_mpjpe": "N-MPJPE mm",
    "pa_mpjpe": "PA-MPJPE mm",
    "acceleration_error": "acc. error mm/frame^2",
    "acceleration_error_si": "acc. error m/s^2",
    "lag": "lag frames",
}
Scores = dict[str, float | None]
Train = Callable[[Preset, int, Path], STSPNet]


def run_table(
    number_of_table: int,
    preset: Preset,
    seeds: Sequence[int],
    every: Sequence[Trial],
    train: Train,
    out: Path,
) -> dict[str, list[Scores]]:
    """Train and score every row of a table with every seed.

    What is finished is in `out` and not done again, for another table neither; there lie all
    scores by row and seed.

    Args:
        number_of_table: 3, 4 or 5.
        preset: the full network, in whose place each row puts its own.
        seeds: of weights and training.
        every: what to score on, heights given.
        train: makes the trained network of a preset and a seed, with its files in a folder.
        out: folder.

    Returns:
        for each row, by its name, `Score3D.average` of each seed.
    """
    results: dict[str, list[Scores]] = {}
    for row in TABLES[number_of_table].rows:
        changed = replace(preset, **row.changes)
        results[row.name] = []
        for seed in seeds:
            folder = out / row.folder(preset) / f"seed{seed}"
            file = folder / SCORES_FILE
            if not file.exists():
                folder.mkdir(parents=True, exist_ok=True)
                scores = _scored(train(changed, seed, folder), every)
                write_json(file, plain(scores))
                # What a run would go on from: several times the weights, and now of no use.
                for checkpoint in folder.glob("*.ckpt"):
                    checkpoint.unlink()
            results[row.name].append(json.loads(file.read_text(encoding="utf-8")))
    return results


def _scored(model: STSPNet, every: Sequence[Trial]) -> dict[str, float]:
    takes: list[Take] = [take(trial, lift(model, trial, height_given=True)) for trial in every]
    return score(takes).average


def text(number_of_table: int, results: Mapping[str, Sequence[Scores]]) -> str:
    """The table as the paper has it: mean over the seeds, and their standard deviation."""
    one = TABLES[number_of_table]
    rows = [
        [name, *(_spread([scores[key] for scores in by_seed]) for key in COLUMNS)]
        for name, by_seed in results.items()
    ]
    seeds = len(next(iter(results.values())))
    spread = "mean and standard deviation" if seeds > 1 else "no spread"
    head = f"Table {number_of_table}. {one.title}; {seeds} seed{'s' * (seeds > 1)}, {spread}"
    return f"{head}\n\n" + table([one.varied, *COLUMNS.values()], rows)


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return number(math.nan)
    shown = number(float(np.mean(known)), 2)
    if len(known) > 1:
        shown += f" ± {number(float(np.std(known, ddof=1)), 2)}"
    return shown if len(known) == len(values) else f"{shown} ({len(known)} of {len(values)})"
