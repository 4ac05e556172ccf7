"""The scene of the sample bag: a child of capsules doing jumping jacks and steps in a gym."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stsp_model.skeleton import JOINTS

Array = npt.NDArray[np.float64]

WIDTH, HEIGHT = 640, 480
K = np.array([[540.0, 0, 319.5], [0, 540.0, 239.5], [0, 0, 1]])
SUPERSAMPLING = 2

CAMERA_HEIGHT, DISTANCE, PITCH = 1.05, 2.5, np.radians(7)  # m, m, looking down
STANDING_HEIGHT = 1.25  # m, a child of seven or so
LIGHT = np.array([-0.45, -0.8, -0.4]) / np.linalg.norm([0.45, 0.8, 0.4])

# RGB
SKIN, HAIR, SHIRT, BAND, SHORTS, SOCKS, SHOES, EYES = (
    np.array(c, np.float64)
    for c in (
        (214, 158, 122),
        (70, 44, 30),
        (222, 78, 66),
        (250, 236, 214),
        (44, 62, 110),
        (240, 240, 236),
        (66, 150, 140),
        (34, 26, 24),
    )
)


@dataclass(frozen=True)
class Body:
    """Joints by name and the axes of the trunk, in the level camera frame (y down), metres."""

    joints: dict[str, Array]
    forward: Array
    left: Array
    hands: tuple[Array, Array]
    toes: tuple[Array, Array]


@dataclass(frozen=True)
class Part:
    """A tapered capsule from `start` to `end`; `second` is its colour where `where` says so."""

    start: Array
    end: Array
    radii: tuple[float, float]
    colour: Array
    second: Array | None = None
    axis: Array | None = None  # the second colour shows where normal . axis > threshold
    threshold: float = 0.0


UP = np.array([0.0, -1.0, 0.0])


def smooth(value: float, start: float, end: float) -> float:
    """0 before `start`, 1 after `end`, without a kink between."""
    x = float(np.clip((value - start) / (end - start), 0, 1))
    return x * x * (3 - 2 * x)


def pose(time: float) -> Body:
    """The child `time` seconds into the clip: jumping jacks for 2 s, then steps to the side."""
    walking = smooth(time, 1.85, 2.2)
    jack = 2 * np.pi * 1.25 * time
    opened = (1 - walking) * (1 - np.cos(jack)) / 2
    hop = (1 - walking) * 0.075 * np.sin(jack) ** 2
    landing = (1 - walking) * np.cos(jack) ** 4
    step = 2 * np.pi * 1.35 * (time - 1.9)

    yaw = np.radians(14 * np.sin(1.1 * time) + 42 * smooth(time, 1.9, 2.7))
    forward = np.array([np.sin(yaw), 0, -np.cos(yaw)])
    left = np.array([np.cos(yaw), 0, np.sin(yaw)])
    lean = np.radians(4) * np.sin(jack / 2) * (1 - walking)
    trunk_up = np.cos(lean) * UP + np.sin(lean) * left

    def limb(side: float, abduction: float, flexion: float) -> Array:
        a, f = np.radians(abduction), np.radians(flexion)
        return (
            np.cos(f) * np.cos(a) * -UP + np.sin(a) * side * left + np.sin(f) * np.cos(a) * forward
        )

    joints: dict[str, Array] = {"pelvis": np.zeros(3)}
    ends: dict[str, Array] = {}
    toes: dict[str, Array] = {}
    for name, side in (("left", 1.0), ("right", -1.0)):
        lift = walking * max(0.0, side * np.sin(step))
        spread = 4 + 20 * opened
        thigh, knee = 8 * landing + 52 * lift, 16 * landing + 84 * lift + 4
        hip = joints["pelvis"] + 0.078 * side * left
        joints[f"{name}_hip"] = hip
        joints[f"{name}_knee"] = hip + 0.300 * limb(side, spread, thigh)
        shin = limb(side, spread, thigh - knee)
        joints[f"{name}_ankle"] = joints[f"{name}_knee"] + 0.290 * shin
        drop = 0.035 + 0.04 * lift + 0.3 * hop
        toes[name] = joints[f"{name}_ankle"] + 0.115 * forward - drop * UP + 0.02 * side * left

    joints["thorax"] = joints["pelvis"] + 0.375 * trunk_up
    joints["spine"] = (joints["pelvis"] + joints["thorax"]) / 2
    nod = 0.02 * np.sin(jack)
    joints["nose"] = joints["thorax"] + 0.118 * trunk_up + (0.105 + nod) * forward
    joints["head_top"] = joints["thorax"] + 0.232 * trunk_up + (0.02 + nod) * forward
    for name, side in (("left", 1.0), ("right", -1.0)):
        swing = -34 * walking * side * np.sin(step)
        raised = 14 + 142 * opened
        shoulder = joints["thorax"] + 0.135 * side * left - 0.012 * trunk_up
        upper = limb(side, raised, swing)
        lower = limb(side, raised + 10 * opened, swing + 10 + 62 * walking)
        joints[f"{name}_shoulder"] = shoulder
        joints[f"{name}_elbow"] = shoulder + 0.215 * upper
        joints[f"{name}_wrist"] = joints[f"{name}_elbow"] + 0.190 * lower
        ends[name] = joints[f"{name}_wrist"] + 0.065 * lower
    # The thorax is the midpoint of the shoulders.
    joints["thorax"] = (joints["left_shoulder"] + joints["right_shoulder"]) / 2
    joints["spine"] = (joints["pelvis"] + joints["thorax"]) / 2

    lowest = max(joints["left_ankle"][1], joints["right_ankle"][1])
    travel = 0.42 * smooth(time, 1.9, 3.1) - 0.12
    shift = np.array([travel, CAMERA_HEIGHT - 0.070 - hop - lowest, DISTANCE])
    return Body(
        {name: joints[name] + shift for name in JOINTS},
        forward,
        left,
        (ends["left"] + shift, ends["right"] + shift),
        (toes["left"] + shift, toes["right"] + shift),
    )


def parts(body: Body) -> list[Part]:
    """The clothed figure around the joints, in the level camera frame."""
    j, forward, left = body.joints, body.forward, body.left
    up = j["thorax"] - j["pelvis"]
    up = up / np.linalg.norm(up)
    found: list[Part] = []
    for side, hand, toe, outwards in (
        ("left", body.hands[0], body.toes[0], left),
        ("right", body.hands[1], body.toes[1], -left),
    ):
        hip, knee, ankle = (j[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
        shoulder, elbow, wrist = (j[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist"))
        heel = ankle - 0.025 * UP - 0.02 * forward
        found += [
            Part(hip, knee, (0.072, 0.047), SKIN),
            Part(hip, hip + 0.62 * (knee - hip), (0.088, 0.084), SHORTS, BAND, outwards, 0.93),
            Part(knee, knee + 0.35 * (ankle - knee), (0.046, 0.047), SKIN),
            Part(knee + 0.3 * (ankle - knee), ankle, (0.047, 0.031), SKIN),
            Part(knee + 0.66 * (ankle - knee), ankle, (0.040, 0.036), SOCKS),
            Part(heel, toe, (0.042, 0.033), SHOES, SOCKS, -UP, 0.55),
            Part(shoulder, elbow, (0.045, 0.035), SKIN),
            Part(shoulder, shoulder + 0.55 * (elbow - shoulder), (0.056, 0.054), SHIRT),
            Part(elbow, wrist, (0.035, 0.026), SKIN),
            Part(wrist, hand, (0.030, 0.030), SKIN),
        ]
    # The trunk is a stack of lying capsules: wide, but flat from front to back.
    for height in np.linspace(0.0, 1.0, 15):
        centre = j["pelvis"] + height * (j["thorax"] - j["pelvis"]) - 0.01 * up
        half = np.interp(height, [0, 0.3, 0.75, 1.0], [0.062, 0.048, 0.072, 0.092])
        depth = float(np.interp(height, [0, 0.35, 0.75, 1.0], [0.088, 0.080, 0.088, 0.052]))
        colour = SHORTS if height < 0.1 else BAND if 0.66 < height < 0.8 else SHIRT
        found.append(Part(centre - half * left, centre + half * left, (depth, depth), colour))
    # Head, hair behind and above, ears, eyes and a smile.
    crown = j["head_top"] - 0.105 * up
    head = crown - 0.006 * up
    back = -0.55 * forward + 0.83 * up
    found += [
        Part(j["thorax"], head - 0.03 * up, (0.042, 0.040), SKIN),
        Part(head - 0.022 * up, head + 0.004 * up, (0.088, 0.096), SKIN, HAIR, back, 0.22),
        Part(crown - 0.02 * forward, crown - 0.028 * forward + 0.002 * up, (0.101, 0.099), HAIR),
        Part(j["nose"] - 0.012 * forward, j["nose"] - 0.008 * forward, (0.014, 0.012), SKIN),
    ]
    for sign in (1.0, -1.0):
        eye = head + 0.080 * forward + 0.036 * sign * left + 0.012 * up
        ear = head + 0.094 * sign * left - 0.012 * up
        found += [
            Part(eye, eye + 0.008 * up, (0.0125, 0.0125), EYES),
            Part(ear, ear + 0.018 * up, (0.017, 0.019), SKIN),
            Part(
                head + 0.078 * forward - 0.052 * up,
                head + 0.073 * forward + 0.026 * sign * left - 0.042 * up,
                (0.0075, 0.006),
                np.array((150.0, 60.0, 56.0)),
            ),
        ]
    return found


def pitched(points: Array) -> Array:
    """From the level camera frame to the optical frame, which looks down by PITCH."""
    c, s = np.cos(PITCH), np.sin(PITCH)
    return points @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]).T


def rays(width: int, height: int) -> Array:
    """Directions (height, width, 3), z = 1, in the level camera frame's orientation."""
    u = (np.arange(width) + 0.5) * WIDTH / width - 0.5
    v = (np.arange(height) + 0.5) * HEIGHT / height - 0.5
    x, y = np.meshgrid((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1])
    c, s = np.cos(PITCH), np.sin(PITCH)
    return np.stack([x, c * y + s, -s * y + c], axis=-1)


def gym(directions: Array) -> Array:
    """The empty hall as RGB: floorboards, court lines, a padded wall with wall bars."""
    wall = 5.2
    with np.errstate(divide="ignore"):
        to_floor = np.where(directions[..., 1] > 1e-6, CAMERA_HEIGHT / directions[..., 1], np.inf)
    to_wall = wall / directions[..., 2]
    on_floor = to_floor < to_wall
    reach = np.where(on_floor, to_floor, to_wall)
    x = directions[..., 0] * reach
    z = directions[..., 2] * reach
    height = CAMERA_HEIGHT - directions[..., 1] * reach

    board = np.floor(x / 0.14)
    tone = np.sin(board * 12.9898) * 43758.5453
    tone = tone - np.floor(tone)
    floor = np.array((206.0, 166.0, 118.0)) * (0.95 + 0.07 * tone[..., None])
    seam = np.abs(x / 0.14 - board - 0.5) > 0.475
    floor = np.where(seam[..., None] & (z < 3.6)[..., None], floor * 0.92, floor)
    circle = np.abs(np.hypot(x - 0.1, z - 2.7) - 1.25) < 0.03
    line = np.abs(z - 4.45) < 0.035
    floor = np.where((circle | line)[..., None], np.array((240.0, 240.0, 236.0)), floor)
    floor = floor * (1.04 - 0.035 * z[..., None])

    paint = np.array((222.0, 226.0, 220.0)) * (0.94 + 0.05 * np.clip(height, 0, 3)[..., None] / 3)
    pad = np.array((78.0, 122.0, 140.0)) * (0.97 + 0.03 * np.cos(x * 2 * np.pi / 1.3)[..., None])
    seams = np.abs(x / 1.3 - np.round(x / 1.3)) < 0.008
    pad = np.where(seams[..., None], pad * 0.82, pad)
    surface = np.where((height < 1.0)[..., None], pad, paint)
    bars = (np.abs(np.abs(x + 1.75) - 0.42) < 0.03) | (
        (np.abs(x + 1.75) < 0.42) & (np.abs(height / 0.2 - np.round(height / 0.2)) < 0.09)
    )
    surface = np.where((bars & (height > 0.15))[..., None], np.array((196.0, 150.0, 98.0)), surface)
    skirting = height < 0.08
    surface = np.where(skirting[..., None], np.array((120.0, 96.0, 74.0)), surface)
    return np.where(on_floor[..., None], floor, surface)


def floor_shadow(directions: Array, body: Body) -> Array:
    """Factor (H, W) by which the figure darkens the floor: soft, cast by a row of ceiling lamps."""
    small = directions[::4, ::4]
    with np.errstate(divide="ignore"):
        reach = np.where(small[..., 1] > 1e-6, CAMERA_HEIGHT / small[..., 1], 1e6)
    x, z = small[..., 0] * reach, small[..., 2] * reach
    light = np.ones(x.shape)
    for name in JOINTS:
        above = CAMERA_HEIGHT - body.joints[name][1]
        across = body.joints[name] - LIGHT * above * 0.3
        spread = 0.05 + 0.22 * above
        strength = 0.24 / (1 + (3.0 * above) ** 2) + 0.02
        squared = (x - across[0]) ** 2 + (z - across[2]) ** 2
        light *= 1 - strength * np.exp(-squared / (2 * spread**2))
    full = cv2.resize(light, directions.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(full, np.float64)


def draw_part(part: Part, directions: Array, picture: Array, depth: Array) -> None:
    """Ray-cast one part into `picture` (H, W, 3) and `depth` (H, W), in place.

    Where a ray passes closest to the axis there stands a sphere of the radius at that place; that
    gives a tapered capsule's outline, and after one refinement its surface.
    """
    scale = directions.shape[1] / WIDTH
    ends = pitched(np.stack([part.start, part.end]))
    centre = ends[:, :2] / ends[:, 2:] * K[0, 0] + K[:2, 2]
    margin = 1.15 * K[0, 0] * np.array(part.radii)[:, None] / ends[:, 2:] + 2
    low = np.maximum((np.floor((centre - margin).min(axis=0)) * scale).astype(int), 0)
    high = (np.ceil((centre + margin).max(axis=0)) * scale).astype(int)
    window = (slice(low[1], max(high[1], 0)), slice(low[0], max(high[0], 0)))
    rays_here = directions[window]
    if rays_here.size == 0:
        return
    axis = part.end - part.start
    length = float(axis @ axis)
    unit = rays_here / np.linalg.norm(rays_here, axis=-1, keepdims=True)

    along = unit @ axis
    between = unit @ part.start
    share = (along * between - part.start @ axis) / np.maximum(length - along**2, 1e-12)
    hit = np.zeros(share.shape, bool)
    for _ in range(2):
        share = np.clip(share, 0, 1)
        middle = part.start + share[..., None] * axis
        radius = part.radii[0] + share * (part.radii[1] - part.radii[0])
        towards = np.sum(unit * middle, axis=-1)
        inside = radius**2 - (np.sum(middle * middle, axis=-1) - towards**2)
        hit = inside > 0
        distance = towards - np.sqrt(np.maximum(inside, 0))
        point = unit * distance[..., None]
        share = (point - part.start) @ axis / length
    normal = (point - middle) / radius[..., None]
    front = hit & (distance < depth[window])
    colour = np.broadcast_to(part.colour, normal.shape)
    if part.second is not None and part.axis is not None:
        second = (normal @ part.axis) > part.threshold
        colour = np.where(second[..., None], part.second, colour)
    lit = np.clip(normal @ LIGHT, 0, 1)
    edge = 1 - np.clip(-np.sum(normal * unit, axis=-1), 0, 1)
    shade = 0.70 + 0.40 * lit - 0.20 * edge**2
    picture[window] = np.where(front[..., None], colour * shade[..., None], picture[window])
    depth[window] = np.where(front, distance, depth[window])


def draw(time: float) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_], Array]:
    """The frame at `time` s: (480, 640, 3) BGR, the figure's mask, joints (17, 3) m (optical)."""
    directions = rays(WIDTH * SUPERSAMPLING, HEIGHT * SUPERSAMPLING)
    body = pose(time)
    picture = gym(directions) * floor_shadow(directions, body)[..., None]
    depth = np.full(picture.shape[:2], np.inf)
    for part in parts(body):
        draw_part(part, directions, picture, depth)
    size = (WIDTH, HEIGHT)
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(np.isfinite(depth).astype(np.float64), size, interpolation=cv2.INTER_AREA)
    image = np.clip(np.rint(small[..., ::-1]), 0, 255).astype(np.uint8)
    return image, np.asarray(mask) > 0.5, pitched(np.stack([body.joints[n] for n in JOINTS]))


def project(joints: Array) -> Array:
    """Points (..., 3) m in the camera frame to pixels (..., 2)."""
    pixels = joints @ K.T
    return np.asarray(pixels[..., :2] / pixels[..., 2:])
