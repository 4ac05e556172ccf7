"""Many bags, one after the other or each as a task of Ray; and the table of what came out."""

from __future__ import annotations

import html
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from stsp_model.bag import bag_name
from stsp_model.evaluation.report import number, table
from stsp_model.evaluation.scores import mean
from stsp_model.files import replacing, write_json
from stsp_model.replay.options import Options, ReplayError
from stsp_model.replay.run import RECORD, REPORT, replay

SUMMARY_JSON, SUMMARY_HTML = "summary.json", "summary.html"
_KNOCK = 10.0  # s to wait for the machine at an address
_WAIT = 0.2  # s between two looks at whether to stop

# Columns of the table: title, unit, and where the value is in metrics.json.
_COLUMNS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("images", "", ("images",)),
    ("processed", "", ("outcomes", "processed")),
    ("p50", "ms", ("latency_ms", "p50")),
    ("tracks", "", ("tracks", "count")),
    ("seen", "%", ("tracks", "seen")),
    ("confidence", "", ("tracks", "confidence")),
    ("acc. deviation", "m/s^2", ("tracks", "acceleration_std_si")),
    ("coverage", "%", ("truth", "coverage")),
    ("MPJPE", "mm", ("truth", "3d", "average", "mpjpe")),
    ("N-MPJPE", "mm", ("truth", "3d", "average", "n_mpjpe")),
    ("PA-MPJPE", "mm", ("truth", "3d", "average", "pa_mpjpe")),
    ("PCK@150", "%", ("truth", "3d", "average", "pck_150")),
    ("PCK@0.2", "%", ("truth", "2d", "pck")),
    ("root error", "mm", ("truth", "root_error")),
    ("id switches", "", ("truth", "id_switches")),
)
_WHOLE = ("images", "processed", "tracks", "id switches")


@dataclass(frozen=True)
class Job:
    """A bag, and the folder that its replay goes to."""

    bag: Path
    out: Path


@dataclass(frozen=True)
class Result:
    """What became of a job: its metrics, which may be of a part, and what went wrong, or ""."""

    job: Job
    metrics: Mapping[str, Any]
    error: str

    @property
    def status(self) -> str:
        """For the table."""
        if self.error:
            return "failed"
        return "complete" if self.metrics.get("complete") else "stopped"


def plan(bags: Sequence[Path], out: Path) -> list[Job]:
    """One bag goes to `out` itself, of several each to a folder in it that bears its name.

    Raises ReplayError if two have one name, or `out` holds what a bag alone has left.
    """
    if len(bags) == 1:
        return [Job(bags[0], out)]
    if (out / RECORD).exists():
        raise ReplayError(f"{out} holds the replay of one bag; choose another folder for several")
    names: dict[str, Path] = {}
    for bag in bags:
        name = bag_name(bag)
        if name in names:
            raise ReplayError(f"{names[name]} and {bag} would both go to {out / name}; rename one")
        names[name] = bag
    return [Job(bag, out / name) for name, bag in names.items()]


def attempt(
    job: Job, options: Options, stopped: Callable[[], bool] = lambda: False, bar: bool = False
) -> Result:
    """Do a job; whatever goes wrong is recorded."""
    try:
        return Result(job, replay(job.bag, job.out, options, stopped=stopped, bar=bar), "")
    except (ValueError, OSError) as error:  # of ours, each with a sentence
        return Result(job, {}, str(error))
    except Exception as error:
        return Result(job, {}, f"{type(error).__name__}: {error}")


def one_by_one(
    jobs: Sequence[Job], options: Options, stopped: Callable[[], bool], bar: bool
) -> Iterator[Result]:
    """Results of the jobs as they come; after a stop no more."""
    for job in jobs:
        if stopped():
            return
        yield attempt(job, options, stopped, bar)


def on_ray(
    jobs: Sequence[Job],
    options: Options,
    stopped: Callable[[], bool],
    bar: bool,
    address: str | None = None,
) -> Iterator[Result]:
    """Results of the jobs as they come, each a task of Ray on one core, and on a GPU if so asked.

    Args:
        address: of a running cluster, on whose machines the paths of the jobs must be the same;
            None: one is started on this machine, and ended.

    Raises:
        ReplayError: if Ray is missing, or there is no such cluster.
    """
    # Ray would otherwise report that it is used, and to whom is not ours to say.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ReplayError(
            f"ray cannot be imported ({error}): pip install '.[ray]' in stsp's checkout"
        ) from None
    own: dict[str, Any] = {"include_dashboard": False} if address is None else {}
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        if address is not None:
            _knock(address)
        ray.init(
            address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **own
        )
    except (OSError, RuntimeError, ValueError) as error:
        where = address or "this machine"
        raise ReplayError(f"there is no cluster of Ray at {where}: {error}") from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminate)  # Ray has put its own in place
    gpus = int(options.device.startswith("cuda"))
    task = ray.remote(num_cpus=1, num_gpus=gpus)(attempt)
    running: dict[Any, Job] = {}
    try:
        running = {task.remote(job, options): job for job in jobs}
        with tqdm(total=len(jobs), unit=" bags", disable=not bar) as progress:
            while running and not stopped():
                done, _ = ray.wait(list(running), timeout=_WAIT)
                for reference in done:
                    job = running.pop(reference)
                    try:
                        yield ray.get(reference)
                    except ray.exceptions.RayError as error:  # the task's process died
                        yield Result(job, {}, f"{type(error).__name__}: {str(error).strip()}")
                    progress.update()
    finally:
        for reference in running:
            ray.cancel(reference)
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError if nobody listens at host:port, which takes Ray minutes to find out."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), _KNOCK).close()


def _value(metrics: Mapping[str, Any], keys: Sequence[str]) -> float:
    value: Any = metrics
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, (int, float)) else math.nan


def _cells(title: str, values: Sequence[float]) -> list[str]:
    digits = 0 if title in _WHOLE else 2 if title == "confidence" else 1
    return [number(value, digits) for value in values]


def _rows(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table, without columns that nobody fills."""
    header, columns = ["bag", "status"], [[r.job.bag.name for r in results] + ["mean"]]
    columns.append([result.status for result in results] + [""])
    for title, unit, keys in _COLUMNS:
        values = [_value(result.metrics, keys) for result in results]
        if any(map(math.isfinite, values)):
            header.append(f"{title} {unit}".rstrip())
            columns.append([*_cells(title, values), *_cells("", [mean(values)])])
    return header, [list(row) for row in zip(*columns, strict=True)]


def text(results: Sequence[Result]) -> str:
    """For the screen: the scores of one bag, or a row for each; the mean weighs bags alike."""
    if len(results) == 1:
        metrics = results[0].metrics
        rows = [
            [title, *_cells(title, [_value(metrics, keys)]), unit]
            for title, unit, keys in _COLUMNS
            if math.isfinite(_value(metrics, keys))
        ]
        return table([results[0].job.bag.name, results[0].status, ""], rows)
    return table(*_rows(results))


def write_summary(out: Path, results: Sequence[Result]) -> None:
    """Write the table as summary.json and summary.html, which links each bag's report."""
    write_json(
        out / SUMMARY_JSON,
        {
            "bags": [
                {
                    "bag": str(result.job.bag),
                    "out": result.job.out.name,
                    "status": result.status,
                    "error": result.error or None,
                    "metrics": dict(result.metrics) or None,
                }
                for result in results
            ]
        },
    )
    header, rows = _rows(results)
    lines = ["<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in header) + "</tr>"]
    for row, result in zip(rows, [*results, None], strict=True):
        cells = [f"<td>{html.escape(cell)}</td>" for cell in row]
        if result is not None and (result.job.out / REPORT).exists():
            link = html.escape(f"{result.job.out.name}/{REPORT}", quote=True)
            cells[0] = f'<td><a href="{link}">{html.escape(row[0])}</a></td>'
        if result is not None and result.error:
            cells.append(f"<td>{html.escape(result.error)}</td>")
        lines.append("<tr>" + "".join(cells) + "</tr>")
    with replacing(out / SUMMARY_HTML) as file:
        file.write(_PAGE.format("\n".join(lines)).encode())


_PAGE = """<!DOCTYPE html>
<html lang="en-GB"><head><meta charset="utf-8"><title>Replay of many bags</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2em }}
table {{ border-collapse: collapse }}
th, td {{ padding: .3em .8em; border-bottom: 1px solid #8886; text-align: right }}
th:first-child, td:first-child {{ text-align: left }}
</style></head><body><h1>Replay of many bags</h1>
<table>
{}
</table></body></html>
"""
