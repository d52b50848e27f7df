"""Errors that click finds have a remedy, too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from refusal import refused


@pytest.mark.parametrize(
    "words, start, remedy",
    [
        (("diff", "a.onnx"), "'B': missing; ", "usage: ptyonnx diff "),
        (("verify",), "'BUNDLE|RUN': missing; ", "usage: ptyonnx verify "),
        (("verify", "a.onnx", "b c"), "unexpected argument, found b c; ", "usage: ptyonnx verify "),
        (("simulate", "--probe", "p.npz", "-o", "s.npz"), "'--object': missing; ", "--object FILE"),
    ],
)
def test_missing_and_unexpected_arguments(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...], start: str, remedy: str
) -> None:
    line = refused(capsys, tmp_path, *words)
    assert line.startswith(start)
    assert remedy in line.removeprefix(start)


def test_an_unreadable_path(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "locked.onnx"
    path.touch()
    monkeypatch.setattr(os, "access", lambda name, _mode, **_: Path(name) != path)  # root may read every file
    line = refused(capsys, tmp_path, "verify", path)
    assert line.startswith("'BUNDLE|RUN': ")
    assert line.endswith("; check the path and its permissions")
