"""The skeleton: joints, bones, sides, angle limits, and how other skeletons map onto it.

Everything that is a fact about the 17 joints stands here and nowhere else. Joints are those of
Human3.6M in its order. Limb joints are the joints' rotation centres; pelvis, thorax (the base of
the neck) and spine follow the definitions in `DERIVED`; nose and head_top lie on the surface.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


JOINTS: tuple[str, ...] = _names(
    "pelvis right_hip right_knee right_ankle left_hip left_knee left_ankle spine thorax nose "
    "head_top left_shoulder left_elbow left_wrist right_shoulder right_elbow right_wrist"
)
JOINT_COUNT = len(JOINTS)
INDEX: Mapping[str, int] = MappingProxyType({name: i for i, name in enumerate(JOINTS)})

# Every parent comes before its children, so one pass over the joints walks the tree.
PARENTS: tuple[int, ...] = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
BONES: tuple[tuple[int, int], ...] = tuple((p, j) for j, p in enumerate(PARENTS) if p >= 0)
BONE_COUNT = len(BONES)

SIDES: tuple[str, ...] = tuple(
    name.split("_")[0] if name.startswith(("left_", "right_")) else "middle" for name in JOINTS
)
# FLIP[j] is the joint that j becomes in a mirrored image.
FLIP: tuple[int, ...] = tuple(
    INDEX[name.replace("left_", "right_") if side == "left" else name.replace("right_", "left_")]
    for name, side in zip(JOINTS, SIDES, strict=True)
)

# The torso of PCK: one diagonal, or the other where a joint of the first is unseen.
TORSO: tuple[tuple[int, int], ...] = (
    (INDEX["right_shoulder"], INDEX["left_hip"]),
    (INDEX["left_shoulder"], INDEX["right_hip"]),
)
# The 14 joints that nearly every data set measures: all but spine, nose and head_top.
JOINTS_14: tuple[int, ...] = tuple(
    i for i, name in enumerate(JOINTS) if name not in ("spine", "nose", "head_top")
)

# Midpoints, in the order in which they must be taken (spine needs the two before it).
DERIVED: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "pelvis": ("left_hip", "right_hip"),
        "thorax": ("left_shoulder", "right_shoulder"),
        "spine": ("pelvis", "thorax"),
    }
)


@dataclass(frozen=True)
class AngleLimit:
    """How far one joint bends (eq. 16): limits on the angle start-vertex-end, in degrees.

    A straight limb has 180 degrees. The angle has no sign, so bending backwards past straight
    cannot be told from bending forwards, and such limits are absent (`max_deg` 180).
    """

    name: str
    start: int
    vertex: int
    end: int
    min_deg: float
    max_deg: float
    source: str


_SOUCIE = "Soucie et al., Haemophilia 17:500-507 (2011), girls aged 2-8"
_AAOS = (
    "American Academy of Orthopaedic Surgeons, Joint Motion (1965), as tabled in Norkin & White, "
    "Measurement of Joint Motion"
)
_LYNCH_CARIS = "Lynch-Caris et al., Journal of Biomechanics 41 (2008), children aged 8-10"
# Published ranges widened by 15 degrees or more: they are means, measured one plane at a time
# on resting subjects, and children in sport are more supple than the mean. The trunk-thigh angle
# is left out: hip flexion (141 degrees) plus bending of the spine (80) allow a complete fold.
# Joints as start-vertex-end, SIDE standing for one side and OTHER for the opposite one.
_LIMITS: tuple[tuple[str, str, float, str], ...] = (
    (
        "SIDE_knee",
        "SIDE_hip SIDE_knee SIDE_ankle",
        180 - 152.6 - 15,
        f"flexion 152.6, + 15: {_SOUCIE}",
    ),
    (
        "SIDE_elbow",
        "SIDE_shoulder SIDE_elbow SIDE_wrist",
        180 - 152.9 - 15,
        f"flexion 152.9, + 15: {_SOUCIE}",
    ),
    (
        "SIDE_hip",
        "OTHER_hip SIDE_hip SIDE_knee",
        90 - 30 - 20,
        f"adduction 30 from 90, + 20 for crossing with a bent hip: {_AAOS}",
    ),
    (
        "SIDE_shoulder",
        "thorax SIDE_shoulder SIDE_elbow",
        180 - 135 - 15,
        f"horizontal adduction 135 from the arm held sideways, + 15: {_AAOS}",
    ),
    (
        "neck",
        "spine thorax head_top",
        180 - 85 - 35,
        f"extension 85, deviation 14, + 35 (twice that and the upper back's): {_LYNCH_CARIS}",
    ),
)


def _both_sides(name: str, joints: str, min_deg: float, source: str) -> tuple[AngleLimit, ...]:
    pairs = [("right", "left"), ("left", "right")] if "SIDE" in name else [("", "")]
    limits = []
    for side, other in pairs:
        names = joints.replace("SIDE", side).replace("OTHER", other).split()
        start, vertex, end = (INDEX[joint] for joint in names)
        full_name = name.replace("SIDE", side)
        limits.append(AngleLimit(full_name, start, vertex, end, min_deg, 180.0, source))
    return tuple(limits)


ANGLES: tuple[AngleLimit, ...] = tuple(limit for row in _LIMITS for limit in _both_sides(*row))


@dataclass(frozen=True)
class Source:
    """Another skeleton: its points in order, and which of them make up each of our joints.

    `joints` names one point, or several to average. Joints it leaves out are taken from `DERIVED`
    where their parts are known and are otherwise missing. `near` lists joints that are defined a
    few centimetres apart from ours: good for training, to be kept in mind when scoring.
    """

    name: str
    points: tuple[str, ...]
    joints: Mapping[str, tuple[str, ...]]
    near: frozenset[str] = field(default=frozenset())

    def matrix(self) -> npt.NDArray[np.float64]:
        """Averaging weights (17, P) from points to joints; a row of zeros is a missing joint."""
        index = {name: i for i, name in enumerate(self.points)}
        weights = np.zeros((JOINT_COUNT, len(self.points)))
        for joint, names in self.joints.items():
            for name in names:
                weights[INDEX[joint], index[name]] = 1.0 / len(names)
        for joint, (a, b) in DERIVED.items():
            parts = weights[[INDEX[a], INDEX[b]]]
            if joint not in self.joints and parts.any(axis=1).all():
                weights[INDEX[joint]] = parts.mean(axis=0)
        return weights


def _same(*names: str) -> dict[str, tuple[str, ...]]:
    return {name: (name,) for name in names}


_LIMBS = tuple(
    f"{side}_{part}"
    for side in ("right", "left")
    for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
)

# Human3.6M as captured: ours without the ends of hands and feet and the doubles of some joints.
# Its spine is a joint of its own, some centimetres from the midpoint.
H36M_32 = Source(
    name="Human3.6M-32",
    points=_names(
        "pelvis right_hip right_knee right_ankle right_toe_base right_toe left_hip left_knee "
        "left_ankle left_toe_base left_toe pelvis_2 spine thorax nose head_top thorax_2 "
        "left_shoulder left_elbow left_wrist left_wrist_2 left_thumb left_hand left_hand_2 "
        "thorax_3 right_shoulder right_elbow right_wrist right_wrist_2 right_thumb right_hand "
        "right_hand_2"
    ),
    joints=_same(*JOINTS),
    near=frozenset({"spine"}),
)

# The shoulders' midpoint lies a little below the base of the neck; there is no head_top.
COCO_17 = Source(
    name="COCO-17",
    points=_names(
        "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow "
        "right_elbow left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle "
        "right_ankle"
    ),
    joints=_same("nose", *_LIMBS),
    near=frozenset({"thorax", "spine"}),
)

# LSP's neck is our thorax by definition; there is no nose.
LSP_14 = Source(
    name="LSP-14",
    points=_names(
        "right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow "
        "right_shoulder left_shoulder left_elbow left_wrist neck head_top"
    ),
    joints={**_same("head_top", *_LIMBS), "thorax": ("neck",)},
)

# As published protocols export it: the thorax halves the gap between torso and head, the head is
# the far end of the head segment. Its pelvis is kept out: ours is the hips' midpoint.
HUMANEVA_15 = Source(
    name="HumanEva-15",
    points=_names(
        "pelvis thorax left_shoulder left_elbow left_wrist right_shoulder right_elbow "
        "right_wrist left_hip left_knee left_ankle right_hip right_knee right_ankle head"
    ),
    joints={**_same("thorax", *_LIMBS), "head_top": ("head",)},
    near=frozenset({"thorax", "spine", "head_top"}),
)

# "head" is inside the skull and no nose, so the nose is missing. Pelvis and spine are given too,
# but a few centimetres from the midpoints by which we define them.
_MPI_JOINTS = {**_same("head_top", *_LIMBS), "thorax": ("neck",)}
MPI_INF_3DHP_28 = Source(
    name="MPI-INF-3DHP-28",
    points=_names(
        "spine3 spine4 spine2 spine pelvis neck head head_top left_clavicle left_shoulder "
        "left_elbow left_wrist left_hand right_clavicle right_shoulder right_elbow right_wrist "
        "right_hand left_hip left_knee left_ankle left_foot left_toe right_hip right_knee "
        "right_ankle right_foot right_toe"
    ),
    joints=_MPI_JOINTS,
    near=frozenset({"thorax", "spine"}),
)
MPI_INF_3DHP_17 = Source(
    name="MPI-INF-3DHP-17",
    points=_names(
        "head_top neck right_shoulder right_elbow right_wrist left_shoulder left_elbow "
        "left_wrist right_hip right_knee right_ankle left_hip left_knee left_ankle pelvis spine "
        "head"
    ),
    joints=_MPI_JOINTS,
    near=frozenset({"thorax", "spine"}),
)

# CMU motion capture as BVH, cgspeed's "Daz-friendly" joint names: each name is the bone's head.
# The file's skeleton has neither nose nor a top of the head. Files list more joints, in an order
# of their own: pick these by name.
_CMU_PARTS = {
    "hip": "Thigh",
    "knee": "Shin",
    "ankle": "Foot",
    "shoulder": "Shldr",
    "elbow": "ForeArm",
    "wrist": "Hand",
}
_CMU_JOINTS = {
    "thorax": ("neck",),
    **{
        f"{side}_{part}": (f"{side[0]}{name}",)
        for side in ("right", "left")
        for part, name in _CMU_PARTS.items()
    },
}
CMU_BVH = Source(
    name="CMU-BVH",
    points=tuple(name for names in _CMU_JOINTS.values() for name in names),
    joints=_CMU_JOINTS,
)

# The humanoid of DeepMimic, by the names in its character file. Its neck starts a little below the
# shoulders; the head is a sphere, so nose and head_top are missing.
DEEPMIMIC = Source(
    name="DeepMimic",
    points=("neck", *_LIMBS),
    joints={**_same(*_LIMBS), "thorax": ("neck",)},
    near=frozenset({"thorax", "spine"}),
)

# Anny: heads of the bones of its default rig, and two points of its surface, which whoever poses
# the body must put beside them.
_ANNY_PARTS = {
    "hip": "upperleg01",
    "knee": "lowerleg01",
    "ankle": "foot",
    "shoulder": "upperarm01",
    "elbow": "lowerarm01",
    "wrist": "wrist",
}
_ANNY_JOINTS = {
    "thorax": ("neck01",),
    **{
        f"{side}_{part}": (f"{bone}.{side[0].upper()}",)
        for side in ("right", "left")
        for part, bone in _ANNY_PARTS.items()
    },
    **_same("nose", "head_top"),
}
ANNY = Source(
    name="Anny",
    points=tuple(name for names in _ANNY_JOINTS.values() for name in names),
    joints=_ANNY_JOINTS,
)


def map_joints(
    points: npt.ArrayLike, source: Source, visible: npt.ArrayLike | None = None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Turn points of another skeleton into our joints.

    Args:
        points: (..., P, D) in the order of `source.points`; any unit.
        source: one of the tables of this module.
        visible: (..., P) bool; points that are not visible, or not finite, are not used.

    Returns:
        joints (..., 17, D), NaN where missing, and mask (..., 17), True where present. A joint
        made from several points is present only when all of them are.

    Raises:
        ValueError: if a shape does not fit the source.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim < 2 or points.shape[-2] != len(source.points):
        raise ValueError(
            f"points has shape {points.shape}, expected (..., {len(source.points)}, D) "
            f"for {source.name}"
        )
    usable = np.isfinite(points).all(axis=-1)
    if visible is not None:
        visible = np.asarray(visible, dtype=bool)
        if visible.shape != points.shape[:-1]:
            raise ValueError(f"visible has shape {visible.shape}, expected {points.shape[:-1]}")
        usable &= visible
    weights = source.matrix()
    joints = weights @ np.where(usable[..., None], points, 0.0)
    lacking = ~usable @ (weights > 0).T
    mask = ~lacking & (weights > 0).any(axis=1)
    return np.where(mask[..., None], joints, np.nan), mask
