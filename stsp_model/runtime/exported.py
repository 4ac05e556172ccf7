"""Networks as ONNX: made from PyTorch, written to and read from a folder with one file per graph.

The files hold opset 17, which ONNX Runtime, OpenVINO and TensorRT all take; each says in its
metadata what it is. They come from the TorchScript-based exporter: it needs no more packages and
takes a tenth of the time of the one on torch.export (docs/performance.md).
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import threading
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from stsp_model.checkpoint import weights_sha256
from stsp_model.files import replacing
from stsp_model.hrnet import HRNetSize
from stsp_model.network import Preset, STSPNet
from stsp_model.runtime import FLOAT16, FLOAT32
from stsp_model.runtime.graphs import EPE, FINDER, GRAPHS, LIFTER, SIGNATURES, examples, graphs
from stsp_model.runtime.packages import needed
from stsp_model.skeleton import JOINTS

FORMAT, FORMAT_VERSION = "stsp-onnx", "1"
OPSET = 17
MOST_PEOPLE = 64  # per call where that is static: exporting runs the network on as many crops
_EXPORTER = threading.Lock()  # PyTorch's has global state, and a process may have two nodes
_DOMAINS = {"", "ai.onnx", "com.microsoft"}  # of operators; the last: what quantisation uses


@dataclass(frozen=True)
class Description:
    """What a network's ONNX files say of themselves.

    preset, trained, note: as STSPNet's; sizes: the preset's, as JSON. weights: checksum of those it
    was made from, see checkpoint.weights_sha256. input_size, finder_size: width, height.
    window: past poses of the lifter. batch: people per call; 0: any number.
    precision: of EPE's convolutions: FLOAT32, FLOAT16 or INT8. accuracy: what was measured of it,
    a sentence. calibration: of confidences and variances, as JSON. mirrored: whether EPE looks at
    each crop's mirror image as well.
    """

    preset: str
    sizes: str
    weights: str
    trained: bool
    note: str
    input_size: tuple[int, int]
    finder_size: tuple[int, int]
    window: int
    batch: int
    calibration: str
    precision: str
    accuracy: str = ""
    mirrored: bool = False

    def stated_preset(self) -> Preset:
        """The preset as its sizes stand here, which need not be those of this release."""
        sizes = json.loads(self.sizes)
        backbone: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in sizes.pop("backbone").items()
        }
        return Preset(backbone=HRNetSize(**backbone), **sizes)


@dataclass(frozen=True)
class Exported:
    """A network as ONNX: the bytes of each graph's file, by its name in GRAPHS."""

    description: Description
    files: Mapping[str, bytes]

    @property
    def trained(self) -> bool:
        """Whether its weights come from training."""
        return self.description.trained

    @property
    def note(self) -> str:
        """Where its weights come from."""
        return self.description.note

    @property
    def precision(self) -> str:
        """In which EPE is computed."""
        return self.description.precision

    @property
    def sha256(self) -> str:
        """A checksum of all of it."""
        checksum = hashlib.sha256()
        for name in GRAPHS:
            checksum.update(self.files[name])
        return checksum.hexdigest()


def export(
    model: STSPNet,
    batch: int = 0,
    half: bool = False,
    epe: tuple[Description, bytes] | None = None,
    mirrored: bool = False,
) -> Exported:
    """A network as ONNX.

    Args:
        model: left as it is.
        batch: people per call, a static shape, MOST_PEOPLE at most; 0: a free batch axis.
        half: finder and EPE in 16 bits, for GPUs.
        epe: an EPE of these weights and this batch that is there already, and what it says of
            itself; see eight_bits.shipped_epe.
        mirrored: EPE looks at each crop's mirror image as well.

    Raises:
        ValueError: for a batch below 0 or above MOST_PEOPLE.
        MissingPackageError: without the package onnx.
    """
    if not 0 <= batch <= MOST_PEOPLE:
        raise ValueError(
            f"batch is {batch}, expected 1 to {MOST_PEOPLE} people per call, or 0 for any number"
        )
    needed("onnx")
    description = _describe(model, batch, FLOAT16 if half else FLOAT32, mirrored)
    # A copy on the CPU: constants folded on a GPU may differ in their last bits, and then a node
    # would not find the engine that a command built.
    model = copy.deepcopy(model).cpu().eval()
    inputs = examples(model, batch or 2)
    files = {}
    if epe is not None:
        told, files[EPE] = epe
        description = replace(description, precision=told.precision, accuracy=told.accuracy)
    for name, graph in graphs(model, half, mirrored).items():
        free = not batch and name != FINDER
        if name not in files:
            files[name] = _exported(graph.eval(), name, inputs[name], free)
    return described(Exported(description, files), description)


def _exported(
    graph: torch.nn.Module, name: str, inputs: tuple[torch.Tensor, ...], free: bool
) -> bytes:
    """A graph as ONNX; `free` leaves the first axis of all that goes in and out of any length."""
    names = SIGNATURES[name]
    tensors = (*names.inputs, *names.outputs) if free else ()
    # Into memory: a node exports at its start, where a disk may be full or read-only.
    content = io.BytesIO()
    with _EXPORTER, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of sizes that become constants, which is meant
        torch.onnx.export(
            graph,
            inputs,
            content,  # type: ignore[arg-type]  # as this exporter takes it, whatever its types say
            input_names=list(names.inputs),
            output_names=list(names.outputs),
            dynamic_axes={tensor: {0: "people"} for tensor in tensors},
            opset_version=OPSET,
            dynamo=False,
        )
    return content.getvalue()


def _describe(model: STSPNet, batch: int, precision: str, mirrored: bool) -> Description:
    lifter = model.lifter
    calibration = {
        "confidence_2d": model.epe.calibration,
        "confidence": lifter.calibration,
        "variance_scale": lifter.variance_scale,
        "height_variance_scale": lifter.height_variance_scale,
    }
    return Description(
        preset=model.preset.name,
        sizes=json.dumps(asdict(model.preset), sort_keys=True),
        weights=weights_sha256(model),
        trained=model.trained,
        note=model.note,
        input_size=model.input_size,
        finder_size=model.finder_size,
        window=lifter.window,
        batch=batch,
        calibration=json.dumps({name: value.tolist() for name, value in calibration.items()}),
        precision=precision,
        mirrored=mirrored,
    )


def described(network: Exported, description: Description) -> Exported:
    """The same network with another description, in its files as well."""
    onnx = needed("onnx")
    files = {}
    for name, content in network.files.items():
        model = onnx.load_model_from_string(content)
        del model.metadata_props[:]
        told = {key: _words(value) for key, value in asdict(description).items()}
        told |= {"format": FORMAT, "format_version": FORMAT_VERSION, "graph": name}
        told["joints"] = " ".join(JOINTS)
        onnx.helper.set_model_props(model, told)
        files[name] = model.SerializeToString(deterministic=True)
    return replace(network, description=description, files=files)


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def file_name(graph: str) -> str:
    """Of a graph in a network's folder."""
    return f"{graph}.onnx"


def write(network: Exported, folder: str | os.PathLike[str]) -> None:
    """Write a network's files into a folder, which is made if need be: all of them, or none.

    Raises OSError if one cannot be written, as on a full disk.
    """
    folder = Path(folder)
    written: list[Path] = []
    try:
        for name, content in network.files.items():
            path = folder / file_name(name)
            with replacing(path) as file:
                file.write(content)
            written.append(path)
    except BaseException:
        for path in written:
            path.unlink()
        raise


def read(folder: str | os.PathLike[str]) -> Exported:
    """A network from the folder that `write` made.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if one is damaged, foreign, or belongs to another network; with the reason.
        MissingPackageError: without the package onnx.
    """
    folder = Path(folder)
    files, descriptions = {}, {}
    for name in GRAPHS:
        path = folder / file_name(name)
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder} has no {path.name}; a network's folder is written by stsp export"
            )
        files[name] = path.read_bytes()
        descriptions[name] = checked(path, name, files[name])
    for name in (FINDER, LIFTER):
        if descriptions[name] != descriptions[EPE]:
            raise ValueError(
                f"{folder / file_name(name)} is of another network than {file_name(EPE)} beside "
                "it; export both at once"
            )
    return Exported(descriptions[EPE], files)


def checked(path: Path, graph: str, content: bytes) -> Description:
    """What a file says of itself, once it is known to be one of ours.

    Raises:
        ValueError: if it is none, or damaged; with the reason.
    """
    onnx = needed("onnx")
    again = "; write it again with stsp export"
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's errors have no common base that is public
        raise ValueError(f"{path} is damaged or no ONNX file ({error}){again}") from None
    told = {entry.key: entry.value for entry in model.metadata_props}
    if told.get("format") != FORMAT or told.get("graph") != graph:
        raise ValueError(f"{path} is no {graph} of a network of stsp{again}")
    if told.get("format_version") != FORMAT_VERSION or told.get("joints") != " ".join(JOINTS):
        raise ValueError(f"{path} was written by another version of stsp{again}")
    if any(tensor.external_data for tensor in model.graph.initializer):
        raise ValueError(f"{path} keeps its weights in another file{again}")
    foreign = {node.domain for node in model.graph.node} - _DOMAINS
    if foreign or model.functions:
        raise ValueError(f"{path} has operators of its own ({', '.join(sorted(foreign))}){again}")
    try:
        return _description(told)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} lacks what it should say of itself ({error}){again}") from None


def _description(told: Mapping[str, str]) -> Description:
    def size(name: str) -> tuple[int, int]:
        width, height = map(int, told[name].split())
        return width, height

    return Description(
        preset=told["preset"],
        sizes=told["sizes"],
        weights=told["weights"],
        trained=told["trained"] == "yes",
        note=told["note"],
        input_size=size("input_size"),
        finder_size=size("finder_size"),
        window=int(told["window"]),
        batch=int(told["batch"]),
        calibration=told["calibration"],
        precision=told["precision"],
        accuracy=told["accuracy"],
        mirrored=told.get("mirrored") == "yes",  # older files say nothing of it
    )
