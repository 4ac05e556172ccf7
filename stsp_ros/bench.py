"""The node's part of `stsp bench`: cameras and nodes as processes, over the real middleware."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from stsp_model.bench.child import BenchError, Child, Message
from stsp_model.bench.figures import Figure, Version, cpu_share
from stsp_model.bench.stream import JPEG
from stsp_model.outcomes import drops
from stsp_ros.domain import claimed_domain, local_environment
from stsp_ros.transports import profile_environment

_SETTLING = 10  # frames at the start of each round that are not measured: the finder runs, for one
_MINUTE = 60.0  # s
# In values of --transports.
_DEFAULT, _FOR_CAMERA, _FOR_NODE = "default", "camera:", "node:"


@dataclass(frozen=True)
class Drift:
    """How a long run ended against how it began: its first and last minute, or quarter.

    p99 of arrival to publication in seconds, memory in bytes, the mean of what was seen.
    """

    seconds: float
    first_p99: float
    last_p99: float
    first_memory: float
    last_memory: float


@dataclass(frozen=True)
class NodeResult:
    """Of one version. Times in seconds, by stage; counts are of all frames, also unmeasured ones.

    lost: before the callback, as the node counts them. unexplained: published, and neither
    processed nor dropped nor lost. with_person: published skeletons with somebody in them.
    late: s by which the camera itself missed its schedule at worst. publishing: s that the camera
    takes to hand over an image, the mean.
    """

    times: dict[str, Figure]
    rate: float
    frames_per_second: float
    cpu: float
    memory: float
    memory_growth: float
    memory_peak: float
    published: int
    processed: int
    dropped: dict[str, int]
    lost: int
    with_person: int
    late: float
    publishing: float
    collections: int
    longest_collection: float
    drift: Drift | None = None

    @property
    def unexplained(self) -> int:
        """Frames nobody knows of."""
        return self.published - self.processed - sum(self.dropped.values()) - self.lost


@dataclass(frozen=True)
class Plan:
    """How to measure: frames to warm up and to time, in how many rounds, at a rate in Hz.

    duration: seconds in one go instead of rounds; 0 for rounds.
    """

    source: Path
    warm_up: int
    frames: int
    rounds: int
    rate: float
    device: str
    duration: float = 0.0


@dataclass
class _Pair:
    """A node and its camera, and what came of their rounds."""

    node: Child
    camera: Child
    rounds: list[dict[str, list[float]]]
    plays: list[Message]
    spans: list[tuple[Message, Message]]
    collections: list[Message]
    warm: Message


def measure_nodes(versions: Sequence[Version], plan: Plan, progress: bool) -> list[NodeResult]:
    """Measure the versions' nodes in turns: all of them run, one gets images.

    Raises BenchError with a sentence.
    """
    with contextlib.ExitStack() as stack:
        pairs = [_start(version, plan, stack) for version in versions]
        for pair in pairs:
            pair.node.ask("ready")
            pair.camera.ask("ready")
        length = round(plan.duration * plan.rate) if plan.duration else plan.frames // plan.rounds
        rounds = 1 if plan.duration else plan.rounds
        total = len(pairs) * (plan.warm_up + rounds * (length + _SETTLING))
        with tqdm(total=total, unit=" frames", desc="node", disable=not progress) as bar:
            for pair in pairs:
                _play(pair, plan.warm_up, plan.rate, bar)
                pair.node.ask("take")
                pair.warm = pair.node.ask("usage")
            drifts: list[Drift | None] = []
            for _ in range(rounds):
                drifts = [_round(pair, length + _SETTLING, plan, bar) for pair in pairs]
        return [_result(pair, plan.rate, drift) for pair, drift in zip(pairs, drifts, strict=True)]


def _start(version: Version, plan: Plan, stack: contextlib.ExitStack) -> _Pair:
    domain = stack.enter_context(claimed_domain())
    environment = local_environment(domain) | _range(version.transports)
    images = {
        "source": str(plan.source),
        "size": version.size,
        "encoding": version.encoding,
        "people": version.people,
        "reliable": version.reliable,
    }
    parameters = {
        "model": version.model,
        "device": plan.device,
        "backend": version.backend,
        "max_people": version.people,
        "image_transport": "compressed" if version.encoding == JPEG else "raw",
    }
    frames = round(max(plan.duration * plan.rate, plan.frames, plan.warm_up)) + _SETTLING
    node = Child(
        "stsp_ros.bench_node",
        {"parameters": parameters, "frames": frames},
        {
            **environment,
            **transports(version.transports, camera=False),
            "OMP_NUM_THREADS": str(version.threads),
        },
    )
    stack.enter_context(node)
    camera = Child(
        "stsp_ros.bench_camera",
        images,
        {**environment, **transports(version.transports, camera=True)},
    )
    stack.enter_context(camera)
    return _Pair(node, camera, [], [], [], [], {})


def _range(value: str) -> dict[str, str]:
    """Where processes look for each other, if not on this host alone.

    Limited to it, Fast DDS's own transports take the place of FASTDDS_BUILTIN_TRANSPORTS.
    """
    own = value.removeprefix(_FOR_CAMERA).removeprefix(_FOR_NODE)
    if own == _DEFAULT or own.endswith(".xml"):
        return {}
    return {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}


def transports(value: str, *, camera: bool) -> dict[str, str]:
    """Environment variables for the camera's or the node's process."""
    own = value.removeprefix(_FOR_CAMERA).removeprefix(_FOR_NODE)
    others = value.startswith(_FOR_NODE if camera else _FOR_CAMERA)
    if own == _DEFAULT or others:
        return {}
    if not own.endswith(".xml"):
        return {"FASTDDS_BUILTIN_TRANSPORTS": own}
    if not Path(own).exists():
        raise BenchError(f"{own} does not exist")
    return profile_environment(Path(own))


def _play(pair: _Pair, frames: int, rate: float, bar: tqdm[Any]) -> list[Message]:
    """Send frames to the node; returns the node's usage, once a second meanwhile."""
    if frames == 0:
        return []
    pair.camera.send("play", frames=frames, rate=rate)
    usages = []
    began, shown = time.monotonic(), 0
    while not pair.camera.answered(1.0):
        usages.append(pair.node.ask("usage"))
        sent = min(frames, round((time.monotonic() - began) * rate))
        bar.update(sent - shown)
        shown = sent
    bar.update(frames - shown)
    pair.plays.append(pair.camera.receive())
    return usages


def _settled(times: Mapping[str, list[float]], frames: int) -> dict[str, list[float]]:
    """Times of the images that were processed, less those of the first that were published.

    frames: that were published; a node that is slower than the camera drops some all along.
    """
    settling = math.ceil(_SETTLING * len(times["all"]) / frames)
    return {name: column[settling:] for name, column in times.items()}


def _round(pair: _Pair, frames: int, plan: Plan, bar: tqdm[Any]) -> Drift | None:
    before = pair.node.ask("usage")
    usages = _play(pair, frames, plan.rate, bar)
    pair.spans.append((before, pair.node.ask("usage")))
    taken = pair.node.ask("take")
    pair.collections.append(taken)
    times = _settled(taken["times"], frames)
    pair.rounds.append(times)
    if not (plan.duration and times["all"]):
        return None
    length = min(_MINUTE, plan.duration / 4)
    count = max(1, round(length * plan.rate * len(times["all"]) / frames))
    first, last = (Figure.of([part]) for part in (times["all"][:count], times["all"][-count:]))
    assert first is not None
    assert last is not None
    memory = [usage["memory"] for usage in usages]
    seconds = round(length)
    return Drift(
        length,
        *(first.p99, last.p99),
        sum(memory[:seconds]) / len(memory[:seconds]),
        sum(memory[-seconds:]) / len(memory[-seconds:]),
    )


def _result(pair: _Pair, rate: float, drift: Drift | None) -> NodeResult:
    values: Mapping[str, str] = pair.camera.ask("counts")["values"]
    # After the last image: handing over the times of all frames takes memory as well.
    _, usage = pair.spans[-1]
    names = pair.rounds[0]
    if not any(times["all"] for times in pair.rounds):
        raise BenchError(
            f"the node was still at the first images of each round at {rate:g} Hz when the last "
            "came; give it more --frames in fewer --rounds, or a lower --rate"
        )
    figures = {name: Figure.of([times[name] for times in pair.rounds]) for name in names}
    seconds = sum(play["seconds"] for play in pair.plays)
    processed = int(values["frames processed"])
    return NodeResult(
        times={name: figure for name, figure in figures.items() if figure is not None},
        rate=rate,
        frames_per_second=processed / seconds,
        cpu=cpu_share(pair.spans),
        memory=usage["memory"],
        memory_growth=usage["memory"] - pair.warm["memory"],
        memory_peak=usage["peak"],
        published=sum(play["published"] for play in pair.plays),
        processed=processed,
        dropped=drops(values),
        lost=int(values["messages lost"]),
        with_person=sum(play["with person"] for play in pair.plays),
        late=max(play["latest"] for play in pair.plays),
        publishing=sum(p["publishing"] * p["published"] for p in pair.plays)
        / sum(p["published"] for p in pair.plays),
        collections=sum(taken["collections"] for taken in pair.collections),
        longest_collection=max(taken["longest collection"] for taken in pair.collections),
        drift=drift,
    )


def as_json(result: NodeResult) -> dict[str, Any]:
    """The figures, for JSON."""
    return {**asdict(result), "unexplained": result.unexplained}
