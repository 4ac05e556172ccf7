"""The recorder writes what the node says, byte by byte, and no picture."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench import Bench, background, wait_for
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from stsp.msg import Skeleton3D, Skeleton3DArray
from visualization_msgs.msg import Marker, MarkerArray

from stsp_model.bag import BagReader
from stsp_model.skeleton import JOINTS
from stsp_ros.recorder import TOPICS


def recorder(bag: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        background([sys.executable, "-m", "stsp_ros.recorder", str(bag), *arguments]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def skeletons(index: int) -> Skeleton3DArray:
    message = Skeleton3DArray(joint_names=list(JOINTS), skeletons=[Skeleton3D(id=f"p{index}")])
    message.header.stamp.sec = index
    return message


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_published_is_in_the_bag_after_a_signal(
    bench: Bench, tmp_path: Path, number: signal.Signals
) -> None:
    bag = tmp_path / "bag"
    publisher = bench.peer.create_publisher(
        Skeleton3DArray, "/stsp/skeletons", QoSProfile(depth=50)
    )
    markers = bench.peer.create_publisher(MarkerArray, "/stsp/markers", QoSProfile(depth=50))
    process = recorder(bag, "--status")
    wait_for(
        lambda: publisher.get_subscription_count() and markers.get_subscription_count(),
        "the recorder",
    )
    assert process.stdout is not None
    # Both ends have to know each other before a volatile message gets through.
    for line in process.stdout:
        if json.loads(line)["/stsp/skeletons"]["publishers"]:
            break

    sent = [skeletons(i) for i in range(20)]
    before = time.time_ns()
    for message in sent:
        publisher.publish(message)
    markers.publish(MarkerArray(markers=[Marker(action=Marker.DELETEALL)]))
    after = time.time_ns()
    for line in process.stdout:
        status = json.loads(line)
        if status["/stsp/skeletons"]["messages"] == 20 and status["/stsp/markers"]["messages"]:
            break
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert "messages recorded: 20 of /stsp/skeletons, 1 of /stsp/markers" in err
    assert "nothing came" not in err

    with BagReader(bag) as reader:
        records = list(reader.records(["/stsp/skeletons"]))
        assert [deserialize_message(r.data, Skeleton3DArray) for r in records] == sent
        assert all(before - 10**7 <= r.log_time <= after + 10**7 for r in records)
        (record,) = reader.records(["/stsp/markers"])
        assert reader.decode(record).markers[0].action == Marker.DELETEALL


def test_topics_follow_the_namespace(bench: Bench, tmp_path: Path) -> None:
    publisher = bench.peer.create_publisher(Skeleton3DArray, "/left/stsp/skeletons", 10)
    process = recorder(tmp_path / "bag", "--ros-args", "-r", "__ns:=/left")
    wait_for(publisher.get_subscription_count, "the recorder")
    process.terminate()
    out, err = process.communicate(timeout=20)
    assert "recording /left/stsp/skeletons, " in out + err
    assert "0 of /left/stsp/skeletons" in out + err
    assert "nothing came: is the node running, and in this namespace" in out + err
    with BagReader(tmp_path / "bag") as reader:
        assert sorted(reader.topics) == [
            "/diagnostics",
            "/left/stsp/markers",
            "/left/stsp/skeletons",
        ]


def test_no_picture_is_among_what_it_records() -> None:
    assert {kind for _, kind in TOPICS.values()} == {
        "stsp/msg/Skeleton3DArray",
        "visualization_msgs/msg/MarkerArray",
        "diagnostic_msgs/msg/DiagnosticArray",
    }


@pytest.mark.usefixtures("domain")
def test_an_existing_bag_is_not_overwritten(tmp_path: Path) -> None:
    process = recorder(tmp_path)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "exists already and is not overwritten" in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("domain")
@pytest.mark.parametrize(
    ("rule", "reason"),
    [("stsp", "Couldn't parse remap rule"), ("__ns:=/left/", "invalid node namespace")],
)
def test_a_remap_that_is_none_is_no_traceback(tmp_path: Path, rule: str, reason: str) -> None:
    process = recorder(tmp_path / "bag", "--ros-args", "-r", rule)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "recorder: " in err
    assert reason in err
    assert "Traceback" not in err
    assert not (tmp_path / "bag").exists()
