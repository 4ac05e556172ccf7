"""Published HRNet weights made into a network: pose HRNet's own, mmpose's, and bare trunks.

All of them name the trunk's weights as hrnet.py does, behind a prefix or none: the authors' pose
networks (`pose_hrnet_w32_256x192.pth`), mmpose's (`backbone.`, with the heat maps' layer under
`head.`, before version 1 `keypoint_head.`), and classifiers on ImageNet (timm's `hrnet_w32`), which
have no heat maps and more outputs of their last stage than we use.

What comes over is the trunk, to the bit, and the heat maps of COCO's 17 points:

- A joint that COCO has gets its point's row of the 1x1 convolution, and pelvis, thorax and spine
  the mean of the rows that `skeleton.COCO_17` derives them from. The mean of logits multiplies the
  parents' maps instead of finding their midpoint. Both are Gaussians of 2 cells (networks trained
  at 256x192) or 3 (384x288): up to twice that apart, their mean peaks at the midpoint; beyond, it
  keeps two peaks of half the height, and the joint lands on one parent, with a mass of a third to
  a half that says so. Up to 10 cells apart this is a better start for training than an empty map.
- COCO has nothing that head_top could be taken from: its row stays untrained, its map all but flat.
- Those networks learnt, by squared error, maps that peak at 1 where a joint is and are 0 elsewhere.
  We read a map as logits of a softmax, so all rows are multiplied by `SHARPNESS`.
- They take cell x for pixel 4x of the crop, we for 4x + 1.5: until stage epe has trained, joints
  come out up to 1.5 pixels of the crop too far right and down.

The finder, the person-present output and the lifter remain untrained, and confidences uncalibrated.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .checkpoint import flaw_of
from .hrnet import HRNet
from .network import PRESETS, STSPNet
from .skeleton import COCO_17, JOINTS

# Half a peak, where the network is undecided, then has half of the softmax's mass in our window
# (0.54 with peaks of 2 cells in 64x64, 0.52 with 3 in 96x96); a peak of 0.8 has 0.98, and one of
# 0.2 has 0.05. Reasoned, not measured: calibration at the end of stage epe sets confidences right.
SHARPNESS = 14.0

_BRANCH = "stage4.0.branches.{}.0.conv1.weight"  # its rows are the branch's width
_FINAL = ("final_layer.weight", "final_layer.bias")
# By what stands before the names of the trunk: what stands before those of the heat maps' layer.
_HEADS = {"": ("",), "module.": ("module.",), "backbone.": ("head.", "keypoint_head.")}
_LISTED = 4  # keys of a group that are still written out
# Fewer bits, and whole numbers, are codes that mean nothing without a scale from elsewhere.
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# What checkpoints of mmpose and of training runs hold besides tensors: logs and measures. An empty
# object stands in for each, so nothing of numpy or mmengine is called or need be installed.
_LOGS = (
    ("mmengine.logging.history_buffer", "HistoryBuffer"),
    ("builtins", "getattr"),
    ("__builtin__", "getattr"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
)


class _Nothing:
    """Takes the place of an object that is not wanted, whatever it is made from."""

    def __new__(cls, *_: Any) -> _Nothing:
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


_STAND_INS: list[Any] = [type(name, (_Nothing,), {"__module__": module}) for module, name in _LOGS]


@dataclass(frozen=True, eq=False)
class Published:
    """What a file of weights holds: tensors by their names there, and names of its heat maps.

    outputs: None where the file does not say.
    """

    tensors: dict[str, Tensor]
    outputs: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class Imported:
    """A network with published weights in it.

    model: `trained` is False, as most of it is not.
    heatmaps: whether the file had COCO's heat maps.
    taken: how many of the file's tensors are in the network.
    missing: weights that the network has and the file lacks, by their names in HRNet.
    surplus: what the file has and the network has no use for, by their names in the file.
    """

    model: STSPNet
    heatmaps: bool
    taken: int
    missing: tuple[str, ...]
    surplus: tuple[str, ...]


def import_weights(path: str | os.PathLike[str], preset: str | None = None) -> Imported:
    """A network of preset base or large from a file of published weights.

    Args:
        path: a .safetensors file, or one written by torch.save: a state dict, or a checkpoint with
            a `state_dict` in it.
        preset: what the file must be of; None: whatever its widths say.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read without running what it holds, is damaged, is no HRNet of
            32 or 48 channels, or does not fit; with the reason.
    """
    path = Path(path)
    published = read_weights(path)
    tensors = published.tensors
    trunk = _trunk_prefix(tensors, path)
    name = _preset_of(tensors, trunk, path)
    if preset not in (None, name):
        raise ValueError(f"{path} holds weights of preset {name!r}, not of {preset!r}")
    model = STSPNet(name)
    backbone = model.epe.backbone
    head = next((head for head in _HEADS[trunk] if head + _FINAL[0] in tensors), None)
    theirs = {ours: trunk + ours for ours in backbone.state_dict() if ours not in _FINAL}
    if head is not None:
        theirs |= {ours: head + ours for ours in _FINAL}
    found = {ours: tensors[key] for ours, key in theirs.items() if key in tensors}
    missing = tuple(ours for ours in backbone.state_dict() if ours not in found)
    _fill(backbone, found, theirs, published.outputs, path)
    used = {theirs[ours] for ours in found}
    model.note = (
        f"trunk{'' if head is None else ' and heat maps of COCO'} from {path.name} "
        f"(sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}), the rest untrained"
    )
    surplus = tuple(key for key in tensors if key not in used)
    return Imported(model, head is not None, len(found), missing, surplus)


def coco_rows(rows: Tensor) -> Tensor:
    """Rows (17, ...) for our joints from those (17, ...) for COCO's points, in logits.

    A row of zeros where COCO has nothing for the joint.
    """
    shares = torch.from_numpy(COCO_17.matrix()).to(rows)
    return SHARPNESS * (shares @ rows.reshape(len(rows), -1)).view(rows.shape)


def summary(imported: Imported) -> str:
    """What came over and what did not, for people to read; several lines."""
    lines = [f"{imported.taken} weights into preset {imported.model.preset.name}"]
    untrained = ["finder", "person-present output", "lifter"]
    if imported.heatmaps:
        shares = COCO_17.matrix()
        same = [joint for joint, row in zip(JOINTS, shares, strict=True) if row.max() == 1]
        none = [joint for joint, row in zip(JOINTS, shares, strict=True) if not row.any()]
        means = [joint for joint in JOINTS if joint not in same and joint not in none]
        lines += [
            f"heat maps of COCO's own points: {', '.join(same)}",
            f"means of their parents' heat maps, a rough start: {', '.join(means)}",
        ]
        untrained = [f"heat map of {', '.join(none)}", *untrained]
    else:
        untrained = ["all heat maps", *untrained]
    lines.append(f"untrained: {', '.join(untrained)}")
    for title, keys in (("missing", imported.missing), ("surplus", imported.surplus)):
        lines.append(f"{title}: {len(keys)}")
        lines += [f"  {line}" for line in grouped(keys)]
    return "\n".join(lines)


def grouped(keys: Iterable[str]) -> list[str]:
    """Names of weights as a few lines: those of one module together, counted if they are many."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        prefix = next((prefix for prefix in _HEADS if prefix and key.startswith(prefix)), "")
        module = key.removeprefix(prefix).split(".")[0]
        groups.setdefault(prefix + module, []).append(key)
    lines = []
    for names in groups.values():
        if len(names) <= _LISTED:
            lines += names
        else:
            lines.append(f"{_common(names)}.*: {len(names)}, such as {names[0]}")
    return lines


def _common(names: list[str]) -> str:
    """The module that all of them are in."""
    parts = []
    for level in zip(*(name.split(".") for name in names), strict=False):
        if len(set(level)) > 1:
            break
        parts.append(level[0])
    return ".".join(parts)


def read_weights(path: str | os.PathLike[str]) -> Published:
    """The tensors in a file, without running anything that it holds.

    Raises:
        FileNotFoundError, ValueError: see `import_weights`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    content: Any
    if path.suffix == ".safetensors":
        try:
            content = load_file(path)
        except SafetensorError as error:
            raise ValueError(
                f"{path} is damaged, cut off or no safetensors file ({error}); fetch it again"
            ) from None
    else:
        content = _unpickled(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        outputs, content = _outputs(content), content["state_dict"]
    else:
        outputs = None
    if not isinstance(content, dict) or not content:
        raise ValueError(
            f"{path} holds a {type(content).__name__}, expected tensors by their names, or a "
            "checkpoint with these under 'state_dict'"
        )
    for key, value in content.items():
        if not isinstance(key, str) or not _plain(value):
            raise ValueError(
                f"{path} has {key!r} among its weights, expected plain tensors by their names; "
                "save the network's state_dict() alone"
            )
    return Published(content, outputs)


def _plain(value: Any) -> bool:
    """Whether this is a tensor with its numbers in memory, one after the other."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_nested or value.is_complex())
    )


def _unpickled(path: Path) -> Any:
    """What torch.save wrote, as far as it is plain data."""
    try:
        with _without_logs(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles other than torch.save's: see below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever bytes a foreign file happens to hold
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted:
            raise ValueError(
                f"{path} is not plain tensors: reading it would run {wanted[1]}, so it was not "
                "read; where it comes from somebody you trust, let them save the network's "
                "state_dict() alone"
            ) from None
        raise ValueError(
            f"{path} is damaged, cut off or no file of torch.save ({type(error).__name__}); fetch "
            "it again"
        ) from None


@contextmanager
def _without_logs() -> Iterator[None]:
    """Let `_STAND_INS`, and nothing else, through torch.load's list of what is safe."""
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(_STAND_INS)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(allowed)


def _outputs(checkpoint: dict[Any, Any]) -> tuple[str, ...] | None:
    """Names of the heat maps, which mmpose states from version 1 on."""
    names: Any = checkpoint
    for key in ("meta", "dataset_meta", "keypoint_id2name"):
        names = names.get(key) if isinstance(names, dict) else None
    return tuple(map(str, names.values())) if isinstance(names, dict) else None


def _trunk_prefix(tensors: dict[str, Tensor], path: Path) -> str:
    landmark = _BRANCH.format(0)
    for prefix in _HEADS:
        if prefix + landmark in tensors:
            return prefix
    raise ValueError(
        f"{path} holds no HRNet of a known project: it lacks {landmark}, with "
        f"{' or '.join(filter(None, _HEADS))} before it or without; it has {len(tensors)} weights, "
        f"such as {next(iter(tensors))} (those written by stsp need no import)"
    )


def _preset_of(tensors: dict[str, Tensor], trunk: str, path: Path) -> str:
    branches = [tensors.get(trunk + _BRANCH.format(i)) for i in range(4)]
    widths = tuple(0 if b is None or b.ndim == 0 else b.shape[0] for b in branches)
    known = {PRESETS[name].backbone.widths: name for name in ("base", "large")}
    if widths not in known:
        raise ValueError(
            f"{path} holds an HRNet whose branches are {widths} channels wide, expected "
            + " or ".join(f"{widths} for {name}" for widths, name in known.items())
        )
    return known[widths]


def _fill(
    backbone: HRNet,
    found: dict[str, Tensor],
    theirs: dict[str, str],
    outputs: tuple[str, ...] | None,
    path: Path,
) -> None:
    """Copy weights into the backbone after checking that none lacks and each fits.

    Args:
        found: by our names. theirs: what these are called in the file.
        outputs: what the file calls its heat maps, None where it does not say.
    """
    expected = backbone.state_dict()
    # Counters of batch norm, absent from old files, are used neither here nor in training.
    lacking = [n for n in theirs if n not in found and not n.endswith("num_batches_tracked")]
    if lacking:
        raise ValueError(
            f"{path} lacks {len(lacking)} of the weights of an HRNet:\n  "
            + "\n  ".join(grouped(theirs[name] for name in lacking))
        )
    for name, value in found.items():
        if value.shape != expected[name].shape:
            hint = ""
            if name in _FINAL:
                hint = ", COCO's points from the trunk's channels by a 1x1 convolution"
            raise ValueError(
                f"{path} has {theirs[name]} of shape {tuple(value.shape)}, expected "
                f"{tuple(expected[name].shape)}{hint}"
            )
        kind = expected[name].dtype
        if kind in _FLOATS and value.dtype not in _FLOATS:
            raise ValueError(
                f"{path} has {theirs[name]} of {value.dtype}, expected floats of 16 bits or more"
            )
        flaw = flaw_of(name, value.to(kind))
        if flaw:
            raise ValueError(f"{path} has {theirs[name]} with {flaw}")
    if _FINAL[0] in found and outputs not in (None, COCO_17.points):
        raise ValueError(
            f"{path} says its heat maps are {' '.join(outputs or ())}, expected COCO's: "
            f"{' '.join(COCO_17.points)}"
        )
    backbone.load_state_dict({k: v for k, v in found.items() if k not in _FINAL}, strict=False)
    for name in _FINAL:
        if name in found:
            rows = coco_rows(found[name].float())
            known = torch.from_numpy(COCO_17.matrix().any(axis=1))
            expected[name][known] = rows[known]  # shares its memory with the layer
