"""Pictures of clothed children, and which of their joints a camera sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import warp as wp

from stsp_model.camera import Camera
from stsp_model.skeleton import JOINT_COUNT, JOINTS
from stsp_model.synth.body import SEGMENT, FloatArray, skin
from stsp_model.synth.clothing import ClothedMesh
from stsp_model.synth.kernels import Surface, Surroundings, cast, probe
from stsp_model.synth.outfit import PATTERNS, Material
from stsp_model.synth.scene import ImageArray, Prop, Setting, View, between

# A joint is seen through the surface of the segments it lies in. Deeper under it than this share
# of the standing height it is on the far side of the body.
_DEPTH = 0.11
_AROUND = {
    "hip": "hips thigh",
    "knee": "thigh shin",
    "ankle": "shin foot",
    "shoulder": "collar upper_arm chest",
    "elbow": "upper_arm forearm",
    "wrist": "forearm hand",
}
_MIDDLE = {
    "pelvis": "hips left_thigh right_thigh",
    "spine": "abdomen ribs chest hips",
    "thorax": "chest neck nape head left_collar right_collar ribs",
    "nose": "head",
    "head_top": "head",
}


def _segments_around(joint: str) -> list[int]:
    if joint in _MIDDLE:
        return [SEGMENT[name] for name in _MIDDLE[joint].split()]
    side, part = joint.split("_")
    names = [n if n in SEGMENT else f"{side}_{n}" for n in _AROUND[part].split()]
    if part == "hip":
        names.append("abdomen")
    return [SEGMENT[name] for name in names]


_SEEN_THROUGH = np.zeros((JOINT_COUNT, len(SEGMENT)), bool)
for _joint, _name in enumerate(JOINTS):
    _SEEN_THROUGH[_joint, _segments_around(_name)] = True


def camera_rays(camera: Camera, shift: FloatArray) -> npt.NDArray[np.float32]:
    """(H * W, 3) unit directions through the pixels moved by `shift` (2,) px, camera axes."""
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    pixels = np.stack([u, v], axis=-1).reshape(-1, 2) + shift
    flat = camera.undistort(pixels)
    if np.isnan(flat).any():
        raise ValueError("camera has a distortion that its own corners cannot be seen through")
    directions = np.ones((len(flat), 3))
    directions[:, :2] = (flat - camera.K[:2, 2]) / camera.K[[0, 1], [0, 1]]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return directions.astype(np.float32)


def _row(material: Material) -> list[float]:
    kind = float(PATTERNS.index(material.pattern))
    return [*material.first, *material.second, kind, material.scale, material.folds]


@dataclass(frozen=True, eq=False)
class Shot:
    """A picture and what is seen of each of P people in the middle of its exposure.

    `image` (H, W, 3) linear RGB, 1 is white; `visible` (P, 17) bool; `boxes` (P, 4) x0 y0 x1 y1 px
    around all of a person that lies in the image, NaN where nothing does.
    """

    image: ImageArray
    visible: npt.NDArray[np.bool_]
    boxes: FloatArray


@dataclass(frozen=True, eq=False)
class _Together:
    """All triangles of a scene: people first, then props, whose corners are not shared."""

    places: npt.NDArray[np.float32]
    faces: npt.NDArray[np.int32]
    kinds: npt.NDArray[np.int32]
    table: npt.NDArray[np.float32]
    owners: npt.NDArray[np.int64]  # of faces: which person, -1 for props
    segments: npt.NDArray[np.int64]
    prop_normals: npt.NDArray[np.float32]


def _together(people: Sequence[ClothedMesh], props: Sequence[Prop]) -> _Together:
    # A mesh must not be empty, so one face lies under the ground.
    buried = Prop(np.eye(3) - [0, 0, 9.0], np.array([[0, 1, 2]], np.int32), Material((0, 0, 0)))
    places: list[npt.NDArray[Any]] = []
    faces: list[npt.NDArray[Any]] = []
    kinds: list[npt.NDArray[Any]] = []
    rows: list[list[float]] = []
    owners: list[npt.NDArray[Any]] = []
    segments: list[npt.NDArray[Any]] = []
    count = 0
    for index, person in enumerate(people):
        places.append(person.vertices)
        faces.append(person.faces + count)
        kinds.append(person.face_materials + len(rows))
        rows += [_row(material) for material in person.materials]
        owners.append(np.full(len(person.faces), index))
        segments.append(person.face_segments)
        count += len(person.vertices)
    prop_normals = []
    for prop in (*props, buried):
        corners = prop.vertices[prop.faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        prop_normals.append(np.repeat(normals, 3, axis=0))
        places.append(corners.reshape(-1, 3))
        faces.append(np.arange(3 * len(corners)).reshape(-1, 3) + count)
        kinds.append(np.full(len(corners), len(rows)))
        rows.append(_row(prop.material))
        owners.append(np.full(len(corners), -1))
        segments.append(np.full(len(corners), -1))
        count += 3 * len(corners)
    return _Together(
        places=np.concatenate(places).astype(np.float32),
        faces=np.concatenate(faces).astype(np.int32),
        kinds=np.concatenate(kinds).astype(np.int32),
        table=np.array(rows, np.float32),
        owners=np.concatenate(owners),
        segments=np.concatenate(segments).astype(np.int64),
        prop_normals=np.concatenate(prop_normals).astype(np.float32),
    )


def _array(values: npt.NDArray[np.generic], kind: Any) -> Any:
    return wp.array(np.ascontiguousarray(values), dtype=kind, device="cpu")


class Renderer:
    """Renders one scene on the CPU; it accepts no body but a `ClothedMesh`.

    Args:
        people: the children, none to many.
        setting: what is around them.
        camera: whose pixels are rendered.
        samples: moments that each exposure is made of; each looks through other places in the
            pixels and to another place of the sun.
        rng: for these places.

    Raises:
        TypeError: if one of `people` is no ClothedMesh.
        ValueError: for fewer than one sample.
    """

    def __init__(
        self,
        people: Sequence[ClothedMesh],
        setting: Setting,
        camera: Camera,
        samples: int,
        rng: np.random.Generator,
    ) -> None:
        for person in people:
            if not isinstance(person, ClothedMesh):
                raise TypeError(f"people holds a {type(person).__name__}, expected ClothedMesh")
        if samples < 1:
            raise ValueError(f"samples is {samples}, expected at least 1")
        self._people, self._camera = tuple(people), camera
        self._all = _together(people, setting.props)
        # One place in each cell of a square grid over the pixel.
        side = math.ceil(math.sqrt(samples))
        cells = rng.permutation(side * side)[:samples]
        shifts = (np.stack([cells % side, cells // side], 1) + rng.random((samples, 2))) / side
        self._rays = [_array(camera_rays(camera, shift - 0.5), wp.vec3) for shift in shifts]
        suns = setting.sun + setting.softness * rng.normal(size=(samples, 3))
        suns[:, 2] = np.maximum(suns[:, 2], 0.05)
        self._suns = suns / np.linalg.norm(suns, axis=1, keepdims=True)
        self._scene = _surroundings(setting)
        self._surface: Any = None
        self._mesh: Any = None

    def shoot(
        self, poses: Sequence[FloatArray], joints: FloatArray, views: tuple[View, View]
    ) -> Shot:
        """Expose one picture, the world moving evenly from its opening to its end.

        Args:
            poses: for each person the segments' transforms (2, S, 3, 4) of `body.pose` when the
                exposure opens and when it ends.
            joints: (P, 17, 3) m in the world, in the middle of the exposure.
            views: the camera's places at the two.
        """
        moved = [
            skin(person.vertices, person.weights, pose)
            for person, pose in zip(self._people, poses, strict=True)
        ]
        fixed = self._all.places[len(self._all.places) - len(self._all.prop_normals) :]
        ends = np.concatenate([*moved, np.stack([fixed, fixed])], axis=1)
        self._place(ends[0], poses)
        image = wp.zeros(self._camera.width * self._camera.height, dtype=wp.vec3, device="cpu")
        samples = len(self._rays)
        for index, (rays, sun) in enumerate(zip(self._rays, self._suns, strict=True)):
            t = (index + 0.5) / samples
            self._mesh.points.assign(ends[0] * (1 - t) + ends[1] * t)
            self._mesh.refit()
            view = between(*views, t)
            self._scene.sun = wp.vec3(*sun)
            inputs = [self._surface, self._scene, rays]
            inputs += [wp.mat33(*view.rotation.ravel()), wp.vec3(*view.position), image]
            wp.launch(cast, dim=len(rays), inputs=inputs, device="cpu")
        self._mesh.points.assign((ends[0] + ends[1]) / 2)
        self._mesh.refit()
        shape = (self._camera.height, self._camera.width, 3)
        light = image.numpy().reshape(shape) / samples
        middle = between(*views, 0.5)
        boxes = [self._box((ends[0] + ends[1]) / 2, middle) for ends in moved]
        return Shot(light, self._visible(joints, middle), np.reshape(boxes, (-1, 4)))

    def _place(self, points: npt.NDArray[np.float32], poses: Sequence[FloatArray]) -> None:
        """Bring the normals up to date; on the first call, build the mesh."""
        normals = [
            np.einsum(
                "nij,nj->ni",
                (person.weights @ pose[0, :, :, :3].reshape(-1, 9).astype(np.float32)).reshape(
                    -1, 3, 3
                ),
                person.normals,
            )
            for person, pose in zip(self._people, poses, strict=True)
        ]
        turned = np.concatenate([*normals, self._all.prop_normals])
        if self._surface is None:
            indices = _array(self._all.faces.ravel(), wp.int32)
            self._mesh = wp.Mesh(_array(points, wp.vec3), indices, bvh_constructor="sah")
            self._surface = Surface()
            self._surface.mesh = self._mesh.id
            self._surface.indices = indices
            self._surface.normals = _array(turned, wp.vec3)
            self._surface.places = _array(self._all.places, wp.vec3)
            self._surface.materials = _array(self._all.kinds, wp.int32)
            self._surface.table = _array(self._all.table, wp.float32)
        else:
            self._surface.normals.assign(turned)

    def _visible(self, joints: FloatArray, view: View) -> npt.NDArray[np.bool_]:
        """(P, 17): in the image, and not behind something other than the body around it."""
        count = len(joints) * JOINT_COUNT
        faces = wp.zeros(count, dtype=wp.int32, device="cpu")
        reaches = wp.zeros(count, dtype=wp.float32, device="cpu")
        targets = _array(joints.reshape(-1, 3).astype(np.float32), wp.vec3)
        inputs = [self._mesh.id, wp.vec3(*view.position), targets, faces, reaches]
        wp.launch(probe, dim=count, inputs=inputs, device="cpu")
        face = faces.numpy().reshape(-1, JOINT_COUNT)
        before = np.linalg.norm(joints - view.position, axis=-1)
        before -= reaches.numpy().reshape(-1, JOINT_COUNT)
        person = np.arange(len(joints))[:, None]
        around = _SEEN_THROUGH[np.arange(JOINT_COUNT), self._all.segments[face]]
        own = (self._all.owners[face] == person) & around
        heights = np.array([mesh.height for mesh in self._people]).reshape(-1, 1)
        free = (face < 0) | (before < 0) | (own & (before < _DEPTH * heights))
        return free & self._inside(self._seen(joints, view))

    def _seen(self, points: npt.NDArray[Any], view: View) -> FloatArray:
        return self._camera.project((points - view.position) @ view.rotation)

    def _inside(self, pixels: FloatArray) -> npt.NDArray[np.bool_]:
        edge = np.array([self._camera.width, self._camera.height]) - 0.5
        return np.asarray(((pixels >= -0.5) & (pixels < edge)).all(axis=-1))

    def _box(self, points: npt.NDArray[np.float32], view: View) -> FloatArray:
        pixels = self._seen(points, view)
        inside = pixels[self._inside(pixels)]
        if not len(inside):
            return np.full(4, np.nan)
        return np.concatenate([inside.min(axis=0), inside.max(axis=0)])


def _surroundings(setting: Setting) -> Any:
    scene = Surroundings()
    for name in ("sunlight", "skylight", "groundlight", "sky"):
        setattr(scene, name, wp.vec3(*getattr(setting, name)))
    scene.radius, scene.wall_height = setting.radius, setting.wall_height
    scene.wall_repeats, scene.ground_tile = float(setting.wall_repeats), setting.ground_tile
    scene.wall, scene.ground = _array(setting.wall, wp.vec3), _array(setting.ground, wp.vec3)
    return scene
