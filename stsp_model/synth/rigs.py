"""The skeletons of motion captures: which joint turns which segment of a child's body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rig:
    """What a capture's joints are called and how its rest pose stands.

    Args:
        axes: (3, 3) rotation from the capture's axes to the body's (x left, y back, z up).
        bones: the captured joint that turns each segment; two names: halfway between them.
        places: the captured joint where a segment begins, if that is not the one that turns it.
        radii: m from a joint down to what touches the ground when it bears weight.
    """

    axes: FloatArray
    bones: Mapping[str, tuple[str, ...]]
    places: Mapping[str, str]
    radii: Mapping[str, float]

    def place(self, segment: str) -> str:
        """The captured joint where a segment begins."""
        return self.places.get(segment, self.bones[segment][0])


def _mirrored(left: Mapping[str, str], prefix: tuple[str, str]) -> dict[str, tuple[str, ...]]:
    """Segments of both sides from those of the left; names begin with the side's prefix."""
    return {
        f"{side}_{segment}": (name.replace("*", start),)
        for side, start in zip(("left", "right"), prefix, strict=True)
        for segment, name in left.items()
    }


_CMU_LIMBS = {
    "collar": "*Collar",
    "upper_arm": "*Shldr",
    "forearm": "*ForeArm",
    "hand": "*Hand",
    "thigh": "*Thigh",
    "shin": "*Shin",
    "foot": "*Foot",
}
CMU_RIG = Rig(
    axes=np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),  # x left, y up, z ahead
    bones=MappingProxyType(
        {
            "hips": ("hip",),
            "abdomen": ("abdomen",),
            "ribs": ("abdomen", "chest"),
            "chest": ("chest",),
            "neck": ("neck",),
            "nape": ("neck", "head"),
            "head": ("head",),
            **_mirrored(_CMU_LIMBS, ("l", "r")),
        }
    ),
    places=MappingProxyType({}),
    radii=MappingProxyType(
        {
            "hip": 0.10,
            "chest": 0.10,
            "neck": 0.06,
            "head": 0.08,
            **{
                f"{side}{bone}": radius
                for side in "lr"
                for bone, radius in (
                    ("Shldr", 0.05),
                    ("ForeArm", 0.04),
                    ("Hand", 0.025),
                    ("Mid2_end", 0.01),
                    ("Thigh", 0.09),
                    ("Shin", 0.055),
                    ("Foot", 0.037),
                    ("Foot_end", 0.0),
                )
            },
        }
    ),
)

_HUMANOID_LIMBS = {
    "upper_arm": "*_shoulder",
    "forearm": "*_elbow",
    "hand": "*_elbow",
    "thigh": "*_hip",
    "shin": "*_knee",
    "foot": "*_ankle",
}
DEEPMIMIC_RIG = Rig(
    axes=np.array([[0.0, 0, -1], [-1, 0, 0], [0, 1, 0]]),  # x ahead, y up, z right
    bones=MappingProxyType(
        {
            "hips": ("root",),
            "abdomen": ("root", "chest"),
            "ribs": ("chest",),
            "chest": ("chest",),
            "neck": ("chest", "neck"),
            "nape": ("neck",),
            "head": ("neck",),
            "left_collar": ("chest",),
            "right_collar": ("chest",),
            **_mirrored(_HUMANOID_LIMBS, ("left", "right")),
        }
    ),
    places=MappingProxyType(
        {"neck": "neck", "left_hand": "left_wrist", "right_hand": "right_wrist"}
    ),
    radii=MappingProxyType(
        {
            "root": 0.09,
            "chest": 0.11,
            "neck": 0.10,
            **{
                f"{side}_{joint}": radius
                for side in ("left", "right")
                for joint, radius in (
                    ("shoulder", 0.05),
                    ("elbow", 0.045),
                    ("wrist", 0.04),
                    ("hip", 0.06),
                    ("knee", 0.05),
                    ("ankle", 0.05),
                )
            },
        }
    ),
)
