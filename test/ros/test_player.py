"""The player publishes a source as it is, in pace, and ends when all of it has arrived.

Where it loops, its source ends it: `Laps` raises LapsDone instead of beginning another lap.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
from bench import Bench, background, values_of, wait_for
from hypothesis import given
from hypothesis import strategies as st
from rclpy.context import Context
from rclpy.node import Node
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from stsp.msg import Skeleton3D

from stsp_model.sources import Frame, Source, open_source
from stsp_ros import player
from stsp_ros.estimation import build_estimator
from stsp_ros.player import PlayerError, first_seconds, on_time, parse, play, with_ticks

SAMPLE = Path(__file__).resolve().parents[2] / "assets" / "sample.mcap"
COUNT = 6


@pytest.fixture
def node(domain: int) -> Iterator[Node]:
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("player", context=context, use_global_arguments=False)
    yield node
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def head(source: Source, count: int = COUNT) -> Source:
    """The first frames of a source."""
    frames = list(source.frames())[:count]
    return Source(source.name, source.size, count, lambda: iter(frames))


def stamp(message: Any) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def plain_frames(*stamps: int) -> list[Frame]:
    return [Frame(stamp, np.full((24, 32, 3), 7, np.uint8), "camera") for stamp in stamps]


class LapsDone(Exception):
    """Every lap has been played."""


@dataclass
class Laps:
    """Frames to be played `count` times; after each, `published(lap)` is called."""

    frames: Sequence[Frame]
    count: int
    published: Callable[[int], None] = lambda _lap: None
    lap: int = 0

    def source(self) -> Source:
        height, width = self.frames[0].image.shape[:2]
        return Source("laps", (width, height), len(self.frames), self._play)

    def _play(self) -> Iterator[Frame]:
        self.lap += 1
        if self.lap > self.count:
            raise LapsDone
        for frame in self.frames:
            yield frame
            self.published(self.lap)  # the player comes for the next one when this is published


class Heard:
    """Everything a peer hears on the camera's topics."""

    def __init__(self, bench: Bench, image: Any = Image, topic: str = "image") -> None:
        self.images: list[Any] = []
        self.infos: list[CameraInfo] = []
        bench.peer.listen(image, f"/{topic}", self.images.append)
        bench.peer.listen(CameraInfo, "/camera_info", self.infos.append)

    def wait(self) -> None:
        wait_for(lambda: len(self.images) == COUNT, f"{COUNT} images, got {len(self.images)}")


def test_frames_arrive_with_their_pixels_stamps_and_camera(bench: Bench, node: Node) -> None:
    heard = Heard(bench)
    source = head(open_source(SAMPLE))
    played = play(node, source)
    heard.wait()
    frames = list(source.frames())
    assert (played.frames, played.stamp_offset) == (COUNT, 0)
    for message, frame in zip(heard.images, frames, strict=True):
        assert stamp(message) == frame.stamp
        assert message.header.frame_id == "camera_optical_frame"
        assert (message.height, message.width, message.encoding) == (480, 640, "bgr8")
        assert (np.asarray(message.data).reshape(480, 640, 3) == frame.image).all()
    wait_for(lambda: len(heard.infos) == COUNT, "the camera info")
    assert [stamp(info) for info in heard.infos] == [frame.stamp for frame in frames]
    info, truth = heard.infos[0], frames[0].camera_info
    assert list(info.k) == list(truth.k)
    assert list(info.p) == list(truth.p)
    assert list(info.d) == list(truth.d)
    assert (info.width, info.height, info.distortion_model) == (640, 480, "plumb_bob")


def test_stamps_of_now_keep_their_intervals(bench: Bench, node: Node) -> None:
    heard = Heard(bench)
    source = head(open_source(SAMPLE))
    before = node.get_clock().now().nanoseconds
    played = play(node, source, stamps="now")
    after = node.get_clock().now().nanoseconds
    heard.wait()
    assert [stamp(m) - played.stamp_offset for m in heard.images] == [
        frame.stamp for frame in source.frames()
    ]
    assert before <= stamp(heard.images[0]) <= after


def test_compressed_images_are_jpeg_on_the_sibling_topic(bench: Bench, node: Node) -> None:
    heard = Heard(bench, CompressedImage, "image/compressed")
    source = head(open_source(SAMPLE))
    play(node, source, transport="compressed")
    heard.wait()
    for message, frame in zip(heard.images, source.frames(), strict=True):
        image = cv2.imdecode(np.asarray(message.data), cv2.IMREAD_COLOR)
        assert image is not None
        assert np.abs(image.astype(int) - frame.image).mean() < 3
        assert stamp(message) == frame.stamp


def test_a_remap_of_image_takes_compressed_and_camera_info_along(bench: Bench, domain: int) -> None:
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    arguments = ["--ros-args", "-r", "image:=/front/color"]
    node = rclpy.create_node(
        "player", context=context, use_global_arguments=False, cli_args=arguments
    )
    heard = Heard(bench, CompressedImage, "front/color/compressed")
    infos = bench.peer.create_subscription(CameraInfo, "/front/camera_info", lambda _: None, 1)
    try:
        play(node, head(open_source(SAMPLE)), transport="compressed")
        heard.wait()
        wait_for(infos.get_publisher_count, "camera_info beside the images")
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def test_a_source_without_camera_info_publishes_none(bench: Bench, node: Node) -> None:
    heard = Heard(bench)
    frames = [
        Frame((i + 1) * 10**7, np.full((24, 32, 3), i, np.uint8), "camera") for i in range(COUNT)
    ]
    play(node, Source("drawn", (32, 24), COUNT, lambda: iter(frames)))
    heard.wait()
    assert heard.infos == []


def test_without_a_subscriber_nothing_is_played(node: Node) -> None:
    def frames() -> Iterator[Frame]:
        raise AssertionError("a frame was read")

    with pytest.raises(PlayerError, match=r"nobody subscribes to /image \(waited 0.2 s\)"):
        play(node, Source("drawn", (32, 24), 1, frames), wait=0.2)


def test_a_loop_starts_again_with_the_first_stamp(bench: Bench, node: Node) -> None:
    heard = Heard(bench)
    stamps = [10**9, 10**9 + 20_000_000]
    laps = Laps(plain_frames(*stamps), count=COUNT // 2)
    with pytest.raises(LapsDone):
        play(node, laps.source(), loop=True)
    heard.wait()
    assert [stamp(message) for message in heard.images] == stamps * laps.count


@pytest.mark.parametrize(("length", "interval"), [(1, 33_333_333), (2, 20_000_000)])
def test_stamps_of_now_go_on_from_lap_to_lap(
    bench: Bench, node: Node, length: int, interval: int
) -> None:
    """At the interval between the last two frames, or that of 30 Hz where there is but one."""
    heard = Heard(bench)
    frames = plain_frames(*(10**9 + 20_000_000 * i for i in range(length)))
    laps = Laps(frames, count=COUNT // length)
    before = node.get_clock().now().nanoseconds
    with pytest.raises(LapsDone):
        play(node, laps.source(), loop=True, stamps="now")
    heard.wait()
    found = [stamp(message) for message in heard.images]
    assert {b - a for a, b in pairwise(found)} == {interval}
    assert before <= found[0] <= node.get_clock().now().nanoseconds


def test_a_loop_over_a_source_that_has_run_dry_ends(bench: Bench, node: Node) -> None:
    Heard(bench)
    frames = iter(plain_frames(10**9))
    with pytest.raises(PlayerError, match="drawn holds no frame any more"):
        play(node, Source("drawn", (32, 24), 1, lambda: frames), loop=True)


def test_the_node_begins_anew_where_a_loop_jumps_back(bench: Bench, node: Node) -> None:
    """The second lap is as the first: nothing of it is remembered but that its person is gone."""
    bench.start(build_estimator, min_confidence=0.0)
    bench.peer.status(lambda values, _: values.get("state") == "active")
    images = [frame.image for frame in open_source(SAMPLE).frames()][:4]
    # From end to beginning it is 0.6 s, more than max_gap.
    frames = [Frame(10**9 + 200_000_000 * i, image, "camera") for i, image in enumerate(images)]
    published: list[int] = []

    def answered(lap: int) -> None:
        published.append(lap)
        wait_for(lambda: len(bench.peer.skeletons) == len(published), "the skeletons of a frame")

    with pytest.raises(LapsDone):
        play(node, Laps(frames, 2, answered).source(), loop=True)
    first, second = bench.peer.skeletons[:4], bench.peer.skeletons[4:]
    assert [stamp(m) for m in first] == [stamp(m) for m in second] == [f.stamp for f in frames]
    for before, after in zip(first, second, strict=True):
        (person,) = before.skeletons
        again, *lost = after.skeletons
        assert (person.id, again.id) == ("p1", "p2")
        assert again.frames_used == person.frames_used
        assert again.joints == person.joints
        at_the_jump = after is second[0]
        assert [(p.id, p.tracking_state) for p in lost] == [
            ("p1", Skeleton3D.TRACKING_TERMINATE)
        ] * at_the_jump
    assert first[0].skeletons[0].frames_used == 0
    assert first[-1].skeletons[0].frames_used > 0
    status = bench.peer.status(lambda values, _: values.get("frames processed") == "8")
    assert values_of(status)["frames dropped"] == "0"


def test_a_loop_shorter_than_max_gap_is_late_from_its_second_lap_on(
    bench: Bench, node: Node
) -> None:
    bench.start(build_estimator, min_confidence=0.0)
    bench.peer.status(lambda values, _: values.get("state") == "active")
    images = [frame.image for frame in open_source(SAMPLE).frames()][:2]
    frames = [Frame(10**9 + 200_000_000 * i, image, "camera") for i, image in enumerate(images)]
    published: list[int] = []

    def counted(lap: int) -> None:
        published.append(lap)
        figures = {"frames processed": str(published.count(1))}
        if lap > 1:
            figures["dropped: late"] = str(published.count(2))
        bench.peer.status(lambda values, _: figures.items() <= values.items())

    with pytest.raises(LapsDone):
        play(node, Laps(frames, 2, counted).source(), loop=True)
    assert published == [1, 1, 2, 2]


def test_with_a_clock_nodes_live_in_the_time_of_the_bag(bench: Bench, node: Node) -> None:
    bench.start(use_sim_time=True)
    times: list[int] = []
    bench.peer.listen(
        ClockMessage, "/clock", lambda m: times.append(m.clock.sec * 10**9 + m.clock.nanosec)
    )
    stamps = [10**9 + 40_000_000 * i for i in range(COUNT)]

    def frames() -> Iterator[Frame]:
        # Two listeners: the peer and the node.
        wait_for(lambda: node.count_subscribers("/clock") == 2, "the listeners to the clock")
        wait_for(lambda: bench.peer.count_publishers("/clock") == 1, "the clock")
        yield from plain_frames(*stamps)

    play(node, Source("drawn", (32, 24), COUNT, frames), clock=True)
    wait_for(lambda: stamps[-1] in times, "the last frame's time")
    assert times == sorted(times)
    assert set(times) <= set(range(stamps[0], stamps[-1] + 1, 10_000_000))
    assert set(times) - set(stamps)
    # The stamps are from 1970: only a node that goes by this clock finds the images fresh.
    bench.peer.status(lambda values, _: "stamp to publication p50 (ms)" in values)


def test_the_clock_jumps_back_with_the_stamps(bench: Bench, node: Node) -> None:
    times: list[int] = []
    bench.peer.listen(
        ClockMessage, "/clock", lambda m: times.append(m.clock.sec * 10**9 + m.clock.nanosec)
    )
    heard = Heard(bench)
    stamps = [10**9 * second + 20_000_000 * i for second in (9, 5) for i in range(COUNT // 2)]
    laps = Laps(plain_frames(*stamps), count=1)
    wait_for(lambda: node.count_subscribers("/clock"), "the listener to the clock")
    play(node, laps.source(), clock=True)
    heard.wait()
    wait_for(lambda: times and times[-1] == stamps[-1], "the last frame's time")
    back = times.index(stamps[COUNT // 2])
    assert times[:back] == sorted(times[:back])
    assert times[back:] == [stamps[COUNT // 2] + 10_000_000 * i for i in range(5)]


class Clock:
    """Stands in for the module time: sleeping and working move it on."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@given(
    st.lists(st.tuples(st.integers(1, 10**8), st.floats(0, 0.2)), min_size=1, max_size=30),
    st.integers(0, 2**40),
    st.floats(0.1, 10),
    st.floats(90, 110),
)
def test_the_schedule_is_absolute(
    steps: list[tuple[int, float]], start: int, rate: float, not_before: float
) -> None:
    """Each frame comes at its time after the first, or at once when work took longer than that."""
    clock = Clock()
    stamps = [start + sum(step for step, _ in steps[:i]) for i in range(len(steps))]
    free = clock.now
    began = max(free, not_before)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(player, "time", clock)
        played = on_time(zip(stamps, stamps, strict=True), rate, not_before)
        for (stamp, item, late), (_, work) in zip(played, steps, strict=True):
            assert stamp == item
            due = began + 1e-9 * (stamp - start) / rate
            assert clock.now == pytest.approx(max(due, free), abs=1e-6)
            assert late == pytest.approx(max(0.0, free - due), abs=1e-6)
            clock.now += work
            free = clock.now


@pytest.mark.parametrize(
    ("stamps", "expected", "warnings"),
    [
        ([100.0, 100.1, 104.9, 105.0], [0, 0.1, 4.9, 5.0], 0),  # a pause is waited out
        ([100.0, 100.1, 3600.0, 3600.1], [0, 0.1, 5.1, 5.2], 1),
        ([100.0, 100.1, 50.0, 50.1, 50.2], [0, 0.1, 0.1 + 1 / 30, 0.2 + 1 / 30, 0.3 + 1 / 30], 1),
        ([100.0, 100.1, 99.8, 100.2], [0, 0.1, 0.1, 0.2], 0),  # a late frame
    ],
)
@pytest.mark.parametrize("rate", [1.0, 2.0])
def test_jumps_of_the_stamps_are_not_waited_out(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    stamps: list[float],
    expected: list[float],
    warnings: int,
    rate: float,
) -> None:
    clock = Clock()
    monkeypatch.setattr(player, "time", clock)
    began = clock.now
    stamped = ((round(1e9 * stamp), None) for stamp in stamps)
    played = [clock.now - began for _ in on_time(stamped, rate)]
    assert played == pytest.approx([seconds / rate for seconds in expected])
    assert len(caplog.records) == warnings


def test_ticks_leave_jumps_out() -> None:
    second = 10**9
    stamps = [9 * second, 3600 * second, 5 * second, 6 * second]
    ticked = with_ticks(zip(stamps, stamps, strict=True), second // 2)
    assert [time for time, _ in ticked] == [*stamps[:3], 5 * second + second // 2, stamps[3]]


@given(st.lists(st.integers(0, 10**8), min_size=1, max_size=20), st.integers(10**6, 10**8))
def test_ticks_fill_the_time_between_items(stamps: list[int], period: int) -> None:
    ticked = list(with_ticks(zip(stamps, stamps, strict=True), period))
    assert [item for _, item in ticked if item is not None] == stamps
    assert all(time == item for time, item in ticked if item is not None)
    # Late items apart, time goes on by no more than the period.
    latest = ticked[0][0]
    for time, item in ticked[1:]:
        assert item is not None or time - latest == period
        assert time - latest <= period
        latest = max(latest, time)


def test_a_duration_counts_from_the_first_frame_and_excludes_its_end() -> None:
    frames = plain_frames(5 * 10**8, 4 * 10**8, 9 * 10**8, 10**9, 6 * 10**8)
    assert [f.stamp for f in first_seconds(iter(frames), 0.5)] == [5 * 10**8, 4 * 10**8, 9 * 10**8]
    assert list(first_seconds(iter(frames), float("inf"))) == frames


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rate", "0"], "argument --rate: expected a number from 0.001 to 1000, got '0'"),
        (["--rate", "nan"], "argument --rate: expected a number from 0.001 to 1000, got 'nan'"),
        (["--rate", "fast"], "argument --rate: expected a number from 0.001 to 1000, got 'fast'"),
        (["--start=-1"], "argument --start: expected a number from 0 to 1e+06, got '-1'"),
        (["--duration", "0"], "argument --duration: expected a number from 0.001 to 1e+06"),
        (["--wait", "inf"], "argument --wait: expected a number from 0 to 1e+06, got 'inf'"),
        (["--clock", "--stamps", "now"], "leave out --stamps now"),
        (["--loop", "--report", "x.json"], "to which --loop never comes"),
    ],
)
def test_a_bad_option_is_refused_with_what_it_takes(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as error:
        parse(["bag", *arguments])
    assert error.value.code == 2
    assert words in capsys.readouterr().err


def player_process(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        background([sys.executable, "-m", "stsp_ros.player", *arguments]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_without_a_traceback(bench: Bench, number: signal.Signals) -> None:
    heard = Heard(bench)
    process = player_process(str(SAMPLE))
    wait_for(lambda: heard.images, "the first image")
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in out + err


def test_a_part_of_a_bag_goes_round_until_it_is_told_to_end(bench: Bench) -> None:
    heard = Heard(bench)
    part = ["--start", "1", "--duration", "0.1", "--rate", "0.5", "--loop"]
    process = player_process(str(SAMPLE), *part)
    wait_for(lambda: len(heard.images) >= 2 * COUNT, "two laps")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    stamps = [frame.stamp for frame in open_source(SAMPLE).frames()]
    lap = [s for s in stamps if 10**9 <= s - stamps[0] < 1_100_000_000]
    assert len(lap) in (3, 4)
    found = [stamp(message) for message in heard.images]
    assert found[0] == lap[0]
    assert set(found) == set(lap)
    assert any(after < before for before, after in pairwise(found))


def test_a_report_that_cannot_be_written_is_a_sentence(bench: Bench, tmp_path: Path) -> None:
    heard = Heard(bench)
    (tmp_path / "file").touch()
    report = tmp_path / "file" / "played.json"
    process = player_process(str(SAMPLE), "--duration", "0.1", "--report", str(report))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert heard.images
    assert "Traceback" not in err
    assert f"player: [Errno 20] Not a directory: '{report}'" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (lambda path: [str(path / "none.mp4")], "none.mp4 does not exist"),
        (lambda path: [str(path)], "is no bag (no metadata.yaml)"),
        (lambda _: [str(SAMPLE), "--image-topic", "/left"], "no images on /left"),
        (lambda _: [str(SAMPLE), "--wait", "0.1"], "nobody subscribes to /image"),
        (lambda _: [str(SAMPLE), "--start", "9"], "no frame, 9 s after its first frame or later"),
        (lambda _: [str(SAMPLE), "--ros-args", "-r", "image"], "Couldn't parse remap rule"),
        (lambda _: [str(SAMPLE), "--ros-args", "-r", "__ns:=/a/"], "invalid node namespace"),
    ],
)
@pytest.mark.usefixtures("domain")
def test_what_cannot_be_played_is_a_sentence(
    tmp_path: Path, arguments: Callable[[Path], list[str]], words: str
) -> None:
    process = player_process(*arguments(tmp_path))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert words in err
    assert "Traceback" not in err
