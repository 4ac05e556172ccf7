"""Processes that measure: each answers requests, one line of JSON in and one out."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any, TextIO

_END_TIMEOUT = 10.0  # s

Message = dict[str, Any]


class BenchError(RuntimeError):
    """Why the benchmark cannot go on, as a sentence for the user."""


class Child:
    """A module of ours that runs in a process of its own, as a context manager.

    What it prints besides its answers goes to a file that is looked at only when it fails.
    """

    def __init__(self, module: str, options: Message, environment: Mapping[str, str]) -> None:
        self._name = module.rpartition(".")[2]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed in __exit__)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(options)],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            # Ctrl-C comes to us alone; with us gone, its input ends, and so does it.
            start_new_session=True,
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def send(self, request: str, **details: Any) -> None:
        """Ask; `receive` gives the answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"request": request, **details}) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise BenchError(self._last_words()) from None

    def receive(self) -> Message:
        """The answer to the oldest request without one. Raises BenchError if there is none."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(self._last_words())
        answer: Message = json.loads(line)
        if "error" in answer:
            raise BenchError(answer["error"])
        return answer

    def answered(self, timeout: float) -> bool:
        """Whether there is something to receive, within `timeout` seconds."""
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], timeout)[0])

    def ask(self, request: str, **details: Any) -> Message:
        """The answer to a request."""
        self.send(request, **details)
        return self.receive()

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_TIMEOUT)
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip().splitlines()
        last = said[-1] if said else "nothing"
        return f"{self._name} ended with exit code {self._process.returncode}; it said: {last}"


def serve(prepare: Callable[[Message], Mapping[str, Callable[..., Message]]]) -> None:
    """The child's side: `prepare(options)` gives what answers each request; until input ends.

    ValueError, OSError and RuntimeError are the answer to what raised them, those of `prepare` to
    "ready".
    """
    answers = _answers()
    requests: Mapping[str, Callable[..., Message]] = {}
    error = ""
    try:
        requests = prepare(json.loads(sys.argv[1]))
    except (ValueError, OSError, RuntimeError) as caught:
        error = str(caught)
    for line in sys.stdin:
        details = json.loads(line)
        name = details.pop("request")
        answer: Message = {"error": error} if error else {}
        if name != "ready" and not error:
            try:
                answer = requests[name](**details)
            except (ValueError, OSError, RuntimeError) as caught:
                answer = {"error": str(caught)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answers() -> TextIO:
    """Standard output for answers alone: what libraries print goes to standard error from now."""
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return own
