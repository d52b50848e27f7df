"""The one door to HDF5 files that a stranger made: results, probes, objects, weights of Keras.

The file is read in a process of its own (:mod:`ptyonnx_converters.hdf5.child`), because libhdf5 hangs and crashes over
damaged files. What is refused there: links into other files, numbers that lie in other files, virtual data sets, unknown
filters, arrays that unpack to many times the size of the file. The answers are text and bytes; nothing is unpickled.

The door is on this floor since archives of Keras hold HDF5, too; `ptyonnx.formats` goes through it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import PtyonnxError, WorkerError
from ptyonnx_bundles.files.input_files import check_regular_file

__all__ = ["Hdf5File"]

_CHILD = Path(__file__).with_name("child.py")
_PATIENCE_s = 60.0  # to start and to open, on a slow disk; computing is bounded to seconds by the child itself
_SLOWEST_BYTES_PER_s = 1_000_000  # of a network drive
_DTYPE = re.compile(r"[<>|][biufc][0-9]{1,2}")
_DAMAGED = "the file is damaged: fetch it again"


class Child(Protocol):
    """What is needed of `subprocess.Popen`."""

    stdin: IO[bytes] | None
    stdout: IO[bytes] | None

    def kill(self) -> None:
        """End it."""

    def wait(self) -> int:
        """Give its exit code, negative for a signal."""


Start = Callable[[Path | None], Child]


def start_child(path: Path | None) -> Child:
    """Start the process that reads a file, or what it is given on its standard input."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "HDF5_PLUGIN_PRELOAD": "::"}
    command = [sys.executable, "-P", str(_CHILD), *([] if path is None else [os.fspath(path)])]
    return subprocess.Popen(  # noqa: S603 - our own file
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip


class Hdf5File:
    """An HDF5 file, open for reading; a context manager.

    Parameters
    ----------
    path : Path
        Of the file; with `content` only its name in errors.
    error : type of PtyonnxError
        Raised for whatever is wrong.
    content : bytes, optional
        Of the file, where it lies inside of an archive.
    key : str, optional
        Named in errors of such a file.
    start : callable
        Starts the process that reads.

    Raises
    ------
    PtyonnxError
        Of the given type: missing, a folder or a pipe, damaged, or not HDF5.
    WorkerError
        No process could be started.
    """

    def __init__(
        self,
        path: Path,
        error: type[PtyonnxError],
        *,
        content: bytes | None = None,
        key: str | None = None,
        start: Start | None = None,
    ) -> None:
        self._path, self._error, self._key = path, error, key
        size = 0
        if content is None:
            check_regular_file(path, error, "give the path of a file")
            try:
                with path.open("rb"):
                    size = path.stat().st_size
            except OSError as failure:
                raise error(f"cannot be read ({failure.strerror})", file=path, remedy="check the path") from None
        self._patience_s = _PATIENCE_s + (size if content is None else len(content)) / _SLOWEST_BYTES_PER_s
        try:
            self._child = (start or start_child)(path if content is None else None)
        except OSError as failure:
            raise WorkerError(f"no process can be started to read it ({failure.strerror})", file=path) from None
        try:
            if content is not None:
                self._send(b"%d\n" % len(content) + content)
            self._listen()
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def names(self, path: str = "") -> tuple[str, ...]:
        """Names of what lies in a group."""
        return tuple(self._ask("names", path=path))

    def kind(self, path: str) -> str | None:
        """What an object is: ``"group"``, ``"dataset"``, ``"other"``, or None where there is none."""
        kind = self._ask("kind", path=path)
        return None if kind is None else str(kind)

    def shape(self, path: str) -> tuple[int, ...]:
        """Shape of a data set."""
        return tuple(int(length) for length in self._ask("shape", path=path))

    def number(self, path: str, name: str) -> float:
        """An attribute that is one number; errors where it is missing or something else."""
        (value,) = self.numbers(path, name, 1)
        return value

    def numbers(self, path: str, name: str, count: int) -> tuple[float, ...]:
        """An attribute that is so many numbers."""
        value = self._ask("attribute", path=path, name=name)
        listed = value if isinstance(value, list) else [value]
        if len(listed) != count or not all(isinstance(number, float) for number in listed):
            raise self._refusal("not an attribute of numbers" if value is not None else "missing", f"{path}/{name}")
        return tuple(listed)

    def text(self, path: str, name: str) -> str | None:
        """An attribute that is a text; None where there is none."""
        value = self._ask("attribute", path=path, name=name)
        if value is not None and not isinstance(value, str):
            raise self._refusal("not a text", f"{path}/{name}")
        return value

    def array(self, path: str, most_bytes: int) -> NDArray[Any]:
        """Read a data set of numbers.

        Parameters
        ----------
        path : str
            Names of groups and data set, separated by ``/``.
        most_bytes : int
            What the caller can need; more is refused before it is read.

        Raises
        ------
        PtyonnxError
            Missing, no numbers, too large, or stored in a way that is refused.
        """
        answer = self._answer("array", path=path, most=most_bytes)
        dtype, shape = answer.get("dtype"), answer.get("shape")
        if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype) or not isinstance(shape, list):
            raise self._refusal("no array", path)
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if not 0 <= size <= most_bytes:
            raise self._refusal("too large", path)
        buffer = bytearray(size)
        assert isinstance(self._child.stdout, BufferedReader)
        if self._within_patience(partial(self._child.stdout.readinto, buffer)) != size:
            raise self._died()
        return np.frombuffer(buffer, dtype).reshape(shape)

    def _ask(self, ask: str, **question: object) -> Any:
        return self._answer(ask, **question).get("value")

    def _answer(self, ask: str, **question: object) -> dict[str, Any]:
        self._send(json.dumps({"ask": ask, **question}).encode() + b"\n")
        return self._listen()

    def _send(self, question: bytes) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(question)
            self._child.stdin.flush()
        except OSError:
            raise self._died() from None

    def _listen(self) -> dict[str, Any]:
        """The next answer; a refusal is raised."""
        assert self._child.stdout is not None
        line = self._within_patience(self._child.stdout.readline)
        try:
            answer = json.loads(line)
        except ValueError:
            raise self._died() from None
        if not isinstance(answer, dict) or "problem" in answer:
            said = {name: answer.get(name) for name in ("found", "expected", "remedy")}
            raise self._refusal(str(answer["problem"]), answer.get("key") or None, **said)
        return answer

    def _within_patience(self, read: Callable[[], Any]) -> Any:
        """Read from the child, which is ended where nothing comes: then the read returns with nothing."""
        clock = threading.Timer(self._patience_s, self._child.kill)
        clock.daemon = True
        clock.start()
        try:
            return read()
        finally:
            clock.cancel()

    def _died(self) -> PtyonnxError:
        self._child.kill()
        self._child.wait()
        return self._refusal("HDF5's own library hung or crashed over it", None, remedy=_DAMAGED)

    def _refusal(self, problem: str, key: str | None, **said: str | None) -> PtyonnxError:
        inside = "/".join(part for part in (self._key, key and key.strip("/")) if part)
        return self._error(problem, file=self._path, key=inside or None, **said)

    def _close(self) -> None:
        self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # a question that nobody reads any more
                    stream.close()
