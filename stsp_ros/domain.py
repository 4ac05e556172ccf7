"""A ROS domain of one's own on the local host, so that a demo or a test never meets another."""

from __future__ import annotations

import fcntl
import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DOMAIN_COUNT = 102  # 0-101: higher domains reach into Linux's ephemeral ports
_turn = itertools.count(os.getpid())


def local_environment(domain: int) -> dict[str, str]:
    """Environment variables that keep a ROS process in `domain` and on this host."""
    # Later distributions warn of Humble's variable as soon as it is set.
    humble = os.environ.get("ROS_DISTRO") == "humble"
    name, value = (
        ("ROS_LOCALHOST_ONLY", "1") if humble else ("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    )
    return {"ROS_DOMAIN_ID": str(domain), name: value}


@contextmanager
def claimed_domain() -> Iterator[int]:
    """Hold a domain that no other process of this user claims; freed on exit, also after a crash.

    Raises RuntimeError when all are taken.
    """
    folder = Path(tempfile.gettempdir()) / f"stsp-domains-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    # Not the one held last: traces of what has just ended there can keep a client from ever
    # finding its service. 0 is every user's default domain, so it comes last.
    first = next(_turn)
    others = [1 + (first + i) % (DOMAIN_COUNT - 1) for i in range(DOMAIN_COUNT - 1)]
    for domain in [*others, 0]:
        with (folder / str(domain)).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield domain
            return
    raise RuntimeError(f"all {DOMAIN_COUNT} ROS domains are in use by other stsp processes")
