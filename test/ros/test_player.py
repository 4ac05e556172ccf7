"""The player publishes a source as it is, in pace, and ends when all of it has arrived."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
from bench import Bench, background, wait_for
from hypothesis import given
from hypothesis import strategies as st
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from stsp_model.sources import Frame, Source, open_source
from stsp_ros import player
from stsp_ros.player import PlayerError, on_time, play

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
)
def test_the_schedule_is_absolute(steps: list[tuple[int, float]], start: int) -> None:
    """Each frame comes at its time after the first, or at once when work took longer than that."""
    clock = Clock()
    stamps = [start + sum(step for step, _ in steps[:i]) for i in range(len(steps))]
    free = clock.now
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(player, "time", clock)
        played = on_time(zip(stamps, stamps, strict=True))
        for (stamp, item, late), (_, work) in zip(played, steps, strict=True):
            assert stamp == item
            due = 100.0 + 1e-9 * (stamp - start)
            assert clock.now == pytest.approx(max(due, free), abs=1e-6)
            assert late == pytest.approx(max(0.0, free - due), abs=1e-6)
            clock.now += work
            free = clock.now


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (lambda path: [str(path / "none.mp4")], "none.mp4 does not exist"),
        (lambda path: [str(path)], "is no bag (no metadata.yaml)"),
        (lambda _: [str(SAMPLE), "--image-topic", "/left"], "no images on /left"),
        (lambda _: [str(SAMPLE), "--wait", "0.1"], "nobody subscribes to /image"),
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
