"""The child's side: open the graph that the parent sends, and run it until the parent ends.

The module with which the child was started opens the graph; see `confined_graph`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.confinement.channel import NUMBERS, Deadline, Message, receive, send
from ptyonnx_bundles.errors import PtyonnxError

__all__ = ["HEAPS", "Opened", "limit_memory", "serve"]

HEAPS = 4  # of glibc, for any number of threads: each heap reserves addresses that it may never use

_LARGEST_MESSAGE_BYTES = 2**40  # the parent is trusted
_COPIES_OF_MODEL = 4  # during decoding: its bytes, the message, the weights, and the weights in another layout
_STACK_BYTES = 2**24  # of a thread, twice the usual size
_HEAP_BYTES = 2**27  # reserved by glibc for each of its heaps, whose number the parent limits
_STATM = Path("/proc/self/statm")
_OOM_SCORE = Path("/proc/self/oom_score_adj")


@dataclass(frozen=True)
class Opened:
    """A graph that is ready to run.

    Attributes
    ----------
    run : callable
        (names of outputs or None for all of them, arrays by the name of the input) -> arrays.
    failures : tuple of exception types
        Exceptions of `run` when it cannot compute.
    about : mapping of str to JSON
        Description of the graph for the parent.
    """

    run: Callable[[Sequence[str] | None, Mapping[str, NDArray[Any]]], Sequence[NDArray[Any]]]
    failures: tuple[type[BaseException], ...]
    about: Mapping[str, Any] = field(default_factory=dict)


Opener = Callable[[bytes, Mapping[str, Any]], Opened]


def serve(opener: Opener) -> None:
    """Answer the parent on the sockets whose numbers the command line gives; never returns.

    Parameters
    ----------
    opener : callable
        (model, settings) -> Opened. It calls :func:`limit_memory` before it opens the model, and raises
        `PtyonnxError` if the model cannot be opened.
    """
    connections = [socket.socket(fileno=int(number)) for number in sys.argv[1:]]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(OSError):  # if memory runs out, the system kills this process first
        _OOM_SCORE.write_text("1000")
    send(connections[0], Message({"started": True}), Deadline())
    # Output of libraries during a crash does not help the user: the parent reports the crash.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    request = receive(connections[0], _LARGEST_MESSAGE_BYTES, Deadline())
    notes = _Notes()
    logging.getLogger().addHandler(notes)
    try:
        opened = opener(request.arrays[0].tobytes(), request.header)
    except PtyonnxError as error:
        send(connections[0], Message({"refused": _error_parts(error)}), Deadline())
        os._exit(0)
    send(connections[0], Message({"about": opened.about, "notes": notes.warnings}), Deadline())
    for connection in connections[1:]:
        threading.Thread(target=_answer, args=(connection, opened), daemon=True).start()
    _answer(connections[0], opened)
    os._exit(0)  # the interpreter's normal exit would wait for threads that compute


def limit_memory(largest_bytes: int, model_bytes: int, threads: int) -> None:
    """Limit the address space of this process, and so the memory that its graph may allocate.

    Only Linux enforces the limit. Elsewhere only onnxruntime's arena is limited.

    Parameters
    ----------
    largest_bytes : int
        For the graph, beside the memory that libraries have taken already.
    model_bytes : int
        Size of the model that will be opened.
    threads : int
        Number of threads that will be started.
    """
    if not _STATM.exists():
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no core file
    now = int(_STATM.read_text().split()[0]) * resource.getpagesize()
    reserved = threads * _STACK_BYTES + HEAPS * _HEAP_BYTES
    wanted = now + largest_bytes + _COPIES_OF_MODEL * model_bytes + reserved
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


class _Notes(logging.Handler):
    """Collect warnings that are logged while a graph is opened, for the parent."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.warnings: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.warnings.append((record.name, record.getMessage()))


def _answer(connection: socket.socket, opened: Opened) -> None:
    """Run the graph for every request on this connection."""
    while True:
        try:
            request = receive(connection, _LARGEST_MESSAGE_BYTES, Deadline())
        except (EOFError, OSError):
            return
        reply = _computed(opened, request)
        del request  # its arrays
        with contextlib.suppress(OSError):
            send(connection, reply, Deadline())
        del reply


def _computed(opened: Opened, request: Message) -> Message:
    feeds = dict(zip(request.header["feeds"], request.arrays, strict=True))
    failures: tuple[type[BaseException], ...] = (MemoryError, *opened.failures)
    try:
        found = [np.asarray(array) for array in opened.run(request.header["outputs"], feeds)]
    except failures as error:
        return Message({"failed": (str(error).splitlines() or [type(error).__name__])[0]})
    if any(array.dtype.kind not in NUMBERS for array in found):
        return Message({"failed": "it computes an output that is not numeric"})
    return Message({}, found)


def _error_parts(error: PtyonnxError) -> dict[str, Any]:
    found, expected = (None if part is None else str(part) for part in (error.found, error.expected))
    parts = {"problem": error.problem, "file": error.file, "key": error.key, "found": found, "expected": expected}
    return {"type": type(error).__name__, **parts, "remedy": error.remedy}


def _end_with_parent() -> None:
    """Exit when the parent ends for whatever reason; the parent never writes here, so the read ends with it."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)
