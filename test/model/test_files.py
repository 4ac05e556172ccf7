"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from stsp_model.files import replacing, write_json


def test_a_file_takes_the_old_ones_place_once_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with replacing(path) as file:
        file.write(b"one")
        assert not path.exists()
    with replacing(path) as file:
        file.write(b"two")
        assert path.read_bytes() == b"one"
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), replacing(path) as file:
        file.write("text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_with_the_files_name(tmp_path: Path) -> None:
    path = tmp_path / "file"
    full = OSError(errno.ENOSPC, "as a write says it, without a name")
    told = pytest.raises(OSError, match=r"No space left on device: '.*/file'")
    with told as caught, replacing(path):
        raise full
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        write_json("/dev/full", {})


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with (
        pytest.raises(OSError, match=r"Not a directory: '.*/plain/file'"),
        replacing(tmp_path / "plain" / "file"),
    ):
        pass


def test_links_and_pipes_stay_what_they_are(tmp_path: Path) -> None:
    target, link, pipe = tmp_path / "target", tmp_path / "link", tmp_path / "pipe"
    target.touch()
    link.symlink_to(target)
    with replacing(link) as file:
        file.write(b"through")
    assert link.is_symlink()
    assert target.read_bytes() == b"through"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with replacing(pipe) as file:
        file.write(b"along")
    assert os.read(end, 100) == b"along"
    os.close(end)
    assert pipe.is_fifo()


def test_json_is_as_others_write_it_and_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "out" / "scores.json"
    write_json(path, {"größe": [1, 2.5]})
    assert json.loads(path.read_text("utf-8")) == {"größe": [1, 2.5]}
    assert "größe" in path.read_text("utf-8")
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
