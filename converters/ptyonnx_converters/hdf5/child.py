"""The process that reads an HDF5 file for :mod:`ptyonnx_converters.hdf5`, and dies in its place.

libhdf5 loops for ever, or crashes, over damaged files: of 3000 products with a few changed bytes, 10 hung and 2 crashed,
all of them in texts of variable length. No check comes before that, and no signal of Python's gets through. So it runs
here, within limits that the system enforces, and answers questions about one file: a line of JSON each way, and behind the
answer the bytes of an array. This file runs as a script and imports nothing of the project.
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
except ImportError:  # Windows: only the caller's clock ends what hangs
    resource = None  # type: ignore[assignment]

__all__ = ["serve"]

_SECONDS_PER_QUESTION = 1  # of computing; an ordinary answer takes a millisecond
_BYTES_PER_SECOND = 20_000_000  # what unpacking and converting reach on the slowest machine
_MEMORY = 2**28  # bytes beside the array that is read: the library's caches and buffers
# A file may be packed, within reason: deflate packs zeros 1 : 1032, measured arrays 1 : 2 and masks of ones 1 : 100.
_SMALL = 2**26  # bytes; below this any ratio is harmless
_LARGEST_RATIO = 100
_MOST_NAMES = 4096
_MOST_NUMBERS = 64  # of an attribute
_LONGEST_TEXT = 2**16
_DEEPEST = 32
_MOST_LINKS = 8
_AGAIN = "the file is damaged: fetch it again"
_KINDS = "biufc"
_FILTERS = {
    h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_SZIP,
    h5py.h5z.FILTER_LZF,
}  # fmt: skip


class Refused(Exception):  # noqa: N818 - what is refused may be in good order
    """What the caller shall say."""

    def __init__(self, problem: str, **details: object) -> None:
        super().__init__(problem)
        self.answer = {"problem": problem, **{name: str(value) for name, value in details.items()}}


class Missing(Refused):
    """Nothing of that name."""


class _Reader:
    """An open file, and how many bytes it may still give."""

    def __init__(self, file: h5py.File, size: int) -> None:
        self._file = file
        self._left = max(_SMALL, _LARGEST_RATIO * size)

    def names(self, path: str) -> list[str]:
        """Of what lies in a group, in its order."""
        group = self._group(path)
        if len(group) > _MOST_NAMES:
            raise Refused("too many objects in a group", found=len(group), expected=f"at most {_MOST_NAMES}")
        return [str(name) for name in group]

    def kind(self, path: str) -> str | None:
        """What an object is: "group", "dataset", or None where there is none."""
        try:
            found = self._open(path)
        except Missing:
            return None
        return "group" if isinstance(found, h5py.Group) else "dataset" if isinstance(found, h5py.Dataset) else "other"

    def shape(self, path: str) -> list[int]:
        """Of a data set."""
        return list(self._dataset(path).shape)

    def attribute(self, path: str, name: str) -> Any:
        """A number, several, or a text; None where there is none."""
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
        """A data set, once everything about it is known to be harmless."""
        found = self._dataset(path)
        self._refuse_elsewhere(found)
        if found.dtype.kind not in _KINDS or found.dtype.hasobject or found.dtype.subdtype:
            raise Refused("not an array of numbers", key=path, found=found.dtype)
        size = found.size * found.dtype.itemsize
        if size > most:
            raise Refused("too large", key=path, found=f"{size} bytes", expected=f"at most {most}")
        chunk = int(np.prod(found.chunks or (0,), dtype=object)) * found.dtype.itemsize
        if max(size, chunk) > self._left:
            raise Refused(
                "unpacks to many times the size of the file", key=path, found=f"{max(size, chunk)} bytes",
                expected=f"at most {self._left}", remedy="do not trust this file",
            )  # fmt: skip
        self._left -= size
        _limit(size + chunk)
        return np.asarray(found[()], order="C")

    def _refuse_elsewhere(self, found: h5py.Dataset) -> None:
        """Numbers that another file holds would come from this machine, not from who sent the file."""
        plan = found.id.get_create_plist()
        if plan.get_layout() not in {h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED}:
            raise Refused("a virtual data set, whose numbers lie elsewhere", key=found.name)
        if plan.get_external_count():
            raise Refused("a data set whose numbers lie in another file", key=found.name)
        for index in range(plan.get_nfilters()):
            code, _, _, name = plan.get_filter(index)
            if code not in _FILTERS:
                raise Refused(
                    "packed in a way that is not read", key=found.name, found=name.decode("ascii", "replace") or code,
                    expected="gzip, lzf or szip", remedy="pack it again with h5repack -f GZIP=4",
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
        """Follow hard links, and soft ones as long as they stay in the file, one part of the path at a time."""
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
                    raise Refused("links that lead in a circle", key=path)
                target = str(link.path)
                parts = [part for part in target.split("/") if part not in {"", "."}] + parts
                if target.startswith("/"):
                    here, walked = self._file["/"], []
            elif isinstance(link, h5py.HardLink):
                here = here[name]
                walked.append(name)
            else:
                raise Refused("a link into another file", key=path, remedy="ask for a file without such links")
        return here


def serve(questions: BinaryIO, answers: BinaryIO, source: Path | bytes) -> None:
    """Answer until there are no more questions.

    Parameters
    ----------
    questions, answers : binary streams
    source : Path or bytes
        The file, or what is in it.
    """
    _limit(len(source) if isinstance(source, bytes) else 0)
    try:
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        with h5py.File(BytesIO(source) if isinstance(source, bytes) else source, "r") as file:
            reader = _Reader(file, size)
            _say(answers, {"value": "open"})
            while line := questions.readline():
                _answer(reader, json.loads(line), answers)
    except OSError:
        _say(answers, {"problem": "not a readable HDF5 file", "remedy": f"{_AGAIN}, unless it is something else"})
    except Exception as error:  # noqa: BLE001 - whatever h5py makes of a damaged file
        _say(answers, {"problem": f"damaged ({type(error).__name__})", "remedy": _AGAIN})


def _answer(reader: _Reader, question: dict[str, Any], answers: BinaryIO) -> None:
    _limit(0)
    try:
        value = getattr(reader, question.pop("ask"))(**question)
    except Refused as refusal:
        _say(answers, refusal.answer)
    except Exception as error:  # noqa: BLE001 - whatever h5py makes of a damaged file
        _say(answers, {"problem": f"damaged ({type(error).__name__})", "key": question.get("path"), "remedy": _AGAIN})
    else:
        if isinstance(value, np.ndarray):
            _say(answers, {"dtype": value.dtype.str, "shape": list(value.shape)})
            answers.write(value.reshape(-1).view(np.uint8).data)
            answers.flush()
        else:
            _say(answers, {"value": value})


def _say(answers: BinaryIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


def _limit(size: int) -> None:
    """Let the system end this process where the next answer takes more than an array of so many bytes can need."""
    if resource is None:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = used.ru_utime + used.ru_stime + _SECONDS_PER_QUESTION + size / _BYTES_PER_SECOND
    _lower(resource.RLIMIT_CPU, int(seconds) + 1)
    _lower(resource.RLIMIT_CORE, 0)
    pages = Path("/proc/self/statm")
    if pages.exists():  # elsewhere an allocation that fails is all there is
        mapped = int(pages.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        _lower(resource.RLIMIT_AS, mapped + _MEMORY + 3 * size)


def _lower(limit: int, value: int) -> None:
    hard = resource.getrlimit(limit)[1]
    resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _main() -> None:
    source = Path(os.fsdecode(sys.argv[1])) if len(sys.argv) > 1 else None
    questions = sys.stdin.buffer
    serve(questions, sys.stdout.buffer, source or questions.read(int(questions.readline())))


if __name__ == "__main__":
    _main()
