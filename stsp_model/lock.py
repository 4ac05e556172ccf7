"""One process at a time in a folder of results."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator


@contextlib.contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other processes out of this block, by a lock on a file or folder that is there.

    The lock ends with the process that has it, however that comes about. Some network file systems
    have none; there the block is entered all the same. Raises BlockingIOError, with a sentence, if
    another process is in it.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"another process writes into {os.fspath(path)}; wait for it, or choose another "
                "folder"
            ) from None
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)
