"""Reading .npz files with object arrays, which hold pickles, without running what they ask for."""

from __future__ import annotations

import math
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


class _Kind:
    """A type of numbers, of text or of objects: that of its name.

    A pickle also sets what a type says of itself, such as that it holds no objects. NumPy believes
    it, and would take a file's bytes for addresses in memory. Only the order of bytes is taken.
    """

    def __init__(self, name: str, *_: Any) -> None:
        self.plain = np.dtype(name)
        if self.plain.kind not in "biufcSUO":
            raise pickle.UnpicklingError(f"it asks for arrays of {self.plain}")

    def __setstate__(self, state: Any) -> None:
        self.plain = self.plain.newbyteorder(state[1])


class _Array(np.ndarray[Any, np.dtype[Any]]):
    """An array that checks what NumPy does not before it takes its content from a pickle."""

    def __setstate__(self, state: Any, /) -> None:
        version, shape, kind, fortran, content = state
        # Of a list NumPy reads as many objects as the shape says, though it ends before.
        if isinstance(content, list) and len(content) != math.prod(shape):
            raise ValueError(f"an array {shape} of {len(content)} objects")
        super().__setstate__((version, shape, kind.plain, fortran, content))


def _empty_array(*_: Any) -> _Array:
    return _Array(0, np.int8)


_make_scalar = np.float64(0).__reduce__()[0]


def _scalar(kind: _Kind, content: bytes) -> Any:
    return _make_scalar(kind.plain, content)


# What NumPy itself writes for arrays, numbers and their types, under its old and its new name. What
# these names mean there does more than is needed, and than is safe with what a file asks of it.
_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): "ndarray",  # an argument of `_reconstruct`
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _latin1_bytes,  # old pickles hold bytes as text
    **{
        (f"{module}.multiarray", name): function
        for module in ("numpy.core", "numpy._core")
        for name, function in (("_reconstruct", _empty_array), ("scalar", _scalar))
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
