"""What a child may wear, as numbers: fabrics, lengths and widths of clothes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Stations measure along a limb: 0 shoulder or hip, 1 elbow or knee, 2 wrist or ankle; along the
# trunk 0 between the hips, 1 at the base of the neck.
PRIVATE_THIGH = 0.3  # clothes reach past this station of the leg
WAIST = 0.38

# How a material's second colour is laid over its first; `Material.scale` in stripes per metre.
PATTERNS = ("plain", "hoops", "stripes", "checks", "blotches", "front", "below", "print")


@dataclass(frozen=True)
class Material:
    """Colour of a surface; colours are linear RGB from 0 to 1.

    `pattern` (of PATTERNS) lays `second` over `first`: "front" where y of the rest pose is below
    `scale`, "below" where z is; "print" on a patch of the chest around height `scale`; the others
    with `scale` repeats per metre. `folds` roughens the light on it.
    """

    first: tuple[float, float, float]
    second: tuple[float, float, float] = (0.0, 0.0, 0.0)
    pattern: str = "plain"
    scale: float = 10.0
    folds: float = 0.0

    def __post_init__(self) -> None:
        if self.pattern not in PATTERNS:
            raise ValueError(f"pattern is {self.pattern!r}, expected one of {', '.join(PATTERNS)}")


@dataclass(frozen=True)
class Outfit:
    """What a child wears.

    Args:
        sleeve: station of the arm to which the top reaches, at least 0.25.
        leg: station of the leg to which the bottom reaches, at least 0.5.
        collar: station of the neck to which the top reaches.
        hem: station of the trunk to which the top hangs down, below WAIST.
        top_ease, bottom_ease: m between body and garment.
        flare: m more at the ends of sleeves and legs.
        skirt: station of the leg to which a skirt reaches over the bottom, or None.
        sock: station of the leg from which socks reach down, or None.
        shoes: False for bare or socked feet.
        hair: m that hair stands off the scalp.
        long_hair: station of the trunk to which hair falls at the back, or None.
        materials: by part: top bottom skirt sock shoe skin hair eyes.
    """

    sleeve: float
    leg: float
    collar: float
    hem: float
    top_ease: float
    bottom_ease: float
    flare: float
    skirt: float | None
    sock: float | None
    shoes: bool
    hair: float
    long_hair: float | None
    materials: Mapping[str, Material]

    def __post_init__(self) -> None:
        for name, least, most in (
            ("sleeve", 0.25, 2.0),
            ("leg", PRIVATE_THIGH + 0.2, 2.0),
            ("collar", 1.0, 1.3),
            ("hem", -0.5, WAIST - 0.1),
            ("top_ease", 0.002, 0.05),
            ("bottom_ease", 0.002, 0.05),
            ("flare", 0.0, 0.08),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"outfit.{name} is {value}, expected {least} to {most}")
        missing = {"top", "bottom", "skirt", "sock", "shoe", "skin", "hair", "eyes"}
        missing -= set(self.materials)
        if missing:
            raise ValueError(f"outfit.materials lacks {', '.join(sorted(missing))}")
