"""The child process that reads an HDF5 file for :mod:`ptyonnx_converters.hdf5`.

libhdf5 hangs or crashes on damaged files: of 3000 products with a few changed bytes, 10 hung and 2 crashed, all of them
in texts of variable length. No check can precede that, and Python's signal handlers do not run meanwhile. The library
therefore runs here, within limits that the system enforces, and this process answers requests about one file: one line
of JSON in each direction, followed by the bytes of an array.

It does not share code with :mod:`ptyonnx_bundles.confinement`, since that needs sockets that Windows does not pass to
children and bounds a whole batch, whereas this script works on pipes everywhere, bounds every request by itself, and
imports nothing of the project, so that opening a file costs 0.1 s and not 0.2 s.
"""

from __future__ import annotations

import json
import os
import sys
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

try:
    import resource
except ImportError:  # Windows: only the time limit of the parent ends a child that hangs
    resource = None  # type: ignore[assignment]

__all__ = ["serve"]

_SECONDS_PER_REQUEST = 1  # of CPU time; an ordinary answer takes a millisecond
_BYTES_PER_SECOND = 20_000_000  # rate of decompression and conversion on the slowest machine
_MEMORY = 2**28  # bytes for caches and buffers of the library, beside the array
# Limit of the compression ratio: deflate reaches 1032 on zeros, 2 on measured arrays and 100 on masks of ones.
_SMALL = 2**26  # bytes; a smaller array may have any ratio
_LARGEST_RATIO = 100
_MOST_NAMES = 4096
_MOST_NUMBERS = 64  # of an attribute
_LONGEST_TEXT = 2**16
_DEEPEST = 32
_MOST_LINKS = 8
_DAMAGED = "the file is damaged: fetch it again"
_KINDS = "biufc"
_FILTERS = {
    h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_SZIP,
    h5py.h5z.FILTER_LZF,
}  # fmt: skip


class Refused(Exception):  # noqa: N818 - what is refused may be in good order
    """A request that is refused, with the parts of the parent's error."""

    def __init__(self, problem: str, **details: object) -> None:
        super().__init__(problem)
        self.answer = {"problem": problem, **{name: str(value) for name, value in details.items()}}


class Missing(Refused):
    """There is no object of that name."""


class _Reader:
    """An open file, and the number of bytes that may still be read from it."""

    def __init__(self, file: h5py.File, size: int) -> None:
        self._file = file
        self._left = max(_SMALL, _LARGEST_RATIO * size)

    def names(self, path: str) -> list[str]:
        """Names of the objects in a group, in its order."""
        group = self._group(path)
        if len(group) > _MOST_NAMES:
            raise Refused("too many objects in a group", found=len(group), expected=f"at most {_MOST_NAMES}")
        return [str(name) for name in group]

    def kind(self, path: str) -> str | None:
        """Kind of an object: "group", "dataset", "other", or None if it does not exist."""
        try:
            found = self._open(path)
        except Missing:
            return None
        return "group" if isinstance(found, h5py.Group) else "dataset" if isinstance(found, h5py.Dataset) else "other"

    def shape(self, path: str) -> list[int]:
        """Shape of a data set."""
        return list(self._dataset(path).shape)

    def attribute(self, path: str, name: str) -> Any:
        """Value of an attribute: numbers or a text; None if it does not exist."""
        owner = self._open(path).id
        encoded = name.encode()
        if not h5py.h5a.exists(owner, encoded):
            return None
        attribute = h5py.h5a.open(owner, encoded)
        kind, count = attribute.get_type(), attribute.get_space().get_simple_extent_npoints()
        if isinstance(kind, h5py.h5t.TypeStringID):
            if count != 1 or (not kind.is_variable_str() and kind.get_size() > _LONGEST_TEXT):
                raise Refused("a text of unusual length", key=name)
        elif (
            not isinstance(kind, h5py.h5t.TypeIntegerID | h5py.h5t.TypeFloatID | h5py.h5t.TypeEnumID)
            or not 0 < count <= _MOST_NUMBERS
        ):
            raise Refused("neither a number nor a text", key=name)
        value = self._open(path).attrs[name]
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        return value[:_LONGEST_TEXT] if isinstance(value, str) else np.asarray(value, np.float64).tolist()

    def array(self, path: str, most: int) -> np.ndarray[Any, Any]:
        """Read a data set, after all checks of type, size, layout and compression."""
        found = self._dataset(path)
        self._refuse_external_data(found)
        if found.dtype.kind not in _KINDS or found.dtype.hasobject or found.dtype.subdtype:
            raise Refused("not an array of numbers", key=path, found=found.dtype)
        size = found.size * found.dtype.itemsize
        if size > most:
            raise Refused("too large", key=path, found=f"{size} bytes", expected=f"at most {most}")
        chunk = int(np.prod(found.chunks or (0,), dtype=object)) * found.dtype.itemsize
        if max(size, chunk) > self._left:
            raise Refused(
                "decompresses to many times the size of the file", key=path, found=f"{max(size, chunk)} bytes",
                expected=f"at most {self._left}", remedy="do not trust this file",
            )  # fmt: skip
        self._left -= size
        _limit(size + chunk)
        return np.asarray(found[()], order="C")

    def _refuse_external_data(self, found: h5py.Dataset) -> None:
        """Refuse data in other files, which would be read from this machine and not from the sender's, and unknown filters."""
        plan = found.id.get_create_plist()
        if plan.get_layout() not in {h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED}:
            raise Refused("a virtual data set, whose data are in other files", key=found.name)
        if plan.get_external_count():
            raise Refused(
                "a data set whose data are in another file", key=found.name, found=os.fsdecode(plan.get_external(0)[0])
            )
        for index in range(plan.get_nfilters()):
            code, _, _, name = plan.get_filter(index)
            if code not in _FILTERS:
                raise Refused(
                    "compressed with an unsupported filter", key=found.name, found=name.decode("ascii", "replace") or code,
                    expected="gzip, lzf or szip", remedy="compress it again with h5repack -f GZIP=4",
                )  # fmt: skip

    def _group(self, path: str) -> h5py.Group:
        found = self._open(path)
        if not isinstance(found, h5py.Group):
            raise Refused("not a group", key=path)
        return found

    def _dataset(self, path: str) -> h5py.Dataset:
        found = self._open(path)
        if not isinstance(found, h5py.Dataset) or found.shape is None:
            raise Refused("not an array", key=path)
        return found

    def _open(self, path: str) -> Any:
        """Follow hard links, and soft links within the file, one part of the path at a time."""
        parts, here, links = [part for part in path.split("/") if part], self._file["/"], 0
        walked: list[str] = []
        while parts:
            name = parts.pop(0)
            if not isinstance(here, h5py.Group) or len(walked) > _DEEPEST:
                raise Missing("missing", key=path)
            link = here.get(name, getlink=True)
            if link is None:
                raise Missing("missing", key=path)
            if isinstance(link, h5py.SoftLink):
                links += 1
                if links > _MOST_LINKS:
                    raise Refused("circular links", key=path)
                target = str(link.path)
                parts = [part for part in target.split("/") if part not in {"", "."}] + parts
                if target.startswith("/"):
                    here, walked = self._file["/"], []
            elif isinstance(link, h5py.HardLink):
                here = here[name]
                walked.append(name)
            else:
                raise Refused(
                    "a link into another file", key=path, found=getattr(link, "filename", type(link).__name__),
                    remedy="ask for a file without such links",
                )  # fmt: skip
        return here


def serve(requests: BinaryIO, answers: BinaryIO, source: Path | bytes) -> None:
    """Answer requests until there are no more.

    Parameters
    ----------
    requests, answers : binary streams
    source : Path or bytes
        The file or its content.
    """
    _limit(len(source) if isinstance(source, bytes) else 0)
    try:
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        with h5py.File(BytesIO(source) if isinstance(source, bytes) else source, "r") as file:
            reader = _Reader(file, size)
            _send(answers, {"value": "open"})
            while line := requests.readline():
                _answer(reader, json.loads(line), answers)
    except OSError:
        _send(answers, {"problem": "not a readable HDF5 file", "remedy": f"{_DAMAGED}, or give an HDF5 file"})
    except Exception as error:  # noqa: BLE001 - h5py raises many kinds of errors on a damaged file
        _send(answers, {"problem": f"damaged ({type(error).__name__})", "remedy": _DAMAGED})


def _answer(reader: _Reader, request: dict[str, Any], answers: BinaryIO) -> None:
    _limit(0)
    try:
        value = getattr(reader, request.pop("method"))(**request)
    except Refused as refusal:
        _send(answers, refusal.answer)
    except Exception as error:  # noqa: BLE001 - h5py raises many kinds of errors on a damaged file
        _send(answers, {"problem": f"damaged ({type(error).__name__})", "key": request.get("path"), "remedy": _DAMAGED})
    else:
        if isinstance(value, np.ndarray):
            _send(answers, {"dtype": value.dtype.str, "shape": list(value.shape)})
            answers.write(value.reshape(-1).view(np.uint8).data)
            answers.flush()
        else:
            _send(answers, {"value": value})


def _send(answers: BinaryIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


def _limit(size: int) -> None:
    """Limit CPU time and memory to what the next answer, with an array of so many bytes, can need."""
    if resource is None:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = used.ru_utime + used.ru_stime + _SECONDS_PER_REQUEST + size / _BYTES_PER_SECOND
    _lower(resource.RLIMIT_CPU, int(seconds) + 1)
    _lower(resource.RLIMIT_CORE, 0)
    pages = Path("/proc/self/statm")
    if pages.exists():  # only Linux has it; elsewhere memory is not limited
        mapped = int(pages.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        _lower(resource.RLIMIT_AS, mapped + _MEMORY + 3 * size)


def _lower(limit: int, value: int) -> None:
    hard = resource.getrlimit(limit)[1]
    resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _main() -> None:
    source = Path(os.fsdecode(sys.argv[1])) if len(sys.argv) > 1 else None
    requests = sys.stdin.buffer
    serve(requests, sys.stdout.buffer, source or requests.read(int(requests.readline())))


if __name__ == "__main__":
    _main()
