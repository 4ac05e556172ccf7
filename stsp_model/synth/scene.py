"""What is rendered beside the children: things, light, ground and walls, and where cameras are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stsp_model.synth.outfit import Material
from stsp_model.synth.retarget import blend

FloatArray = npt.NDArray[np.float64]
ImageArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Prop:
    """A thing that stands or lies about: (N, 3) m, (F, 3) triangles, one material."""

    vertices: FloatArray
    faces: npt.NDArray[np.int32]
    material: Material


@dataclass(frozen=True, eq=False)
class Setting:
    """All there is around the children; world axes with z up, the ground at z = 0.

    Args:
        props: things.
        sun: (3,) towards the light; `softness` (rad) is how wide it is.
        sunlight, skylight, groundlight, sky: (3,) linear RGB.
        radius, wall_height: m of the round wall that closes the scene.
        wall, ground: (H, W, 3) linear RGB textures; the ground's covers `ground_tile` m.
        wall_repeats: times the wall's texture goes around.
    """

    props: Sequence[Prop]
    sun: FloatArray
    softness: float
    sunlight: FloatArray
    skylight: FloatArray
    groundlight: FloatArray
    sky: FloatArray
    radius: float
    wall_height: float
    wall: ImageArray
    wall_repeats: int
    ground: ImageArray
    ground_tile: float


@dataclass(frozen=True, eq=False)
class View:
    """Where a camera is: world = rotation @ camera axes + position."""

    rotation: FloatArray
    position: FloatArray


def between(start: View, end: View, t: float) -> View:
    """The view a share `t` of the way from one to another."""
    rotation = blend(start.rotation, end.rotation, t)
    return View(rotation, start.position * (1 - t) + end.position * t)
