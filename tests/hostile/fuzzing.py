"""Change files at random and read them: whatever comes out must be a value or one line, soon, in little memory.

The cases of a seed are always the same: `case(kind, seed, index)` makes the file that a finding names. Readings run in
forked workers that a watchdog ends; the process that reads HDF5 is forked instead of started, which is a hundred times
faster and leaves its limits as they are.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import IO, NamedTuple

from hostile.readers import READERS
from hostile.seeds import SEEDS, Seeds
from ptyonnx_bundles.errors import PtyonnxError
from ptyonnx_converters import hdf5
from ptyonnx_converters.hdf5 import child as hdf5_child

__all__ = ["Finding", "Outcome", "case", "fuzz"]

LONGEST_s = 5.0  # of computing, whatever else the machine has to do
LONGEST_WAIT_s = 120.0
LARGEST_kB = 1_000_000
_BACKSTOP_BYTES = 2**32

_TOKENS = (
    b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00", b"'descr'", b"'shape'",
    b"'fortran_order'", b"<f4", b"|O", b"[('a', '<f4')]", b"(", b")", b"{", b"}", b",", b"L", b"True", b"1e9", b"-1", b"\\x41",
    b"99999999999999999999", b"\x89HDF\r\n\x1a\n", b"OHDR", b"OCHK", b"TREE", b"SNOD", b"HEAP", b"GCOL", b"FRHP", b"BTHD", b"FADB",
    b"&a ", b"*a ", b"<<: *base\n", b"!!python/object:os.system", b"!!bool x", b"2001-99-99", b"? ", b"- ", b"[" * 50,
    b"nan", b"inf", b"null", b"\xff\xfe", b"\x00", b"\x1b[2J", b"\xed\xa0\x80", b"IHDR", b"IDAT", b"II*\x00", b"RIFF", b'"', b"\n",
    b"ctorch\n", b"cos\nsystem\n", b"R.", b"\x80\x04", b"../../x", b"1,2,3,4\n", b"epoch,loss\n", b"0x10", b"1_0", b"9" * 5000,
)  # fmt: skip


class Finding(NamedTuple):
    """What went wrong with a case."""

    kind: str
    index: int
    what: str


class Outcome(NamedTuple):
    """Of a run."""

    cases: int
    refused: int
    findings: list[Finding]
    peak_kB: int
    seconds: float


def case(kind: str, seed: int, index: int, seeds: Seeds | None = None) -> bytes:
    """Make the file of a case."""
    _, good, makers = seeds or SEEDS[kind]()
    draw = random.Random(f"{kind} {seed} {index}")  # noqa: S311 - to be repeated
    content = draw.choice(makers)(draw) if makers and draw.random() < 0.25 else draw.choice(good)
    for _ in range(draw.choice((0, 1, 1, 1, 2, 4, 8))):
        content = _changed(content, draw, good)
    return content


def _changed(content: bytes, draw: random.Random, good: Sequence[bytes]) -> bytes:
    place, way = _place(content, draw), draw.randrange(9)
    width = draw.choice((1, 2, 4, 8))
    if way == 0 and content:
        place = min(place, len(content) - 1)
        return content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]
    if way in {1, 2}:
        value = draw.choice((0, 1, 8, 24, 2**31, 2**32 - 1, 2**63, 2**64 - 1, len(content), draw.getrandbits(64)))
        order = draw.choice(("little", "big"))
        return content[:place] + (value % 256**width).to_bytes(width, order) + content[place + width :]  # type: ignore[arg-type]
    if way == 3:
        return content[:place]
    length = draw.choice((1, 4, 8, 40, 400))
    if way == 4:
        return content[:place] + content[place + length :]
    if way == 5:
        other = draw.choice(good)
        start = _place(other, draw)
        return content[:place] + other[start : start + length] + content[place + draw.choice((0, length)) :]
    if way == 6:
        return content[:place] + content[place : place + length] * draw.choice((2, 3, 50)) + content[place:]
    token = draw.choice(_TOKENS)
    return content[:place] + token + content[place + draw.choice((0, len(token))) :]


def _place(content: bytes, draw: random.Random) -> int:
    """Anywhere, or near what looks like structure: the beginning, the end, a signature."""
    choice = draw.random()
    if choice < 0.25:
        return draw.randrange(min(len(content), 200) + 1)
    if choice < 0.4:
        return max(0, len(content) - draw.randrange(300))
    if choice < 0.7:
        found = content.find(draw.choice(_TOKENS), draw.randrange(len(content) + 1))
        if found >= 0:
            return min(len(content), max(0, found + draw.randrange(-8, 64)))
    return draw.randrange(len(content) + 1)


class _Forked:
    """The process that reads HDF5, forked: the same function with the same limits."""

    def __init__(self, path: Path | None) -> None:
        ask, asked = os.pipe()
        tell, told = os.pipe()
        sys.stdout.flush()
        self.pid, self._code = os.fork(), None
        if self.pid == 0:
            try:
                os.close(asked)
                os.close(tell)
                with os.fdopen(ask, "rb") as questions, os.fdopen(told, "wb") as answers:
                    source = path or questions.read(int(questions.readline()))
                    hdf5_child.serve(questions, answers, source)
            finally:
                os._exit(0)
        os.close(ask)
        os.close(told)
        self.stdin: IO[bytes] | None = os.fdopen(asked, "wb")
        self.stdout: IO[bytes] | None = os.fdopen(tell, "rb")
        assert isinstance(self.stdout, BufferedReader)
        self._code: int | None = None

    def kill(self) -> None:
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code


def fuzz(cases: int, *, seed: int, kinds: Sequence[str] = tuple(READERS), workers: int = 2, first: int = 0) -> Outcome:
    """Read `cases` files, the same number of each kind.

    Parameters
    ----------
    cases : int
    seed : int
    kinds : sequence of str
        Of `READERS`.
    workers : int
        Processes.
    first : int
        Index of the first case of each kind.
    """
    started = time.monotonic()
    per_kind = -(-cases // len(kinds))
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:  # noqa: S108 - memory, where there is
        made = {kind: SEEDS[kind]() for kind in kinds}
        work = [(kind, index) for index in range(first, first + per_kind) for kind in kinds]
        pool = [_Worker(work[start::workers], seed, made, Path(folder) / str(start)) for start in range(workers)]
        while sum(worker.alive() for worker in pool):
            time.sleep(0.02)
        findings = [finding for worker in pool for finding in worker.findings()]
        return Outcome(
            len(work), sum(worker.refused for worker in pool), findings, max(worker.peak_kB for worker in pool),
            time.monotonic() - started,
        )  # fmt: skip


class _Worker:
    """A process that reads one case after the other, and is replaced when one ends it."""

    def __init__(self, work: list[tuple[str, int]], seed: int, made: dict[str, Seeds], folder: Path) -> None:
        self._work, self._seed, self._made, self._folder = work, seed, made, folder
        self._shared = mmap.mmap(-1, 40)  # done, refused, peak, start by the clock, start by the processor
        self._found = folder.with_suffix(".findings")
        self._ended: list[Finding] = []
        self._suspect: int | None = None
        folder.mkdir()
        _run_directory(folder / "run", made)
        self._pid = 0
        self._start(0)

    @property
    def refused(self) -> int:
        return int(struct.unpack_from("q", self._shared, 8)[0])

    @property
    def peak_kB(self) -> int:
        return int(struct.unpack_from("q", self._shared, 16)[0])

    def findings(self) -> list[Finding]:
        lines = self._found.read_text(encoding="utf-8").splitlines() if self._found.exists() else []
        said = [line.split("\t", 2) for line in lines]
        return self._ended + [Finding(kind, int(index), what) for kind, index, what in said]

    def alive(self) -> bool:
        """Look after the process; False when all is done."""
        if not self._pid:
            return False
        done, _, _, clock = struct.unpack_from("qqqd", self._shared)
        computed = _computed(self._pid) - struct.unpack_from("d", self._shared, 32)[0]
        late = done < len(self._work) and (computed > LONGEST_s or time.monotonic() - clock > LONGEST_WAIT_s)
        suspected, self._suspect = self._suspect, done if late else None
        if late and suspected == done:  # twice: the first look may meet figures that are half written
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._replace(done, f"hangs ({computed:.1f} s of computing)")
            return self._pid != 0
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if pid:
            done = struct.unpack_from("q", self._shared)[0]
            self._pid = 0
            if done < len(self._work):
                self._replace(done, f"died ({os.waitstatus_to_exitcode(status)})")
        return self._pid != 0

    def _replace(self, done: int, what: str) -> None:
        self._ended.append(Finding(*self._work[done], what))
        self._pid = 0
        self._start(done + 1)

    def _start(self, first: int) -> None:
        struct.pack_into("q", self._shared, 0, first)
        struct.pack_into("dd", self._shared, 24, time.monotonic(), 0.0)
        sys.stdout.flush()
        self._pid = os.fork()
        if self._pid == 0:
            code = 1
            try:
                self._read_all(first)
                code = 0
            except BaseException:  # noqa: BLE001 - the fuzzer's own faults must be seen
                traceback.print_exc()
            finally:
                os._exit(code)

    def _read_all(self, first: int) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (_BACKSTOP_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        hdf5.start_child = _Forked  # type: ignore[assignment]
        warnings.simplefilter("error")
        peak = 0
        for number, (kind, index) in enumerate(self._work[first:], first):
            struct.pack_into("qqqdd", self._shared, 0, number, self.refused, peak, time.monotonic(), _used())
            what, refused = self._read(kind, index)
            before, peak = (
                peak,
                max(peak, *(_resident(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))),
            )
            if what is None and peak > LARGEST_kB > before:
                what = f"takes {peak} kB"
            if what is not None:
                with self._found.open("a", encoding="utf-8") as stream:
                    stream.write(f"{kind}\t{index}\t{' '.join(what.split())}\n")
            struct.pack_into("qqq", self._shared, 0, number + 1, self.refused + refused, peak)

    def _read(self, kind: str, index: int) -> tuple[str | None, bool]:
        seeds = self._made[kind]
        path = self._folder / f"case{seeds[0]}"
        path.write_bytes(case(kind, self._seed, index, seeds))
        try:
            READERS[kind](path)
        except PtyonnxError as error:
            line = str(error)
            return (None if line.isprintable() and len(line) < 2000 else f"says {line[:200]!r}"), True
        except BaseException as error:  # noqa: BLE001 - what is looked for
            frame = traceback.extract_tb(error.__traceback__)[-1]
            return f"{type(error).__name__}: {str(error)[:100]} ({Path(frame.filename).name}:{frame.lineno})", False
        return None, False


def _run_directory(folder: Path, made: dict[str, Seeds]) -> None:
    folder.mkdir()
    for name, kind in (("run.json", "run"), ("settings.yaml", "settings"), ("history.csv", "history")):
        seeds = made.get(kind) or SEEDS[kind]()
        (folder / name).write_bytes(seeds[1][0])


def _used() -> float:
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system


def _computed(pid: int) -> float:
    """Seconds that a process and its ended children have computed."""
    with contextlib.suppress(OSError, ValueError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _resident(who: int) -> int:
    return resource.getrusage(who).ru_maxrss


def kinds_of(names: Sequence[str]) -> Iterator[str]:
    """Kinds whose names begin so; all where there is none."""
    return (kind for kind in READERS if not names or kind.startswith(tuple(names)))
