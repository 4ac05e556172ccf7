"""Reading .npz files with object arrays, which hold pickles, without running what they ask for."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from stsp_model.data.errors import DataError

_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def _latin1_bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text encoded as {encoding!r}")
    return text.encode("latin1")


# What NumPy itself writes for arrays, numbers and their types, under its old and its new name.
# Old pickles hold bytes as text; the function that Python names for it does more than is needed.
_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1_bytes,
    **{
        (f"{module}.multiarray", name): function
        for module in ("numpy.core", "numpy._core")
        for name, function in (
            ("_reconstruct", np.empty(0).__reduce__()[0]),
            ("scalar", np.float64(0).__reduce__()[0]),
        )
    },
}


class _Unpickler(pickle.Unpickler):
    """Admits numbers, text, lists, dictionaries and NumPy's arrays; nothing that could act."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def load_npz(path: str | Path) -> dict[str, Any]:
    """The arrays of an .npz file; an object array of one object, as np.savez makes of a
    dictionary, is given as that object.

    Raises:
        DataError: if it is no .npz file, is damaged, or its pickles hold more than plain data.
    """
    path = Path(path)
    content: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as stream:
                    content[member.removesuffix(".npy")] = _load_array(stream)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path} is refused: {error}, but only plain data of NumPy are admitted"
        ) from None
    except Exception as error:  # a damaged file can break the zip, the header or the pickle
        raise DataError(f"{path} is no whole .npz file ({error}); is it half a download?") from None
    return content


def _load_array(stream: Any) -> Any:
    version = np.lib.format.read_magic(stream)
    if version not in _READ_HEADER:
        raise ValueError(f"version {version} of .npy")
    shape, fortran, dtype = _READ_HEADER[version](stream)
    if not dtype.hasobject:
        data = np.frombuffer(stream.read(), dtype=dtype)
        return data.reshape(shape, order="F" if fortran else "C")
    array = _Unpickler(stream, encoding="latin1").load()
    if not isinstance(array, np.ndarray) or array.dtype != object or array.shape != shape:
        raise ValueError("an object array that is none")
    return array.item() if array.shape == () else array
