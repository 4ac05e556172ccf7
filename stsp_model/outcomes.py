"""What can become of an image that reached the node, or a replay: it is processed, or dropped."""

from __future__ import annotations

from collections.abc import Mapping

PROCESSED = "processed"
# Why it is not:
SUPERSEDED = "superseded"  # a newer one came before work on it began
STOPPED = "stopped"  # the node was deactivated or disabled
BAD_IMAGE = "bad image"
LATE = "late"  # its stamp is not newer than the one before
FAILED = "failed"

DROPPED = "dropped: "  # stands before the reason in a key of the node's diagnostics


def drops(values: Mapping[str, str]) -> dict[str, int]:
    """Counts of dropped images by reason, of the keys and values of the node's diagnostics."""
    return {
        key.removeprefix(DROPPED): int(count)
        for key, count in values.items()
        if key.startswith(DROPPED)
    }
