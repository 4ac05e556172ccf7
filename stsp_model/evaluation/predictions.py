"""The file in which any method's poses are handed over to be scored, and in which ours are saved.

A NumPy .npz archive without pickles; docs/evaluation.md describes it for those who write one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stsp_model.archive import load_arrays, save_arrays
from stsp_model.data.errors import DataError
from stsp_model.skeleton import JOINT_COUNT

FloatArray = npt.NDArray[np.float64]

FORMAT = "stsp-predictions"
VERSION = 1
# Arrays with a row per frame, and the shape of a row.
PER_FRAME: Mapping[str, tuple[int, ...]] = {
    "joints": (JOINT_COUNT, 3),
    "joints_2d": (JOINT_COUNT, 2),
    "height": (),
    "confidence": (JOINT_COUNT,),
    "variance": (JOINT_COUNT, 3),
    "confidence_2d": (JOINT_COUNT,),
    "height_variance": (),
}
_LIMITS: Mapping[str, tuple[float, float]] = {
    "confidence": (0.0, 1.0),
    "variance": (0.0, np.inf),
    "confidence_2d": (0.0, 1.0),
    "height_variance": (0.0, np.inf),
}


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a method says of one take of T frames, or of one image (T = 1).

    Args:
        joints: (T, 17, 3) metres, camera axes, from any origin; NaN where there is none.
        joints_2d: (T, 17, 2) pixels of the image; NaN where there is none.
        height: (T,) standing height in metres as estimated.
        confidence: (T, 17) chance, 0..1, of a joint to be within 150 mm of the truth.
        variance: (T, 17, 3) m^2 of the joints, from the pelvis.
        confidence_2d: (T, 17) chance, 0..1, of a joint to be within 0.2 of the torso in the image.
        height_variance: (T,) m^2.
    """

    joints: FloatArray | None = None
    joints_2d: FloatArray | None = None
    height: FloatArray | None = None
    confidence: FloatArray | None = None
    variance: FloatArray | None = None
    confidence_2d: FloatArray | None = None
    height_variance: FloatArray | None = None


def save_predictions(path: str | Path, predictions: Mapping[str, Prediction]) -> None:
    """Write predictions by name of take or image.

    Raises:
        ValueError: if there are none, or one has frames of another number or shape than it should.
    """
    if not predictions:
        raise ValueError("there are no predictions to save")
    lengths = [_length(name, prediction) for name, prediction in predictions.items()]
    arrays: dict[str, npt.NDArray[Any]] = {
        "format": np.array(FORMAT),
        "version": np.array(VERSION),
        "names": np.array(list(predictions)),
        "lengths": np.array(lengths),
    }
    for field, row in PER_FRAME.items():
        values = [getattr(prediction, field) for prediction in predictions.values()]
        if any(value is not None for value in values):
            rows = [
                np.full((length, *row), np.nan) if value is None else value
                for value, length in zip(values, lengths, strict=True)
            ]
            arrays[field] = np.concatenate(rows).astype(np.float64)
    save_arrays(path, arrays)


def _length(name: str, prediction: Prediction) -> int:
    lengths = set()
    for field, row in PER_FRAME.items():
        value = getattr(prediction, field)
        if value is not None:
            if np.shape(value)[1:] != row:
                raise ValueError(
                    f"{field} of {name} has shape {np.shape(value)}, expected (T, "
                    f"{', '.join(map(str, row))})"
                )
            lengths.add(len(value))
    if len(lengths) != 1:
        raise ValueError(f"{name} has arrays of {sorted(lengths)} frames, expected one length")
    return lengths.pop()


def load_predictions(path: str | Path) -> dict[str, Prediction]:
    """Read predictions by name of take or image. Nothing in the file is executed.

    Raises:
        DataError: if the file is not what docs/evaluation.md says.
    """
    arrays = _arrays(Path(path))
    if str(arrays.get("format")) != FORMAT or "names" not in arrays:
        raise DataError(
            f"{path} holds {', '.join(arrays) or 'nothing'}, expected at least `format` "
            f"({FORMAT!r}) and `names`; docs/evaluation.md says how to write one"
        )
    if str(arrays.get("version")) != str(VERSION):
        raise DataError(f"{path} has version {arrays.get('version')}, expected {VERSION}")
    names = arrays["names"]
    if names.ndim != 1 or names.dtype.kind != "U" or len(set(names.tolist())) != len(names):
        raise DataError(f"{path}: `names` must be one dimension of different strings")
    lengths = arrays.get("lengths", np.ones(len(names), int))
    if lengths.shape != names.shape or lengths.dtype.kind not in "iu" or (lengths < 1).any():
        raise DataError(f"{path}: `lengths` must be {len(names)} whole numbers from 1, one a name")
    fields = {field: arrays[field] for field in PER_FRAME if field in arrays}
    if not fields.keys() & {"joints", "joints_2d"}:
        raise DataError(f"{path} holds neither `joints` nor `joints_2d`")
    for field, values in fields.items():
        shape = (int(lengths.sum()), *PER_FRAME[field])
        if values.shape != shape or values.dtype.kind != "f":
            raise DataError(
                f"{path}: `{field}` has shape {values.shape} of {values.dtype}, expected {shape} "
                "of floats"
            )
    for field, (least, most) in _LIMITS.items():
        values = fields.get(field, np.empty(0))
        if (values < least).any() or (values > most).any():
            raise DataError(
                f"{path}: `{field}` must be NaN or {least:g} to {most:g}, it reaches from "
                f"{np.nanmin(values):g} to {np.nanmax(values):g}"
            )
    ends = np.cumsum(lengths)
    return {
        name: Prediction(
            **{field: values[end - n : end].astype(float) for field, values in fields.items()}
        )
        for name, n, end in zip(names.tolist(), lengths.tolist(), ends.tolist(), strict=True)
    }


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    if not path.is_file():
        raise DataError(f"predictions {path} do not exist")
    try:
        return load_arrays(path)
    except ValueError as error:
        raise DataError(f"{error}; docs/evaluation.md says how to write one") from None
