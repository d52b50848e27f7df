"""A stranger's graph runs in a process of its own: whatever it does there, its parent says so in one line."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from bundle_factory import make_bundle, run_model
from foreign_factory import make_foreign_bundle
from hostile_graphs import hostile_bundle
from session_runs import reconstruct

from ptyonnx_bundles import Bundle
from ptyonnx_bundles.errors import ProviderError, PtyonnxError, SettingsError, WorkerError
from ptyonnx_runtime.inference import session as sessions
from ptyonnx_runtime.inference.session import Session
from ptyonnx_runtime.scan import Scan

N = 64
LIMIT_BYTES = 2**28
SLACK_S = 10.0  # for processes to start and end on a busy machine


def children(of: int | None = None) -> set[int]:
    """Processes that a process has started, dead ones that nobody waited for among them."""
    parent = os.getpid() if of is None else of
    return {
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and about(entry.name)[1] == str(parent)
    }


def about(process: int | str) -> list[str]:
    """State, parent and so on, from the third field on; see proc(5)."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["X", ""]


@contextmanager
def nothing_left() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


@contextmanager
def within(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def example_scan(count: int = 24) -> Scan:
    generator = np.random.default_rng(0)
    positions = generator.uniform(0, 40, (count, 2)) + 40
    return Scan(generator.gamma(2.0, 5.0, (count, N, N)).astype(np.float32), positions)


def compute(bundle: Bundle, limit_s: float = 60.0) -> None:
    with Session(bundle, "cpu", threads=1, limit_s=limit_s) as session:
        session.run(bundle.selftest.diffraction)


def test_a_graph_that_crashes_is_one_line(tmp_path: Path) -> None:
    bundle = hostile_bundle(tmp_path / "hostile.onnx", "crash")
    if platform.machine() not in {"x86_64", "AMD64"}:  # others divide to a number, and all is well
        compute(bundle)
        return
    with nothing_left(), within(SLACK_S), pytest.raises(WorkerError, match="SIGFPE") as caught:
        compute(bundle)
    assert caught.value.file == "hostile.onnx"
    assert caught.value.remedy


def test_memory_behind_the_back_of_the_arena_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "LARGEST_FOREIGN_BYTES", LIMIT_BYTES)
    bundle = hostile_bundle(tmp_path / "hostile.onnx", "memory")
    before = resident_bytes()
    with nothing_left(), within(30 + SLACK_S), pytest.raises(PtyonnxError) as caught:
        compute(bundle, 30)
    assert "longer than" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert resident_bytes() - before < LIMIT_BYTES // 4


def test_a_graph_that_never_ends_is_stopped(tmp_path: Path) -> None:
    bundle = hostile_bundle(tmp_path / "hostile.onnx", "endless")
    with nothing_left(), within(1 + SLACK_S), pytest.raises(WorkerError, match="longer than 1 s") as caught:
        compute(bundle, 1)
    assert "limit_s=" in str(caught.value.remedy)


def test_a_reconstruction_ends_with_the_graph_that_does_not(tmp_path: Path) -> None:
    """All workers say the same: what happened, and not that their process was killed for it."""
    bundle = hostile_bundle(tmp_path / "hostile.onnx", "endless")
    with nothing_left(), within(1 + SLACK_S), pytest.raises(WorkerError, match="longer than 1 s"):
        reconstruct(bundle, example_scan(), provider="cpu", threads=2, limit_s=1)


def test_values_on_the_way_come_from_a_process_too(tmp_path: Path) -> None:
    bundle = hostile_bundle(tmp_path / "hostile.onnx", "endless")
    session = Session(bundle, "cpu", threads=1, limit_s=1)
    with session, pytest.raises(WorkerError, match="longer than 1 s"):
        session.activations(bundle.selftest.diffraction)


@pytest.mark.parametrize("command", ["verify", "reconstruct", "diff"])
def test_ctrl_c_ends_what_a_hostile_graph_computes(tmp_path: Path, command: str) -> None:
    bundle = hostile_bundle(tmp_path / "hostile.onnx", "endless")
    path, data = str(bundle.path), str(Path(__file__).parents[2] / "samples" / "siemens_star_64.npz")
    arguments = {
        "verify": [path],
        "reconstruct": [path, "--data", data, "-o", str(tmp_path / "result.h5")],
        "diff": [path, path, "--data", data],
    }[command]
    process = subprocess.Popen(
        [sys.executable, "-m", "ptyonnx", command, *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    grandchild = busy_child(process.pid)
    process.send_signal(signal.SIGINT)
    with within(3):
        _, said = process.communicate()
    assert process.returncode == 130
    assert said.strip().splitlines()[-1].startswith("ptyonnx: interrupted")
    assert "Traceback" not in said
    assert not Path(f"/proc/{grandchild}").exists()


def test_the_child_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    bundle = hostile_bundle(tmp_path / "hostile.onnx", "endless")
    process = subprocess.Popen([sys.executable, "-m", "ptyonnx", "verify", str(bundle.path)])
    grandchild = busy_child(process.pid)
    process.kill()
    process.wait()
    end = time.monotonic() + SLACK_S
    while about(grandchild)[0] not in {"X", "Z"}:  # whoever inherits it may leave it a zombie
        assert time.monotonic() < end
        time.sleep(0.05)


def busy_child(parent: int) -> int:
    """The one child of a process, once it has computed for a while."""
    end = time.monotonic() + 3 * SLACK_S
    while time.monotonic() < end:
        for child in children(parent):
            spent = about(child)[11:12]
            if spent and int(spent[0]) > os.sysconf("SC_CLK_TCK"):  # a second, more than it takes to import
                return child
        time.sleep(0.05)
    raise AssertionError("no child computes")


def test_a_process_of_its_own_computes_the_same_bits(tmp_path: Path) -> None:
    bundle = make_foreign_bundle(tmp_path / "foreign.onnx", N)
    diffraction = np.random.default_rng(1).gamma(2.0, 5.0, (5, 1, N, N)).astype(np.float32)
    with nothing_left(), Session(bundle, "cpu", threads=1) as session:
        found = session.run(diffraction)
    np.testing.assert_array_equal(found, run_model(bundle.model, diffraction))


def test_the_number_of_threads_does_not_change_a_reconstruction(tmp_path: Path) -> None:
    bundle = make_foreign_bundle(tmp_path / "foreign.onnx", N)
    with nothing_left():
        one, three = (reconstruct(bundle, example_scan(), provider="cpu", threads=count) for count in (1, 3))
    np.testing.assert_array_equal(one.object, three.object)


def test_more_threads_than_were_announced_wait_for_their_turn(tmp_path: Path) -> None:
    bundle = make_foreign_bundle(tmp_path / "foreign.onnx", N)
    found: list[object] = []
    with Session(bundle, "cpu", threads=2, concurrency=2) as session:
        threads = [Thread(target=lambda: found.append(session.run(bundle.selftest.diffraction))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 6


def test_a_session_that_is_forgotten_takes_its_process_with_it(tmp_path: Path) -> None:
    bundle = make_foreign_bundle(tmp_path / "foreign.onnx", N)
    with nothing_left():
        session = Session(bundle, "cpu", threads=1)
        assert children()
        del session


def test_a_batch_that_does_not_fit_leaves_the_process_alive(tmp_path: Path) -> None:
    bundle = make_foreign_bundle(tmp_path / "foreign.onnx", N)
    with Session(bundle, "cpu", threads=1) as session:
        with pytest.raises(ProviderError, match="could not compute a batch of 1 on cpu"):
            session.run(np.ones((1, 1, N, N - 1), np.float32))
        session.run(bundle.selftest.diffraction)


def test_a_closed_session_says_so(tmp_path: Path) -> None:
    bundle = make_foreign_bundle(tmp_path / "foreign.onnx", N)
    session = Session(bundle, "cpu", threads=1)
    session.close()
    with pytest.raises(WorkerError, match="closed"):
        session.run(bundle.selftest.diffraction)


@pytest.mark.parametrize("provider", ["abacus", "coreml"])
def test_what_the_child_refuses_is_refused_in_its_words(tmp_path: Path, provider: str) -> None:
    foreign, native = make_foreign_bundle(tmp_path / "foreign.onnx", N), make_bundle(tmp_path / "native.onnx")
    lines = []
    for bundle in (foreign, native):
        with pytest.raises(ProviderError) as caught:
            Session(bundle, provider)
        lines.append(str(caught.value))
    assert lines[0] == lines[1]


def test_no_time_at_all_is_a_setting_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        Session(make_foreign_bundle(tmp_path / "foreign.onnx", N), "cpu", limit_s=0)
    assert caught.value.key == "limit_s"


def test_a_native_bundle_needs_no_process(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "native.onnx")
    before = children()
    session = Session(bundle, "cpu", threads=1)
    assert children() <= before
    session.run(bundle.selftest.diffraction)


def test_a_script_without_a_guard_can_use_it(tmp_path: Path) -> None:
    """What multiprocessing asks of a script, ``if __name__ == "__main__"``, is not asked here."""
    bundle = make_foreign_bundle(tmp_path / "foreign.onnx", N)
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom ptyonnx_bundles import read_bundle\nfrom ptyonnx_runtime.inference.verify import verify\n"
        "print(verify(read_bundle(sys.argv[1])).passed)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(bundle.path)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_forked_process_does_not_read_the_answers_of_its_parent(tmp_path: Path) -> None:
    bundle = make_foreign_bundle(tmp_path / "foreign.onnx")
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(bundle.path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


FORKED = """
import os, sys
from ptyonnx_bundles import read_bundle
from ptyonnx_bundles.errors import WorkerError
from ptyonnx_runtime.inference.session import Session

bundle = read_bundle(sys.argv[1])
with Session(bundle, "cpu", threads=1) as session:
    if not (child := os.fork()):
        try:
            session.run(bundle.selftest.diffraction)
        except WorkerError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    session.run(bundle.selftest.diffraction)
"""
