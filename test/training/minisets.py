"""Tiny data sets in their true formats, a tiny network, and configurations that take seconds."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import scipy.io

from stsp_model.camera import Camera
from stsp_model.data.shards import INDEX_FILE, RenderedClip, save_clip
from stsp_model.hrnet import HRNetSize
from stsp_model.network import PRESETS
from stsp_model.skeleton import INDEX, JOINTS, LSP_14
from stsp_model.training.config_file import load_config

TINY = replace(
    PRESETS["edge"],
    backbone=HRNetSize((8, 8, 16, 16), 8, 8, layer1_blocks=1, modules=(1, 1, 1), blocks=1),
    crop=64,
)
SIDE = 80  # px of the pictures
DRAWN = 24  # different ones
LIMBS = [
    ("right_ankle", "right_knee"),
    ("right_knee", "right_hip"),
    ("left_ankle", "left_knee"),
    ("left_knee", "left_hip"),
    ("right_wrist", "right_elbow"),
    ("right_elbow", "right_shoulder"),
    ("left_wrist", "left_elbow"),
    ("left_elbow", "left_shoulder"),
    ("thorax", "head_top"),
]


def small(config, **changes):
    """The configuration with some of `optimisation`'s values changed, and nothing in parallel."""
    settings = replace(config.optimisation, workers=0, warmup_steps=0, **changes)
    return replace(config, optimisation=settings)


def epe_config(**changes):
    config = load_config("edge", "epe")
    config = replace(config, sizes=((0, 64),))
    return small(config, **{"batch": 8, "average_decay": 0.9, **changes})


def finder_config(**changes):
    return small(load_config("edge", "finder"), **{"batch": 8, "average_decay": 0.9, **changes})


def lift_config(**changes):
    config = load_config("edge", "lift")
    quiet = replace(config.noise, deviation=(0.01,), outlier_rate=(0.0,), miss_rate=(0.0,))
    quiet = replace(quiet, swap_rate=0.0)
    clips = replace(config.clips, frames=4)
    config = replace(config, validation_clips=8, clips=clips, noise=quiet)
    return small(config, **{"batch": 16, "average_decay": 0.9, **changes})


def finetune_config(**changes):
    config = replace(load_config("edge", "finetune"), frames=4, validation_clips=2)
    return small(config, **{"batch": 16, "average_decay": 0.9, **changes})


def falls(history, times=1.0):
    """Whether the loss of a run went down by a factor."""
    losses = [entry["loss"] for entry in history if "loss" in entry]
    return losses[-1] < losses[0] / times


def short_epe():
    """Two epochs of six steps, a checkpoint after every other one."""
    return epe_config(epochs=2, steps_per_epoch=6, checkpoint_steps=2)


def short_epe_slow():
    """Few and small steps, so that roundings don't grow."""
    return epe_config(epochs=1, steps_per_epoch=3, learning_rate=1e-4)


def short_lift():
    """Four steps."""
    return lift_config(epochs=1, steps_per_epoch=4)


def figure(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A stick figure (SIDE, SIDE, 3) whose parts have colours of their own, and its joints."""
    image = np.full((SIDE, SIDE, 3), rng.integers(60, 120), np.uint8)
    places = {"pelvis": (0, 0), "thorax": (0, -16), "head_top": (0, -27), "spine": (0, -8)}
    for side, x in (("right", -1), ("left", 1)):
        bend, swing = rng.uniform(-0.5, 0.5), rng.uniform(0, 1.2)
        places[f"{side}_hip"] = (4 * x, 0)
        places[f"{side}_knee"] = (x * (4 + 10 * np.sin(abs(bend))), 11)
        places[f"{side}_ankle"] = (x * (4 + 14 * np.sin(abs(bend))), 23)
        places[f"{side}_shoulder"] = (6 * x, -15)
        places[f"{side}_elbow"] = (x * (6 + 9 * np.sin(swing)), -15 + 9 * np.cos(swing))
        places[f"{side}_wrist"] = (x * (6 + 17 * np.sin(swing)), -15 + 17 * np.cos(swing))
    joints = np.full((17, 2), np.nan)
    turn = rng.uniform(0, 2 * np.pi)  # upright figures could be guessed without looking
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    for name, place in places.items():
        joints[INDEX[name]] = rotation @ (np.array(place) - (0, 2)) + SIDE / 2
    for number, (a, b) in enumerate(LIMBS):
        colour = [
            int(c) for c in cv2.applyColorMap(np.uint8([[number * 28]]), cv2.COLORMAP_HSV)[0, 0]
        ]
        ends = [tuple(round(v) for v in joints[INDEX[name]]) for name in (a, b)]
        cv2.line(image, ends[0], ends[1], colour, 3)
    return image, joints


def write_lspet(folder: Path, images: int = 6810) -> Path:
    """LSPet with `images` pictures, DRAWN of which differ; the last ones select."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    table = np.zeros((14, 3, images))
    for number in range(images):
        file = folder / "images" / f"im{number + 1:05d}.jpg"
        if number < DRAWN:
            image, joints = figure(rng)
            cv2.imwrite(str(file), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
            points = [joints[INDEX[LSP_14_JOINT[name]]] for name in LSP_14.points]
            table[:, :2, number], table[:, 2, number] = points, 1
        else:
            os.link(folder / "images" / f"im{number % DRAWN + 1:05d}.jpg", file)
            table[:, :, number] = table[:, :, number % DRAWN]
    scipy.io.savemat(folder / "joints.mat", {"joints": table})
    return folder


LSP_14_JOINT = {names[0]: joint for joint, names in LSP_14.joints.items()}

# CMU's skeleton as far as our joints and the head need it: offset in cm and children.
_SIDES = (("l", 1), ("r", -1))
TREE = ("hip", (0, 90, 0), [
    *((f"{s}Thigh", (9 * x, 0, 0), [(f"{s}Shin", (0, -38, 0), [(f"{s}Foot", (0, -40, 0), [])])])
      for s, x in _SIDES),
    ("neck", (0, 50, 0), [("head", (0, 8, 0), [])]),
    *((f"{s}Shldr", (16 * x, 46, 0),
       [(f"{s}ForeArm", (28 * x, 0, 0), [(f"{s}Hand", (26 * x, 0, 0), [])])])
      for s, x in _SIDES),
])  # fmt: skip


def bvh(frames: int, phase: float) -> str:
    """A figure that swings its limbs, as a BVH file at 60 Hz."""
    turned: list[str] = []

    def joint(node, root):
        name, (x, y, z), children = node
        turned.append(name)
        place = "Xposition Yposition Zposition " if root else ""
        inner = "".join(joint(child, False) for child in children)
        end = "" if children else "End Site { OFFSET 0 -1 0 }\n"
        channels = f"CHANNELS {6 if root else 3} {place}Zrotation Xrotation Yrotation\n"
        kind = "ROOT" if root else "JOINT"
        return f"{kind} {name} {{\nOFFSET {x} {y} {z}\n{channels}{inner}{end}}}\n"

    head = joint(TREE, True)
    time = np.arange(frames) / 60
    rows = []
    for t in time:
        row = [0, 90, 60 * t]
        for number, name in enumerate(turned):
            still = name in ("hip", "neck", "head")
            row += [0.0] * 3 if still else list(35 * np.sin(4 * t + phase + number * np.arange(3)))
        rows.append(" ".join(f"{value:.5f}" for value in row))
    body = "\n".join(rows)
    return f"HIERARCHY\n{head}MOTION\nFrames: {frames}\nFrame Time: {1 / 60:.9f}\n{body}\n"


def write_cmu(folder: Path) -> Path:
    """Three clips to train on and, by their names, one of the validation's."""
    folder.mkdir(parents=True)
    for number, name in enumerate(("01_01", "03_02", "07_04", "02_04")):
        (folder / f"{name}.bvh").write_text(bvh(120, float(number)))
    return folder


def write_synth(folder: Path, split: str, clips: int = 2, frames: int = 8) -> Path:
    """Clips as `stsp synth` writes them, of stick figures that drift through the picture."""
    folder.mkdir(parents=True)
    (folder / INDEX_FILE).write_text(json.dumps({"split": split}))
    camera = Camera(np.array([[90.0, 0, 39.5], [0, 90.0, 39.5], [0, 0, 1]]), SIDE, SIDE)
    for number in range(clips):
        image, joints = figure(np.random.default_rng([7, number]))
        joints[INDEX["nose"]] = joints[INDEX["head_top"]] + (0, 5)
        depth = 2.5 + 0.1 * np.sin(np.arange(17) + number)
        jpegs, flat = [], []
        for frame in range(frames):
            shift = np.float32([[1, 0, frame / 2], [0, 1, 0]])
            moved = cv2.warpAffine(image, shift, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
            jpegs.append(cv2.imencode(".jpg", moved)[1].tobytes())
            flat.append(joints + np.array([frame / 2, 0]))
        joints_2d = np.stack(flat)
        rays = (joints_2d - camera.K[:2, 2]) / 90
        solid = np.concatenate([rays, np.ones((frames, 17, 1))], axis=-1) * depth[:, None]
        boxes = np.concatenate([joints_2d.min(axis=1), joints_2d.max(axis=1)], axis=1)
        clip = RenderedClip(
            name=f"clip{number}",
            motions=("swing",),
            camera=camera,
            stamps=1 + np.arange(frames) / 25,
            jpegs=jpegs,
            joints_3d=solid[:, None],
            joints_2d=joints_2d[:, None],
            visible=np.ones((frames, 1, len(JOINTS)), bool),
            boxes=boxes[:, None],
            heights=np.array([1.3]),
            up=np.tile([0.0, -1, 0], (frames, 1)),
        )
        save_clip(folder / f"clip{number}.safetensors", clip)
    return folder
