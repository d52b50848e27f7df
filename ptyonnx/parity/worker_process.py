"""Run one implementation in a process of its own, report its progress, and end it in any case."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ptyonnx.parity import worker
from ptyonnx.parity.computed_values import ComputedValues
from ptyonnx_bundles.errors import PtyonnxError, WorkerError

__all__ = ["Progress", "run_worker"]

Progress = Callable[[str, str], None]  # implementation, stage

_LONGEST_WORDS = 200  # characters of the quoted last line of stderr
_EXCEPTION = re.compile(
    r"[A-Za-z_][\w.]*(Error|Exception): "
)  # the line of a traceback that names the exception; libraries append advice
# Messages without importance: TensorFlow reports on the processor and on skipped graph optimisations before it reads
# TF_CPP_MIN_LOG_LEVEL.
_NOTICE = re.compile(
    r"I\d{4} \d\d:\d\d:|\d{4}-\d\d-\d\d \d\d:\d\d:\S+ I |WARNING: All log messages before absl::InitializeLog"
    r"|To enable the following instructions: |E\d{4} .* meta_optimizer\.cc:"
)
_PATIENCE_s = 5.0  # grace period for a child that has closed its output


def run_worker(
    folder: Path,
    implementation: str,
    *,
    threads: int,
    timeout_s: float,
    progress: Progress,
    remedy: str | None = None,
    module: str = worker.__name__,
) -> ComputedValues:
    """Run an implementation in a child process.

    Parameters
    ----------
    folder : Path
        Folder with the shared inputs, to which the child also writes.
    implementation : str
        ``"pytorch"``, ``"tensorflow"`` or ``"onnxruntime"``.
    threads : int
        Size of every thread pool in the child.
    timeout_s : float
        Time limit, seconds.
    progress : callable
        Receives the implementation and its stage.
    remedy : str, optional
        Advice for the case that the child dies.
    module : str
        Module whose `main` the child runs.

    Returns
    -------
    ComputedValues

    Raises
    ------
    WorkerError
        The child died or exceeded the time limit; the message quotes the last line of its stderr.
    PtyonnxError
        The child reported an error, such as a missing framework.
    """
    with (folder / f"{implementation}.stderr").open("w+b") as words:
        child = _start(module, folder, implementation, threads, words)
        try:
            _listen(child, implementation, timeout_s, progress, words)
        finally:
            _end(child)
        if child.returncode:
            raise WorkerError(
                f"the process of {implementation} died ({_cause(child.returncode)})", found=_last_words(words), remedy=remedy,
            )  # fmt: skip
    return ComputedValues.read(folder / worker.COMPUTED)


def _start(module: str, folder: Path, implementation: str, threads: int, words: IO[bytes]) -> subprocess.Popen[bytes]:
    number = str(max(1, threads))
    pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    environment = {
        **os.environ,
        **dict.fromkeys(pools, number),
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "-1",  # the comparison concerns float32 arithmetic on the CPU
        "TMPDIR": str(folder),  # its temporary files are removed with the folder
        "PYTHONUNBUFFERED": "1",
    }
    # With -m, Python would warn that the package has already imported the module.
    program = f"import sys; from {module} import main; sys.exit(main())"
    command = [sys.executable, "-P", "-c", program, str(folder), implementation]
    return subprocess.Popen(  # noqa: S603 - our own module
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words, start_new_session=True
    )


def _listen(
    child: subprocess.Popen[bytes], implementation: str, timeout_s: float, progress: Progress, words: IO[bytes]
) -> None:
    """Report the progress of the child until it ends."""
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(child, lines), daemon=True).start()
    end = time.monotonic() + timeout_s
    stage = "starting"
    while True:
        try:
            line = lines.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            raise WorkerError(
                f"the process of {implementation} did not end within {timeout_s:g} s and was stopped during {stage}",
                found=_last_words(words), remedy="use a larger timeout_s=…, or a less busy machine",
            ) from None  # fmt: skip
        if line is None:
            break
        if line.startswith(worker.STAGE):
            stage = line.removeprefix(worker.STAGE)
            progress(implementation, stage)
        elif line.startswith(worker.REFUSED):
            raise _RefusalError(line.removeprefix(worker.REFUSED))
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(max(_PATIENCE_s, end - time.monotonic()))


class _RefusalError(PtyonnxError):
    """An error that a child reported; its message is complete."""

    def __str__(self) -> str:
        return self.problem


def _read(child: subprocess.Popen[bytes], lines: queue.Queue[str | None]) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        lines.put(line.decode("utf-8", "replace").rstrip("\n"))
    lines.put(None)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill the child and all processes that it started."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(child.pid, signal.SIGKILL)
            else:
                child.kill()
        child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _cause(code: int) -> str:
    if code > 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


def _last_words(words: IO[bytes]) -> str | None:
    """The line of the last exception on stderr, or else the last line that is not a notice."""
    words.seek(0)
    lines = words.read().decode("utf-8", "replace").split("\n")
    spoken = [line.strip() for line in lines if line.strip() and not _NOTICE.match(line.strip())]
    if not spoken:
        return None
    raised = [line for line in spoken if _EXCEPTION.match(line)]
    return f"its last message '{(raised or spoken)[-1][:_LONGEST_WORDS]}'"
