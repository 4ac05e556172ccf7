"""A test bench over real DDS: the node under test, a camera and listeners, and a fake estimator."""

from __future__ import annotations

import array
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event, Semaphore
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters
from rclpy.client import Client
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest
from stsp.msg import Skeleton3DArray
from visualization_msgs.msg import MarkerArray

from stsp_model.estimator import Pose, TrackingState
from stsp_model.skeleton import JOINT_COUNT, PARENTS
from stsp_ros.diagnostics import FrameTimes
from stsp_ros.node import PoseNode
from stsp_ros.spinner import Spinner

PATIENCE = 30.0  # s; only a broken node uses them up
FRAME = "camera_optical_frame"


def background(command: list[str]) -> list[str]:
    """The command as a script's background job: the shell has it ignore Ctrl-C, to begin with."""
    return ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *command]


def wait_for(condition: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    """The first truthy value of `condition()`; fails the test after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {timeout:.0f} s in vain for {what}")


def a_pose(name: str = "p1", **changes: Any) -> Pose:
    """A figure 3 m in front of the camera, each joint at a place of its own."""
    joints = np.zeros((JOINT_COUNT, 3))
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            joints[joint] = joints[parent] + [0.02 * joint - 0.16, 0.1, 0.01 * joint]
    pose = Pose(
        id=name,
        tracking_state=TrackingState.OK,
        joints=joints,
        variance=np.full((JOINT_COUNT, 3), 0.01),
        confidence=np.linspace(0.2, 1.0, JOINT_COUNT),
        joints_2d=np.arange(2.0 * JOINT_COUNT).reshape(JOINT_COUNT, 2),
        confidence_2d=np.linspace(1.0, 0.2, JOINT_COUNT),
        root=np.array([0.1, 0.2, 3.0]),
        root_variance=np.array([0.01, 0.01, 0.09]),
        height=1.25,
        height_variance=0.02,
        height_given=False,
        box=np.array([10.0, 5.0, 50.0, 45.0]),
        score=0.75,
        frames_used=5,
    )
    return replace(pose, **changes)


def a_lost_pose(name: str = "p1") -> Pose:
    """What the estimator says once when `name` is gone."""
    pose = a_pose(name, tracking_state=TrackingState.TERMINATE, root=np.full(3, np.nan))
    return replace(pose, joints=np.full((JOINT_COUNT, 3), np.nan))


@dataclass
class FakeModel:
    trained: bool = True
    note: str = "a fake"
    precision: str = "float32"


@dataclass
class FakeEstimator:
    """Stands in for the network: says `answer(stamp)`, and waits for `gate` where there is one."""

    answer: Callable[[float], Sequence[Pose]] = lambda _stamp: [a_pose()]
    gate: Semaphore | None = None
    model: FakeModel = field(default_factory=FakeModel)
    began: list[float] = field(default_factory=list)  # stamps, in the order of work
    calls: list[dict[str, Any]] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)
    resets: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    at_work: Event = field(default_factory=Event)

    def step(self, image: np.ndarray, stamp: float, **call: Any) -> list[Pose]:
        if stamp == 0.0:  # the warm-up
            return []
        self.began.append(stamp)
        self.calls.append(call)
        self.images.append(np.array(image))
        self.at_work.set()
        if self.gate is not None:
            assert self.gate.acquire(timeout=2 * PATIENCE)
        self.at_work.clear()
        return list(self.answer(stamp))

    def reset(self) -> None:
        self.resets += 1

    def configure(self, **options: Any) -> None:
        self.options = options


class Peer(Node):
    """A camera to the node under test and a listener to all that it says.

    Topics are those of a node `stsp` in `namespace`, with the camera's below `camera`.
    """

    def __init__(self, context: Context, *, namespace: str = "", camera: str = "") -> None:
        super().__init__("peer", context=context, use_global_arguments=False)
        self.stsp = f"{namespace}/stsp"
        self.camera = f"{namespace}{camera}"
        self.skeletons: list[Skeleton3DArray] = []
        self.markers: list[MarkerArray] = []
        self.diagnostics: list[DiagnosticStatus] = []
        self._callers: dict[str, Client] = {}
        self._probes: list[Client] = []  # clients of get_state, the latest last
        self.image = self.camera_publisher(Image, "image")
        self.camera_info = self.camera_publisher(CameraInfo, "camera_info")
        self.region = self.create_publisher(RegionOfInterest, f"{namespace}/roi", 1)
        self.listen(Skeleton3DArray, f"{self.stsp}/skeletons", self.skeletons.append, depth=500)
        self.listen(DiagnosticArray, "/diagnostics", lambda m: self.diagnostics.extend(m.status))

    def camera_publisher(self, kind: Any, topic: str, *, reliable: bool = True) -> Publisher:
        """A publisher of the camera's, that keeps what it sends until it is there."""
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(depth=500, reliability=reliability)
        return self.create_publisher(kind, f"{self.camera}/{topic}", qos)

    def listen(self, kind: Any, topic: str, callback: Any, depth: int = 100) -> Subscription:
        """Subscribe reliably."""
        return self.create_subscription(kind, topic, callback, QoSProfile(depth=depth))

    def listen_to_markers(self) -> None:
        """Subscribe to markers, which are published only then."""
        self.listen(MarkerArray, f"{self.stsp}/markers", self.markers.append)

    def greet(self, publisher: Publisher | None = None, message: Any = None) -> None:
        """Send images until one comes back as skeletons: everything is connected then."""
        publisher = publisher or self.image
        began = len(self.skeletons)
        for attempt in range(300):
            if message is None:
                publisher.publish(an_image(1.0 + 0.01 * attempt))
            else:
                message.header.stamp = stamp_of(1.0 + 0.01 * attempt)
                publisher.publish(message)
            time.sleep(0.1)
            if len(self.skeletons) > began:
                break
        wait_for(lambda: len(self.skeletons) > began, "the first skeletons")
        # All of the images sent are either done or never will be.
        wait_for(self.quiet, "the last of the first skeletons")

    def quiet(self, seconds: float = 0.5) -> bool:
        """Whether no skeletons came for a while."""
        count = len(self.skeletons)
        time.sleep(seconds)
        return count == len(self.skeletons)

    def skeletons_at(self, stamp: float) -> Skeleton3DArray:
        """The message about the image of this stamp, once it is there."""
        sought = stamp_of(stamp)
        return wait_for(
            lambda: next((m for m in list(self.skeletons) if m.header.stamp == sought), None),
            f"skeletons of the image at {stamp} s",
        )

    def status(
        self,
        accept: Callable[[dict[str, str], DiagnosticStatus], bool],
        seen: int | None = None,
    ) -> DiagnosticStatus:
        """The first status after `seen` others, or from now on, that `accept(values, status)`s."""
        began = len(self.diagnostics) if seen is None else seen
        return wait_for(
            lambda: next((s for s in self.diagnostics[began:] if accept(values_of(s), s)), None),
            "such diagnostics",
        )

    def call(self, kind: Any, service: str, request: Any, timeout: float = PATIENCE) -> Any:
        """The response of the node's `service`, relative to the node."""
        if service not in self._callers:
            self._callers[service] = self.create_client(kind, f"{self.stsp}/{service}")
            wait_for(self._callers[service].service_is_ready, f"service {service}")
            self._wait_until_known()
        return self._answer(self._callers[service], service, request, timeout)

    def _answer(self, client: Any, service: str, request: Any, timeout: float) -> Any:
        future = client.call_async(request)
        wait_for(future.done, f"an answer of {service}", timeout)
        return future.result()

    def _wait_until_known(self) -> None:
        """Return when the node has discovered all clients made so far.

        A ready service may not know its client yet, and then misses its request. Discovery keeps
        to the order of creation, so a later client's answer tells that the earlier ones are known.
        """
        self._probes.append(self.create_client(GetState, f"{self.stsp}/get_state"))
        for _ in range(round(PATIENCE)):
            try:
                self._answer(self._probes[-1], "get_state", GetState.Request(), timeout=1.0)
            except AssertionError:
                continue
            return
        raise AssertionError("the node answers no call")

    def change_state(self, transition: int) -> bool:
        """Drive a lifecycle transition; whether it succeeded."""
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self.call(ChangeState, "change_state", request).success)

    def state(self) -> str:
        """The lifecycle state."""
        if not self._probes:
            self._wait_until_known()
        response = self._answer(self._probes[-1], "get_state", GetState.Request(), PATIENCE)
        return str(response.current_state.label)

    def set_parameter(self, name: str, value: Any) -> SetParametersResult:
        """Ask the node to change a parameter."""
        message: ParameterMessage = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[message])
        return self.call(SetParameters, "set_parameters", request).results[0]


class Bench:
    """A peer that runs, and nodes under test that run beside it, each in a context of its own."""

    def __init__(self, domain: int) -> None:
        self._domain = domain
        self._stack = ExitStack()
        self.peer: Peer

    def __enter__(self) -> Bench:
        self.peer = self.add_peer()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def add_peer(self, **options: Any) -> Peer:
        """Another peer; see Peer."""
        peer = Peer(self._context(), **options)
        self._run(peer)
        return peer

    def start(
        self,
        estimator: FakeEstimator | Callable[[Any], Any] | None = None,
        *,
        ros_args: Sequence[str] = (),
        namespace: str | None = None,
        watch: Callable[[FrameTimes], None] | None = None,
        **parameters: Any,
    ) -> PoseNode:
        """Run a node with this estimator (or factory of one) and these parameters."""
        fake = FakeEstimator() if estimator is None else estimator
        factory = (lambda _settings: fake) if isinstance(fake, FakeEstimator) else fake
        node = PoseNode(
            factory,
            watch,
            context=self._context(),
            namespace=namespace,
            use_global_arguments=False,
            cli_args=["--ros-args", *ros_args] if ros_args else None,
            parameter_overrides=[Parameter(name, value=v) for name, v in parameters.items()],
        )
        self._run(node, partial(node.close, 5.0))
        return node

    def hold(self, fake: FakeEstimator, stamp: float) -> None:
        """Keep the node at work on an image taken at `stamp` s until the gate is released."""
        fake.gate = Semaphore(0)
        fake.at_work.clear()
        self.peer.image.publish(an_image(stamp))
        assert fake.at_work.wait(30)

    def _context(self) -> Context:
        context = Context()
        rclpy.init(context=context, domain_id=self._domain)
        self._stack.callback(rclpy.try_shutdown, context=context)
        return context

    def _run(self, node: Node, *before_it_goes: Callable[[], object]) -> None:
        for end in (node.destroy_node, *before_it_goes):
            self._stack.callback(end)
        self._stack.enter_context(Spinner(node))


def stamp_of(seconds: float) -> Time:
    """The stamp nearest to `seconds`."""
    nanoseconds = round(seconds * 1e9)
    return Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


def an_image(stamp: float, height: int = 48, width: int = 64, value: int = 7) -> Image:
    """A plain bgr8 image, taken at `stamp` s."""
    message = Image(height=height, width=width, encoding="bgr8", step=3 * width)
    message.header.stamp = stamp_of(stamp)
    message.header.frame_id = FRAME
    message.data = array.array("B", bytes([value]) * (3 * width * height))
    return message


def a_camera_info(focal: float, width: int = 64, height: int = 48) -> CameraInfo:
    """Of a centred camera without distortion; after rectification, of twice the focal length."""
    info = CameraInfo(width=width, height=height, distortion_model="plumb_bob")
    info.k = [focal, 0.0, width / 2, 0.0, focal, height / 2, 0.0, 0.0, 1.0]
    info.p = [2 * focal, 0.0, width / 2, 0.0, 0.0, 2 * focal, height / 2, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    """A status's keys and values."""
    return {pair.key: pair.value for pair in status.values}
