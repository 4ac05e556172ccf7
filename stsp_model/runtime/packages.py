"""Packages that only some backends need."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

_FIX = {
    "tensorrt": "install JetPack's python3-libnvinfer on a Jetson, or pip install tensorrt on a "
    "machine with an NVIDIA GPU, or choose another backend",
}


class MissingPackageError(ValueError):
    """A package that was not installed; the sentence says how to get it."""


def installed(*names: str) -> bool:
    """Whether all of these packages are there; nothing is imported."""
    return all(importlib.util.find_spec(name) is not None for name in names)


def needed(name: str) -> Any:
    """Import a package. Raises MissingPackageError if it cannot be imported."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        fix = _FIX.get(name, "pip install '.[deploy]' in stsp's checkout, or choose backend torch")
        raise MissingPackageError(f"{name} cannot be imported ({error}): {fix}") from None
