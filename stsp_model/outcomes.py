"""What can become of an image that reached the node, or a replay: it is processed, or dropped."""

from __future__ import annotations

PROCESSED = "processed"
# Why it is not:
SUPERSEDED = "superseded"  # a newer one came before work on it began
STOPPED = "stopped"  # the node was deactivated or disabled
BAD_IMAGE = "bad image"
LATE = "late"  # its stamp is not newer than the one before
FAILED = "failed"
