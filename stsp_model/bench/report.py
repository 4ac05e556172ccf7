"""The benchmark's tables, for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stsp_model.bench.figures import Figure
from stsp_model.bench.steps import StepResult

if TYPE_CHECKING:
    from stsp_model.bench.floor import Machine, Need
    from stsp_ros.bench import NodeResult

# Stages in the order of a frame's way, and what is said of each. Indented ones are parts.
STAGES: Mapping[str, str] = {
    "transport": "stamp to arrival: the camera's middleware, and ours",
    "wait": "for the worker",
    "decode": "message to pixels",
    "find": "finder pass over the whole frame, where it runs",
    "crop": "box to network input",
    "flow": "optical flow and saliency",
    "observe": "keypoints in the crops",
    "EPE": "of that: the network",
    "lift": "2D to metres, and the root",
    "undistort": "of that: the lens",
    "GSR": "of that: the network, per frame",
    "TMP": "of that: the network, over time",
    "GSR+TMP": "of that: the network",
    "step": "PoseEstimator.step: find to lift",
    "messages": "the skeletons message",
    "markers": "the markers message",
    "publish": "handing the skeletons over",
    "all": "",
    "stamp to publication": "camera to skeleton",
}
_PARTS = ("EPE", "undistort", "GSR", "TMP", "GSR+TMP")


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of columns: the first flush left, the others flush right."""
    rows = list(rows)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    ]


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.2f}"


def _megabytes(count: float) -> str:
    return f"{count / 1e6:.0f} MB"


def stage_lines(times: Mapping[str, Figure], whole: str) -> list[str]:
    """One version's stages, in milliseconds."""
    rows: list[Sequence[str]] = [("ms", "p50", "p90", "p99", "max", "round medians")]
    for stage in STAGES:
        if stage not in times:
            continue
        figure = times[stage]
        name = whole if stage == "all" else stage
        values = (figure.p50, figure.p90, figure.p99, figure.max)
        spread = f"{_milliseconds(figure.lowest_median)}..{_milliseconds(figure.highest_median)}"
        rows.append(("  " + name if stage in _PARTS else name, *map(_milliseconds, values), spread))
    return table(rows)


def step_lines(names: Sequence[str], results: Sequence[StepResult]) -> list[str]:
    """Every version's stages, then all versions side by side."""
    lines = []
    for name, result in zip(names, results, strict=True):
        weights = "" if result.trained else ", untrained weights"
        lines += ["", f"{name}: {result.people:.2f} people a frame{weights}"]
        lines += stage_lines(result.times, "decode to markers")
    columns: dict[str, Callable[[StepResult], str]] = {
        "p50": lambda r: _milliseconds(r.times["step"].p50),
        "p99": lambda r: _milliseconds(r.times["step"].p99),
        "round medians": lambda r: (
            f"{_milliseconds(r.times['step'].lowest_median)}.."
            f"{_milliseconds(r.times['step'].highest_median)}"
        ),
        "frames/s": lambda r: f"{r.frames_per_second:.0f}",
        "cores": lambda r: f"{r.cpu:.2f}",
        "memory": lambda r: _megabytes(r.memory),
        "growth": lambda r: _megabytes(r.memory_growth),
        "peak": lambda r: _megabytes(r.memory_peak),
    }
    return [*lines, "", *_side_by_side("step, ms", names, results, columns)]


def node_lines(names: Sequence[str], results: Sequence[NodeResult]) -> list[str]:
    """The same of the nodes."""
    lines = []
    for name, result in zip(names, results, strict=True):
        lines += ["", f"{name}: images at {result.rate:g} Hz"]
        lines += stage_lines(result.times, "arrival to publication")
    columns: dict[str, Callable[[NodeResult], str]] = {
        "p50": lambda r: _milliseconds(r.times["all"].p50),
        "p99": lambda r: _milliseconds(r.times["all"].p99),
        "above step": lambda r: _milliseconds(r.times["all"].p50 - r.times["step"].p50),
        "from stamp": lambda r: _milliseconds(r.times["stamp to publication"].p50),
        "p99 ": lambda r: _milliseconds(r.times["stamp to publication"].p99),
        "frames/s": lambda r: f"{r.frames_per_second:.1f}",
        "published": lambda r: str(r.published),
        "processed": lambda r: str(r.processed),
        "dropped": lambda r: str(sum(r.dropped.values())),
        "lost": lambda r: str(r.lost),
        "unexplained": lambda r: str(r.unexplained),
        "cores": lambda r: f"{r.cpu:.2f}",
        "memory": lambda r: _megabytes(r.memory),
        "growth": lambda r: _megabytes(r.memory_growth),
        "collections": lambda r: str(r.collections),
        "longest": lambda r: _milliseconds(r.longest_collection),
    }
    lines += ["", *_side_by_side("node, ms", names, results, columns)]
    for name, result in zip(names, results, strict=True):
        drift = result.drift
        if drift is not None:
            grown = 100 * (drift.last_memory / drift.first_memory - 1)
            risen = 100 * (drift.last_p99 / drift.first_p99 - 1)
            lines.append(
                f"{name}: first and last {drift.seconds:.0f} s: p99 "
                f"{_milliseconds(drift.first_p99)} and {_milliseconds(drift.last_p99)} ms "
                f"({risen:+.1f} %), memory {drift.first_memory / 1e6:.1f} and "
                f"{drift.last_memory / 1e6:.1f} MB ({grown:+.2f} %)"
            )
    return lines


def _side_by_side(
    title: str,
    names: Sequence[str],
    results: Sequence[Any],
    columns: Mapping[str, Callable[[Any], str]],
) -> list[str]:
    rows = [(title, *columns)]
    for name, result in zip(names, results, strict=True):
        rows.append((name, *(column(result) for column in columns.values())))
    return table(rows)


def floor_lines(
    machines: Sequence[Machine], needs: Sequence[Need], epe_seconds: Mapping[tuple[str, int], float]
) -> list[str]:
    """What the machine can do, what the networks ask, and how near EPE comes to it."""
    rows = [
        (
            f"{machine.threads} thread{'s' if machine.threads > 1 else ''}",
            f"{machine.convolution / 1e9:.0f} Gop/s",
            f"{machine.product / 1e9:.0f} Gop/s",
            f"{machine.bandwidth / 1e9:.1f} GB/s",
        )
        for machine in machines
    ]
    heads = ("the machine, float32", "convolutions", "products", "memory")
    lines = ["", *table([heads, *rows]), ""]
    needs_heads = ("a crop", "operations", "weights", "layers' traffic", "threads", "floor, ms")
    rows_of_needs = [(*needs_heads, "EPE, ms", "of the peak")]
    for need in needs:
        for machine in machines:
            seconds = epe_seconds.get((need.model, machine.threads))
            share = None if seconds is None else need.epe_operations / seconds / machine.convolution
            rows_of_needs.append(
                (
                    need.model,
                    f"{need.operations / 1e9:.2f} G",
                    _megabytes(need.weights),
                    _megabytes(need.bytes),
                    str(machine.threads),
                    _milliseconds(need.floor(machine)),
                    "-" if seconds is None else _milliseconds(seconds),
                    "-" if share is None else f"{100 * share:.0f} %",
                )
            )
    lines += table(rows_of_needs)
    for need in needs:
        if need.shares:
            told = ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in need.shares.items())
            lines.append(f"{need.model}: PyTorch spends EPE's time on {told}")
    return lines
