"""The child's side: open the graph that the parent sends, and run it until the parent is gone.

How a graph is opened is given by the module that the child was started with; see `process`.
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

HEAPS = 4  # of glibc, whatever the number of threads: each reserves addresses that it may never use

_LARGEST_MESSAGE_BYTES = 2**40  # the parent is trusted
_COPIES_OF_MODEL = 4  # while it is decoded: its bytes, the message, the weights, and those laid out anew
_STACK_BYTES = 2**24  # of a thread, twice what is usual
_HEAP_BYTES = 2**27  # that glibc reserves at a time for one of its heaps, whose number the parent limits
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
        What `run` raises where it cannot compute.
    about : mapping of str to JSON
        Whatever the parent wants to know about it.
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
        `PtyonnxError` where that cannot be opened.
    """
    connections = [socket.socket(fileno=int(number)) for number in sys.argv[1:]]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(OSError):  # if the machine runs out of memory, this process goes first
        _OOM_SCORE.write_text("1000")
    send(connections[0], Message({"started": True}), Deadline())
    # What libraries say when a graph kills them is no news for the user: the parent says what happened.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    request = receive(connections[0], _LARGEST_MESSAGE_BYTES, Deadline())
    notes = _Notes()
    logging.getLogger().addHandler(notes)
    try:
        opened = opener(request.arrays[0].tobytes(), request.header)
    except PtyonnxError as error:
        send(connections[0], Message({"refused": _spelled(error)}), Deadline())
        os._exit(0)
    send(connections[0], Message({"about": opened.about, "notes": notes.said}), Deadline())
    for connection in connections[1:]:
        threading.Thread(target=_answer, args=(connection, opened), daemon=True).start()
    _answer(connections[0], opened)
    os._exit(0)  # not through the interpreter's end, which would wait for threads that compute


def limit_memory(largest_bytes: int, model_bytes: int, threads: int) -> None:
    """Bound the addresses that this process may use, from now on and for all that its graph allocates.

    Only Linux enforces it. Where it does not hold, onnxruntime's arena alone is bounded.

    Parameters
    ----------
    largest_bytes : int
        For the graph, beside what libraries have taken already.
    model_bytes : int
        Size of the model that will be opened.
    threads : int
        That will be started.
    """
    if not _STATM.exists():
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a graph that crashes leaves no file behind
    now = int(_STATM.read_text().split()[0]) * resource.getpagesize()
    reserved = threads * _STACK_BYTES + HEAPS * _HEAP_BYTES
    wanted = now + largest_bytes + _COPIES_OF_MODEL * model_bytes + reserved
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


class _Notes(logging.Handler):
    """Keeps what is logged as a warning while a graph is opened, for the parent."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append((record.name, record.getMessage()))


def _answer(connection: socket.socket, opened: Opened) -> None:
    """Run the graph as often as the parent asks on this connection."""
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
        return Message({"failed": "it gives something else than numbers"})
    return Message({}, found)


def _spelled(error: PtyonnxError) -> dict[str, Any]:
    found, expected = (None if part is None else str(part) for part in (error.found, error.expected))
    said = {"problem": error.problem, "file": error.file, "key": error.key, "found": found, "expected": expected}
    return {"type": type(error).__name__, **said, "remedy": error.remedy}


def _end_with_parent() -> None:
    """End when the parent does, however it ends, and whatever is being computed: it never writes here."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)
