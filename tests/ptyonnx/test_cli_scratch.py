"""What libraries leave in the temporary directory when a command is killed goes with the next command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import pytest
from refusal import contents

from ptyonnx.cli.scratch import use_scratch

COMMAND = """
import sys, tempfile
import click
from ptyonnx.cli.scratch import use_scratch
with click.Context(click.Command("verb")):
    use_scratch()
    use_scratch()
    tempfile.NamedTemporaryFile(suffix=".py", delete=False).write(b"generated")
    print("written", flush=True)
    sys.stdin.read()
"""


def use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Use a scratch folder in a command of this process; gives what stood in `folder` meanwhile."""
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with click.Context(click.Command("verb")):
        use_scratch()
        assert Path(tempfile.gettempdir()).parent == Path(os.environ["TMPDIR"]).parent == folder
        meanwhile = sorted(contents(folder))
    assert os.environ["TMPDIR"] == str(folder)
    return meanwhile


@pytest.mark.parametrize("killed", [True, False])
def test_the_folder_of_a_killed_command_goes_and_that_of_a_living_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if killed:
            process.send_signal(signal.SIGKILL)
            process.wait()
        theirs = sorted(contents(tmp_path))
        assert len(theirs) == 3  # lock, folder, the library's file
        meanwhile = use(tmp_path, monkeypatch)
        assert set(theirs) & set(meanwhile) == (set() if killed else set(theirs))
        process.communicate()
    assert contents(tmp_path) == {}


def test_what_is_not_a_scratch_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ptyonnx-benchmarks").mkdir()
    (tmp_path / "ptyonnx-link.lock").symlink_to("ptyonnx-benchmarks")
    os.mkfifo(tmp_path / "ptyonnx-pipe")
    (tmp_path / "mine.lock").write_text("mine", encoding="utf-8")
    before = contents(tmp_path)
    use(tmp_path, monkeypatch)
    assert contents(tmp_path) == before
