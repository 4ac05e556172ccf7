"""The estimator's part of `stsp bench`: versions in processes of their own, measured in turns."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from stsp_model.bench.child import Child, Message
from stsp_model.bench.figures import Figure, Version, cpu_share

_SETTLING = 3  # frames at the start of each round that bring code and data back into the caches


@dataclass(frozen=True)
class StepResult:
    """Of one version. Times in seconds, by stage; people: poses per frame, the mean.

    frames_per_second: of everything before and behind the step as well, one after the other.
    cpu: cores busy on average. memory: bytes at the end, its growth since the warm-up, its peak.
    trained: whether the weights come from training. precision: in which EPE is computed.
    """

    times: dict[str, Figure]
    people: float
    frames_per_second: float
    cpu: float
    memory: float
    memory_growth: float
    memory_peak: float
    trained: bool
    precision: str


def measure_steps(
    versions: Sequence[Version],
    source: Path,
    device: str,
    *,
    warm_up: int,
    frames: int,
    rounds: int,
    progress: bool,
) -> list[StepResult]:
    """Time `frames` frames of each version in so many rounds, in each of which all have a turn.

    Raises BenchError with a sentence.
    """
    with contextlib.ExitStack() as stack:
        children = []
        for version in versions:
            options = {
                "source": str(source),
                "device": device,
                "model": version.model,
                "backend": version.backend,
                "threads": version.threads,
                "size": version.size,
                "encoding": version.encoding,
                "people": version.people,
            }
            # Of OpenMP, before PyTorch starts it.
            environment = {"OMP_NUM_THREADS": str(version.threads)}
            child = Child("stsp_model.bench.step_child", options, environment)
            children.append(stack.enter_context(child))
        for child in children:  # all load at once
            child.send("ready")
        for child in children:
            child.receive()
        length = frames // rounds
        total = len(children) * (warm_up + rounds * (length + _SETTLING))
        with tqdm(total=total, unit=" frames", desc="step", disable=not progress) as bar:
            warm = []
            for child in children:
                warm.append(child.ask("run", frames=max(1, warm_up)))
                bar.update(warm_up)
            answers: list[list[Message]] = [[] for _ in children]
            for _ in range(rounds):
                for child, own in zip(children, answers, strict=True):
                    child.ask("run", frames=_SETTLING)
                    own.append(child.ask("run", frames=length))
                    bar.update(length + _SETTLING)
    return [_result(own, first) for own, first in zip(answers, warm, strict=True)]


def _result(answers: Sequence[Message], warm: Message) -> StepResult:
    names = answers[0]["times"]
    figures = {
        name: Figure.of([answer["times"].get(name, []) for answer in answers]) for name in names
    }
    times = {name: figure for name, figure in figures.items() if figure is not None}
    after = answers[-1]["usage"][1]
    return StepResult(
        times=times,
        people=sum(answer["people"] for answer in answers) / times["all"].count,
        frames_per_second=1 / times["all"].mean,
        cpu=cpu_share([tuple(answer["usage"]) for answer in answers]),
        memory=after["memory"],
        memory_growth=after["memory"] - warm["usage"][1]["memory"],
        memory_peak=after["peak"],
        trained=answers[-1]["trained"],
        precision=answers[-1]["precision"],
    )
