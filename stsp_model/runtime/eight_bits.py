"""EPE in 8 bits, as it ships beside the weights for CPUs that are fast at it."""

from __future__ import annotations

from pathlib import Path

from stsp_model.checkpoint import WEIGHTS, weights_sha256
from stsp_model.network import STSPNet
from stsp_model.runtime.exported import Description, checked
from stsp_model.runtime.graphs import EPE

# With it x86 CPUs are fast at 8 bits. Those with VNNI, which all have it, add products in 32 bits;
# the others add pairs of them in 16, where a few overflow: that was measured, and costs next to
# nothing (docs/performance.md, "Without VNNI").
_FLAG = "avx2"


def is_fast_here(cpu_info: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether 8 bits are faster on this CPU, and as accurate as was measured.

    Known of x86 alone; what Linux does not tell of is taken for another.
    """
    try:
        told = cpu_info.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = next((line for line in told.splitlines() if line.startswith("flags")), "")
    return _FLAG in flags.split()


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
