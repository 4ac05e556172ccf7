"""EPE in 8 bits, for CPUs: calibrated on training images, with what that costs measured beside it.

ONNX Runtime's static quantisation: activations in unsigned, weights in signed 8 bits with a scale
for each channel; ranges leave out the last thousandth of a per cent on either side. The first two
layers, which cost little, and the last, that of the heat maps, stay in 32 bits: together a third
less of what 8 bits move joints by (docs/experiments.md, "Larger crops, in 8 bits").
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from stsp_model.crop import crop_box
from stsp_model.evaluation.pck import ImagePoses, detect, score
from stsp_model.hrnet import STRIDE
from stsp_model.perception import network_images, person_crops
from stsp_model.runtime import FLOAT32, INT8, ONNXRUNTIME
from stsp_model.runtime.backends import open_network
from stsp_model.runtime.exported import Exported, described, file_name
from stsp_model.runtime.graphs import EPE
from stsp_model.runtime.packages import needed

CALIBRATION_IMAGES = 200
_STEM = 2  # layers
_PERCENTILE = 99.999


@dataclass(frozen=True)
class Cost:
    """PCK@0.2 in per cent over the 14 joints of LSP, before and after, on so many images."""

    images: int
    before: float
    after: float

    def __str__(self) -> str:
        return (
            f"PCK@0.2 {self.before:.2f} % in 32 bits, {self.after:.2f} % in 8 bits "
            f"({self.after - self.before:+.2f}) on {self.images} images"
        )


def quantised(
    network: Exported, training: ImagePoses, selection: ImagePoses, progress: bool = False
) -> tuple[Exported, Cost]:
    """A network whose EPE computes in 8 bits, and what that costs.

    Args:
        network: in 32 bits.
        training: people in images, for calibration; CALIBRATION_IMAGES of them, evenly spread.
        selection: others, for the score.
        progress: whether to show progress bars.

    Raises:
        ValueError: for a network that is not in 32 bits, or without people to calibrate on
            or to score.
        MissingPackageError: without the packages onnx and onnxruntime.
    """
    if network.description.precision != FLOAT32:
        raise ValueError(f"the network is in {network.description.precision}, expected {FLOAT32}")
    quantise: Any = needed("onnxruntime.quantization")
    onnx = needed("onnx")
    content = network.files[EPE]
    graph = onnx.load_model_from_string(content).graph
    layers = [node for node in graph.node if node.op_type == "Conv"]
    precise = [*layers[:_STEM], layers[-1]]
    crops = _crops(training, network.description.input_size, progress)
    if not crops:
        raise ValueError("there is nobody in the training images to calibrate on")
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        given, made = Path(folder) / file_name(EPE), Path(folder) / "int8.onnx"
        given.write_bytes(content)
        logging.disable(logging.WARNING)  # advice on graphs of another kind
        try:
            quantise.quantize_static(
                given,
                made,
                _reader(quantise, crops, network.description.batch or 1),
                quant_format=quantise.QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_exclude=[node.name for node in precise],
                per_channel=True,
                activation_type=quantise.QuantType.QUInt8,
                weight_type=quantise.QuantType.QInt8,
                calibrate_method=quantise.CalibrationMethod.Percentile,
                extra_options={"CalibPercentile": _PERCENTILE},
            )
        finally:
            logging.disable(logging.NOTSET)
        result = replace(network, files={**network.files, EPE: made.read_bytes()})
    before, after = (
        score(detect(open_network(version, ONNXRUNTIME), selection, progress=progress))
        for version in (network, result)
    )
    if not after.images:
        raise ValueError("there is nobody in the selection images to score")
    cost = Cost(after.images, before.pck, after.pck)
    told = replace(network.description, precision=INT8, accuracy=str(cost))
    return described(result, told), cost


def _crops(
    people: ImagePoses, size: tuple[int, int], progress: bool
) -> list[npt.NDArray[np.float32]]:
    """(1, 3, H, W) each, of boxes as they are annotated."""
    count = min(len(people), CALIBRATION_IMAGES)
    picked = np.linspace(0, len(people) - 1, count).round().astype(int)
    crops = []
    for index in tqdm(picked, "calibration", disable=None if progress else True):
        person = people[int(index)]
        if not (person.box[2:] > person.box[:2]).all():
            continue
        cut = person_crops(person.image, crop_box(person.box, size)[None], size)
        crops.append(network_images(cut, size).contiguous().numpy())
    return crops


def _reader(quantise: Any, crops: list[npt.NDArray[np.float32]], batch: int) -> Any:
    """The crops, as the calibration wants them; nothing moves in them."""

    def inputs() -> Iterator[dict[str, npt.NDArray[np.float32]]]:
        for crop in crops:
            height, width = crop.shape[2:]
            still = np.zeros((batch, 1, height // STRIDE, width // STRIDE), np.float32)
            yield {"crops": crop.repeat(batch, axis=0), "saliency": still}

    class Reader(quantise.CalibrationDataReader):
        def __init__(self) -> None:
            self.left = inputs()

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            return next(self.left, None)

    return Reader()
