"""Weights on disk: safetensors files that say what they are, and loading that checks it."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from .files import replacing
from .network import PRESETS, Preset, STSPNet, as_preset
from .skeleton import JOINTS

FORMAT = "stsp"
FORMAT_VERSION = "1"
WEIGHTS = Path(__file__).parent / "weights"  # what ships, one file per preset


def save(
    model: STSPNet, path: str | os.PathLike[str], note: str = "", *, half: bool = False
) -> None:
    """Write the weights as a safetensors file with preset, joints, sizes and note beside them.

    Args:
        model: whose `trained` is stored too.
        path: of the file; it appears only once complete.
        note: how it was trained; empty keeps `model.note`.
        half: store floats in 16 bits; half the size, and precise to three digits.

    Raises:
        ValueError: if a weight has a flaw, in 16 bits too.
        OSError: if the file cannot be written.
    """
    tensors = {}
    for name, value in model.state_dict().items():
        shrinks = half and value.is_floating_point()
        stored = value.detach().cpu().to(torch.float16 if shrinks else value.dtype).contiguous()
        flaw = flaw_of(name, stored)
        if flaw:
            raise ValueError(f"{name} holds {flaw}; nothing was written")
        tensors[name] = stored
    # In memory first: safetensors' own writer keeps the file from all but its owner.
    content = serialise(tensors, _description(model, note or model.note))
    with replacing(path) as file:
        file.write(content)


def flaw_of(name: str, weight: Tensor) -> str:
    """What makes a weight of this name useless, as its poses would be NaN; empty where nothing."""
    if not weight.isfinite().all():
        return "values that are not finite"
    if name.endswith(("running_var", "variance_scale")) and (weight < 0).any():
        return "variances below zero"
    return ""


def stored_in_half(path: str | os.PathLike[str]) -> bool:
    """Whether a file of weights that `load_model` takes holds its floats in 16 bits."""
    with safe_open(path, framework="pt") as file:
        names = file.keys()
        return any(file.get_slice(name).get_dtype() == "F16" for name in names)


def weights_sha256(model: STSPNet) -> str:
    """A checksum of a network's weights, the same wherever they are kept."""
    checksum = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        checksum.update(name.encode())
        checksum.update(value.detach().cpu().contiguous().numpy().tobytes())
    return checksum.hexdigest()


def load_model(
    name_or_path: str | os.PathLike[str] = "edge",
    device: str | torch.device = "cpu",
    preset: str | Preset | None = None,
) -> STSPNet:
    """A network ready for inference.

    Args:
        name_or_path: a preset's name, for the weights that ship, or a .safetensors file. Where no
            weights ship the network is untrained, which a warning says and `trained` tells.
        device: where to put it.
        preset: what the file must be of; None: whatever preset of PRESETS it says it is of.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if there is no such preset or device, or the file is damaged, foreign or of
            another preset; with the reason.
    """
    place = usable_device(device)
    if isinstance(name_or_path, str) and name_or_path in PRESETS:
        shipped = WEIGHTS / f"{name_or_path}.safetensors"
        if shipped.is_file():
            return _read(shipped, name_or_path if preset is None else preset).eval().to(place)
        if preset is not None and as_preset(preset) != PRESETS[name_or_path]:
            raise ValueError(
                f"no weights ship for preset {name_or_path!r}, and an untrained network of the "
                f"given preset, {as_preset(preset).name!r}, differs from it; give the path of "
                "weights"
            )
        warnings.warn(
            f"no trained weights ship for preset {name_or_path!r}: the network is untrained and "
            "its poses mean nothing; give load_model the path of trained weights",
            stacklevel=2,
        )
        return STSPNet(name_or_path).eval().to(place)
    path = Path(name_or_path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{os.fspath(name_or_path)!r} is neither a preset ({', '.join(PRESETS)}) "
            "nor a file of weights"
        )
    return _read(path, preset).eval().to(place)


def usable_device(device: str | torch.device) -> torch.device:
    """The device of this name. Raises ValueError with the reason where it cannot be used."""
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:  # the latter: built without CUDA
        reason = str(error).splitlines()[0]
        raise ValueError(f"device is {str(device)!r}, which cannot be used: {reason}") from None
    return place


def _sizes(preset: Preset) -> str:
    return json.dumps(asdict(preset), sort_keys=True)


def _description(model: STSPNet, note: str) -> dict[str, str]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "preset": model.preset.name,
        "sizes": _sizes(model.preset),
        "joints": " ".join(JOINTS),
        "input_size": f"{model.input_size[0]} {model.input_size[1]}",
        "trained": "yes" if model.trained else "no",
        "note": note,
    }


def _read(path: Path, preset: str | Preset | None) -> STSPNet:
    """The network stored in a file, or a ValueError that says what is wrong with the file."""
    try:
        with safe_open(path, framework="pt") as file:
            found: dict[str, str] = file.metadata() or {}
            names = file.keys()
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is damaged, cut off or no safetensors file ({error}); fetch or save it again"
        ) from None
    if found.get("format") != FORMAT:
        raise ValueError(
            f"{path} was not written by stsp: its metadata lacks format {FORMAT!r}; "
            "use a file written by stsp_model.save"
        )
    if found.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {found.get('format_version')}, this release reads "
            f"{FORMAT_VERSION}; use the release that wrote it, or save it again"
        )
    wanted = _wanted(path, found, preset)
    model = STSPNet(wanted)
    for key, value in _description(model, "").items():
        if key not in ("trained", "note") and found.get(key) != value:
            raise ValueError(
                f"{path} does not fit preset {wanted.name}: its {key} is {found.get(key)!r}, "
                f"expected {value!r}"
            )
    _fill(model, tensors, path)
    model.trained = found.get("trained") == "yes"
    model.note = found.get("note", "")
    return model


def _wanted(path: Path, found: dict[str, str], preset: str | Preset | None) -> Preset:
    name = found.get("preset", "")
    if preset is not None:
        wanted = as_preset(preset)
        if name != wanted.name:
            raise ValueError(
                f"{path} holds weights of preset {name!r}, not of {wanted.name!r}; "
                f"load it with preset={name!r} or choose another file"
            )
        return wanted
    if name not in PRESETS:
        raise ValueError(
            f"{path} holds weights of preset {name!r}, expected one of {', '.join(PRESETS)}; "
            "give load_model the Preset it was made with"
        )
    return PRESETS[name]


def _fill(model: STSPNet, tensors: dict[str, Tensor], path: Path) -> None:
    """Copy weights into the model after checking that each fits."""
    expected: dict[str, Any] = model.state_dict()
    missing, foreign = sorted(expected.keys() - tensors), sorted(tensors.keys() - expected)
    if missing or foreign:
        example = (missing or foreign)[0]
        raise ValueError(
            f"{path} lacks {len(missing)} weights and has {len(foreign)} unknown ones "
            f"(such as {example}); it was saved by another version of the network"
        )
    for name, value in tensors.items():
        shape = tuple(expected[name].shape)
        if tuple(value.shape) != shape:
            raise ValueError(
                f"{path} has {name} of shape {tuple(value.shape)}, expected {shape}; "
                "it was saved by another version of the network"
            )
        flaw = flaw_of(name, value.to(expected[name].dtype))
        if flaw:
            raise ValueError(f"{path} has {name} with {flaw}; train or save it again")
    model.load_state_dict(tensors)  # casts 16-bit storage to the parameters' 32 bits
