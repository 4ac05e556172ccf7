"""What the node counts and measures, and how /diagnostics tells it."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from stsp_model.outcomes import DROPPED

WINDOW = 300  # latest frames behind the latencies
_LEVELS = {"warn": DiagnosticStatus.WARN, "error": DiagnosticStatus.ERROR}


@dataclass(frozen=True)
class Finding:
    """A sentence about the node's health; `level` is "warn" or "error"."""

    level: str
    sentence: str


@dataclass(frozen=True)
class Report:
    """Figures since the node started; rates since the previous report."""

    received: int
    processed: int
    dropped: Mapping[str, int]  # by reason
    rate_in: float  # Hz
    rate_out: float  # Hz
    latencies: Mapping[str, Sequence[float]]  # s, by name, of the latest frames
    new_drops: Mapping[str, int]  # by reason, since the previous report


@dataclass(frozen=True)
class FrameTimes:
    """Where the seconds of one frame went, from its arrival to its publication.

    wait: until the worker took it. decode: message to pixels, and its camera. estimate:
    PoseEstimator.step. message: making the message. publish: handing it to the middleware.
    age: from its stamp to its publication, by ROS time; NaN where implausible.
    """

    wait: float
    decode: float
    estimate: float
    message: float
    publish: float
    age: float

    @property
    def total(self) -> float:
        """Arrival to publication."""
        return self.wait + self.decode + self.estimate + self.message + self.publish

    def latencies(self) -> dict[str, float]:
        """What diagnostics tell of it, by name."""
        told = {
            "arrival to publication": self.total,
            "estimation": self.estimate,
            "overhead": self.total - self.estimate,
            "stamp to publication": self.age,
        }
        return {name: seconds for name, seconds in told.items() if not math.isnan(seconds)}


class Statistics:
    """Counts frames from any thread. Every received frame ends up processed or dropped.

    `watch` is called with the times of each processed frame, in the thread that processed it.
    """

    def __init__(self, watch: Callable[[FrameTimes], None] | None = None) -> None:
        self._watch = watch
        self._lock = threading.Lock()
        self._received = 0
        self._processed = 0
        self._dropped: Counter[str] = Counter()
        self._latest: deque[FrameTimes] = deque(maxlen=WINDOW)
        self._reported_at = time.monotonic()
        self._reported = (0, 0, Counter[str]())

    def receive(self) -> None:
        """A frame arrived in the subscription's callback."""
        with self._lock:
            self._received += 1

    def process(self, times: FrameTimes) -> None:
        """A frame's skeletons were published."""
        if self._watch is not None:
            self._watch(times)
        with self._lock:
            self._processed += 1
            self._latest.append(times)

    def drop(self, reason: str) -> None:
        """A received frame was not processed."""
        with self._lock:
            self._dropped[reason] += 1

    def report(self) -> Report:
        """The figures now; the next report's rates count from here."""
        with self._lock:
            now = time.monotonic()
            elapsed = max(now - self._reported_at, 1e-9)
            received, processed, dropped = self._reported
            latencies: dict[str, list[float]] = {}
            for times in self._latest:
                for name, seconds in times.latencies().items():
                    latencies.setdefault(name, []).append(seconds)
            report = Report(
                received=self._received,
                processed=self._processed,
                dropped=dict(self._dropped),
                rate_in=(self._received - received) / elapsed,
                rate_out=(self._processed - processed) / elapsed,
                latencies={name: tuple(values) for name, values in latencies.items()},
                new_drops=dict(self._dropped - dropped),
            )
            self._reported_at = now
            self._reported = (self._received, self._processed, self._dropped.copy())
            return report


class LossCounter:
    """Images that were published to us and never reached the callback.

    Where messages carry their publisher's sequence number (Jazzy and later), its gaps are counted:
    they include images that a newer one replaced in our queue. Elsewhere the middleware's
    message-lost event has to do, which knows of fewer.
    """

    def __init__(self) -> None:
        self._last: int | None = None
        self._alone = True  # one publisher when numbers jumped last: the latest is then its own
        self._by_gap = 0
        self._by_event = 0
        self._numbered = False

    @property
    def total(self) -> int:
        """Images lost so far."""
        return self._by_gap if self._numbered else self._by_event

    def number(self, sequence: int, count_publishers: Callable[[], int]) -> None:
        """An image came with this number; among several publishers gaps say nothing."""
        self._numbered = True
        gap = 0 if self._last is None else sequence - self._last - 1
        if gap:
            was_alone, self._alone = self._alone, count_publishers() == 1
            if was_alone and self._alone:
                self._by_gap += max(gap, 0)
        self._last = sequence

    def restart(self) -> None:
        """A new subscription: what was sent before it is not lost."""
        self._last, self._alone = None, True

    def event(self, count: int) -> None:
        """The middleware says that so many more were lost."""
        self._by_event += count


def status(
    name: str, device: str, findings: Sequence[Finding], values: Mapping[str, str]
) -> DiagnosticStatus:
    """One status, as bad as its worst finding; without any it says the state, one of `values`."""
    return DiagnosticStatus(
        level=max((_LEVELS[finding.level] for finding in findings), default=DiagnosticStatus.OK),
        name=name,
        message="; ".join(finding.sentence for finding in findings) or values["state"],
        hardware_id=device,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )


def report_values(report: Report) -> dict[str, str]:
    """The figures as diagnostics' keys and values, latencies in milliseconds."""
    values = {
        "rate in (Hz)": f"{report.rate_in:.1f}",
        "rate out (Hz)": f"{report.rate_out:.1f}",
        "frames received": str(report.received),
        "frames processed": str(report.processed),
        "frames dropped": str(sum(report.dropped.values())),
    }
    for reason, count in sorted(report.dropped.items()):
        values[f"{DROPPED}{reason}"] = str(count)
    for name, seconds in report.latencies.items():
        p50, p99 = 1e3 * np.percentile(seconds, [50, 99])
        values[f"{name} p50 (ms)"] = f"{p50:.1f}"
        values[f"{name} p99 (ms)"] = f"{p99:.1f}"
    return values
