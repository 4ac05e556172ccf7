"""Where children are rendered: light, ground, walls, things in the way, and cameras on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stsp_model.camera import Camera
from stsp_model.synth import textures
from stsp_model.synth.body import FloatArray
from stsp_model.synth.looks import colour, fabric
from stsp_model.synth.scene import Prop, Setting, View

_CLEAR = 0.7  # m around the children's ways where nothing stands
_OCCLUDER_SHARE = 0.35  # of clips with something between camera and child
_LEAST_SLOPE = 0.1  # of the distance from the axis in the picture over that without distortion


def _turn(yaw: float) -> FloatArray:
    cosine, sine = math.cos(yaw), math.sin(yaw)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def box(size: npt.ArrayLike, place: npt.ArrayLike, yaw: float, rng: np.random.Generator) -> Prop:
    """A box of `size` (3,) m whose lower side's middle is at `place` (3,)."""
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0, 1)])
    quads = np.array(
        [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    )
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)
    return Prop(corners * np.asarray(size) @ _turn(yaw).T + np.asarray(place), faces, fabric(rng))


def ball(radius: float, place: npt.ArrayLike, rng: np.random.Generator) -> Prop:
    """A ball that touches the ground under `place` (3,) if its height there is 0."""
    rings, spokes = 8, 12
    polar = np.linspace(0, np.pi, rings + 1)[:, None]
    around = np.linspace(0, 2 * np.pi, spokes, endpoint=False)[None]
    points = np.stack(
        np.broadcast_arrays(
            np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)
        ),
        axis=-1,
    ).reshape(-1, 3)
    faces = []
    for ring in range(rings):
        for spoke in range(spokes):
            a, b = ring * spokes + spoke, ring * spokes + (spoke + 1) % spokes
            faces += [[a, a + spokes, b], [b, a + spokes, b + spokes]]
    centre = np.asarray(place) + np.array([0, 0, radius])
    return Prop(points * radius + centre, np.array(faces, np.int32), fabric(rng))


def _thing(place: FloatArray, rng: np.random.Generator) -> Prop:
    """A ball, box, bench, pole or hurdle's plate on the ground."""
    kind = rng.choice(["ball", "box", "bench", "pole", "board"])
    if kind == "ball":
        return ball(rng.uniform(0.1, 0.35), place, rng)
    sizes = {
        "box": rng.uniform(0.2, 0.9, 3),
        "bench": np.array([rng.uniform(0.8, 2.0), 0.3, rng.uniform(0.2, 0.45)]),
        "pole": np.array([0.05, 0.05, rng.uniform(0.8, 2.5)]),
        "board": np.array([rng.uniform(0.4, 1.2), 0.05, rng.uniform(0.3, 1.4)]),
    }
    return box(sizes[str(kind)], place, rng.uniform(0, np.pi), rng)


def sample_props(
    rng: np.random.Generator, ways: npt.NDArray[np.floating], eyes: npt.NDArray[np.floating]
) -> list[Prop]:
    """Things around the children, and now and then one in front of them.

    Args:
        ways: (N, 3) m, where the children are over time.
        eyes: (K, 3) m, where the camera is over time.
    """
    props = []
    middle = ways.mean(axis=0) * [1, 1, 0]
    for _ in range(int(rng.integers(0, 7))):
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(1.0, 6.0)
        place = middle + reach * np.array([math.cos(angle), math.sin(angle), 0])
        near = np.linalg.norm((ways - place)[:, :2], axis=1).min()
        seen = np.linalg.norm((eyes - place)[:, :2], axis=1).min()
        along = _near_segment(place, eyes[len(eyes) // 2], middle)
        if near > _CLEAR + 0.5 and seen > 1.2 and along > 0.8:
            props.append(_thing(place, rng))
    if rng.random() < _OCCLUDER_SHARE:
        index = int(rng.integers(len(eyes)))
        target = ways[int(rng.integers(len(ways)))]
        share = rng.uniform(0.35, 0.75)
        place = (eyes[index] * share + target * (1 - share)) + rng.normal(0, 0.12, 3)
        if np.linalg.norm((ways - place)[:, :2], axis=1).min() > 0.35:
            size = rng.uniform([0.05, 0.05, 0.1], [0.35, 0.1, 0.5])
            if rng.random() < 0.5:  # it stands on the ground: a pole or a board
                size = np.array([size[0] * 0.5, 0.05, place[2] + size[2]])
                place[2] = 0
            facing = math.atan2(*(target - eyes[index])[:2]) + rng.normal(0, 0.3)
            props.append(box(size, place, -facing, rng))
    return props


def _near_segment(point: FloatArray, start: FloatArray, end: FloatArray) -> float:
    """How near (m, on the ground) a point is to the line of sight from start to end."""
    line = (end - start)[:2]
    t = np.clip((point - start)[:2] @ line / np.maximum(line @ line, 1e-9), 0, 1)
    return float(np.linalg.norm(point[:2] - start[:2] - t * line))


def sample_setting(
    rng: np.random.Generator,
    ways: npt.NDArray[np.floating],
    eyes: npt.NDArray[np.floating],
    pictures: Sequence[Path] = (),
) -> Setting:
    """Light and surroundings, large enough for children and camera; see `sample_props`.

    `pictures` are taken as walls two times out of three where there are any.
    """
    outdoors = bool(rng.random() < 0.5)
    height, turn = rng.uniform(0.35, 1.4), rng.uniform(0, 2 * np.pi)
    sun = np.array(
        [math.cos(height) * math.cos(turn), math.cos(height) * math.sin(turn), math.sin(height)]
    )
    warmth = rng.normal(0, 0.08)
    direct = rng.uniform(0.15, 1.3) if outdoors else rng.uniform(0.1, 0.8)
    ambient = rng.uniform(0.35, 0.8)
    reach = float(np.linalg.norm(np.concatenate([ways, eyes])[:, :2], axis=1).max())
    radius = reach + float(rng.uniform(4, 25) if outdoors else rng.uniform(1.5, 8))
    ground = textures.ground(rng)
    if len(pictures) and rng.random() < 2 / 3:
        wall = textures.picture_wall(pictures[int(rng.integers(len(pictures)))])
        wall_height = float(rng.uniform(0.35, 0.8) * radius)
    else:
        wall = textures.wall(rng)
        wall_height = float(rng.uniform(0.15, 0.5) * radius if outdoors else rng.uniform(2.5, 6))
    across = wall_height * wall.shape[1] / wall.shape[0]
    sky = np.array([0.55, 0.75, 1.0]) if outdoors else np.array(colour(rng, (0, 0.2)))
    light = np.mean([ground.mean(axis=(0, 1)), [0.3, 0.3, 0.3]], axis=0)
    return Setting(
        props=sample_props(rng, ways, eyes),
        sun=sun,
        softness=float(rng.uniform(0.01, 0.05) if outdoors else rng.uniform(0.03, 0.25)),
        sunlight=direct * np.array([1 + warmth, 1.0, 1 - warmth]),
        skylight=ambient * np.array([1 - warmth, 1.0, 1 + warmth]),
        groundlight=ambient * light,
        sky=sky * rng.uniform(0.5, 1.2),
        radius=radius,
        wall_height=wall_height,
        wall=(wall * rng.uniform(0.5, 1.1)).astype(np.float32),
        wall_repeats=max(1, round(2 * math.pi * radius / across)),
        ground=ground,
        ground_tile=float(rng.uniform(1.5, 5)),
    )


def sample_camera(rng: np.random.Generator, width: int, height: int) -> Camera:
    """A lens: half of the time a whole wide picture, else the crop of a larger one around a child.

    A crop's principal point may lie far outside it. A third of the lenses distort.
    """
    short = min(width, height)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    if rng.random() < 0.5:
        focal = 0.5 * max(width, height) / math.tan(math.radians(rng.uniform(45, 90)) / 2)
        point = centre + rng.normal(0, 0.01, 2) * short
    else:
        focal = short * math.exp(rng.uniform(math.log(0.9), math.log(3.0)))
        point = centre + rng.uniform(-0.8, 0.8, 2) * short
    K = np.array([[focal, 0, point[0]], [0, focal * rng.normal(1, 0.005), point[1]], [0, 0, 1]])
    if rng.random() < 1 / 3:
        D = [rng.uniform(-0.3, 0.08), rng.uniform(-0.02, 0.06), *rng.normal(0, 0.001, 2), 0.0]
        corners = np.array([[x, y] for x in (-1, width) for y in (-1, height)])
        reach = np.linalg.norm((corners - point) / K[[0, 1], [0, 1]], axis=1).max()
        if _unfolded(D[0], D[1], math.hypot(D[2], D[3]), float(reach)):
            return Camera(K, width, height, np.array(D))
    return Camera(K, width, height)


def _unfolded(k1: float, k2: float, tilt: float, reach: float) -> bool:
    """Whether a lens shows each direction once, out to `reach` focal lengths in the picture.

    `tilt` is the length of (p1, p2): on one side of the axis they bend a ray towards it by thrice
    that times its squared distance, and nowhere by more (Brown's model, as OpenCV has it).

    Beyond the radius at which a lens bends rays back, the picture has no direction of its own, and
    with k2 > 0 it has again farther out: corners alone say too little.
    """
    straight = np.linspace(0, 10, 5001)
    bent = straight * (1 - 3 * tilt * straight + k1 * straight**2 + k2 * straight**4)
    slope = np.diff(bent) / np.diff(straight)
    needed = int(np.argmax(bent >= reach))
    return bool(bent.max() >= reach and slope[: needed + 1].min() > _LEAST_SLOPE)


def _smooth(points: FloatArray, window: int) -> FloatArray:
    """Moving averages of points (K, 3) over about `window` of them."""
    half = max(1, window // 2)
    padded = np.pad(points, ((half, half), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis=0)
    result: FloatArray = windows.mean(axis=-1)
    return result


def look_at(position: FloatArray, target: FloatArray, through: FloatArray, roll: float) -> View:
    """A view in which the ray `through` (3,), camera axes, meets `target`; rolled about it."""
    ahead = (target - position) / np.linalg.norm(target - position)
    right = np.cross(ahead, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    upright = np.stack([right, np.cross(ahead, right), ahead], axis=1)
    ray = through / np.linalg.norm(through)
    side = np.cross([0.0, 1.0, 0.0], ray)
    side /= np.linalg.norm(side)
    aimed = np.stack([side, np.cross(ray, side), ray], axis=1)
    return View(upright @ _turn(roll) @ aimed.T, position)


def sample_views(
    rng: np.random.Generator, camera: Camera, ways: FloatArray, stamps: FloatArray, size: float
) -> list[View]:
    """Where a still, a turning or a driving camera is at each time.

    Args:
        ways: (K, P, 3) m, each child's pelvis.
        stamps: (K,) s, from 0 on.
        size: m, the tallest child's standing height.
    """
    middle = ways.mean(axis=1) * [1, 1, 0] + [0, 0, 0.48 * size]
    kind = str(rng.choice(["still", "turning", "driving"]))
    target = np.tile(middle.mean(axis=0), (len(ways), 1))
    if kind == "still" and np.ptp(middle, axis=0).max() > size:
        kind = "turning"  # else whoever runs through would be tiny
    if kind != "still":
        target = _smooth(middle, len(ways) // 3)
    spread = float(np.linalg.norm((ways - target[:, None])[..., :2], axis=-1).max())
    reach = 0.5 * size / rng.uniform(0.5, 0.92) + 0.8 * spread
    focal = float(min(camera.K[0, 0], camera.K[1, 1]))
    distance = max(1.0, 2 * focal * reach / min(camera.width, camera.height))
    height = float(rng.uniform(0.25, 1.2) if kind == "driving" else rng.uniform(0.25, 2.3))
    flat = math.sqrt(max(distance**2 - (height - target[0, 2]) ** 2, (0.6 * distance) ** 2))
    turn = rng.uniform(0, 2 * np.pi)
    outwards = np.array([math.cos(turn), math.sin(turn), 0])
    positions = np.tile(target.mean(axis=0) * [1, 1, 0] + flat * outwards, (len(ways), 1))
    positions[:, 2] = height
    roll = float(rng.normal(0, math.radians(3.5)))
    aim = rng.normal(0, 0.04, 3) * size
    shake = np.zeros((len(ways), 3))
    if kind == "driving":
        heading = turn + rng.uniform(-math.pi, math.pi)
        speed = rng.uniform(0.1, 0.8) * np.array([math.cos(heading), math.sin(heading), 0])
        drive = (stamps - stamps.mean())[:, None] * speed
        # Never nearer than two thirds of the way: a robot stops before it runs children over.
        towards = drive @ outwards
        drive += np.maximum(-flat / 3 - towards, 0)[:, None] * outwards
        positions += drive
        rates, phases = rng.uniform(3, 12, 3), rng.uniform(0, 2 * np.pi, 3)
        shake = rng.uniform(0, 0.004) * np.sin(2 * np.pi * stamps[:, None] * rates + phases)
    corner = camera.undistort(np.array([(camera.width - 1) / 2, (camera.height - 1) / 2]))
    through = np.append((corner - camera.K[:2, 2]) / camera.K[[0, 1], [0, 1]], 1.0)
    return [
        look_at(place + shift, at + aim + distance * shift, through, roll)
        for place, at, shift in zip(positions, target, shake, strict=True)
    ]
