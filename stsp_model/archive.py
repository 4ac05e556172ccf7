"""Arrays in .npz files without pickles, so that reading one executes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .files import replacing


def save_arrays(path: str | Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write named arrays; the file appears only once complete."""
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # no array is allow_pickle


def load_arrays(path: str | Path) -> dict[str, npt.NDArray[Any]]:
    """Read named arrays. Raises ValueError for a file that is no such archive, or damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:  # a lone array is no context: TypeError
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # damage can break the archive, a header or an array
        # NumPy takes what it does not know for a pickle, and says how to load that unsafely.
        why = "it is another kind of file" if "pickle" in str(error) else error
        raise ValueError(f"{path} cannot be read as an .npz file without pickles ({why})") from None
