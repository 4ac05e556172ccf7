"""One rendered clip from its number: bodies, motions, clothes, camera and light drawn at random.

All randomness of a clip comes from (seed, split, number), so a clip never depends on what was
rendered before it or on how many processes render.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from stsp_model.data.bvh import BVHDataset
from stsp_model.data.bvh_file import Capture
from stsp_model.data.deepmimic import CHARACTER_FILE, DeepMimicDataset
from stsp_model.data.errors import DataError, NothingOfSplitError
from stsp_model.data.shards import RenderedClip
from stsp_model.skeleton import INDEX
from stsp_model.synth import retarget
from stsp_model.synth.body import Body, FloatArray, joints, make_body, pose, sample_phenotype
from stsp_model.synth.clothing import ClothedMesh, dress
from stsp_model.synth.looks import sample_outfit
from stsp_model.synth.render import Renderer
from stsp_model.synth.rigs import CMU_RIG, DEEPMIMIC_RIG, Rig
from stsp_model.synth.scene import between
from stsp_model.synth.sensor import develop, encode_jpeg, sample_sensor
from stsp_model.synth.setting import sample_camera, sample_setting, sample_views

# Their places are part of every clip's seed: streams of two splits have nothing in common.
SPLITS = ("train", "validation")
FIRST_STAMP = 1.0  # s; zero means "unset" in ROS
FRAME_RATES = (15.0, 20.0, 24.0, 25.0, 30.0, 30.0, 48.0, 50.0, 60.0)
_CONTEXT = 1.5  # s of a capture around what is rendered, by which its ground is found
_APART = 0.75  # m that children keep from each other
CLIP_LENGTH = (8, 10_000)  # frames, at least and at most
_TUMBLING = math.pi  # radians/s (standard deviation); a child's cartwheel takes one to two seconds


@dataclass(frozen=True)
class ClipSettings:
    """What all clips of a set share.

    Args:
        seed: of the set, at least 0.
        split: "train" or "validation".
        width, height: px of the pictures.
        frames: of each clip, fewer where a motion is shorter.
        people: the least and the most children in a clip.
        samples: moments that each exposure is made of.
        mixed: share of the children of whom each arm and both legs move, as often as not, as in
            another motion.
        tumbled: share of the children who are turned as a whole, any way up, and most of whom go
            on turning.

    Raises:
        ValueError: naming what is out of range.
    """

    seed: int
    split: str
    width: int = 256
    height: int = 256
    frames: int = 48
    people: tuple[int, int] = (1, 1)
    samples: int = 4
    mixed: float = 0.0
    tumbled: float = 0.0

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split is {self.split!r}, expected one of {', '.join(SPLITS)}")
        for name, least, most in (
            ("seed", 0, 2**63),
            ("width", 64, 4096),
            ("height", 64, 4096),
            ("frames", *CLIP_LENGTH),
            ("samples", 1, 64),
            ("mixed", 0, 1),
            ("tumbled", 0, 1),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {least} to {most}")
        low, high = self.people
        if not 0 <= low <= high <= 8:
            raise ValueError(f"people is {low} to {high}, expected a range within 0 to 8")


@dataclass(frozen=True)
class Take:
    """A captured motion that can be had when it is needed."""

    name: str
    load: Callable[[], Capture]
    rig: Rig


def open_takes(paths: Sequence[str | Path], split: str) -> list[Take]:
    """The motions of a split, as `data.splits` has it, of BVH and of DeepMimic.

    Args:
        paths: BVH files, folders and archives, and folders of DeepMimic's clips.

    Raises:
        DataError: if a path is neither, or damaged, or no motion is left.
    """
    takes: list[Take] = []
    reasons = []
    for path in map(Path, paths):
        humanoid = (path / CHARACTER_FILE).exists()
        kind: type[BVHDataset] | type[DeepMimicDataset] = (
            DeepMimicDataset if humanoid else BVHDataset
        )
        rig = DEEPMIMIC_RIG if humanoid else CMU_RIG
        if not path.exists():
            raise DataError(f"motion capture {path} does not exist")
        try:
            dataset = kind(path, split)
        except NothingOfSplitError as error:  # one of several sources may hold nothing of a split
            reasons.append(str(error))
            continue
        takes += [
            Take(dataset.clip(index), partial(dataset.capture, index), rig)
            for index in range(len(dataset))
        ]
    if not takes:
        raise DataError("; ".join(reasons) or "no motion capture is given")
    return sorted(takes, key=lambda take: take.name)  # whatever the order of the paths


@dataclass(frozen=True, eq=False)
class _Child:
    """A dressed child over the exposures of T pictures: (T, 3), opening, middle and end."""

    body: Body
    mesh: ClothedMesh
    transforms: FloatArray  # (T, 3, S, 3, 4)
    joints: FloatArray  # (T, 3, 17, 3) m, world
    motion: str


def _pace(capture: Capture, rig: Rig, body: Body) -> float:
    """How much longer a child takes for a motion than whoever was captured."""
    return math.sqrt(body.leg / retarget.captured_leg(capture, rig))


def _stretch(
    capture: Capture, rig: Rig, body: Body, seconds: float, rng: np.random.Generator
) -> tuple[retarget.Performance, float]:
    """A stretch of a motion with what lies around it, and the stamp at which it begins."""
    pace = _pace(capture, rig, body)
    needed = seconds / pace
    length = (len(capture.positions) - 1) / capture.fps
    start = float(rng.uniform(0, max(0.0, length - needed)))
    first = max(0, math.floor((start - _CONTEXT) * capture.fps))
    last = min(len(capture.positions), math.ceil((start + needed + _CONTEXT) * capture.fps) + 2)
    part = replace(
        capture,
        rotations=capture.rotations[first:last],
        positions=capture.positions[first:last],
    )
    return retarget.retarget(part, body, rig), (start - first / capture.fps) * pace


def _at(performance: retarget.Performance, stamps: FloatArray) -> retarget.Performance:
    """The performance at other times (s), its ends held."""
    first, last = performance.stamps[[0, -1]]
    return retarget.resample(performance, np.clip(stamps, first, last))


def _performance(
    take: Take,
    capture: Capture,
    body: Body,
    moments: FloatArray,
    settings: ClipSettings,
    takes: Sequence[Take],
    rng: np.random.Generator,
) -> retarget.Performance:
    """A stretch of a motion at the given moments (s, from 0), the end held if it is too short."""
    seconds = float(moments.max())
    whole, begin = _stretch(capture, take.rig, body, seconds, rng)
    changed = whole
    # Nothing is drawn for what a set does not have, so that older sets keep their bytes.
    if settings.mixed and rng.random() < settings.mixed:
        others = {}
        for limb in retarget.LIMBS:
            if rng.random() < 0.5:
                source = takes[int(rng.integers(len(takes)))]
                other, start = _stretch(source.load(), source.rig, body, seconds, rng)
                others[limb] = _at(other, whole.stamps - begin + start)
        changed = retarget.with_limbs_of(changed, others)
    if settings.tumbled and rng.random() < settings.tumbled:
        axis, angle = rng.uniform(0, 2 * np.pi, 2)
        changed = retarget.tumbling(changed, axis, angle, float(rng.normal(0, _TUMBLING)))
    if changed is not whole:
        changed = retarget.grounded(changed, whole, body)
    return _at(changed, moments.ravel() + begin)


def _turned(
    performance: retarget.Performance, yaw: float, place: FloatArray
) -> retarget.Performance:
    """The performance turned about the vertical, its middle above `place` (2,) m."""
    cosine, sine = math.cos(yaw), math.sin(yaw)
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])
    root = performance.root @ turn.T
    root[:, :2] += place - root[:, :2].mean(axis=0)
    return retarget.Performance(turn @ performance.rotations, root, performance.stamps)


def _placed(
    performance: retarget.Performance, others: list[_Child], rng: np.random.Generator
) -> retarget.Performance | None:
    """The performance somewhere clear of the others, or None where no place was found."""
    for attempt in range(30):
        reach = 0.0 if not others else float(rng.uniform(0.7, 1.2 + 0.1 * attempt))
        angle = rng.uniform(0, 2 * np.pi)
        place = reach * np.array([math.cos(angle), math.sin(angle)])
        moved = _turned(performance, float(rng.uniform(0, 2 * np.pi)), place)
        ways = [o.joints[:, :, INDEX["pelvis"], :2].reshape(-1, 2) for o in others]
        if all(np.linalg.norm(moved.root[:, :2] - way, axis=1).min() > _APART for way in ways):
            return moved
    return None


def make_clip(
    number: int, settings: ClipSettings, takes: Sequence[Take], pictures: Sequence[Path] = ()
) -> RenderedClip:
    """Render clip `number` of a set.

    Args:
        takes: motions to choose from, of the settings' split.
        pictures: backgrounds to choose from beside the drawn ones.
    """
    seed = [settings.seed, SPLITS.index(settings.split), number]
    rng = np.random.default_rng(seed)
    count = int(rng.integers(settings.people[0], settings.people[1] + 1))
    if not takes:
        raise ValueError("takes is empty, expected at least one motion")
    bodies = [make_body(sample_phenotype(rng)) for _ in range(count)]
    chosen = [takes[int(rng.integers(len(takes)))] for _ in bodies]
    captures = [take.load() for take in chosen]
    fps = float(rng.choice(FRAME_RATES))
    exposure = min(0.8 / fps, math.exp(rng.uniform(math.log(1 / 500), math.log(1 / 35))))
    frames = settings.frames
    if count:
        pace = _pace(captures[0], chosen[0].rig, bodies[0])
        longest = (len(captures[0].positions) - 1) / captures[0].fps * pace - exposure
        frames = int(np.clip(longest * fps, CLIP_LENGTH[0], settings.frames))
    times = exposure / 2 + np.arange(frames) / fps
    moments = times[:, None] + exposure * np.array([-0.5, 0, 0.5])

    children: list[_Child] = []
    for body, take, capture in zip(bodies, chosen, captures, strict=True):
        performance = _performance(take, capture, body, moments, settings, takes, rng)
        placed = _placed(performance, children, rng)
        if placed is None:
            continue
        transforms = pose(body, placed.rotations, placed.root)
        places = joints(body, transforms).reshape(frames, 3, -1, 3)
        mesh = dress(body, sample_outfit(rng, body))
        transforms = transforms.reshape(frames, 3, *transforms.shape[1:])
        children.append(_Child(body, mesh, transforms, places, take.name))
    return _rendered(number, settings, children, times, moments, pictures, rng)


def _rendered(
    number: int,
    settings: ClipSettings,
    children: list[_Child],
    times: FloatArray,
    moments: FloatArray,
    pictures: Sequence[Path],
    rng: np.random.Generator,
) -> RenderedClip:
    frames = len(times)
    camera = sample_camera(rng, settings.width, settings.height)
    if children:
        ways = np.stack([c.joints[:, :, INDEX["pelvis"]].reshape(-1, 3) for c in children], axis=1)
        size = max(child.body.height for child in children)
    else:
        ways, size = np.zeros((moments.size, 1, 3)), 1.3
    views = sample_views(rng, camera, ways, moments.ravel(), size)
    eyes = np.stack([view.position for view in views])
    setting = sample_setting(rng, ways.reshape(-1, 3), eyes, pictures)
    sensor = sample_sensor(rng)
    renderer = Renderer([c.mesh for c in children], setting, camera, settings.samples, rng)

    jpegs, visible, boxes = [], [], []
    world = np.zeros((frames, 0, 17, 3))
    if children:
        world = np.stack([child.joints[:, 1] for child in children], axis=1)
    for frame in range(frames):
        ends = views[3 * frame], views[3 * frame + 2]
        poses = [child.transforms[frame, ::2] for child in children]
        shot = renderer.shoot(poses, world[frame], ends)
        jpegs.append(encode_jpeg(develop(shot.image, sensor, rng), sensor.quality))
        visible.append(shot.visible)
        boxes.append(shot.boxes)
    middles = [between(views[3 * t], views[3 * t + 2], 0.5) for t in range(frames)]
    seen = np.stack([(world[t] - v.position) @ v.rotation for t, v in enumerate(middles)])
    return RenderedClip(
        name=f"{settings.split}/{number:06d}",
        motions=tuple(child.motion for child in children),
        camera=camera,
        stamps=FIRST_STAMP + times,
        jpegs=jpegs,
        joints_3d=seen,
        joints_2d=camera.project(seen),
        visible=np.stack(visible),
        boxes=np.stack(boxes),
        heights=np.array([child.body.height for child in children]),
        up=np.stack([view.rotation[2] for view in middles]),
    )
