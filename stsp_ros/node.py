"""The lifecycle node `stsp`: camera images in, skeletons out."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo
from std_srvs.srv import SetBool, Trigger

from stsp_model.outcomes import STOPPED, SUPERSEDED
from stsp_model.pose import UNTRAINED
from stsp_ros.diagnostics import (
    Finding,
    FrameTimes,
    Statistics,
    report_values,
    status,
)
from stsp_ros.estimation import (
    Estimator,
    Region,
    build_estimator,
    release_device_memory,
    resolved_device,
)
from stsp_ros.image_input import Frame
from stsp_ros.inputs import Inputs
from stsp_ros.parameters import Settings, declare, problem_with_change, read
from stsp_ros.pipeline import Outputs, Pipeline
from stsp_ros.worker import NewestFrameWorker

SILENCE = 5.0  # s without an image that are worth a warning
STOP_TIMEOUT = 10.0  # s that inference may take to end


class PoseNode(LifecycleNode):
    """Runs an estimator on the newest image and publishes what it sees.

    Args:
        estimator_factory: makes the estimator when the node is configured.
        watch: called with the times of each processed frame, in the worker's thread.
        options: of rclpy's Node: context, namespace, parameter_overrides, cli_args ...

    Raises:
        ValueError: for a parameter whose first value is not valid.
    """

    def __init__(
        self,
        estimator_factory: Callable[[Settings], Estimator] = build_estimator,
        watch: Callable[[FrameTimes], None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__("stsp", **options)
        self._estimator_factory = estimator_factory
        self._settings = declare(self)
        self._outputs: Outputs | None = None
        self._pipeline: Pipeline | None = None  # from configure to cleanup
        self._worker: NewestFrameWorker[Frame] | None = None  # while active
        self._statistics = Statistics(watch)
        self._enabled = True
        self._finalized = False
        self._failure = ""  # of the latest transition
        self._silent = False
        self._stop_timeout = STOP_TIMEOUT
        self._inputs = Inputs(self, self._on_frame, self._on_camera_info, self._on_region)

        # Before Kilted rclpy raises where a transition does not fit, which would end the process.
        changing = self._service_change_state
        changing.callback = partial(self._change_or_refuse, changing.callback)
        self.add_on_set_parameters_callback(self._check_parameters)
        # Values are set only after the callback above, and Humble has none for afterwards.
        self._parameters_changed = self.create_guard_condition(self._apply_parameters)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # A steady clock: with use_sim_time and no /clock, ROS time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._on_tick, clock=steady)
        self._autostart_timer = self.create_timer(0.0, self._autostart, clock=steady)

    # The lifecycle. rclpy swallows exceptions in transitions, so each one reports its own.

    def on_configure(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, warm it up, create the publishers."""
        return self._transition("configure", self._configure, undo=self._release)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker and subscribe."""
        enable_publishers = partial(super().on_activate, state)

        def activate() -> None:
            enable_publishers()
            self._start()

        return self._transition("activate", activate, undo=partial(self._deactivate, state))

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, finish the image at work, remove the markers."""
        return self._transition("deactivate", partial(self._deactivate, state))

    def on_cleanup(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Release model and publishers."""
        return self._transition("cleanup", self._release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and release everything."""

        def shut_down() -> None:
            self._deactivate(state)
            self._release()

        self._finalized = True
        return self._transition("shutdown", shut_down)

    def _change_or_refuse(
        self,
        change: Callable[[ChangeState.Request, ChangeState.Response], ChangeState.Response],
        request: ChangeState.Request,
        response: ChangeState.Response,
    ) -> ChangeState.Response:
        try:
            return change(request, response)
        except RuntimeError as error:
            wanted = request.transition.label or request.transition.id
            self.get_logger().warning(
                f"transition {wanted} refused while {self.state_name}: {error}"
            )
            response.success = False
            return response

    def close(self, timeout: float) -> bool:
        """Shut down from any state; False when inference does not end within `timeout` s."""
        self._stop_timeout = timeout
        if not self._finalized:
            self.trigger_shutdown()
        return self._worker is None

    def _transition(
        self, name: str, work: Callable[[], None], undo: Callable[[], None] | None = None
    ) -> TransitionCallbackReturn:
        try:
            work()
        except Exception as error:
            self._failure = f"{name} failed: {error}"
            self.get_logger().error(self._failure)
            self.get_logger().debug(traceback.format_exc())
            if undo is not None:
                undo()
            return TransitionCallbackReturn.FAILURE
        self._failure = ""
        self.get_logger().info(f"{name}: done")
        return TransitionCallbackReturn.SUCCESS

    def _autostart(self) -> None:
        self._autostart_timer.cancel()
        untouched = self._pipeline is None and not self._finalized
        if (
            self._settings.autostart
            and untouched
            and self.trigger_configure() == TransitionCallbackReturn.SUCCESS
        ):
            self.trigger_activate()

    def _configure(self) -> None:
        began = time.monotonic()
        # Parameters may have been set just now, and the guard condition not have had its turn yet.
        settings = self._settings = read(self)
        self.get_logger().info(f"loading model {settings.model} on device {settings.device}")
        estimator = self._estimator_factory(settings)
        self._outputs = Outputs.create(self)
        self._pipeline = Pipeline(
            estimator,
            self._outputs,
            settings,
            self._statistics,
            self.get_clock(),
            self.get_logger(),
        )
        # What is there now stays; without it, collections in the midst of a stream take next to
        # no time instead of a frame or two.
        gc.collect()
        gc.freeze()
        took = time.monotonic() - began
        self.get_logger().info(f"model {settings.model} ready after {took:.1f} s")
        if not estimator.model.trained:
            self.get_logger().warning(UNTRAINED)

    def _release(self) -> None:
        if self._outputs is not None:
            self._outputs.destroy(self)
        self._outputs = self._pipeline = None
        gc.unfreeze()
        release_device_memory()

    def _start(self) -> None:
        assert self._pipeline is not None
        self._worker = NewestFrameWorker(self._pipeline.process)
        if self._enabled:
            self._inputs.open(self._settings)

    def _deactivate(self, state: LifecycleState) -> None:
        deadline = time.monotonic() + self._stop_timeout
        self._inputs.close()  # which takes its part of the time
        if self._worker is not None:
            if not self._worker.stop(max(0.0, deadline - time.monotonic())):
                if self._enabled and not self._finalized:
                    self._inputs.open(self._settings)
                raise RuntimeError(f"inference has not ended after {self._stop_timeout:.1f} s")
            self._drop_waiting()
            self._worker = None
        if self._pipeline is not None:
            self._publish_diagnostics()  # the final counts
            self._pipeline.forget()
        super().on_deactivate(state)  # disables the publishers

    def _drop_waiting(self) -> None:
        if self._worker is not None and self._worker.offer(None) is not None:
            self._statistics.drop(STOPPED)

    # Inputs

    def _on_frame(self, frame: Frame) -> None:
        if self._worker is None:
            return
        self._statistics.receive()
        if self._worker.offer(frame) is not None:
            self._statistics.drop(SUPERSEDED)

    def _on_camera_info(self, info: CameraInfo) -> None:
        if self._pipeline is not None:
            self._pipeline.camera_source.receive(info)

    def _on_region(self, region: Region | None) -> None:
        if self._pipeline is not None:
            self._pipeline.region = region

    # Services and parameters; the worker carries them out between two images.

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        changed, self._enabled = request.data != self._enabled, bool(request.data)
        response.success = True
        response.message = "enabled" if self._enabled else "disabled"
        if self._worker is None:
            response.message += "; takes effect when the node is active"
        elif changed and self._enabled:
            try:
                self._inputs.open(self._settings)
            except Exception as error:
                self._inputs.close()
                self._enabled = response.success = False
                response.message = str(error)
                self.get_logger().error(f"not enabled: {error}")
        elif changed:
            self._inputs.close()
            self._drop_waiting()
            self._between_images(self._forget)
        return response

    def _on_reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._pipeline is not None
        response.message = "all tracks forgotten" if response.success else "not configured yet"
        self._between_images(self._forget)
        return response

    def _check_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        loaded = None if self._pipeline is None else self._settings
        reason = problem_with_change(parameters, loaded=loaded)
        if not reason:
            self._parameters_changed.trigger()
        return SetParametersResult(successful=not reason, reason=reason)

    def _apply_parameters(self) -> None:
        settings = read(self)
        if settings == self._settings:
            return
        self._settings = settings
        pipeline = self._pipeline
        if pipeline is not None:
            self._between_images(lambda: pipeline.apply(settings))
        self._inputs.update(settings)

    def _forget(self) -> None:
        if self._pipeline is not None:
            self._pipeline.forget()

    def _between_images(self, task: Callable[[], None]) -> None:
        if self._worker is not None:
            self._worker.between_items(task)
        else:
            task()

    # Once a second

    def _on_tick(self) -> None:
        self._apply_parameters()
        self._inputs.update(self._settings)
        silent = self._inputs.images.silence > SILENCE
        if silent and not self._silent:
            self.get_logger().warning(
                f"no image for {SILENCE:.0f} s on {self._inputs.images.describe()}"
            )
        self._silent = silent
        self._publish_diagnostics()

    def _publish_diagnostics(self) -> None:
        name = str(self.get_fully_qualified_name()).lstrip("/")
        message = DiagnosticArray(status=[self._diagnose(name)])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _diagnose(self, name: str) -> DiagnosticStatus:
        pipeline = self._pipeline
        findings: list[Finding] = []
        values: dict[str, str] = {"state": self.state_name}
        if self._failure:
            findings.append(Finding("error", self._failure))
        if self._inputs.images.problem:
            findings.append(Finding("error", self._inputs.images.problem))
        if self._silent:
            findings.append(Finding("warn", f"no images on {self._inputs.images.describe()}"))
        if pipeline is not None:
            report = self._statistics.report()
            findings += pipeline.findings(report)
            values |= pipeline.values() | report_values(report)
            values["messages lost"] = str(self._inputs.images.lost.total)
            values["input"] = self._inputs.images.describe()
            values["camera_info input"] = self._inputs.describe_camera_info()
        return status(name, resolved_device(self._settings), findings, values)

    @property
    def failure(self) -> str:
        """Why the latest transition failed; empty if it did not."""
        return self._failure

    @property
    def state_name(self) -> str:
        """Of the lifecycle, as diagnostics tell it."""
        if self._finalized:
            return "finalized"
        if self._pipeline is None:
            return "unconfigured"
        if self._worker is None:
            return "inactive"
        return "active" if self._enabled else "active, disabled"
