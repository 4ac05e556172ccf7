"""Sets of rendered clips on disk: several processes, a progress bar, and going on after a stop."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import warp
from tqdm import tqdm

from stsp_model.data.errors import DataError
from stsp_model.data.shards import INDEX_FILE, SUFFIX, save_clip
from stsp_model.files import replacing
from stsp_model.lock import locked
from stsp_model.synth import CREDITS
from stsp_model.synth.bag import write_bag
from stsp_model.synth.body import anatomy
from stsp_model.synth.clips import ClipSettings, Take, make_clip, open_takes
from stsp_model.synth.textures import picture_files

FORMATS = ("shards", "bag")
# Each process renders on one core; numerical libraries must not start threads of their own.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Job:
    """A set to render.

    Args:
        out: the folder it goes to.
        mocap: BVH files, folders or archives, and folders of DeepMimic's clips.
        settings: of its clips.
        format: "shards" or "bag".
        backgrounds: a folder of pictures, or None.
    """

    out: Path
    mocap: tuple[Path, ...]
    settings: ClipSettings
    format: str = "shards"
    backgrounds: Path | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"format is {self.format!r}, expected one of {', '.join(FORMATS)}")

    def path(self, number: int) -> Path:
        """Where a finished clip is."""
        return self.out / f"{number:06d}{SUFFIX if self.format == 'shards' else ''}"


@dataclass(frozen=True)
class Tally:
    """What a run has written: frames and bytes of new clips, and how many were there before."""

    clips: int
    frames: int
    bytes: int
    kept: int


def _pictures(job: Job) -> list[Path]:
    if job.backgrounds is None:
        return []
    return picture_files(job.backgrounds, job.settings.split)


def _describe(job: Job, takes: Sequence[Take], pictures: Sequence[Path]) -> dict[str, Any]:
    """What the bytes of a set's clips depend on, but for the versions of libraries."""
    return {
        "format": job.format,
        **asdict(job.settings),
        "people": list(job.settings.people),
        "motions": sorted({take.name for take in takes}),
        "backgrounds": [picture.name for picture in pictures],
        "credits": CREDITS,
    }


def _claim(job: Job, about: dict[str, Any]) -> None:
    """Make the folder this job's. Raises DataError if it is another's."""
    file = job.out / INDEX_FILE
    if file.exists():
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise DataError(f"{file} is damaged; remove {job.out} to render anew")
        # Sets of earlier versions lack the settings that came later, and are as without them.
        plain = {field.name: field.default for field in fields(ClipSettings)}
        other = sorted(key for key in about if found.get(key, plain.get(key)) != about[key])
        if other:
            raise DataError(
                f"{job.out} holds a set of other settings ({', '.join(other)}); "
                "choose another folder, or repeat the settings to go on with it"
            )
        return
    if job.out.exists() and any(job.out.iterdir()):
        raise DataError(f"{job.out} holds other files and no {INDEX_FILE}; choose an empty folder")
    with replacing(file) as index:
        index.write((json.dumps(about, indent=1, sort_keys=True) + "\n").encode())


_WORKER: dict[str, Any] = {}


def _end_with_parent() -> None:
    """Without this, workers of a killed parent would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _start(job: Job) -> None:
    import torch

    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    takes = open_takes(job.mocap, job.settings.split)
    _WORKER.update(job=job, takes=takes, pictures=_pictures(job))


def _render(number: int) -> tuple[int, int]:
    """Render and write one clip in a worker; its frames and bytes."""
    job: Job = _WORKER["job"]
    clip = make_clip(number, job.settings, _WORKER["takes"], _WORKER["pictures"])
    path = job.path(number)
    if job.format == "shards":
        save_clip(path, clip)
        return len(clip.jpegs), path.stat().st_size
    parts = job.out / f".{number:06d}.part"
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir()
    write_bag(parts / path.name, clip)
    size = sum(file.stat().st_size for file in (parts / path.name).iterdir())
    os.replace(parts / path.name, path)
    parts.rmdir()
    return len(clip.jpegs), size


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started here never see Ctrl-C; it reaches this one afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def render_set(job: Job, clips: int, workers: int = 2, quiet: bool = False) -> Tally:
    """Render clips 0 to `clips` of a set, but those that are there already.

    The same job writes the same bytes, however many workers there are and however often it was
    stopped. A clip that bears its name is whole.

    Args:
        clips: how many the set has in the end, at least 1.
        workers: processes, at least 1; each fills one core.
        quiet: without a progress bar.

    Raises:
        DataError: if the folder holds something else, or a source lacks what is needed.
        OSError: if the folder cannot be written, or another process writes into it.
        ValueError: for a number out of range.
        ImportError: without the extra [synth].
        RuntimeError: if a rendering process died.
    """
    for name, value in (("clips", clips), ("workers", workers)):
        if value < 1:
            raise ValueError(f"{name} is {value}, expected at least 1")
    pictures = _pictures(job)
    takes = open_takes(job.mocap, job.settings.split)
    # Both fill caches that the workers read, so that these need not do it side by side.
    anatomy()
    warp.load_module("stsp_model.synth.kernels", device="cpu")
    _claim(job, _describe(job, takes, pictures))
    with locked(job.out):  # another process would write the same files
        return _render_missing(job, clips, workers, quiet)


def _render_missing(job: Job, clips: int, workers: int, quiet: bool) -> Tally:
    missing = [number for number in range(clips) if not job.path(number).exists()]
    kept = clips - len(missing)
    frames = size = 0
    bar = tqdm(total=clips, initial=kept, unit="clip", disable=quiet, desc=str(job.out))
    # Spawned, not forked: Warp and PyTorch have threads by now.
    context = multiprocessing.get_context("spawn")
    with _environment(_ONE_THREAD), bar:
        pool = ProcessPoolExecutor(min(workers, max(1, len(missing))), context, _start, (job,))
        try:
            queue, running = iter(missing), set[Future[tuple[int, int]]]()
            while True:
                while len(running) < 2 * workers and (number := next(queue, None)) is not None:
                    with _without_interrupts():
                        running.add(pool.submit(_render, number))
                if not running:
                    break
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    count, written = future.result()
                    frames, size = frames + count, size + written
                    bar.update()
                    seconds = max(bar.format_dict["elapsed"], 1e-9)
                    bar.set_postfix_str(f"{frames / seconds:.1f} frames/s")
        except BrokenProcessPool:
            raise RuntimeError(
                "a rendering process ended unexpectedly, perhaps for lack of memory; "
                "the same command goes on with what is missing"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
    return Tally(len(missing), frames, size, kept)
