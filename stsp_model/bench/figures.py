"""What the benchmark compares, and the figures it makes of many measured times."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stsp_model.bench.stream import BGR8


@dataclass(frozen=True)
class Version:
    """One of the things that are measured side by side.

    model: preset, weights file or exported folder. backend, threads: what runs it, on how many.
    size: width and height of the images. encoding: in which they come. people: in each of them.
    reliable: whether the camera offers reliable delivery.
    transports: of Fast DDS, see the command's option.
    """

    model: str
    backend: str
    threads: int
    size: tuple[int, int]
    encoding: str = BGR8
    people: int = 1
    reliable: bool = True
    transports: str = "default"

    def words(self) -> dict[str, str]:
        """What it is, by name."""
        return {
            "model": self.model if len(self.model) < 30 else f"...{self.model[-27:]}",
            "backend": self.backend,
            "threads": f"{self.threads} thread{'s' if self.threads > 1 else ''}",
            "size": f"{self.size[0]}x{self.size[1]}",
            "encoding": self.encoding,
            "people": f"{self.people} {'people' if self.people > 1 else 'person'}",
            "reliable": "reliable" if self.reliable else "best effort",
            "transports": _short(self.transports),
        }


def names(versions: Sequence[Version]) -> list[str]:
    """A short name for each: the model, the backend, and in what else they differ."""
    told = [version.words() for version in versions]

    def tells(kind: str) -> bool:
        return kind in ("model", "backend") or len({words[kind] for words in told}) > 1

    return [", ".join(value for kind, value in words.items() if tells(kind)) for words in told]


def _short(transports: str) -> str:
    """Without options and folders."""
    camera, _, value = transports.rpartition(":")
    value = value.partition("?")[0].rpartition("/")[2]
    return f"{camera}: {value}" if camera else value


@dataclass(frozen=True)
class Figure:
    """Of many times in seconds: percentiles over all, and lowest and highest median of a round."""

    p50: float
    p90: float
    p99: float
    max: float
    mean: float
    lowest_median: float
    highest_median: float
    count: int

    @classmethod
    def of(cls, rounds: Sequence[Sequence[float]]) -> Figure | None:
        """None where nothing was measured; NaN are left out."""
        kept = [np.asarray(times, np.float64) for times in rounds]
        kept = [times[np.isfinite(times)] for times in kept]
        kept = [times for times in kept if times.size]
        if not kept:
            return None
        every = np.concatenate(kept)
        p50, p90, p99 = np.percentile(every, [50, 90, 99]).tolist()
        medians = [float(np.median(times)) for times in kept]
        return cls(
            *(p50, p90, p99, float(every.max()), float(every.mean())),
            *(min(medians), max(medians), int(every.size)),
        )


@dataclass(frozen=True)
class Usage:
    """What a process has used: s of all its threads on all cores, s of time, bytes of memory."""

    cpu: float
    wall: float
    memory: float  # now; NaN where the system does not say
    peak: float

    @classmethod
    def now(cls) -> Usage:
        """Of this process."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # Linux counts in KiB, macOS in bytes.
        peak *= 1 if sys.platform == "darwin" else 1024
        return cls(time.process_time(), time.monotonic(), _memory(), float(peak))


def _memory() -> float:
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return float("nan")
    return float(pages) * resource.getpagesize()


def cpu_share(spans: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]) -> float:
    """Cores that were busy on average, from usages (as dicts) before and after each span."""
    cpu = sum(after["cpu"] - before["cpu"] for before, after in spans)
    wall = sum(after["wall"] - before["wall"] for before, after in spans)
    return cpu / wall if wall > 0 else float("nan")
