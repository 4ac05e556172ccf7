"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path` once complete, even if the power fails.

    The folder is made if need be. What a symbolic link points to is replaced, not the link, and a
    device or a pipe, as /dev/stdout, is written to as it is. Raises OSError, naming `path`, if it
    cannot be written, as on a full disk.
    """
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        with path.open("wb") as file:
            yield file
        return
    path = Path(os.path.realpath(path))
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        if error.errno is None:
            raise
        # A folder that cannot be made, as there is a file: `path` itself does not exist.
        number = errno.ENOTDIR if error.errno == errno.EEXIST else error.errno
        raise OSError(number, os.strerror(number), str(path)) from None
    finally:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            partial.unlink()


def no_folder(path: str | os.PathLike[str] | None) -> None:
    """Raise IsADirectoryError, before hours of work, if a file is to go where a folder is."""
    if path is not None and Path(path).is_dir():
        raise IsADirectoryError(f"{os.fspath(path)} is a folder; name a file")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write a file of JSON. Raises OSError as `replacing`."""
    with replacing(path) as file:
        file.write((json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())
