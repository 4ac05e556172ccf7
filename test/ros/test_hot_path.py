"""What the node keeps out of a frame's way, and its account of where a frame's time goes."""

from __future__ import annotations

import gc
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bench import Bench, FakeEstimator, an_image, values_of, wait_for
from lifecycle_msgs.msg import Transition

from stsp_ros import bench as node_bench
from stsp_ros import pipeline
from stsp_ros.diagnostics import WINDOW, FrameTimes, Statistics
from stsp_ros.node import PoseNode
from stsp_ros.transports import PROFILE


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which messages were built, by the name of what builds them."""
    names: list[str] = []
    for name in ("skeletons_message", "skeleton_markers", "joint_angles_message"):
        real = getattr(pipeline, name)

        def noted(*args: Any, _real: Any = real, _name: str = name, **options: Any) -> Any:
            names.append(_name)
            return _real(*args, **options)

        monkeypatch.setattr(pipeline, name, noted)
    return names


def test_nothing_is_built_for_topics_without_a_subscriber(bench: Bench, built: list[str]) -> None:
    bench.start()
    bench.peer.greet()
    assert set(built) == {"skeletons_message"}
    skeletons = next(s for s in bench.peer.subscriptions if s.topic_name.endswith("/skeletons"))
    bench.peer.destroy_subscription(skeletons)
    before = int(values_of(bench.peer.status(lambda *_: True))["frames processed"])
    time.sleep(0.5)  # until the node knows
    built.clear()
    for i in range(5):
        bench.peer.image.publish(an_image(100.0 + i))
        time.sleep(0.1)
    bench.peer.status(lambda values, _: int(values["frames processed"]) == before + 5)
    assert built == []


def test_what_configuring_left_is_out_of_the_collectors_way(bench: Bench) -> None:
    gc.unfreeze()
    bench.start(autostart=False)
    assert gc.get_freeze_count() == 0
    assert bench.peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert gc.get_freeze_count() > 10_000
    assert bench.peer.change_state(Transition.TRANSITION_CLEANUP)
    assert gc.get_freeze_count() == 0


def test_a_frames_times_add_up_to_what_diagnostics_say() -> None:
    seen: list[FrameTimes] = []
    statistics = Statistics(seen.append)
    times = FrameTimes(wait=1, decode=2, estimate=4, message=8, publish=16, age=math.nan)
    statistics.process(times)
    assert seen == [times]
    assert statistics.report().latencies == {
        "arrival to publication": (31,),
        "estimation": (4,),
        "overhead": (27,),
    }


def test_latencies_are_those_of_the_latest_frames_alone() -> None:
    statistics = Statistics()
    timed = FrameTimes(wait=1, decode=0, estimate=0, message=0, publish=0, age=0.04)
    statistics.process(timed)
    for _ in range(WINDOW - 1):
        statistics.process(replace(timed, wait=2, age=math.nan))
    latencies = statistics.report().latencies
    assert latencies["stamp to publication"] == (0.04,)
    assert latencies["arrival to publication"] == (1, *[2] * (WINDOW - 1))
    statistics.process(replace(timed, wait=3, age=math.nan))
    latencies = statistics.report().latencies
    assert "stamp to publication" not in latencies
    assert latencies["arrival to publication"] == (*[2] * (WINDOW - 1), 3)


def test_the_node_tells_the_times_of_every_processed_frame(bench: Bench) -> None:
    seen: list[FrameTimes] = []
    node: PoseNode = bench.start(FakeEstimator(), watch=seen.append)
    bench.peer.greet()
    seen.clear()
    began = time.monotonic()
    bench.peer.image.publish(an_image(50.0))
    bench.peer.skeletons_at(50.0)
    (times,) = wait_for(lambda: seen, "the frame's times")
    assert 0 < times.total < time.monotonic() - began
    assert min(times.wait, times.decode, times.estimate, times.message, times.publish) >= 0
    assert math.isnan(times.age)  # the stamp has nothing to do with our clock
    assert node.state_name == "active"
    assert node.failure == ""


@pytest.mark.parametrize(
    ("value", "camera", "node"),
    [
        ("default", {}, {}),
        ("SHM", {"FASTDDS_BUILTIN_TRANSPORTS": "SHM"}, {"FASTDDS_BUILTIN_TRANSPORTS": "SHM"}),
        ("camera:UDPv4", {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}, {}),
        ("node:UDPv4", {}, {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}),
    ],
)
def test_transports_are_those_of_the_process_they_are_for(
    value: str, camera: dict[str, str], node: dict[str, str]
) -> None:
    assert node_bench.transports(value, camera=True) == camera
    assert node_bench.transports(value, camera=False) == node


def test_a_profile_is_handed_over_under_every_distributions_name() -> None:
    for camera in (True, False):
        assert node_bench.transports(str(PROFILE), camera=camera) == {
            "FASTRTPS_DEFAULT_PROFILES_FILE": str(PROFILE),
            "FASTDDS_DEFAULT_PROFILES_FILE": str(PROFILE),
        }
    with pytest.raises(node_bench.BenchError, match=r"nowhere\.xml does not exist"):
        node_bench.transports(str(Path("nowhere.xml")), camera=True)
