"""What becomes of images: stamps, order, drops, and the account of them."""

from __future__ import annotations

import threading
import time
from threading import Semaphore
from typing import Any

import numpy as np
import pytest
from bench import (
    FRAME,
    Bench,
    FakeEstimator,
    a_lost_pose,
    a_pose,
    an_image,
    stamp_of,
    values_of,
    wait_for,
)
from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool
from stsp.msg import Skeleton3D

from stsp_model.estimator import LateFrameError, Pose
from stsp_ros.conversions import stamp_seconds
from stsp_ros.diagnostics import LossCounter
from stsp_ros.worker import NewestFrameWorker


def test_skeletons_carry_the_images_stamp_and_frame(bench: Bench) -> None:
    bench.start()
    bench.peer.greet()
    bench.peer.image.publish(an_image(12.345678901))
    message = bench.peer.skeletons_at(12.345678901)
    assert message.header.frame_id == FRAME
    assert message.skeletons[0].header == message.header
    assert message.skeletons[0].id == "p1"
    assert 0 <= message.processing_time < 60


def test_an_empty_array_comes_when_nobody_is_seen(bench: Bench) -> None:
    bench.start(FakeEstimator(answer=lambda _: []))
    bench.peer.greet()
    bench.peer.image.publish(an_image(20.0))
    assert bench.peer.skeletons_at(20.0).skeletons == []


def test_a_lost_person_comes_once_as_terminated(bench: Bench) -> None:
    def answer(stamp: float) -> list[Pose]:
        return [a_lost_pose()] if stamp == 21.0 else [a_pose()] if stamp < 21.0 else []

    bench.start(FakeEstimator(answer=answer))
    bench.peer.greet()
    for stamp in (20.0, 21.0, 22.0):
        bench.peer.image.publish(an_image(stamp))
        bench.peer.skeletons_at(stamp)
    (lost,) = bench.peer.skeletons_at(21.0).skeletons
    assert lost.tracking_state == Skeleton3D.TRACKING_TERMINATE
    assert all(np.isnan(joint.offset.x) for joint in lost.joints)
    assert bench.peer.skeletons_at(22.0).skeletons == []


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Stamps of the images that reached the worker, in order."""
    stamps: list[float] = []
    offer = NewestFrameWorker.offer

    def noted_offer(worker: NewestFrameWorker, frame: Any) -> object:
        skipped = offer(worker, frame)
        if frame is not None:
            stamps.append(stamp_seconds(frame.message.header.stamp))
        return skipped

    monkeypatch.setattr(NewestFrameWorker, "offer", noted_offer)
    return stamps


def test_the_newest_image_is_next_however_many_wait(bench: Bench, received: list[float]) -> None:
    fake = FakeEstimator()
    bench.start(fake)
    bench.peer.greet()
    fake.gate = Semaphore(0)
    fake.began.clear()
    bench.peer.image.publish(an_image(100))
    wait_for(lambda: fake.began == [100], "work on the first image")
    newest = 100
    for burst in range(1, 5):
        # While one image is at work others arrive, one by one and then in a flood, the last of
        # which is always delivered.
        for size in (1, 1, 1, 25):
            newest += size
            for stamp in range(newest - size + 1, newest + 1):
                bench.peer.image.publish(an_image(stamp))
            wait_for(lambda last=newest: last in received, f"image {newest}")
        fake.gate.release()
        wait_for(lambda count=burst: len(fake.began) > count, "the next image's turn")
        assert fake.began[-1] == received[-1] == newest
        assert len(fake.began) == burst + 1
    fake.gate.release(10)
    bench.peer.skeletons_at(newest)


def test_every_published_image_is_accounted_for(bench: Bench, received: list[float]) -> None:
    def answer(stamp: float) -> list[Pose]:
        time.sleep(0.004)
        if stamp % 7 == 0:
            raise LateFrameError("as if")
        if stamp % 11 == 0:
            raise RuntimeError("as if")
        return []

    fake = FakeEstimator(answer=answer)
    bench.start(fake)
    bench.peer.greet()

    def account(values: dict[str, str]) -> dict[str, int]:
        return {
            "processed": int(values["frames processed"]),
            "dropped": int(values["frames dropped"]),
            "lost": int(values["messages lost"]),
        }

    before = account(values_at_rest(bench))
    # Four images come while the first is at work: three of them are superseded for certain.
    fake.gate = Semaphore(0)
    fake.at_work.clear()
    for stamp in range(50, 55):
        bench.peer.image.publish(an_image(stamp))
        wait_for(lambda sought=stamp: sought in received, f"image {stamp}")
        assert fake.at_work.wait(30)
    fake.gate.release(10_000)
    bench.peer.skeletons_at(54)
    flood = 400
    for index in range(flood):
        image = an_image(100 + index)
        if index % 13 == 0:
            image.step = 5
        bench.peer.image.publish(image)
    bench.peer.image.publish(an_image(10_000))
    bench.peer.skeletons_at(10_000)
    values = values_at_rest(bench)
    after = account(values)
    assert sum(after.values()) - sum(before.values()) == 5 + flood + 1
    assert int(values["frames received"]) == after["processed"] + after["dropped"]
    assert int(values["dropped: superseded"]) >= 3
    reasons = {k: int(v) for k, v in values.items() if k.startswith("dropped: ")}
    assert sum(reasons.values()) == after["dropped"]
    assert after["processed"] == len(bench.peer.skeletons)


def test_a_camera_that_leaves_another_alone_on_the_topic_loses_nothing(bench: Bench) -> None:
    """Each numbers its own images, so the step from one's number to the other's is no gap."""
    bench.start()
    bench.peer.greet()
    before = values_at_rest(bench)["messages lost"]
    other = bench.peer.camera_publisher(Image, "image")
    bench.peer.greet(other)
    for stamp in range(50, 100):  # it has sent more than the first one
        other.publish(an_image(stamp))
        bench.peer.skeletons_at(stamp)
    bench.peer.image.publish(an_image(100))
    bench.peer.skeletons_at(100)
    bench.peer.destroy_publisher(bench.peer.image)
    bench.peer.status(lambda values, _: values.get("input", "").count("/peer") == 1)
    other.publish(an_image(101))
    bench.peer.skeletons_at(101)
    assert values_at_rest(bench)["messages lost"] == before


def values_at_rest(bench: Bench) -> dict[str, str]:
    """Diagnostics of a second in which nothing came."""
    found: dict[str, str] = {}

    def resting(values: dict[str, str], _: object) -> bool:
        found.update(values)
        return values.get("rate in (Hz)") == "0.0" and values.get("rate out (Hz)") == "0.0"

    bench.peer.status(resting)
    return found


def hold_with_another_waiting(bench: Bench, fake: FakeEstimator, received: list[float]) -> None:
    """Keep the node at work on the image at 60 s while that at 61 s waits."""
    bench.hold(fake, 60.0)
    bench.peer.image.publish(an_image(61.0))
    wait_for(lambda: 61.0 in received, "the image that waits")


def adds_up(values: dict[str, str]) -> bool:
    ended = int(values["frames processed"]) + int(values["frames dropped"])
    return int(values["frames received"]) == ended


def test_disabling_drops_the_image_that_waits_and_counts_it(
    bench: Bench, received: list[float]
) -> None:
    fake = FakeEstimator()
    bench.start(fake)
    bench.peer.greet()
    hold_with_another_waiting(bench, fake, received)
    assert bench.peer.call(SetBool, "enable", SetBool.Request(data=False)).success
    fake.gate.release(1000)
    bench.peer.skeletons_at(60.0)
    bench.peer.status(lambda values, _: values.get("dropped: stopped") == "1" and adds_up(values))
    assert bench.peer.call(SetBool, "enable", SetBool.Request(data=True)).success
    bench.peer.greet()
    assert 61.0 not in fake.began


def test_deactivating_drops_the_image_that_waits_and_counts_it(
    bench: Bench, received: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first diagnostics of the inactive node hold the final counts."""
    fake = FakeEstimator()
    bench.start(fake)
    bench.peer.greet()
    hold_with_another_waiting(bench, fake, received)
    join = threading.Thread.join

    def finishing_join(thread: threading.Thread, timeout: float | None = None) -> None:
        if thread.name == "stsp_worker":  # which has been told to stop by now
            fake.gate.release(1000)
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", finishing_join)
    seen = len(bench.peer.diagnostics)
    assert bench.peer.change_state(Transition.TRANSITION_DEACTIVATE)
    values = values_of(bench.peer.status(lambda values, _: values["state"] == "inactive", seen))
    assert values["dropped: stopped"] == "1"
    assert adds_up(values)
    bench.peer.skeletons_at(60.0)
    assert 61.0 not in fake.began


@pytest.mark.parametrize(("publishers", "lost"), [(1, 3), (2, 0)])
def test_gaps_in_the_numbers_of_a_lone_publisher_are_losses(publishers: int, lost: int) -> None:
    counter = LossCounter()
    for number in (7, 8, 12):
        counter.number(number, lambda: publishers)
    assert counter.total == lost


def test_without_numbers_the_middlewares_events_tell_of_losses() -> None:
    counter = LossCounter()
    counter.event(2)
    counter.event(3)
    assert counter.total == 5
    counter.number(1, lambda: 1)  # gaps tell of the same losses from here on
    assert counter.total == 0


def test_what_was_sent_before_a_new_subscription_is_not_lost() -> None:
    counter = LossCounter()
    counter.number(1, lambda: 1)
    counter.number(3, lambda: 1)
    counter.restart()
    counter.number(50, lambda: 1)
    counter.number(52, lambda: 1)
    assert counter.total == 2


def test_a_late_image_is_dropped_and_counted(bench: Bench) -> None:
    def answer(stamp: float) -> list[Pose]:
        if stamp == 29.9:
            raise LateFrameError("29.9 is before 30")
        return []

    fake = FakeEstimator(answer=answer)
    bench.start(fake)
    bench.peer.greet()
    for stamp in (30.0, 29.9, 31.0):
        bench.peer.image.publish(an_image(stamp))
        wait_for(lambda sought=stamp: sought in fake.began, f"work on the image at {stamp} s")
    bench.peer.skeletons_at(31.0)
    assert not any(m.header.stamp == stamp_of(29.9) for m in bench.peer.skeletons)
    bench.peer.status(lambda values, _: values.get("dropped: late") == "1")


def test_a_failing_network_is_an_error_in_diagnostics_and_no_end(bench: Bench) -> None:
    def answer(stamp: float) -> list[Pose]:
        if 40.0 <= stamp < 41.0:
            raise RuntimeError("out of memory, say")
        return []

    bench.start(FakeEstimator(answer=answer))
    bench.peer.greet()
    bench.peer.image.publish(an_image(40.0))
    status = bench.peer.status(lambda values, _: values.get("dropped: failed") == "1")
    assert status.level == b"\x02"
    assert "out of memory, say" in status.message
    bench.peer.image.publish(an_image(41.0))
    bench.peer.skeletons_at(41.0)


def test_an_error_is_told_with_its_own_reason_though_other_images_were_dropped_since(
    bench: Bench,
) -> None:
    def answer(stamp: float) -> list[Pose]:
        if 40.0 <= stamp < 50.0:
            raise RuntimeError("out of memory, say")
        if 50.0 <= stamp < 60.0:
            raise LateFrameError("50 is before 51")
        return []

    fake = FakeEstimator(answer=answer)
    bench.start(fake)
    bench.peer.greet()
    seen = len(bench.peer.diagnostics)
    for second in range(10):
        for stamp in (40.0 + second, 50.0 + second):
            bench.peer.image.publish(an_image(stamp))
            wait_for(lambda sought=stamp: sought in fake.began, f"work on the image at {stamp} s")
        time.sleep(0.2)
    errors = [status.message for status in bench.peer.diagnostics[seen:] if status.level == b"\x02"]
    assert errors
    assert all("out of memory, say" in message for message in errors)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"step": 10}, "step is 10"),
        ({"height": 4000}, "cut off"),
        ({"width": 0}, "0x48"),
        ({"encoding": "made-up"}, "made-up"),
    ],
)
def test_a_bad_image_is_dropped_with_its_reason(
    bench: Bench, change: dict[str, int | str], reason: str
) -> None:
    bench.start()
    bench.peer.greet()
    image = an_image(50.0)
    for name, value in change.items():
        setattr(image, name, value)
    bench.peer.image.publish(image)
    status = bench.peer.status(lambda values, _: values.get("dropped: bad image") == "1")
    assert status.level == b"\x01"
    assert "bad image: " in status.message
    assert reason in status.message
    bench.peer.image.publish(an_image(51.0))
    bench.peer.skeletons_at(51.0)


def test_a_zero_stamp_becomes_the_time_of_arrival(bench: Bench) -> None:
    node = bench.start()
    bench.peer.greet()
    before = node.get_clock().now()
    bench.peer.skeletons.clear()
    bench.peer.image.publish(an_image(0.0))
    message = wait_for(lambda: bench.peer.skeletons, "skeletons")[0]
    stamp = message.header.stamp
    assert before.nanoseconds <= stamp.sec * 10**9 + stamp.nanosec
    assert stamp.sec * 10**9 + stamp.nanosec <= node.get_clock().now().nanoseconds


def test_zero_stamps_are_warned_of_once(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    fake = FakeEstimator()
    bench.start(fake)
    bench.peer.greet()
    fake.began.clear()
    for count in (1, 2, 3):
        bench.peer.image.publish(an_image(0.0))
        wait_for(lambda done=count: len(fake.began) == done, f"work on image {count}")
    assert capfd.readouterr().err.count("zero stamp") == 1


def test_in_simulated_time_without_a_clock_a_zero_stamp_becomes_that_of_the_system(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    bench.start(use_sim_time=True)
    bench.peer.greet()
    before = time.time_ns()
    bench.peer.skeletons.clear()
    bench.peer.image.publish(an_image(0.0))
    stamp = wait_for(lambda: bench.peer.skeletons, "skeletons")[0].header.stamp
    assert before <= stamp.sec * 10**9 + stamp.nanosec <= time.time_ns()
    assert "no time has come on /clock" in capfd.readouterr().err


def test_the_worker_ends_only_between_items() -> None:
    at_work, gate = threading.Event(), threading.Event()
    done: list[str] = []

    def process(item: str) -> None:
        at_work.set()
        gate.wait(30)
        done.append(item)

    worker = NewestFrameWorker(process)
    assert worker.offer("first") is None
    assert at_work.wait(30)
    assert worker.offer("second") is None
    assert worker.offer("third") == "second"
    assert not worker.stop(timeout=0.05)  # the first is still at work, so all goes on
    gate.set()
    wait_for(lambda: done == ["first", "third"], "both items")
    worker.between_items(lambda: done.append("task"))
    wait_for(lambda: done[-1] == "task", "the task")
    assert worker.stop(timeout=30)
    assert worker.offer("fourth") is None
    assert worker.offer(None) == "fourth"
    assert done == ["first", "third", "task"]
