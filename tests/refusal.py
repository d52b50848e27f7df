"""What every refusal has in common, whatever is refused: `refused` is the front door."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptyonnx.cli import main

__all__ = ["contents", "error_line", "refused"]

_PREFIX = "ptyonnx: error: "


def contents(folder: Path) -> dict[str, bytes | None]:
    """All files below a folder and what is in them; None for folders and devices."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def error_line(stderr: str) -> str:
    """Give the one line of an error; before it, only notes and the lines of stages that take long, which end in …."""
    *before, line = stderr.splitlines()
    assert all(each.startswith("note: ") or each.endswith(" …") for each in before)
    assert line.startswith(_PREFIX)
    return line


def refused(output: pytest.CaptureFixture[str], folder: Path, *words: object) -> str:
    """Run a command that must be refused, and give the line that says why, without its prefix.

    Exit code 2; one line that begins with ``ptyonnx: error:``, the last; no trace; nothing on
    stdout; and in `folder` nothing came, nothing went, nothing changed.
    """
    before = contents(folder)
    output.readouterr()
    code = main([str(word) for word in words])
    captured = output.readouterr()
    assert code == 2, captured
    assert captured.out == ""
    line = error_line(captured.err)
    assert contents(folder) == before
    return line.removeprefix(_PREFIX)
