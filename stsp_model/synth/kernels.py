"""Ray casting in Warp: the light that reaches each pixel, and what a ray meets first."""

# mypy: ignore-errors
# Warp compiles these functions itself; their annotations are its types, not Python's.
from __future__ import annotations

import warp as wp

FAR = wp.constant(1.0e4)
_LIFT = wp.constant(0.003)  # m; where a shadow's ray starts above its surface


@wp.struct
class Surroundings:
    """The scene but its meshes. A round wall of `radius` m stands about the origin of the ground.

    Colours are linear RGB; `sun` points to the light. A texture covers `ground_tile` m of ground,
    and the wall `wall_repeats` times around, up to `wall_height` m.
    """

    sun: wp.vec3
    sunlight: wp.vec3
    skylight: wp.vec3
    groundlight: wp.vec3
    sky: wp.vec3
    radius: float
    wall_height: float
    wall_repeats: float
    ground_tile: float
    ground: wp.array2d(dtype=wp.vec3)
    wall: wp.array2d(dtype=wp.vec3)


@wp.struct
class Surface:
    """Triangles of all meshes together; attributes by vertex and by face."""

    mesh: wp.uint64
    indices: wp.array(dtype=wp.int32)
    normals: wp.array(dtype=wp.vec3)
    places: wp.array(dtype=wp.vec3)  # in the rest pose, which patterns are laid on
    materials: wp.array(dtype=wp.int32)
    table: wp.array2d(dtype=wp.float32)


@wp.func
def texel(image: wp.array2d(dtype=wp.vec3), u: float, v: float) -> wp.vec3:
    """An image's colour at (u, v) in repeats, between its four nearest texels."""
    rows = image.shape[0]
    columns = image.shape[1]
    x = (u - wp.floor(u)) * float(columns)
    y = (v - wp.floor(v)) * float(rows)
    left = wp.min(int(x), columns - 1)
    top = wp.min(int(y), rows - 1)
    right = (left + 1) % columns
    bottom = (top + 1) % rows
    fx = x - float(left)
    fy = y - float(top)
    above = image[top, left] * (1.0 - fx) + image[top, right] * fx
    below = image[bottom, left] * (1.0 - fx) + image[bottom, right] * fx
    return above * (1.0 - fy) + below * fy


@wp.func
def pattern(kind: int, scale: float, place: wp.vec3) -> float:
    """How much of a material's second colour there is at a place of the rest pose."""
    share = float(0.0)  # noqa: UP018 - in Warp a literal is a constant, this a variable
    if kind == 1:
        share = float(int(wp.floor(place[2] * scale)) & 1)
    elif kind == 2:
        share = float(int(wp.floor(place[0] * scale)) & 1)
    elif kind == 3:
        column = int(wp.floor(place[0] * scale))
        share = float((column + int(wp.floor(place[2] * scale))) & 1)
    elif kind == 4:
        share = wp.clamp(0.5 + 2.0 * wp.noise(wp.uint32(7), place * scale), 0.0, 1.0)
    elif kind == 5:
        if place[1] < scale:
            share = 1.0
    elif kind == 6:
        if place[2] < scale:
            share = 1.0
    elif (
        kind == 7 and place[1] < 0.0 and wp.abs(place[0]) < 0.07 and wp.abs(place[2] - scale) < 0.05
    ):
        share = 1.0
    return share


@wp.func
def hit_light(
    surface: Surface, scene: Surroundings, face: int, u: float, v: float, ahead: wp.vec3,
    point: wp.vec3,
) -> wp.vec3:  # fmt: skip
    """The light that a face sends back along a ray."""
    a = surface.indices[3 * face]
    b = surface.indices[3 * face + 1]
    c = surface.indices[3 * face + 2]
    w = 1.0 - u - v
    place = surface.places[a] * u + surface.places[b] * v + surface.places[c] * w
    normal = surface.normals[a] * u + surface.normals[b] * v + surface.normals[c] * w
    row = surface.materials[face]
    folds = surface.table[row, 8]
    if folds > 0.0:
        at = place * 14.0
        bend = wp.vec3(
            wp.noise(wp.uint32(1), at),
            wp.noise(wp.uint32(2), at),
            wp.noise(wp.uint32(3), at),
        )
        normal = normal + bend * folds
    normal = wp.normalize(normal)
    if wp.dot(normal, ahead) > 0.0:  # the inside of a sleeve
        normal = -normal
    first = wp.vec3(surface.table[row, 0], surface.table[row, 1], surface.table[row, 2])
    second = wp.vec3(surface.table[row, 3], surface.table[row, 4], surface.table[row, 5])
    share = pattern(int(surface.table[row, 6]), surface.table[row, 7], place)
    colour = first * (1.0 - share) + second * share
    up = 0.5 + 0.5 * normal[2]
    light = scene.skylight * up + scene.groundlight * (1.0 - up)
    facing = wp.dot(normal, scene.sun)
    if facing > 0.0:
        start = point + normal * _LIFT
        if not wp.mesh_query_ray_anyhit(surface.mesh, start, scene.sun, FAR):
            light = light + scene.sunlight * facing
    return wp.cw_mul(colour, light)


@wp.func
def wall_light(scene: Surroundings, origin: wp.vec3, ahead: wp.vec3) -> wp.vec3:
    """The light from the wall that a ray meets, or from above it."""
    a = ahead[0] * ahead[0] + ahead[1] * ahead[1]
    b = origin[0] * ahead[0] + origin[1] * ahead[1]
    c = origin[0] * origin[0] + origin[1] * origin[1] - scene.radius * scene.radius
    colour = scene.sky
    if a > 1.0e-9:
        reach = (-b + wp.sqrt(wp.max(b * b - a * c, 0.0))) / a
        height = (origin[2] + reach * ahead[2]) / scene.wall_height
        if height < 1.0:
            x = origin[0] + reach * ahead[0]
            y = origin[1] + reach * ahead[1]
            turn = wp.atan2(y, x) / (2.0 * wp.pi)
            colour = texel(scene.wall, turn * scene.wall_repeats, 1.0 - wp.max(height, 0.0))
    return colour


@wp.kernel
def cast(
    surface: Surface,
    scene: Surroundings,
    rays: wp.array(dtype=wp.vec3),
    rotation: wp.mat33,
    origin: wp.vec3,
    image: wp.array(dtype=wp.vec3),
) -> None:
    """Add to `image` the light along `rays` of a camera that `rotation` turns into the world."""
    pixel = wp.tid()
    ahead = rotation * rays[pixel]
    hit = wp.mesh_query_ray(surface.mesh, origin, ahead, FAR)
    reach = FAR
    if hit.result:
        reach = hit.t
    fall = FAR
    if ahead[2] < -1.0e-6:
        fall = -origin[2] / ahead[2]
    ground = origin + ahead * fall
    if hit.result and reach < fall:
        point = origin + ahead * reach
        light = hit_light(surface, scene, hit.face, hit.u, hit.v, ahead, point)
    elif fall < FAR and ground[0] * ground[0] + ground[1] * ground[1] < scene.radius * scene.radius:
        tile = scene.ground_tile
        colour = texel(scene.ground, ground[0] / tile, ground[1] / tile)
        shade = scene.skylight
        start = ground + wp.vec3(0.0, 0.0, _LIFT)
        if not wp.mesh_query_ray_anyhit(surface.mesh, start, scene.sun, FAR):
            shade = shade + scene.sunlight * scene.sun[2]
        light = wp.cw_mul(colour, shade)
    else:
        light = wall_light(scene, origin, ahead)
    image[pixel] = image[pixel] + light


@wp.kernel
def probe(
    mesh: wp.uint64,
    origin: wp.vec3,
    targets: wp.array(dtype=wp.vec3),
    faces: wp.array(dtype=wp.int32),
    reaches: wp.array(dtype=wp.float32),
) -> None:
    """The first face towards each target, -1 if none, and its distance."""
    i = wp.tid()
    hit = wp.mesh_query_ray(mesh, origin, wp.normalize(targets[i] - origin), FAR)
    faces[i] = -1
    reaches[i] = FAR
    if hit.result:
        faces[i] = hit.face
        reaches[i] = hit.t
