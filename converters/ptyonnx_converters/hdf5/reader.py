"""Read untrusted HDF5 files: results, probes, objects, weights of Keras.

The file is read in a separate process (:mod:`ptyonnx_converters.hdf5.child`), because libhdf5 hangs and crashes on
damaged files. It refuses links into other files, data in other files, virtual data sets, unknown filters, and arrays that
decompress to many times the size of the file. The answers are text and bytes; nothing is unpickled.

This package belongs to the converters, since archives of Keras contain HDF5; `ptyonnx.formats` uses it as well.
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
_LIMIT_s = 60.0  # to start and to open on a slow disk; the child itself limits its computing time to seconds
_SLOWEST_BYTES_PER_s = 1_000_000  # of a slow network drive
_DTYPE = re.compile(r"[<>|][biufc][0-9]{1,2}")
_DAMAGED = "the file is damaged: fetch it again"


class Child(Protocol):
    """The methods of `subprocess.Popen` that the reader needs."""

    stdin: IO[bytes] | None
    stdout: IO[bytes] | None

    def kill(self) -> None:
        """Kill the process."""

    def wait(self) -> int:
        """Wait for its end and return the exit code, negative for a signal."""


Start = Callable[[Path | None], Child]


def start_child(path: Path | None) -> Child:
    """Start the process that reads a file or, without a path, the content on its standard input."""
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
        The file; with `content`, only its name for errors.
    error : type of PtyonnxError
        Raised for every fault of the file.
    content : bytes, optional
        Content of the file, if it is a member of an archive.
    key : str, optional
        Name of that member in errors.
    start : callable
        Starts the child process.

    Raises
    ------
    PtyonnxError
        Of type `error`: the file is missing, a folder or a pipe, damaged, or not HDF5.
    WorkerError
        The child process could not be started.
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
        self._limit_s = _LIMIT_s + (size if content is None else len(content)) / _SLOWEST_BYTES_PER_s
        try:
            self._child = (start or start_child)(path if content is None else None)
        except OSError as failure:
            raise WorkerError(f"the process that reads it cannot be started ({failure.strerror})", file=path) from None
        try:
            if content is not None:
                self._send(b"%d\n" % len(content) + content)
            self._receive()
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
        """Names of the objects in a group."""
        return tuple(self._request("names", path=path))

    def kind(self, path: str) -> str | None:
        """Kind of an object: ``"group"``, ``"dataset"``, ``"other"``, or None if it does not exist."""
        kind = self._request("kind", path=path)
        return None if kind is None else str(kind)

    def shape(self, path: str) -> tuple[int, ...]:
        """Shape of a data set."""
        return tuple(int(length) for length in self._request("shape", path=path))

    def number(self, path: str, name: str) -> float:
        """Read an attribute of one number; a missing attribute or another kind is an error."""
        (value,) = self.numbers(path, name, 1)
        return value

    def numbers(self, path: str, name: str, count: int) -> tuple[float, ...]:
        """Read an attribute of `count` numbers."""
        value = self._request("attribute", path=path, name=name)
        listed = value if isinstance(value, list) else [value]
        if len(listed) != count or not all(isinstance(number, float) for number in listed):
            raise self._refusal("not an attribute of numbers" if value is not None else "missing", f"{path}/{name}")
        return tuple(listed)

    def text(self, path: str, name: str) -> str | None:
        """Read a text attribute; None if it does not exist."""
        value = self._request("attribute", path=path, name=name)
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
            Largest size that the caller accepts; a larger array is refused before it is read.

        Raises
        ------
        PtyonnxError
            The data set is missing, not numeric, too large, or stored in an unsupported way.
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
        if self._with_time_limit(partial(self._child.stdout.readinto, buffer)) != size:
            raise self._crashed()
        return np.frombuffer(buffer, dtype).reshape(shape)

    def _request(self, method: str, **arguments: object) -> Any:
        return self._answer(method, **arguments).get("value")

    def _answer(self, method: str, **arguments: object) -> dict[str, Any]:
        self._send(json.dumps({"method": method, **arguments}).encode() + b"\n")
        return self._receive()

    def _send(self, request: bytes) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(request)
            self._child.stdin.flush()
        except OSError:
            raise self._crashed() from None

    def _receive(self) -> dict[str, Any]:
        """Receive the next answer; raise a refusal."""
        assert self._child.stdout is not None
        line = self._with_time_limit(self._child.stdout.readline)
        try:
            answer = json.loads(line)
        except ValueError:
            raise self._crashed() from None
        if not isinstance(answer, dict) or "problem" in answer:
            parts = {name: answer.get(name) for name in ("found", "expected", "remedy")}
            raise self._refusal(str(answer["problem"]), answer.get("key") or None, **parts)
        return answer

    def _with_time_limit(self, read: Callable[[], Any]) -> Any:
        """Read from the child; kill it after the time limit, so that the read returns nothing."""
        timer = threading.Timer(self._limit_s, self._child.kill)
        timer.daemon = True
        timer.start()
        try:
            return read()
        finally:
            timer.cancel()

    def _crashed(self) -> PtyonnxError:
        self._child.kill()
        self._child.wait()
        return self._refusal("the HDF5 library hung or crashed while reading it", None, remedy=_DAMAGED)

    def _refusal(self, problem: str, key: str | None, **parts: str | None) -> PtyonnxError:
        inside = "/".join(part for part in (self._key, key and key.strip("/")) if part)
        return self._error(problem, file=self._path, key=inside or None, **parts)

    def _close(self) -> None:
        self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # an unread request
                    stream.close()
