"""A file is written completely or not at all, also after a failure or a kill."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from ptyonnx_bundles import atomic_write, check_writable, remove_abandoned
from ptyonnx_bundles.errors import OutputError
from ptyonnx_bundles.files import atomic

OLD, NEW = b"old" * 1000, b"new" * 2000


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "result.onnx"
    path.write_bytes(OLD)
    return path


def assert_untouched(target: Path) -> None:
    assert target.read_bytes() == OLD
    assert list(target.parent.iterdir()) == [target]


def test_new_file_in_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "c.onnx"
    atomic_write(path, NEW)
    assert path.read_bytes() == NEW
    assert list(path.parent.iterdir()) == [path]


def test_replaces_what_stood_there(target: Path) -> None:
    atomic_write(str(target), NEW)
    assert target.read_bytes() == NEW
    assert list(target.parent.iterdir()) == [target]


def test_permissions_of_a_new_file_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic_write(tmp_path / "new", NEW)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_permissions_of_an_old_file_stay(target: Path) -> None:
    target.chmod(0o604)
    atomic_write(target, NEW)
    assert stat.S_IMODE(target.stat().st_mode) == 0o604


def test_privileges_of_an_old_file_do_not_pass_to_the_new_content(target: Path) -> None:
    target.chmod(0o6755)
    atomic_write(target, NEW)
    assert stat.S_IMODE(target.stat().st_mode) == 0o755


def test_a_link_stays_a_link(target: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.onnx"
    link.symlink_to(target.name)
    atomic_write(link, NEW)
    assert link.is_symlink()
    assert target.read_bytes() == NEW


def test_a_link_to_nothing_is_filled(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("later")
    atomic_write(tmp_path / "link", NEW)
    assert (tmp_path / "later").read_bytes() == NEW


def test_the_longest_file_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    atomic_write(path, NEW)
    assert path.read_bytes() == NEW


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_impossible_names_are_output_errors(name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        atomic_write(tmp_path / name, NEW)
    assert caught.value.file == str(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(OutputError) as caught:
        atomic_write(folder, NEW)
    assert caught.value.file == str(folder)
    assert list(tmp_path.iterdir()) == [folder]


def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    """As root, a rename over /dev/null would replace it for all users."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OutputError) as caught:
        atomic_write(pipe, NEW)
    assert caught.value.file == str(pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_file_in_the_place_of_a_folder(target: Path) -> None:
    with pytest.raises(OutputError):
        atomic_write(target / "inside.onnx", NEW)
    assert_untouched(target)


def test_a_writable_path_is_checked_without_a_change(target: Path, tmp_path: Path) -> None:
    check_writable(target)
    check_writable(tmp_path / "a" / "c.onnx")
    assert_untouched(target)


def test_a_path_that_cannot_be_written_is_refused_beforehand(target: Path, tmp_path: Path) -> None:
    for path in (target / "inside.onnx", target / "deep" / "inside.onnx", tmp_path, tmp_path / ("x" * 300), "a\0b"):
        with pytest.raises(OutputError) as caught:
            check_writable(path)
        assert caught.value.file == str(path)
    assert_untouched(target)


def test_a_folder_without_permission_is_known_beforehand(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root can write to every folder, so the system call is made to fail."""

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(OutputError, match=os.strerror(errno.EACCES)) as caught:
        check_writable(target)
    assert caught.value.file == str(target)
    assert_untouched(target)


@pytest.mark.parametrize("step", ["fsync", "fdopen", "open"])
def test_a_full_disk_leaves_the_old_file(step: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OutputError, match=os.strerror(errno.ENOSPC)) as caught:
        atomic_write(target, NEW)
    assert caught.value.file == str(target)
    assert_untouched(target)


def run(code: str, *arguments: object, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60,
        **settings,
    )  # fmt: skip


def test_a_disk_that_fills_up_while_writing(target: Path) -> None:
    """The kernel itself refuses the bytes beyond a limit, half-way through the file."""
    code = """
import resource, sys
from ptyonnx_bundles import atomic_write, check_writable
from ptyonnx_bundles.errors import OutputError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    atomic_write(sys.argv[1], bytes(1_000_000))
except OutputError as error:
    print(error)
"""
    done = run(code, target)
    assert "cannot be written (File too large)" in done.stdout, done.stderr
    assert_untouched(target)


WITHOUT_RIGHTS = """
import os, sys
from ptyonnx_bundles import atomic_write, check_writable
from ptyonnx_bundles.errors import OutputError
if os.geteuid() == 0:  # root may do everything: become nobody
    os.setgid(65534)
    os.setuid(65534)
try:
    atomic_write(sys.argv[1], b"new")
except OutputError as error:
    print(error)
"""


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """Make a folder that an unprivileged process can access."""
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        if folder.stat().st_mode & 0o001:
            break
        folder.chmod(0o755)
    return tmp_path


def test_an_unwritable_folder(target: Path, open_folder: Path) -> None:
    open_folder.chmod(0o555)
    target.chmod(0o666)
    done = run(WITHOUT_RIGHTS, target)
    open_folder.chmod(0o755)
    assert "cannot be written (Permission denied)" in done.stdout, done.stderr
    assert_untouched(target)


def test_a_write_protected_file(target: Path, open_folder: Path) -> None:
    open_folder.chmod(0o777)
    target.chmod(0o444)
    done = run(WITHOUT_RIGHTS, target)
    assert "cannot be written (write-protected)" in done.stdout, done.stderr
    assert_untouched(target)


def test_killed_at_any_moment_the_file_is_one_or_the_other(target: Path) -> None:
    code = """
import sys
from ptyonnx_bundles import atomic_write, check_writable
print("ready", flush=True)
while True:
    for letter in (b"a", b"b"):
        atomic_write(sys.argv[1], letter * 3_000_000)
"""
    for delay in (0.05, 0.11, 0.23):
        process = subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout:
            process.stdout.readline()
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            process.wait()
        content = target.read_bytes()
        assert content in {OLD, b"a" * 3_000_000, b"b" * 3_000_000}
    atomic_write(target, NEW)
    assert list(target.parent.iterdir()) == [target]


HALF_WAY = """
import sys, time
from ptyonnx_bundles import atomic_write
def write(stream):
    stream.write(b"half")
    stream.flush()
    print("ready", flush=True)
    sys.stdin.read()  # until the pipe is closed
    stream.write(b" and half")
atomic_write(sys.argv[1], write)
"""


@pytest.mark.parametrize("killed", [True, False])
def test_what_a_kill_left_goes_with_the_next_file_and_what_is_being_written_stays(target: Path, killed: bool) -> None:
    other = target.with_name("other")
    with subprocess.Popen(
        [sys.executable, "-c", HALF_WAY, str(other)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if killed:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert len(list(target.parent.iterdir())) == 2
        atomic_write(target, NEW)
        assert len(list(target.parent.iterdir())) == (1 if killed else 2)
        process.communicate()
    if not killed:
        assert other.read_bytes() == b"half and half"
        assert sorted(target.parent.iterdir()) == [other, target]


def test_only_temporary_files_of_ours_are_taken_for_abandoned(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".ptyonnx-pipe.tmp")
    (tmp_path / ".ptyonnx-folder.tmp").mkdir()
    (tmp_path / ".ptyonnx-link.tmp").symlink_to("mine")
    for name in ("mine", ".ptyonnx-notes", "ptyonnx-1.tmp"):
        (tmp_path / name).write_bytes(OLD)
    before = sorted(tmp_path.iterdir())
    remove_abandoned(tmp_path)
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / ".ptyonnx-1.tmp").write_bytes(OLD)
    remove_abandoned(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_interrupted_by_the_keyboard_nothing_is_left(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        atomic_write(target, NEW)
    assert_untouched(target)


def test_file_and_folder_reach_the_disk(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synchronised = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        synchronised.append(stat.S_IFMT(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    atomic_write(target, NEW)
    assert synchronised == [stat.S_IFREG, stat.S_IFDIR]


def test_writers_at_the_same_time_do_not_mix(target: Path) -> None:
    contents = [bytes([letter]) * 200_000 for letter in b"abcd"]
    threads = [threading.Thread(target=atomic_write, args=(target, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() in contents
    assert list(target.parent.iterdir()) == [target]


def test_whoever_takes_a_temporary_file_for_abandoned_removes_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process sees the file between its creation and its locking, and removes it slightly later."""
    first = True
    lock = atomic.try_lock

    def contended(descriptor: int) -> bool:
        nonlocal first
        if first:
            first = False
            seen.extend(tmp_path.iterdir())
            return False
        return lock(descriptor)

    def write(stream: BinaryIO) -> None:
        seen[0].unlink(missing_ok=True)  # what the other process took for abandoned
        stream.write(NEW)

    seen: list[Path] = []
    monkeypatch.setattr(atomic, "try_lock", contended)
    atomic_write(tmp_path / "result", write)
    assert (tmp_path / "result").read_bytes() == NEW
    assert list(tmp_path.iterdir()) == [tmp_path / "result"]
