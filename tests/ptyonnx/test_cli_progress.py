"""What a verb shows on stderr while it works, on a pseudo-terminal and elsewhere."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time

import pytest

from ptyonnx.cli import progress
from ptyonnx.cli.progress import TrainingBars, bar, stage

Output = pytest.CaptureFixture[str]
# A verb that works for a while and prints a note meanwhile, with its stderr closed, as frameworks load.
PROGRAM = """
import sys, time
from ptyonnx.cli import inspect, main
from ptyonnx.cli.framework import _quietly
from ptyonnx.cli.output import answer, note
from ptyonnx.cli.progress import bar

def work(**_):
    with _quietly("tensorflow"):
        print("a greeting", file=sys.stderr, flush=True)
        time.sleep(0.5)
    with bar("reconstructing", "group") as report:
        report(1, 2)
        note("a note")
        report(2, 2)
    answer({}, "the result")

inspect.command.callback = work
sys.exit(main(sys.argv[1:]))
"""


# The command line, which also tells when a large package is loaded.
TELLING = """
import sys
from ptyonnx.cli import main

class Teller:
    def find_spec(self, name, path=None, target=None):
        if name in {"numpy", "h5py", "onnxruntime", "scipy"}:
            print(f"<loading {name}>", file=sys.stderr, flush=True)

sys.meta_path.insert(0, Teller())
sys.exit(main(sys.argv[1:]) - 2)
"""


def _on_a_terminal(*words: str, program: str = PROGRAM) -> tuple[str, str]:
    """Run a program with stderr on a pseudo-terminal; give what it wrote there and on stdout."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", program, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 4096):
                shown += piece
        except OSError:  # the other side is closed
            pass
        assert process.stdout is not None
        result = process.stdout.read()
    os.close(ours)
    assert process.returncode == 0
    return shown.decode(), result


def test_a_terminal_shows_one_line_that_is_replaced() -> None:
    shown, result = _on_a_terminal("inspect", "x")
    lines = [part for part in shown.replace("\r\n", "\n").split("\r\x1b[K") if part.strip()]
    assert lines[0] == "ptyonnx inspect: starting …"
    turns = [line for line in lines if "loading TensorFlow …" in line]
    assert len(turns) >= 2, "it turns while the framework loads"
    assert "a greeting" not in shown
    assert any(line.startswith("reconstructing:  50%") for line in lines)
    assert "note: a note\n" in lines
    assert shown.endswith("\r\x1b[K"), "nothing stays below the result"
    assert result == "the result\n"


@pytest.mark.parametrize("verb", ["inspect absent.onnx", "reconstruct absent.onnx --data absent.npz -o r.h5"])
def test_a_verb_announces_itself_before_it_loads_anything(verb: str) -> None:
    shown, _ = _on_a_terminal(*verb.split(), program=TELLING)
    assert 0 < shown.index("starting …") < shown.index("<loading numpy>")
    assert "\r\x1b[Kptyonnx: error: absent.onnx" in shown


def test_quiet_shows_nothing() -> None:
    assert _on_a_terminal("inspect", "x", "--quiet") == ("", "the result\n")


def test_only_a_long_stage_has_a_line_where_there_is_no_terminal(
    capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_PATIENCE_s", 0.3)
    with stage("reading"), stage("checking"):
        pass
    with stage("loading"):
        deadline = time.monotonic() + 10
        text = ""
        while not text and time.monotonic() < deadline:
            time.sleep(0.05)
            text = capsys.readouterr().err
        assert text == "loading …\n"
    assert capsys.readouterr().err == ""


def test_the_innermost_stage_is_shown_and_then_the_one_around_it(
    capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with stage("outer") as replace, stage("inner"):
        pass
    with stage("first") as replace:
        replace("second")
    shown = capsys.readouterr().err
    assert [word for word in shown.split() if word in {"inner", "outer", "first", "second"}] == [
        "outer",
        "inner",
        "first",
        "second",
    ]


def test_a_line_is_never_wider_than_the_terminal(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    with stage("reading " + "x" * 100), bar("counting" * 10, "group") as report:
        report(1, 3)
    for line in capsys.readouterr().err.split("\r\x1b[K"):
        assert len(line) < 40


def test_a_training_names_its_stages(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    row = {"epoch": 1, "loss": 0.5, "r_factor": 0.2, "val_loss": 0.6, "val_r_factor": 0.3, "rate": 1e-3, "seconds": 1.5}
    with TrainingBars() as bars:
        bars.prepare("building the network")
        bars.started(epochs=2, steps_per_epoch=1, epoch=0)
        bars.step(0.5, 0.2)
        bars.epoch(row)
    shown = capsys.readouterr().err
    found = [
        shown.index(words)
        for words in ("building", "2 epochs", "first step", "epoch 1/2: 100%", "validation", "epoch 2/2")
    ]
    assert found == sorted(found)


ROW = {"epoch": 1, "loss": 0.5, "r_factor": 0.2, "val_loss": 0.6, "val_r_factor": 0.3, "rate": 1e-3, "seconds": 3.0}


def _train_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train for two epochs of 7 s and 5 s, of which the first step takes 4 s and 3 s."""
    waited = 0.0

    def wait(seconds: float) -> None:
        nonlocal waited
        waited += seconds
        bars._status.draw()

    monkeypatch.setattr(progress, "monotonic", lambda: time.monotonic() + waited)
    monkeypatch.setattr(progress, "_TICK_s", 1000.0)  # the thread does not draw
    with TrainingBars() as bars:
        bars.started(epochs=2, steps_per_epoch=3, epoch=0)
        for epoch, first in ((1, 4.0), (2, 3.0)):
            for seconds in (first, 1.0, 1.0):
                wait(seconds)
                bars.step(0.5, 0.2)
            wait(1.0 if epoch == 1 else 0.0)
            bars.epoch({**ROW, "epoch": epoch})


def test_verbose_states_the_duration_of_each_epoch_once(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setattr(progress, "verbosity", lambda: 1)
    _train_by_the_clock(monkeypatch)
    lines = [line.split() for line in capsys.readouterr().err.splitlines() if line.startswith("info: epoch")]
    durations = [(words[2], int(float(words[3]))) for words in lines]  # the test itself takes far less than a second
    assert durations == [("1/2:", 7), ("2/2:", 5)]


def test_where_there_is_no_terminal_an_epoch_has_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    _train_by_the_clock(monkeypatch)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("  ")[0] for line in lines if line.startswith("epoch")] == [
        "epoch 1/2: compiling the first step …",
        "epoch 1/2",
        "epoch 2/2",
    ]


def test_a_rate_is_shown_from_the_second_step_on(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    now = 0.0
    monkeypatch.setattr(progress, "monotonic", lambda: now)
    monkeypatch.setattr(progress, "_TICK_s", 0.2)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    with bar("counting", "group") as report:
        now = 1.0
        report(1, 4)
        now = 1.001
        report(1, 4)
        first = capsys.readouterr().err
        now = 3.0
        report(4, 4)
    assert "?group/s" in first
    assert "1.50group/s" in capsys.readouterr().err


def test_each_part_of_a_stage_has_its_own_duration(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setattr(progress, "verbosity", lambda: 1)
    with stage("reading bundle.onnx") as replace:
        time.sleep(0.01)
        replace("reading scan.npz")
        time.sleep(0.2)
    lines = [line.split(": ") for line in capsys.readouterr().err.splitlines() if line.startswith("info: ")]
    assert [line[1] for line in lines] == ["reading bundle.onnx", "reading scan.npz"]
    assert float(lines[1][2].removesuffix(" s")) >= 0.2
