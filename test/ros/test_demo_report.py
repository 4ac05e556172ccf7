"""The figures of a demo are those of its bag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stsp_model.bag import SKELETONS_TYPE, BagWriter, typestore
from stsp_ros.demo_report import Summary, summarise

TYPES = typestore().types
DIAGNOSTICS_TYPE = "diagnostic_msgs/msg/DiagnosticArray"
MILLISECOND = 1_000_000  # ns


def header(stamp: int) -> Any:
    time = TYPES["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    return TYPES["std_msgs/msg/Header"](stamp=time, frame_id="camera")


def diagnostics(**values: str) -> Any:
    pair = TYPES["diagnostic_msgs/msg/KeyValue"]
    status = TYPES["diagnostic_msgs/msg/DiagnosticStatus"](
        level=0,
        name="stsp",
        message="",
        hardware_id="",
        values=[pair(key=k.replace("_", " "), value=v) for k, v in values.items()],
    )
    return TYPES[DIAGNOSTICS_TYPE](header=header(0), status=[status])


def write(path: Path, ages: list[int], *reports: Any) -> Path:
    """A bag with a message of each age (ns from stamp to publication), then the diagnostics."""
    with BagWriter(path) as bag:
        bag.add_topic("/stsp/skeletons", SKELETONS_TYPE)
        bag.add_topic("/diagnostics", DIAGNOSTICS_TYPE)
        for index, age in enumerate(ages):
            stamp = (index + 1) * 10**9
            message = TYPES[SKELETONS_TYPE](
                header=header(stamp), joint_names=[], skeletons=[], processing_time=0.0
            )
            bag.write_message("/stsp/skeletons", stamp + age, message)
        for index, report in enumerate(reports):
            bag.write_message("/diagnostics", 10**12 + index, report)
    return path


PLAYED = {"frames": 10, "seconds": 0.5, "stamp_offset": 7}


def test_figures_come_from_the_last_diagnostics_and_the_messages(tmp_path: Path) -> None:
    bag = write(
        tmp_path / "bag",
        [age * MILLISECOND for age in (10, 20, 30, 40, 50)],
        diagnostics(**{"frames_received": "3", "dropped:_superseded": "1"}),
        diagnostics(
            **{
                "frames_received": "8",
                "dropped:_superseded": "2",
                "dropped:_late": "1",
                "arrival_to_publication_p50_(ms)": "12.5",
                "arrival_to_publication_p99_(ms)": "20.0",
                "model": "edge, trained",
            }
        ),
    )
    summary = summarise(bag, PLAYED)
    assert (summary.published, summary.received, summary.processed) == (10, 8, 5)
    assert summary.lost == 2
    assert summary.with_person == 0
    assert summary.dropped == {"superseded": 2, "late": 1}
    assert summary.latencies["arrival to publication"] == pytest.approx((0.0125, 0.020))
    # NumPy's linear interpolation: rank 0.99 * 4 = 3.96, so 40 + 0.96 * 10.
    assert summary.latencies["stamp to publication"] == pytest.approx((0.030, 0.0496))
    assert summary.trained
    assert summary.stamp_offset == 7


def test_a_run_without_a_sign_of_the_node_counts_as_untrained_and_lost(tmp_path: Path) -> None:
    summary = summarise(write(tmp_path / "bag", []), PLAYED)
    assert (summary.processed, summary.lost, summary.trained) == (0, 10, False)
    assert summary.latencies == {}


def test_lines_for_people() -> None:
    summary = Summary(
        published=10,
        received=9,
        processed=7,
        with_person=6,
        dropped={"superseded": 2, "late": 0},
        seconds=0.5,
        latencies={"stamp to publication": (0.0123, 0.0456)},
        trained=True,
        stamp_offset=0,
    )
    assert summary.lines() == [
        "frames published       10  in 0.5 s",
        "frames processed       7  (6 with a skeleton)",
        "frames dropped         2 (superseded 2)",
        "frames lost            1  (before they reached the node)",
        "stamp to publication   p50 12.3 ms, p99 45.6 ms",
    ]
