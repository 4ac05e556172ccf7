"""What children look like at random: outfits, fabrics, skin, hair."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace

import numpy as np

from stsp_model.synth.body import SEGMENT, Body, anatomy
from stsp_model.synth.outfit import Material, Outfit

Colour = tuple[float, float, float]
Range = tuple[float, float]

# sRGB, from light to dark, blended between neighbours.
_SKIN = ("f6dcc8", "eec3a2", "dba37c", "c68a5f", "a86c45", "84502f", "5f3820", "412616")
_HAIR = ("17120f", "2b1b12", "4a2f1c", "6e4a2b", "9a7443", "c9a866", "8a3f1e")
# Distances in sRGB from 0 to 1; from black to white it is 1.73.
_LIKE_OWN_SKIN, _LIKE_ANY_SKIN = 0.35, 0.2
_IRIS = ("2f1c10", "4d3319", "3a5a34", "4b6f93")


@dataclass(frozen=True)
class Style:
    """One way to dress for sport; ranges are those of `Outfit`, shares are probabilities."""

    sleeve: Range
    leg: Range
    collar: Range
    hem: Range
    top_ease: Range
    bottom_ease: Range
    flare: Range
    one_piece: bool = False  # top and bottom of one fabric
    skirt_share: float = 0.0
    shoe_share: float = 0.8


STYLES: tuple[Style, ...] = (
    # T-shirt and shorts
    Style(
        sleeve=(0.5, 0.85),
        leg=(0.5, 0.85),
        collar=(1.0, 1.08),
        hem=(-0.1, 0.15),
        top_ease=(0.006, 0.018),
        bottom_ease=(0.006, 0.02),
        flare=(0.01, 0.04),
    ),
    # T-shirt and leggings
    Style(
        sleeve=(0.4, 0.9),
        leg=(1.6, 1.95),
        collar=(1.0, 1.1),
        hem=(-0.1, 0.2),
        top_ease=(0.004, 0.015),
        bottom_ease=(0.002, 0.005),
        flare=(0.0, 0.02),
    ),
    # tracksuit
    Style(
        sleeve=(1.8, 1.98),
        leg=(1.85, 1.98),
        collar=(1.05, 1.22),
        hem=(-0.1, 0.15),
        top_ease=(0.01, 0.024),
        bottom_ease=(0.008, 0.02),
        flare=(0.0, 0.015),
    ),
    # gymnastics: close-fitting top, short leggings
    Style(
        sleeve=(0.3, 1.95),
        leg=(0.5, 1.2),
        collar=(1.0, 1.08),
        hem=(0.1, 0.25),
        top_ease=(0.002, 0.004),
        bottom_ease=(0.002, 0.004),
        flare=(0.0, 0.003),
        one_piece=True,
        skirt_share=0.2,
        shoe_share=0.3,
    ),
    # martial arts: a wide suit, barefoot
    Style(
        sleeve=(1.3, 1.7),
        leg=(1.5, 1.9),
        collar=(1.0, 1.1),
        hem=(-0.35, -0.15),
        top_ease=(0.016, 0.03),
        bottom_ease=(0.016, 0.03),
        flare=(0.02, 0.045),
        one_piece=True,
        shoe_share=0.1,
    ),
    # tennis: skirt over shorts
    Style(
        sleeve=(0.35, 0.7),
        leg=(0.5, 0.6),
        collar=(1.0, 1.1),
        hem=(0.15, 0.27),
        top_ease=(0.003, 0.012),
        bottom_ease=(0.003, 0.006),
        flare=(0.01, 0.04),
        skirt_share=1.0,
        shoe_share=1.0,
    ),
    # long-sleeved shirt and knee-length shorts
    Style(
        sleeve=(1.6, 1.98),
        leg=(0.85, 1.15),
        collar=(1.0, 1.15),
        hem=(-0.15, 0.1),
        top_ease=(0.006, 0.02),
        bottom_ease=(0.01, 0.024),
        flare=(0.01, 0.045),
    ),
)


def linear(red: float, green: float, blue: float) -> Colour:
    """Linear RGB of an sRGB colour from 0 to 1."""
    return (red**2.2, green**2.2, blue**2.2)


def _hex(text: str) -> Colour:
    return linear(*(int(text[i : i + 2], 16) / 255 for i in (0, 2, 4)))


def _blended(table: tuple[str, ...], rng: np.random.Generator) -> Colour:
    at = rng.uniform(0, len(table) - 1)
    low = int(at)
    a, b = np.array(_hex(table[low])), np.array(_hex(table[min(low + 1, len(table) - 1)]))
    red, green, blue = (a + (b - a) * (at - low)).tolist()
    return (red, green, blue)


def colour(rng: np.random.Generator, saturation: Range = (0.0, 1.0)) -> Colour:
    """Linear RGB of any hue; now and then nearly white, grey or black."""
    hue, value = rng.random(), rng.uniform(0.25, 1.0)
    chroma = rng.uniform(*saturation)
    if rng.random() < 0.25:
        chroma, value = rng.uniform(0, 0.08), rng.uniform(0.06, 0.97)
    return linear(*colorsys.hsv_to_rgb(hue, chroma, value))


def looks_like_skin(cloth: Colour, skin: Colour) -> bool:
    """Whether a cloth might be taken for bareness at a glance.

    It is compared with the `skin` of who wears it, lit or shaded, and with any skin.
    """
    tone = np.array(cloth) ** (1 / 2.2)
    own = np.linalg.norm(tone - np.array(skin) ** (1 / 2.2))
    others = [np.linalg.norm(tone - np.array(_hex(each)) ** (1 / 2.2)) for each in _SKIN]
    return bool(own < _LIKE_OWN_SKIN or min(others) < _LIKE_ANY_SKIN)


def _cloth_colour(skin: Colour | None, rng: np.random.Generator) -> Colour:
    while True:
        found = colour(rng)
        if skin is None or not looks_like_skin(found, skin):
            return found


def fabric(rng: np.random.Generator, skin: Colour | None = None) -> Material:
    """A material: plain half of the time, else with a pattern.

    Clothes give the `skin` beside them, so that none of their colours is taken for bareness.
    """
    patterns = ("hoops", "stripes", "checks", "blotches")
    pattern = "plain" if rng.random() < 0.5 else str(rng.choice(patterns))
    scale = rng.uniform(6, 14) if pattern == "blotches" else rng.uniform(12, 45)
    first, second = _cloth_colour(skin, rng), _cloth_colour(skin, rng)
    return Material(first, second, pattern, float(scale), float(rng.uniform(0.05, 0.35)))


def sample_outfit(rng: np.random.Generator, body: Body, style: Style | None = None) -> Outfit:
    """Clothes, skin and hair for a body, in one of `STYLES` unless `style` is given."""
    if style is None:
        style = STYLES[rng.integers(len(STYLES))]
    girl = body.phenotype.gender > 0.5
    skin = _blended(_SKIN, rng)
    top = fabric(rng, skin)
    if top.pattern == "plain" and rng.random() < 0.4:
        chest = float(body.pivots[SEGMENT["chest"], 2]) + 0.03 * body.height
        top = replace(top, pattern="print", scale=chest)
    bottom = top if style.one_piece and rng.random() < 0.7 else fabric(rng, skin)
    ruddy = (min(1.0, skin[0] * 1.05), skin[1] * 0.93, skin[2] * 0.92)
    eyes = body.vertices[np.unique(anatomy().faces["eyes"]), 1]
    floor = float(body.vertices[np.unique(anatomy().faces["body"]), 2].min())
    shoes = bool(rng.random() < style.shoe_share)
    sock = float(rng.uniform(1.3, 1.9)) if rng.random() < (0.75 if shoes else 0.2) else None

    def drawn(limits: Range) -> float:
        return float(rng.uniform(*limits))

    leg = drawn(style.leg)
    return Outfit(
        sleeve=drawn(style.sleeve),
        leg=leg,
        collar=drawn(style.collar),
        hem=drawn(style.hem),
        top_ease=drawn(style.top_ease),
        bottom_ease=drawn(style.bottom_ease),
        flare=drawn(style.flare),
        skirt=drawn((0.45, 0.9)) if rng.random() < style.skirt_share * girl else None,
        sock=sock,
        shoes=shoes,
        hair=float(rng.uniform(0.004, 0.03)),
        long_hair=drawn((0.55, 1.1)) if rng.random() < (0.7 if girl else 0.1) else None,
        materials={
            "top": top,
            "bottom": bottom,
            "skirt": bottom if rng.random() < 0.5 else fabric(rng, skin),
            "sock": Material(colour(rng, (0, 0.4))),
            "shoe": Material(colour(rng), colour(rng, (0, 0.2)), "below", floor + 0.02),
            "skin": Material(skin, ruddy, "blotches", 9.0),
            "hair": Material(_hex(str(rng.choice(_HAIR))), folds=0.5),
            "eyes": Material(
                (0.75, 0.74, 0.72),
                _hex(str(rng.choice(_IRIS))),
                "front",
                float(eyes.min() + 0.12 * np.ptp(eyes)),
            ),
        },
    )
