"""The parent's side: start a child, send it a graph, wait for results within the time limit, and end it.

The child is a new interpreter, not a fork: it inherits no data, and a script needs no
``if __name__ == "__main__"``. It ends when its graph is closed or garbage-collected, and when the parent
ends for whatever reason.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles import errors
from ptyonnx_bundles.confinement.channel import Deadline, Message, receive, send
from ptyonnx_bundles.confinement.child import HEAPS
from ptyonnx_bundles.errors import PtyonnxError, SettingsError, WorkerError

__all__ = ["DEFAULT_LIMIT_S", "LARGEST_FOREIGN_BYTES", "ConfinedGraph", "Confinement"]

DEFAULT_LIMIT_S = 60.0  # a batch takes milliseconds, a large network on a busy machine a few seconds
LARGEST_FOREIGN_BYTES = 2**32  # the limit of `adopt` for a whole batch
_START_S = 60.0  # to load the interpreter and its libraries from a slow disk
_END_S = 10.0  # for the system to end a killed process
_LONGEST_STARTUP_ERROR = 2000  # characters
_PROGRAM = "import sys; n = int(sys.argv[1]); sys.path[:] = sys.argv[2:n + 2]; del sys.argv[1:n + 2]; from {} import main; main()"


@dataclass(frozen=True)
class Confinement:
    """Limits on the time and memory of an untrusted graph.

    Attributes
    ----------
    limit_s : float
        Seconds to open the graph, and for each batch.
    largest_bytes : int
        Memory beside libraries and weights; see :func:`~ptyonnx_bundles.confinement.child.limit_memory`.
    """

    limit_s: float = DEFAULT_LIMIT_S
    largest_bytes: int = LARGEST_FOREIGN_BYTES

    def __post_init__(self) -> None:
        if not self.limit_s > 0:
            raise SettingsError("must be positive", key="limit_s", found=self.limit_s)


class ConfinedGraph:
    """A graph that runs in a separate process; a context manager, :meth:`close` ends the process.

    Parameters
    ----------
    module : str
        The child runs its `main`, which calls :func:`~ptyonnx_bundles.confinement.child.serve`.
    model : bytes
    settings : mapping of str to JSON
        Passed to the child's opener.
    name : str
        The graph's file, named in errors.
    confinement : Confinement
    read_about : callable
        Turns the child's description of the graph, which may be any JSON, into `about`. It raises ValueError, KeyError or
        TypeError if the description is malformed.
    callers : int
        Number of threads that may call :meth:`run` at the same time; further ones wait.

    Attributes
    ----------
    about : mapping
        Description of the graph, from `read_about`.

    Raises
    ------
    WorkerError
        The child did not start, crashed, or exceeded the time limit.
    PtyonnxError
        The child raised it.
    """

    def __init__(
        self,
        module: str,
        model: bytes,
        settings: Mapping[str, Any],
        *,
        name: str,
        confinement: Confinement,
        read_about: Callable[[Any], Mapping[str, Any]],
        callers: int = 1,
    ) -> None:
        self._name, self._confinement = name, confinement
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._failure: WorkerError | None = None
        pairs = [socket.socketpair() for _ in range(callers)]
        theirs = [pair[1] for pair in pairs]
        try:
            self._process = _start(module, theirs)
        finally:
            for connection in theirs:
                connection.close()
        self._idle: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        for connection, _ in pairs:
            self._idle.put(connection)
        self._end = weakref.finalize(self, _kill, self._process, self._idle, self._owner)
        self.about = self._open(model, settings, read_about)

    def run(self, outputs: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run the graph.

        Parameters
        ----------
        outputs : sequence of str, optional
            Names; by default, all outputs.
        feeds : mapping of str to ndarray
            Every input by name.

        Raises
        ------
        WorkerError
            The graph crashed its process or exceeded the time limit; every further call raises the same error. Or this
            process was forked after the graph was opened.
        RuntimeError
            The graph cannot be computed; the message is that of the library.
        """
        names = None if outputs is None else list(outputs)
        with self._connection() as connection:
            deadline = Deadline(self._confinement.limit_s)
            send(connection, Message({"outputs": names, "feeds": list(feeds)}, list(feeds.values())), deadline)
            reply = receive(connection, self._confinement.largest_bytes, deadline)
            failed = reply.header.get("failed")
            if failed is None and names is not None and len(reply.arrays) != len(names):
                raise ValueError("wrong number of outputs")
        if failed is not None:
            raise RuntimeError(str(failed))
        return list(reply.arrays)

    def close(self) -> None:
        """End the process at once, whatever it computes; closing it again does nothing."""
        with self._lock:
            self._failure = self._failure or WorkerError("was closed", file=self._name)
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(
        self, model: bytes, settings: Mapping[str, Any], read_about: Callable[[Any], Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        largest_bytes = self._confinement.largest_bytes
        with self._connection() as connection:
            receive(connection, largest_bytes, Deadline(_START_S))
            assert self._process.stderr is not None
            self._process.stderr.close()  # the child does not write to it any more
            deadline = Deadline(self._confinement.limit_s)
            header = {**settings, "largest_bytes": largest_bytes}
            send(connection, Message(header, [np.frombuffer(model, np.uint8)]), deadline)
            reply = receive(connection, largest_bytes, deadline).header
            if "refused" in reply:
                raise _error(reply["refused"])  # the child ends
            about, notes = read_about(reply["about"]), [(str(logger), str(text)) for logger, text in reply["notes"]]
        for logger, text in notes:
            logging.getLogger(logger).warning("%s", text)
        return about

    @contextmanager
    def _connection(self) -> Iterator[socket.socket]:
        """Take a connection to the child; any failure on it ends the child."""
        connection = self._take()
        try:
            yield connection
        except TimeoutError:
            self._fail(connection, f"computes for longer than {self._confinement.limit_s:g} s and was stopped")
        except (EOFError, ConnectionError):
            self._fail(connection, None)
        except (ValueError, KeyError, TypeError):  # the graph may have taken over the child
            self._fail(connection, "made its process send a malformed answer")
        except BaseException:  # an interrupt: the answer stays unread
            connection.close()
            self.close()
            raise
        if self._end.alive:
            self._idle.put(connection)
        else:
            connection.close()

    def _take(self) -> socket.socket:
        if os.getpid() != self._owner:  # both would read from the same connection
            raise WorkerError(
                "was opened before this process was forked", file=self._name, remedy="open it again in every process"
            )
        while True:
            with contextlib.suppress(queue.Empty):
                return self._idle.get(timeout=0.1)
            with self._lock:
                if self._failure is not None:
                    raise self._failure

    def _fail(self, connection: socket.socket, problem: str | None) -> NoReturn:
        """End the child and raise the reason, for all threads the one that the first of them found."""
        connection.close()
        with self._lock:
            if self._failure is None:
                self._failure = self._crash_error() if problem is None else self._limit_error(problem)
            failure = self._failure
        self._end()
        raise failure from None

    def _limit_error(self, problem: str) -> WorkerError:
        return WorkerError(
            f"the network {problem}", file=self._name,
            remedy="if it is known to be that slow, allow more time: limit_s=600; otherwise do not use this file",
        )  # fmt: skip

    def _crash_error(self) -> WorkerError:
        """Make the error for a child that ended by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        code, startup_error = self._process.returncode, _startup_error(self._process)
        if startup_error is not None:
            return WorkerError(
                "its process did not start", file=self._name, found=startup_error, expected=f"{sys.executable} to run",
            )  # fmt: skip
        cause = "did not answer" if code is None else f"exit code {code}" if code >= 0 else _signal_name(-code)
        return WorkerError(
            f"the network crashed the process that computed it ({cause})", file=self._name,
            expected=f"a network that computes within {self._confinement.largest_bytes / 2**30:.4g} GiB",
            remedy="the file is damaged or hostile: do not use it; nothing else was affected",
        )  # fmt: skip


def _start(module: str, connections: Sequence[socket.socket]) -> subprocess.Popen[bytes]:
    numbers = [connection.fileno() for connection in connections]
    program = _PROGRAM.format(module)
    path = [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100 - '' is the working folder
    command = [sys.executable, "-I", "-c", program, str(len(path)), *path, *map(str, numbers)]
    one = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
    )  # the child needs no threads of NumPy
    environment = {**os.environ, **one, "MALLOC_ARENA_MAX": str(HEAPS)}
    try:
        return subprocess.Popen(  # noqa: S603 - this interpreter, with a module of our own
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            pass_fds=numbers, start_new_session=True,  # Ctrl-C goes to the parent only, which ends its child
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise WorkerError("the process cannot be started", found=error, expected=f"{sys.executable} to run") from None


def _kill(process: subprocess.Popen[bytes], idle: queue.SimpleQueue[socket.socket], owner: int) -> None:
    """End a child, unless this process is a fork of the child's parent."""
    with contextlib.suppress(queue.Empty):  # a connection in use is closed by its user
        while True:
            idle.get_nowait().close()
    if os.getpid() != owner:
        return
    process.kill()
    for pipe in (process.stdin, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)


def _startup_error(process: subprocess.Popen[bytes]) -> str | None:
    """The last line that a child wrote before it failed to start; None if it started."""
    if process.stderr is None or process.stderr.closed:
        return None
    lines = process.stderr.read(_LONGEST_STARTUP_ERROR * 50).decode("utf-8", "replace").strip().splitlines()
    return (lines or ["nothing"])[-1][:_LONGEST_STARTUP_ERROR]


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _error(sent: Mapping[str, Any]) -> PtyonnxError:
    """Rebuild the error that a child raised."""
    kind = getattr(errors, str(sent["type"]), PtyonnxError) if sent["type"] in errors.__all__ else PtyonnxError
    parts: dict[str, Any] = {
        part: None if sent[part] is None else str(sent[part]) for part in ("file", "key", "found", "expected", "remedy")
    }
    error: PtyonnxError = kind(str(sent["problem"]), **parts)
    return error
