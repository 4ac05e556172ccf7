"""The benchmark's tables, for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stsp_model.bench.figures import Figure, Version, names
from stsp_model.bench.steps import StepResult
from stsp_model.runtime import FLOAT32

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


def step_lines(versions: Sequence[Version], results: Sequence[StepResult]) -> list[str]:
    """Every version's stages, then all versions side by side."""
    lines = []
    for name, result in zip(names(versions), results, strict=True):
        weights = "" if result.trained else ", untrained weights"
        told = f"EPE in {result.precision}{weights}"
        lines += ["", f"{name}: {result.people:.2f} people a frame, {told}"]
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
    return [*lines, "", *_side_by_side("step, ms", versions, results, columns)]


def node_lines(versions: Sequence[Version], results: Sequence[NodeResult]) -> list[str]:
    """The same of the nodes."""
    lines = []
    for name, result in zip(names(versions), results, strict=True):
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
    lines += ["", *_side_by_side("node, ms", versions, results, columns)]
    for name, result in zip(names(versions), results, strict=True):
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
    versions: Sequence[Version],
    results: Sequence[Any],
    columns: Mapping[str, Callable[[Any], str]],
) -> list[str]:
    rows = [(title, *columns)]
    for name, result in zip(names(versions), results, strict=True):
        rows.append((name, *(column(result) for column in columns.values())))
    return table(rows)


def floor_lines(
    machines: Sequence[Machine],
    needs: Sequence[Need],
    versions: Sequence[Version],
    steps: Sequence[StepResult],
) -> list[str]:
    """What the machine can do, what the networks ask, and how near EPE came to it."""
    heads = ("the machine, float32", "convolutions", "products", "memory")
    rows = [
        (
            _threads(machine.threads),
            f"{machine.convolution / 1e9:.0f} Gop/s",
            f"{machine.product / 1e9:.0f} Gop/s",
            f"{machine.bandwidth / 1e9:.1f} GB/s",
        )
        for machine in machines
    ]
    lines = ["", *table([heads, *rows])]
    floors = [f"floor, {_threads(machine.threads)}" for machine in machines]
    crop_heads = ("a crop", "operations", "EPE's", "weights", "layers' traffic", *floors)
    wants = [
        (
            need.model,
            f"{need.operations / 1e9:.2f} G",
            f"{need.epe_operations / 1e9:.2f} G",
            _megabytes(need.weights),
            _megabytes(need.bytes),
            *(f"{_milliseconds(need.floor(machine))} ms" for machine in machines),
        )
        for need in needs
    ]
    lines += ["", *table([crop_heads, *wants])]
    reached = [
        (
            name,
            _milliseconds(seconds),
            f"{speed / 1e9:.0f} Gop/s",
            # The peak is that of float32, which others may well exceed.
            f"{100 * speed / machine.convolution:.0f} %" if precision == FLOAT32 else precision,
        )
        for name, need, machine, seconds, precision in _epe(machines, needs, versions, steps)
        for speed in [need.epe_operations / seconds]
    ]
    if reached:
        lines += ["", *table([("EPE, ms", "p50", "speed", "of the peak"), *reached])]
    for need in needs:
        if need.shares:
            told = ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in need.shares.items())
            lines.append(f"{need.model}: PyTorch spends EPE's time on {told}")
        else:
            lines.append(
                f"{need.model}: not profiled, which is for a preset or weights that PyTorch runs "
                "on the CPU"
            )
    return lines


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _epe(
    machines: Sequence[Machine],
    needs: Sequence[Need],
    versions: Sequence[Version],
    steps: Sequence[StepResult],
) -> Iterator[tuple[str, Need, Machine, float, str]]:
    """Each version's name, need, machine, and seconds of EPE for one person, in which precision."""
    for name, version, step in zip(names(versions), versions, steps, strict=True):
        need = next(need for need in needs if need.model == version.model)
        machine = next(machine for machine in machines if machine.threads == version.threads)
        if version.people == 1 and "EPE" in step.times:
            yield name, need, machine, step.times["EPE"].p50, step.precision
