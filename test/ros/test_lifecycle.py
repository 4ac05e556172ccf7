"""Every transition of the lifecycle, by itself and through its services."""

from __future__ import annotations

import re

import pytest
from bench import Bench, FakeEstimator, values_of, wait_for
from lifecycle_msgs.msg import Transition

from stsp_ros import node as node_module


def test_it_configures_and_activates_itself(bench: Bench) -> None:
    bench.start()
    wait_for(lambda: bench.peer.state() == "active", "activity")


def test_without_autostart_it_waits_for_its_manager(bench: Bench) -> None:
    built: list[object] = []

    def factory(settings: object) -> FakeEstimator:
        built.append(settings)
        return FakeEstimator()

    bench.start(factory, autostart=False)
    status = bench.peer.status(lambda values, _: values.get("state") == "unconfigured")
    assert status.message == "unconfigured"
    assert bench.peer.state() == "unconfigured"
    assert built == []


def test_every_transition(bench: Bench) -> None:
    built: list[FakeEstimator] = []

    def factory(_settings: object) -> FakeEstimator:
        built.append(FakeEstimator())
        return built[-1]

    bench.start(factory, autostart=False)
    peer = bench.peer
    for round_ in (1, 2):
        assert peer.change_state(Transition.TRANSITION_CONFIGURE)
        assert peer.state() == "inactive"
        assert len(built) == round_
        assert peer.image.get_subscription_count() == 0  # subscriptions exist only while active
        for _ in range(2):
            assert peer.change_state(Transition.TRANSITION_ACTIVATE)
            assert peer.state() == "active"
            peer.greet()
            assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
            assert peer.state() == "inactive"
            wait_for(lambda: peer.image.get_subscription_count() == 0, "the end of subscribing")
        assert peer.change_state(Transition.TRANSITION_CLEANUP)
        assert peer.state() == "unconfigured"
        # Released, so that nobody finds publishers of an unconfigured node.
        wait_for(lambda: peer.count_publishers("/stsp/skeletons") == 0, "the publishers' end")
    assert peer.change_state(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert peer.state() == "finalized"


@pytest.mark.parametrize(
    ("transitions", "shutdown"),
    [
        ([Transition.TRANSITION_CONFIGURE], Transition.TRANSITION_INACTIVE_SHUTDOWN),
        (
            [Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE],
            Transition.TRANSITION_ACTIVE_SHUTDOWN,
        ),
    ],
)
def test_shutdown_from_anywhere(bench: Bench, transitions: list[int], shutdown: int) -> None:
    bench.start(autostart=False)
    for transition in transitions:
        assert bench.peer.change_state(transition)
    assert bench.peer.change_state(shutdown)
    assert bench.peer.state() == "finalized"
    bench.peer.status(lambda values, _: values.get("state") == "finalized")


def test_the_last_counts_are_told_at_shutdown(bench: Bench) -> None:
    bench.start()
    bench.peer.greet()
    seen = len(bench.peer.diagnostics)
    assert bench.peer.change_state(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    values = values_of(bench.peer.status(lambda values, _: values["state"] == "finalized", seen))
    processed, dropped = int(values["frames processed"]), int(values["frames dropped"])
    assert processed >= 1
    assert processed + dropped == int(values["frames received"])


def test_a_failed_autostart_is_an_error_in_diagnostics(bench: Bench) -> None:
    bench.start(node_module.build_estimator, model="/nowhere/weights.safetensors")
    status = bench.peer.status(lambda values, _: values.get("state") == "unconfigured")
    assert status.level == b"\x02"
    assert "configure failed" in status.message
    assert "/nowhere/weights.safetensors" in status.message
    assert bench.peer.state() == "unconfigured"


def test_a_failed_configure_can_be_mended(bench: Bench) -> None:
    failures = [ValueError("weights are cut off"), None]

    def factory(_settings: object) -> FakeEstimator:
        failure = failures.pop(0)
        if failure is not None:
            raise failure
        return FakeEstimator()

    bench.start(factory, autostart=False)
    assert not bench.peer.change_state(Transition.TRANSITION_CONFIGURE)
    bench.peer.status(lambda _, status: "weights are cut off" in status.message)
    assert bench.peer.state() == "unconfigured"
    assert bench.peer.change_state(Transition.TRANSITION_CONFIGURE)
    bench.peer.status(lambda _, status: "cut off" not in status.message)


def test_a_failed_activate_leaves_it_inactive(bench: Bench) -> None:
    name = "qos_overrides./image.subscription.reliability"
    bench.start(autostart=False, **{name: "perhaps"})
    assert bench.peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert not bench.peer.change_state(Transition.TRANSITION_ACTIVATE)
    assert bench.peer.state() == "inactive"
    status = bench.peer.status(lambda values, _: values.get("state") == "inactive")
    assert status.level == b"\x02"
    assert "perhaps" in status.message


def test_a_failed_configure_leaves_no_publishers(bench: Bench) -> None:
    bench.start(
        autostart=False, **{"qos_overrides./stsp/joint_angles.publisher.reliability": "perhaps"}
    )
    for _ in range(2):
        assert not bench.peer.change_state(Transition.TRANSITION_CONFIGURE)
        bench.peer.status(lambda _, status: "configure failed" in status.message)
        wait_for(lambda: bench.peer.count_publishers("/stsp/skeletons") == 0, "the publishers' end")
        assert bench.peer.state() == "unconfigured"


@pytest.mark.parametrize("transition", [Transition.TRANSITION_CONFIGURE, 99])
def test_a_transition_that_does_not_fit_the_state_is_refused(
    bench: Bench, capfd: pytest.CaptureFixture[str], transition: int
) -> None:
    bench.start()
    bench.peer.greet()
    assert not bench.peer.change_state(transition)
    # Since Kilted rclpy tells it in its own words.
    assert re.search(rf"transition {transition} .*active", capfd.readouterr().err)
    assert bench.peer.state() == "active"
    bench.peer.greet()  # it goes on


def test_a_second_shutdown_is_refused(bench: Bench) -> None:
    bench.start(autostart=False)
    assert bench.peer.change_state(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert not bench.peer.change_state(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert bench.peer.state() == "finalized"


def test_deactivating_finishes_the_image_at_work(bench: Bench) -> None:
    fake = FakeEstimator()
    bench.start(fake)
    bench.peer.greet()
    bench.hold(fake, 60.0)
    fake.gate.release()
    assert bench.peer.change_state(Transition.TRANSITION_DEACTIVATE)
    bench.peer.skeletons_at(60.0)


def test_hanging_inference_refuses_to_deactivate(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_module, "STOP_TIMEOUT", 0.2)
    fake = FakeEstimator()
    bench.start(fake)
    bench.peer.greet()
    bench.hold(fake, 60.0)
    assert not bench.peer.change_state(Transition.TRANSITION_DEACTIVATE)
    assert bench.peer.state() == "active"
    bench.peer.status(lambda _, status: "inference has not ended" in status.message)
    fake.gate.release(1000)
    bench.peer.skeletons_at(60.0)
    bench.peer.greet()  # it goes on
    assert bench.peer.change_state(Transition.TRANSITION_DEACTIVATE)


def test_inference_that_hangs_at_shutdown_gets_no_more_images(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_module, "STOP_TIMEOUT", 0.2)
    fake = FakeEstimator()
    bench.start(fake)
    bench.peer.greet()
    bench.hold(fake, 60.0)
    bench.peer.change_state(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    bench.peer.status(lambda _, status: "inference has not ended" in status.message)
    wait_for(lambda: bench.peer.image.get_subscription_count() == 0, "the node to unsubscribe")
    fake.gate.release(1000)
    bench.peer.skeletons_at(60.0)
