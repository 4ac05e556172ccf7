"""A captured dancer in CMU's skeleton, children and clothes, for the tests beside this file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("anny", reason="the extra [synth] is not installed: no anny")
pytest.importorskip("warp", reason="the extra [synth] is not installed: no warp")

from stsp_model.data.bvh_file import Capture, parse_bvh
from stsp_model.skeleton import INDEX
from stsp_model.synth.body import Body, Phenotype, make_body, sample_phenotype
from stsp_model.synth.clothing import ClothedMesh, dress
from stsp_model.synth.looks import sample_outfit

# name, parent, offset in cm; y up, z ahead, x left; arms held out sideways.
_BONES = [
    ("hip", None, (0, 0, 0)),
    ("abdomen", "hip", (0, 20.7, -0.7)),
    ("chest", "abdomen", (0, 11.7, -0.5)),
    ("neck", "chest", (0, 22.2, -2.2)),
    ("head", "neck", (0, 7.1, 1.2)),
]
for _side, _sign in (("l", 1), ("r", -1)):
    _BONES += [
        (f"{_side}Collar", "chest", (2.7 * _sign, 19.3, -4.9)),
        (f"{_side}Shldr", f"{_side}Collar", (8.8 * _sign, -2, 1.5)),
        (f"{_side}ForeArm", f"{_side}Shldr", (28.1 * _sign, -1.7, 0.5)),
        (f"{_side}Hand", f"{_side}ForeArm", (22.6 * _sign, 0.8, 7)),
        (f"{_side}Thigh", "hip", (8.8 * _sign, 2.6, -1)),
        (f"{_side}Shin", f"{_side}Thigh", (0, -36.8, 0.8)),
        (f"{_side}Foot", f"{_side}Shin", (-0.8 * _sign, -45.1, -5.2)),
        (f"{_side}Foot_end", f"{_side}Foot", (1.2 * _sign, -3.7, 12.1)),
    ]
STANDING = 83.1  # cm; the height of the hip at which the toes touch the ground


def dancer_text(lines: np.ndarray, fps: float = 60.0) -> str:
    """A BVH file; `lines` (T, 3 + 3 B) hold the hip's place (cm) and Z X Y turns (degrees)."""
    children: dict[str | None, list[str]] = {}
    for name, parent, _ in _BONES:
        children.setdefault(parent, []).append(name)
    offsets = {name: " ".join(map(str, offset)) for name, _, offset in _BONES}

    def block(name: str, depth: int) -> str:
        if name.endswith("_end"):
            return f"End Site {{ OFFSET {offsets[name]} }}\n"
        place = "6 Xposition Yposition Zposition" if depth == 0 else "3"
        inner = "".join(block(child, depth + 1) for child in children.get(name, []))
        inner = inner or "End Site { OFFSET 0 1 0 }\n"
        return (
            f"{'JOINT' if depth else 'ROOT'} {name} {{\nOFFSET {offsets[name]}\n"
            f"CHANNELS {place} Zrotation Xrotation Yrotation\n{inner}}}\n"
        )

    rows = "\n".join(" ".join(f"{value:.6f}" for value in line) for line in lines)
    motion = f"MOTION\nFrames: {len(lines)}\nFrame Time: {1 / fps:.9f}\n{rows}\n"
    return f"HIERARCHY\n{block('hip', 0)}{motion}"


CHANNELS = 3 + 3 * sum(not name.endswith("_end") for name, _, _ in _BONES)


def dancing(frames: int, seed: int = 0, reach: float = 50.0) -> np.ndarray:
    """Smooth random turns of every joint by up to about `reach` degrees, walking slowly."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames)[:, None] / 60
    rates, phases = rng.uniform(0.3, 1.2, CHANNELS), rng.uniform(0, 2 * np.pi, CHANNELS)
    lines = reach * rng.uniform(0.2, 1, CHANNELS) * np.sin(2 * np.pi * (t * rates + phases))
    lines[:, :3] = np.concatenate([20 * t, 0 * t + STANDING, 0 * t], axis=1)
    return lines


def dancer(frames: int = 40, seed: int = 0, reach: float = 50.0) -> Capture:
    return parse_bvh(dancer_text(dancing(frames, seed, reach)))


def standing(heights: np.ndarray, ahead: float = 0.0) -> Capture:
    """Somebody stiff, lifted by `heights` (T,) m above the ground, gliding `ahead` m, at 60 Hz."""
    lines = np.zeros((len(heights), CHANNELS))
    lines[:, 1] = STANDING + 100 * heights
    lines[:, 2] = np.linspace(0, 100 * ahead, len(heights))
    return parse_bvh(dancer_text(lines))


def write_dancers(folder: Path, frames: int = 90) -> Path:
    """Two clips in a folder: 01_01, which trains, and 02_04, which validates."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(("01_01", "02_04")):
        (folder / f"{name}.bvh").write_text(dancer_text(dancing(frames, seed, 25.0)))
    return folder


def child(seed: int = 0) -> Body:
    return make_body(sample_phenotype(np.random.default_rng(seed)))


def child_of(age: float, gender: float = 0.0) -> Body:
    return make_body(Phenotype(age, gender, 0.5, 0.5, 0.5, 0.5))


def dressed(body: Body, seed: int = 0) -> ClothedMesh:
    return dress(body, sample_outfit(np.random.default_rng(seed), body))


def limb_angles(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(T, 8) degrees between the limbs of joints (T, 17, 3) and of others."""
    pairs = [
        (INDEX[f"{side}_{a}"], INDEX[f"{side}_{b}"])
        for side in ("left", "right")
        for a, b in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
    ]
    first = np.stack([own[:, b] - own[:, a] for a, b in pairs], axis=1)
    second = np.stack([other[:, b] - other[:, a] for a, b in pairs], axis=1)
    across = np.linalg.norm(np.cross(first, second), axis=-1)
    return np.degrees(np.arctan2(across, (first * second).sum(axis=-1)))
