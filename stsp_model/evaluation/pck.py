"""The 2D protocol of Leeds Sports Pose: PCK of one annotated person per image.

The network sees a square crop around the person's box, 1.35 times its longer side. A joint is right
within 0.2 of the torso (`metrics.torso_lengths`), in pixels of the original image; images without
one are skipped. Only visible joints count. As the box comes from the labels, the score with a
jittered box belongs beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from stsp_model.crop import crop_box
from stsp_model.data.samples import ImagePose
from stsp_model.metrics import pck_2d, torso_lengths
from stsp_model.network import STSPNet, image_keypoints
from stsp_model.perception import still_inputs
from stsp_model.runtime.running import Network
from stsp_model.skeleton import INDEX, JOINT_COUNT, JOINTS, SIDES

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

LIMBS_12: tuple[int, ...] = tuple(i for i in range(JOINT_COUNT) if SIDES[i] != "middle")
# Those of LSP: its neck is our thorax. Joints that other data sets add are not scored.
LSP_JOINTS: tuple[int, ...] = (*LIMBS_12, INDEX["thorax"], INDEX["head_top"])
HEAD = (INDEX["thorax"], INDEX["head_top"])
PCKH_THRESHOLD = 0.5  # of the head
JITTER_SHIFT = 0.1  # of the box's longer side, either way along each axis
JITTER_SCALE = 1.25  # larger or smaller by at most this factor, evenly in its logarithm
BATCH = 32


class ImagePoses(Protocol):
    """A data set of annotated people: an image `Dataset` of stsp_model.data, or a list."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> ImagePose: ...


@dataclass(frozen=True, eq=False)
class Detections:
    """2D joints found in N images, and what is true of them.

    names: N. joints, target (N, 17, 2): pixels of the images; NaN where not found, where unknown.
    confidence (N, 17): 0..1, NaN where not stated. visible (N, 17): bool, which joints are known to
    be visible.
    """

    names: tuple[str, ...]
    joints: FloatArray
    confidence: FloatArray
    target: FloatArray
    visible: BoolArray


@dataclass(frozen=True)
class Score2D:
    """Percentages over the joints that count, NaN where none does.

    images: scored; skipped: those without a torso.
    pck: PCK@0.2 over the 14 joints of LSP; pck_limbs: over its 12 limb joints alone, for methods
    that have no neck and no top of the head. pckh: PCKh@0.5, of the distance from thorax to
    head_top, where both are visible. per_joint: PCK@0.2 of each of the 14.
    """

    images: int
    skipped: int
    pck: float
    pck_limbs: float
    pckh: float
    per_joint: dict[str, float]


def jittered_box(box: npt.ArrayLike, seed: int, index: int) -> FloatArray:
    """A box (4,) as a detector might give it: moved and of another size, alike every time.

    Args:
        box: x0 y0 x1 y1.
        seed, index: of the whole evaluation, and of the image within its set.
    """
    box = np.asarray(box, dtype=np.float64)
    generator = np.random.default_rng([seed, index])
    extent = box[2:] - box[:2]
    shift = generator.uniform(-JITTER_SHIFT, JITTER_SHIFT, 2) * extent.max()
    scale = JITTER_SCALE ** generator.uniform(-1, 1)
    centre = (box[:2] + box[2:]) / 2 + shift
    return np.concatenate([centre - scale * extent / 2, centre + scale * extent / 2])


def detect(
    model: STSPNet | Network,
    samples: ImagePoses,
    jitter: int | None = None,
    batch: int = BATCH,
    progress: bool = False,
) -> Detections:
    """The network's 2D joints of every annotated person, found within the annotated box.

    The network is used in evaluation mode and left in the mode it was in. Images are read one
    after the other; only their crops are kept, `batch` at a time.

    Args:
        model: on any device, or on a backend.
        samples: people, each with the image it is in.
        jitter: seed of `jittered_box`; None: the boxes as they are.
        batch: crops that go through the network at once.
        progress: whether to show a progress bar, on a terminal.
    """
    if not isinstance(model, torch.nn.Module):
        return _detect(model, torch.device("cpu"), samples, jitter, batch, progress)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        device = next(model.parameters()).device
        return _detect(model, device, samples, jitter, batch, progress)
    finally:
        for module, training in modes:
            module.training = training


@torch.inference_mode()
def _detect(
    model: STSPNet | Network,
    device: torch.device,
    samples: ImagePoses,
    jitter: int | None,
    batch: int,
    progress: bool,
) -> Detections:
    count = len(samples)
    names: list[str] = []
    target = np.full((count, JOINT_COUNT, 2), np.nan)
    visible = np.zeros((count, JOINT_COUNT), dtype=bool)
    joints, confidence = np.full_like(target, np.nan), np.zeros((count, JOINT_COUNT))
    waiting: list[tuple[int, FloatArray, torch.Tensor, torch.Tensor]] = []
    for i in tqdm(range(count), "images", disable=None if progress else True):
        sample = samples[i]
        names.append(sample.name)
        target[i], visible[i] = sample.joints, sample.visible
        if _has_extent(sample.box):
            tight = sample.box if jitter is None else jittered_box(sample.box, jitter, i)
            box = crop_box(tight, model.input_size)
            inputs = still_inputs(sample.image, box[None], model.input_size, device)
            waiting.append((i, box, *inputs))
        if waiting and (len(waiting) == batch or i == count - 1):
            index, boxes, crops, saliency = zip(*waiting, strict=True)
            observation = model.observe(torch.cat(crops), torch.cat(saliency))
            crop_boxes = torch.from_numpy(np.stack(boxes)).to(observation.joints)
            keypoints = image_keypoints(observation, crop_boxes)
            joints[list(index)] = keypoints.joints.double().cpu().numpy()
            confidence[list(index)] = observation.confidence.double().cpu().numpy()
            waiting = []
    return Detections(tuple(names), joints, confidence, target, visible)


def score(detections: Detections) -> Score2D:
    """PCK and PCKh of detections. A joint that was not found, or is not finite, is wrong."""
    scored = np.isfinite(torso_lengths(detections.target, detections.visible))
    visible = detections.visible[scored]
    target = detections.target[scored]
    joints = detections.joints[scored]
    # Infinitely far from the truth, but finite, as metrics want it.
    joints = np.where(np.isfinite(joints).all(axis=-1, keepdims=True), joints, 1e9)

    def pck(picked: tuple[int, ...]) -> float:
        return pck_2d(joints, target, visible, picked)

    return Score2D(
        images=int(scored.sum()),
        skipped=int((~scored).sum()),
        pck=pck(LSP_JOINTS),
        pck_limbs=pck(LIMBS_12),
        pckh=_pckh(joints, target, visible),
        per_joint={JOINTS[i]: pck((i,)) for i in LSP_JOINTS},
    )


def _has_extent(box: FloatArray) -> bool:
    return bool(np.isfinite(box).all() and (box[2:] > box[:2]).any() and (box[2:] >= box[:2]).all())


def _pckh(joints: FloatArray, target: FloatArray, visible: BoolArray) -> float:
    a, b = HEAD
    head = np.linalg.norm(target[:, a] - target[:, b], axis=-1)
    known = visible & (visible[:, a] & visible[:, b] & (head > 0))[:, None]
    distance = np.linalg.norm(joints - target, axis=-1)
    right = (distance <= PCKH_THRESHOLD * head[:, None])[:, LSP_JOINTS]
    known = known[:, LSP_JOINTS]
    return float(100 * right[known].mean()) if known.any() else float("nan")
