"""`stsp demo`: player, node and recorder as processes of their own, over the real middleware."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stsp_model.bag import is_bag
from stsp_model.data.errors import DataError
from stsp_model.sources import Source, open_source
from stsp_ros.demo_report import Summary, contact_sheet_of, summarise
from stsp_ros.domain import claimed_domain, local_environment
from stsp_ros.transports import profile_environment

if TYPE_CHECKING:
    from stsp_model.evaluation.video import Person

_NODE, _RECORDER, _PLAYER = "node", "recorder", "player"
_MODULES = {
    _NODE: "stsp_ros.pose_node",
    _RECORDER: "stsp_ros.recorder",
    _PLAYER: "stsp_ros.player",
}
_READY_TIMEOUT = 180.0  # s; the first import of torch from a slow disk takes a minute
_QUIET = 3.0  # s without a new skeleton after which none is expected any more
_SETTLE_TIMEOUT = 60.0  # s
_EXIT_TIMEOUT = 6.0  # s; the node itself takes up to 4
# Larger frames travel as JPEG: our profile of Fast DDS has room for five raw ones of this size, and
# 1920x1080 at 30 Hz arrives whole (docs/performance.md).
_LARGEST_RAW_FRAME = 7_000_000  # bytes
_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl


class DemoError(RuntimeError):
    """Why the demo cannot go on, as a sentence for the user."""


@dataclass(frozen=True)
class Outputs:
    """Where the demo writes."""

    folder: Path
    bag: Path
    contact_sheet: Path
    logs: Path


@dataclass
class _Topics:
    """The recorder's latest count of publishers and messages, by topic."""

    latest: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def get(self, topic: str, what: str) -> int:
        return next((v[what] for name, v in self.latest.items() if name.endswith(topic)), 0)


def run(
    source_path: Path,
    out: Path,
    *,
    image_topic: str | None = None,
    node_parameters: Sequence[str] = (),
) -> Summary:
    """Play `source_path` to the node and record what it publishes under `out`.

    A bag with ground truth is scored against it. The node is told the height of the people there,
    where all have the same.

    `node_parameters` are "name:=value" for the node. Says on stdout what it does; returns the
    figures. Raises DemoError, SourceError or BagError with a sentence. No process outlives it.
    """
    source = open_source(source_path, image_topic)
    outputs = _prepare(out)
    people = true_people(source_path)
    width, height = source.size
    transport = "raw" if 3 * width * height <= _LARGEST_RAW_FRAME else "compressed"
    print(f"{source.name}: {source.count or 'unknown number of'} frames of {width}x{height}")
    with claimed_domain() as domain, contextlib.ExitStack() as stack:
        environment = {
            **os.environ,
            **local_environment(domain),
            **profile_environment(),
        }
        processes = _Processes(outputs.logs, environment)
        stack.callback(processes.end_all)
        topics = _Topics()
        print(f"starting node and recorder in ROS domain {domain} ...", flush=True)
        recorder = processes.start(_RECORDER, str(outputs.bag), "--status", stdout=subprocess.PIPE)
        _follow(recorder, topics)
        settings = [f"image_transport:={transport}", *shared_height(people), *node_parameters]
        processes.start(_NODE, "--ros-args", *(word for s in settings for word in ("-p", s)))
        _wait_until_ready(processes, topics)
        arguments = [str(source_path), "--stamps", "now", "--transport", transport]
        if image_topic is not None:
            arguments += ["--image-topic", image_topic]
        played = _play(processes, arguments, outputs.logs / "played.json")
        _wait_until_settled(processes, topics, played["frames"])
        processes.end(_NODE)
        processes.end(_RECORDER)
    summary = summarise(outputs.bag, played, people)
    if summary.processed == 0:
        raise DemoError(
            f"no skeletons came: of {summary.published} frames {summary.lost} were lost and "
            f"{summary.drops()} dropped; what the node said is in {outputs.logs / 'node.log'}"
        )
    contact_sheet_of(source, outputs.bag, summary, outputs.contact_sheet)
    _print(summary, source, outputs)
    return summary


def true_people(path: Path) -> Sequence[Person]:
    """Who is in a bag's ground truth; nobody where there is none, or none that can be used."""
    if not is_bag(path):
        return ()
    from stsp_model.evaluation.video import bag_people  # with PyTorch

    try:
        return bag_people(path)
    except DataError as error:
        print(f"not scored: {error}")
        return ()


def shared_height(people: Sequence[Person]) -> list[str]:
    """The node's parameter for the height that all people share, if they do and it takes that."""
    heights = {person.height for person in people}
    if len(heights) != 1:
        return []
    from stsp_model.network import SUBJECT_HEIGHT_RANGE  # with PyTorch, which is here by now

    (height,) = heights
    low, high = SUBJECT_HEIGHT_RANGE
    return [f"subject_height:={height:.6f}"] if low <= height <= high else []


def _prepare(out: Path) -> Outputs:
    """An output folder free of an earlier run's files. Raises DemoError if that cannot be."""
    outputs = Outputs(out, out / "skeletons", out / "contact_sheet.png", out / "log")
    try:
        out.mkdir(parents=True, exist_ok=True)
        if outputs.bag.exists():
            # Only what an earlier run wrote is ours to remove.
            foreign = [
                f.name
                for f in outputs.bag.iterdir()
                if f.name not in ("metadata.yaml", f"{outputs.bag.name}.mcap")
            ]
            if foreign:
                raise DemoError(f"{outputs.bag} holds {foreign[0]}, which the demo did not write")
            shutil.rmtree(outputs.bag)
        outputs.contact_sheet.unlink(missing_ok=True)
        outputs.logs.mkdir(exist_ok=True)
    except OSError as error:
        raise DemoError(f"cannot write to {out}: {error}") from error
    return outputs


class _Processes:
    """The demo's children: each with a log file, all ended at the end."""

    def __init__(self, logs: Path, environment: Mapping[str, str]) -> None:
        self._logs = logs
        self._environment = environment
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a module of ours; without other wishes its output goes to its log."""
        prctl = ctypes.CDLL(None).prctl  # looked up before the fork
        with self.log(name).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", _MODULES[name], *arguments],
                env=self._environment,
                # A session of its own: Ctrl-C comes to us alone, and we end the children in order.
                start_new_session=True,
                # Should this process be killed outright, its children go too.
                preexec_fn=lambda: prctl(_SET_DEATH_SIGNAL, signal.SIGTERM),
                **{"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, **options},
            )
        self._running[name] = process
        return process

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def check(self) -> None:
        """Raise DemoError if a process ended by itself."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise DemoError(
                    f"the {name} ended unexpectedly (exit code {process.returncode}); "
                    f"its last words in {self.log(name)}: {self.last_line(name)}"
                )

    def last_line(self, name: str) -> str:
        lines = self.log(name).read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "none"

    def forget(self, name: str) -> None:
        """A process that may end from now on."""
        del self._running[name]

    def end(self, name: str) -> None:
        """Stop a process as Ctrl-C would. Raises DemoError if it does not end well by itself."""
        process = self._running.pop(name)
        code = _end(process)
        if code != 0:
            raise DemoError(
                f"the {name} ended with exit code {code} when asked to stop; "
                f"its last words in {self.log(name)}: {self.last_line(name)}"
            )

    def end_all(self) -> None:
        """Stop whatever still runs."""
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
        for process in self._running.values():
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> int:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        return process.wait(_EXIT_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _follow(recorder: subprocess.Popen[bytes], topics: _Topics) -> None:
    """Keep `topics` up to date with the recorder's lines of JSON, in a thread."""
    assert recorder.stdout is not None
    lines = recorder.stdout

    def follow() -> None:
        for line in lines:
            with contextlib.suppress(ValueError):
                topics.latest = json.loads(line)

    threading.Thread(target=follow, name="stsp_demo_recorder", daemon=True).start()


def _polled(processes: _Processes, timeout: float) -> Iterator[float]:
    """Seconds since the beginning, ten times a second for `timeout` s, while all processes live."""
    began = time.monotonic()
    while (elapsed := time.monotonic() - began) < timeout:
        processes.check()
        yield elapsed
        time.sleep(0.1)


def _wait_until_ready(processes: _Processes, topics: _Topics) -> None:
    for _ in _polled(processes, _READY_TIMEOUT):
        if topics.get("skeletons", "publishers") and topics.get("markers", "publishers"):
            return
        # A node whose transition failed lives on; it logged the reason.
        failure = next(
            (
                line
                for line in processes.log(_NODE).read_text(errors="replace").splitlines()
                if line.startswith(("[ERROR]", "[FATAL]"))
            ),
            None,
        )
        if failure:
            raise DemoError(f"the node does not start: {failure.rpartition(']: ')[2]}")
    raise DemoError(
        f"the node was not ready within {_READY_TIMEOUT:g} s; "
        f"its last words in {processes.log(_NODE)}: {processes.last_line(_NODE)}"
    )


def _play(processes: _Processes, arguments: Sequence[str], report: Path) -> dict[str, Any]:
    """Run the player to its end; returns what it reports."""
    report.unlink(missing_ok=True)
    # The player draws the bar, where there is a terminal to see it.
    bar = sys.stderr.isatty()
    options: dict[str, Any] = {"stderr": None} if bar else {}
    arguments = [*arguments, "--report", str(report), *(["--bar"] if bar else [])]
    player = processes.start(_PLAYER, *arguments, **options)
    print("playing ...", flush=True)
    while player.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            player.wait(0.1)
        if player.poll() is None:
            processes.check()
    processes.forget(_PLAYER)
    if player.returncode != 0 or not report.exists():
        said = "" if bar else f": {processes.last_line(_PLAYER)}"
        raise DemoError(f"the player ended with exit code {player.returncode}{said}")
    played: dict[str, Any] = json.loads(report.read_text())
    return played


def _wait_until_settled(processes: _Processes, topics: _Topics, frames: int) -> None:
    """Return when the node has worked off what it has and said so in its diagnostics."""
    seen, seen_at = -1, 0.0
    for elapsed in _polled(processes, _SETTLE_TIMEOUT):
        count = topics.get("skeletons", "messages")
        if count != seen:
            seen, seen_at = count, elapsed
        if count >= frames or elapsed - seen_at > _QUIET:
            break
    reported = topics.get("diagnostics", "messages")
    for _ in _polled(processes, _QUIET):
        if topics.get("diagnostics", "messages") >= reported + 2:
            return


def _print(summary: Summary, source: Source, outputs: Outputs) -> None:
    print()
    for line in summary.lines():
        print(line)
    print(f"skeletons and markers  {outputs.bag}")
    print(f"contact sheet          {outputs.contact_sheet}  ({source.name} with its skeletons)")
