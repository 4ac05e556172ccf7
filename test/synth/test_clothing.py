"""Clothes: no child is ever bare, whatever is drawn, and nothing else can be rendered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import warp as wp
from figures import child, child_of, dressed
from hypothesis import given, settings
from hypothesis import strategies as st

from stsp_model.camera import Camera
from stsp_model.synth.body import anatomy
from stsp_model.synth.clothing import dress, parts
from stsp_model.synth.looks import STYLES, looks_like_skin, sample_outfit
from stsp_model.synth.outfit import Material
from stsp_model.synth.render import Renderer


@wp.kernel
def first_hit(
    mesh: wp.uint64,
    starts: wp.array(dtype=wp.vec3),
    ways: wp.array(dtype=wp.vec3),
    faces: wp.array(dtype=wp.int32),
    reaches: wp.array(dtype=wp.float32),
) -> None:
    i = wp.tid()
    hit = wp.mesh_query_ray(mesh, starts[i], ways[i], 10.0)
    faces[i] = -1
    if hit.result:
        faces[i] = hit.face
        reaches[i] = hit.t


def hits(vertices, faces, starts, ways):
    """The first face (-1: none) along each ray and its distance."""
    mesh = wp.Mesh(
        wp.array(np.asarray(vertices, np.float32), dtype=wp.vec3, device="cpu"),
        wp.array(np.asarray(faces, np.int32).ravel(), dtype=wp.int32, device="cpu"),
    )
    found = wp.zeros(len(starts), dtype=wp.int32, device="cpu")
    reach = wp.zeros(len(starts), dtype=wp.float32, device="cpu")
    rays = [
        wp.array(np.asarray(v, np.float32), dtype=wp.vec3, device="cpu") for v in (starts, ways)
    ]
    wp.launch(first_hit, dim=len(starts), inputs=[mesh.id, *rays, found, reach], device="cpu")
    return found.numpy(), reach.numpy()


def private_surface(body):
    """Places (N, 3) of the bare body's trunk and upper thighs that can be seen, and normals."""
    quads = anatomy().faces["body"]
    quads = quads[parts().private[quads].all(axis=1)]
    corners = body.vertices[quads]
    across = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    normals = across / np.linalg.norm(across, axis=1, keepdims=True)
    places = corners.mean(axis=1)
    whole = anatomy().faces["body"]
    triangles = np.concatenate([whole[:, [0, 1, 2]], whole[:, [0, 2, 3]]])
    found, reach = hits(body.vertices, triangles, places + 0.25 * normals, -normals)
    seen = (found >= 0) & (np.abs(reach - 0.25) < 0.002)
    return places[seen], normals[seen]


@given(st.integers(0, 10_000))
@settings(max_examples=15)
def test_clothes_cover_trunk_and_hips(seed):
    body = child(seed)
    mesh = dressed(body, seed)
    places, normals = private_surface(body)
    assert len(places) > 800
    # Looked at from two metres away, from anywhere but steeply below, each place of the skin is
    # behind cloth, or a few millimetres before cloth that is drawn tight. Through a collar one
    # may see the inside of the cloth at the other side.
    rng = np.random.default_rng(seed)
    ways = normals + 0.8 * rng.normal(size=normals.shape)
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    outside = ((ways * normals).sum(axis=1) > 0.3) & (ways[:, 2] > -0.3)
    places, ways = places[outside], ways[outside]
    found, reach = hits(mesh.vertices, mesh.faces, places + 2 * ways, -ways)
    assert ((found < 0) | (reach > 2.012)).mean() < 0.004
    shown = mesh.base[mesh.faces[found]]
    of_body = np.zeros(len(body.vertices), bool)
    of_body[anatomy().faces["body"]] = True
    assert not (of_body & parts().private)[shown].any()


@pytest.mark.parametrize("style", range(len(STYLES)))
def test_every_style_dresses_the_smallest_and_the_tallest(style):
    for body in (child_of(4.0, 1.0), child_of(14.0)):
        for seed in range(4):
            outfit = sample_outfit(np.random.default_rng(seed), body, STYLES[style])
            assert STYLES[style].leg[0] <= outfit.leg <= STYLES[style].leg[1]
            assert len(dress(body, outfit).faces) > 10_000


@given(st.integers(0, 10_000))
def test_clothes_are_not_taken_for_skin(seed):
    materials = sample_outfit(np.random.default_rng(seed), child()).materials
    skin = materials["skin"].first
    for part in ("top", "bottom", "skirt"):
        assert not looks_like_skin(materials[part].first, skin)
        assert not looks_like_skin(materials[part].second, skin)
    assert looks_like_skin(tuple(0.9 * c for c in skin), skin)
    assert looks_like_skin(skin, (0.0, 0.0, 0.0))


def test_a_mesh_without_its_top_is_refused():
    mesh = dressed(child())
    tops = mesh.face_materials == 0
    with pytest.raises(ValueError, match="uncovered"):
        replace(mesh, faces=mesh.faces[~tops], face_materials=mesh.face_materials[~tops])


def test_a_bare_trunk_is_refused():
    mesh, body = dressed(child()), anatomy().faces["body"]
    bare = body[parts().private[body].all(axis=1)][:1, :3]
    count = len(mesh.base)
    with pytest.raises(ValueError, match="would be bare"):
        replace(
            mesh,
            base=np.append(mesh.base, bare[0]),
            faces=np.append(mesh.faces, [[count, count + 1, count + 2]], axis=0),
        )


def test_the_renderer_takes_no_bare_body():
    camera = Camera(np.diag([80.0, 80.0, 1.0]), 64, 64)
    with pytest.raises(TypeError, match="expected ClothedMesh"):
        Renderer([child()], None, camera, 1, np.random.default_rng(0))  # type: ignore[list-item,arg-type]


def test_garments_follow_the_body():
    body = child(3)
    mesh = dressed(body, 3)
    used = np.unique(anatomy().faces["body"])
    assert np.abs(mesh.vertices[:, :2]).max() < np.abs(body.vertices[used]).max() + 0.08
    assert mesh.vertices[:, 2].min() >= body.vertices[used, 2].min() - 1e-4  # soles on the ground
    assert mesh.weights.sum(axis=1) == pytest.approx(np.ones(len(mesh.weights)), abs=1e-5)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"leg": 0.2}, "outfit.leg is 0.2, expected 0.5"),
        ({"sleeve": 0.0}, "outfit.sleeve"),
        ({"hem": 0.5}, "outfit.hem"),
        ({"collar": 0.5}, "outfit.collar"),
        ({"materials": {}}, "lacks bottom"),
    ],
)
def test_an_outfit_that_would_not_cover_is_refused(change, told):
    outfit = sample_outfit(np.random.default_rng(0), child())
    with pytest.raises(ValueError, match=told):
        replace(outfit, **change)


def test_an_unknown_pattern_is_told():
    with pytest.raises(ValueError, match="pattern is 'paisley'"):
        Material((0, 0, 0), pattern="paisley")
