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
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Give an OSError from within the name `path`; that of a write to a full disk has none.

    One without a number is left as it is: it has a sentence of its own.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), os.fspath(path)) from None


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path` once complete, even if the power fails.

    The folder is made if need be. What a symbolic link points to is replaced, not the link, and a
    device or a pipe, as /dev/stdout, is written to as it is. Raises OSError, naming `path`, if it
    cannot be written, as on a full disk.
    """
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        with naming(path), path.open("wb") as file:
            yield file
        return
    path = Path(os.path.realpath(path))
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with naming(path):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except FileExistsError:  # a file is there, and `path` itself does not exist
                raise OSError(errno.ENOTDIR, "") from None
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
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
