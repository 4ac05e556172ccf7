"""A comparison of two replays as tables on a screen."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stsp_model.evaluation.report import number, table
from stsp_model.replay.bootstrap import FEW_BLOCKS, LEVEL
from stsp_model.replay.compare import Comparison, Row


def text(comparison: Comparison) -> str:
    """How many frames were compared, the table by measure, and that by joint."""
    parts = [
        f"{comparison.frames} frames with truth; {100 * LEVEL:.0f} % intervals by a bootstrap of "
        f"{comparison.blocks} blocks of {comparison.block:g} s",
        _table("measure", comparison.rows),
        _table("MPJPE by joint", comparison.joints),
    ]
    if comparison.blocks < FEW_BLOCKS:
        parts.append(
            f"Fewer than {FEW_BLOCKS} blocks tell little: compare longer bags, or several."
        )
    return "\n\n".join(parts)


def _table(first: str, rows: Sequence[Row]) -> str:
    def cells(row: Row) -> list[str]:
        digits = 2 if "/" in row.unit else 1
        return [
            f"{row.title.replace('_', ' ')}, {row.unit}",
            number(row.a, digits),
            number(row.b, digits),
            f"{row.difference:+.{digits}f}",
            f"{row.low:+.{digits}f} to {row.high:+.{digits}f}" if row.low > -math.inf else "-",
            row.better.upper() or ("may be chance" if row.low < row.high else "same"),
        ]

    return table([first, "A", "B", "B - A", "interval", "better"], [cells(row) for row in rows])
