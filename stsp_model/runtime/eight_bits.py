"""EPE in 8 bits, as it ships beside the weights for CPUs that are fast at it."""

from __future__ import annotations

from pathlib import Path

from stsp_model.checkpoint import WEIGHTS, weights_sha256
from stsp_model.network import STSPNet
from stsp_model.runtime.exported import Description, checked
from stsp_model.runtime.graphs import EPE

# x86 CPUs that multiply 8-bit integers and add the products in 32 bits have one of these. On
# others pairs of products are added in 16 bits, which may overflow.
_VNNI = {"avx512_vnni", "avx_vnni"}


def is_fast_here(cpu_info: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether 8 bits are faster on this CPU, and as accurate as was measured.

    Known of x86 with VNNI alone; what Linux does not tell of is taken for another.
    """
    try:
        told = cpu_info.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = next((line for line in told.splitlines() if line.startswith("flags")), "")
    return not _VNNI.isdisjoint(flags.split())


def shipped_epe(model: STSPNet) -> tuple[Description, bytes] | None:
    """The EPE in 8 bits, for any number of people, that was made of exactly these weights.

    None where none ships.

    Raises:
        ValueError: if the file is damaged. MissingPackageError: without the package onnx.
    """
    path = WEIGHTS / f"{model.preset.name}_epe_int8.onnx"
    if not path.is_file():
        return None
    content = path.read_bytes()
    description = checked(path, EPE, content)
    return (description, content) if description.weights == weights_sha256(model) else None
