"""A run of `stsp bench`: which versions and parts, and their tables and figures."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import itertools
import os
import platform
import sys
from dataclasses import asdict, replace
from typing import Any

from stsp_model.bench import report
from stsp_model.bench.figures import Version
from stsp_model.bench.floor import measure_floor
from stsp_model.bench.steps import StepResult, measure_steps
from stsp_model.cli import what_ros_lacks
from stsp_model.files import no_folder, write_json
from stsp_model.sources import open_source
from stsp_model.threads import network_threads

STEP, NODE, FLOOR = "step", "node", "floor"
PARTS = (STEP, NODE, FLOOR)
LEAST_DURATION = 4.0  # s: memory is looked at once a second, and so once in each quarter


def run(options: argparse.Namespace) -> None:
    """Measure what the command line asks for, print the tables, write the figures.

    Raises ValueError, OSError, BagError, SourceError or BenchError with a sentence.
    """
    no_folder(options.out)
    parts, lacking = _parts(options)
    if options.frames < options.rounds:
        raise ValueError(f"{options.frames} frames cannot be timed in {options.rounds} rounds")
    if parts != [FLOOR]:
        open_source(options.source)  # before processes start that need it
    found: dict[str, Any] = {}
    try:
        _measure(options, parts, found)
        if lacking:
            print(f"\nnode not measured: {lacking}")
    finally:  # what was measured until then took minutes
        if any(part in found for part in PARTS):
            write_json(options.out, found)
            print(f"\nfigures  {options.out}")


def _versions(options: argparse.Namespace, threads: list[int]) -> list[Version]:
    return [
        Version(model, backend, count, size, encoding, people, qos == "reliable", transports)
        for model, backend, count, size, encoding, people, qos, transports in itertools.product(
            options.model,
            options.backend,
            threads,
            options.size,
            options.encoding,
            options.people,
            options.camera_qos,
            options.transports,
        )
    ]


def _parts(options: argparse.Namespace) -> tuple[list[str], str]:
    """What to measure, and why not all of it; ValueError for what cannot be."""
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is none of the parts {', '.join(PARTS)}")
    asked = options.parts or ([NODE] if options.duration else list(PARTS))
    if options.duration and asked != [NODE]:
        raise ValueError("--duration is for the node alone: stsp bench node --duration ...")
    if 0 < options.duration < LEAST_DURATION:
        raise ValueError(
            f"--duration is {options.duration:g} s, expected {LEAST_DURATION:g} or more, as its "
            "first quarter is compared with its last"
        )
    if NODE not in asked:
        return asked, ""
    lacking = what_ros_lacks()
    if lacking and (options.parts or options.duration):
        raise ValueError(f"the node cannot be measured: {lacking}")
    return [part for part in asked if part != NODE or not lacking], lacking


def _measure(options: argparse.Namespace, parts: list[str], found: dict[str, Any]) -> None:
    """Measure the parts, print their tables, and put the figures of each into `found`."""
    versions = _versions(options, options.threads or [network_threads()])
    progress = sys.stderr.isatty()
    cores = len(os.sched_getaffinity(0))
    print(
        f"{platform.machine()}, {cores} cores, Python {platform.python_version()}, {_libraries()}"
    )
    found |= {
        "cores": cores,
        "machine": platform.machine(),
        "libraries": _libraries(),
        "load": os.getloadavg()[0],
        "device": options.device,
        "arguments": sys.argv[1:],
    }
    own: list[Version] = []
    steps: list[StepResult] = []
    if STEP in parts:
        # Of what makes versions, the middleware's settings say nothing here.
        own = list(dict.fromkeys(_without_middleware(version) for version in versions))
        steps = measure_steps(
            own,
            options.source,
            options.device,
            warm_up=options.warm_up,
            frames=options.frames,
            rounds=options.rounds,
            progress=progress,
        )
        print(*report.step_lines(own, steps), sep="\n")
        found["step"] = [
            {"version": asdict(version), **asdict(result)}
            for version, result in zip(own, steps, strict=True)
        ]
    if FLOOR in parts:
        counts = sorted({version.threads for version in versions})
        machines, needs = measure_floor(options.model, counts, options.device)
        print(*report.floor_lines(machines, needs, own, steps), sep="\n")
        found["floor"] = {
            "machines": [asdict(machine) for machine in machines],
            "needs": [asdict(need) for need in needs],
        }
    if NODE in parts:
        from stsp_ros.bench import Plan, as_json, measure_nodes

        plan = Plan(
            options.source,
            *(options.warm_up, options.frames, options.rounds),
            *(options.rate, options.device, options.duration),
        )
        nodes = measure_nodes(versions, plan, progress)
        print(*report.node_lines(versions, nodes), sep="\n")
        found["node"] = [
            {"version": asdict(version), **as_json(result)}
            for version, result in zip(versions, nodes, strict=True)
        ]


def _without_middleware(version: Version) -> Version:
    return replace(version, reliable=True, transports="default")


def _libraries() -> str:
    told = []
    for name in ("torch", "onnxruntime", "openvino", "ros-rclpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            told.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(told)
