"""A disk that is full leaves nothing, or a run that can be gone on with; a place that cannot be used is refused first."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_training import SMALL, simulated_scan

from ptyonnx import Settings, train
from ptyonnx.runs.run import Run
from ptyonnx_bundles.errors import OutputError, RunError
from ptyonnx_bundles.files import atomic

SETTINGS = Settings.model_validate(SMALL)
WRITTEN = 13  # files of a training of two epochs, replaced ones again


def full_after(monkeypatch: pytest.MonkeyPatch, writes: int) -> list[Path]:
    """Let the disk be full after so many files."""
    written: list[Path] = []
    write = atomic._write_and_rename

    def limited(target: Path, *arguments: Any) -> None:
        if len(written) >= writes:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(target, *arguments)
        written.append(target)

    monkeypatch.setattr(atomic, "_write_and_rename", limited)
    return written


@pytest.mark.slow
def test_a_training_that_fills_the_disk_leaves_nothing_or_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = simulated_scan(count=24)
    with monkeypatch.context() as patch:
        written = full_after(patch, 1000)
        whole = train("torch", scan, SETTINGS, tmp_path / "whole")
    assert len(written) == WRITTEN
    for count in range(WRITTEN):
        directory = tmp_path / f"run{count}"
        with monkeypatch.context() as patch:
            full_after(patch, count)
            with pytest.raises(OutputError) as caught:
                train("torch", scan, SETTINGS, directory)
        assert caught.value.remedy
        if not directory.exists():
            continue
        assert "resume=True" in caught.value.remedy
        run = train("torch", scan, SETTINGS, directory, resume=True)
        for name, weights in whole.weights().items():
            np.testing.assert_array_equal(run.weights()[name], weights)
        assert {path.name for path in directory.iterdir()} == {path.name for path in whole.directory.iterdir()}
    assert not (tmp_path / "run0").exists()
    assert Run.open(directory).record.state == "complete"


PLACES = {
    "a file": ({}, OutputError),
    "a run": ({}, RunError),
    "not a run's": ({}, RunError),
    "no run": ({"resume": True}, RunError),
    "no folder": ({}, OutputError),
}


@pytest.mark.parametrize("case", PLACES)
def test_a_place_that_cannot_be_used_is_refused_before_a_scan_is_read(tmp_path: Path, case: str) -> None:
    directory = tmp_path / "run"
    if case == "a file":
        directory.write_text("x")
    elif case in {"a run", "not a run's"}:
        directory.mkdir()
        (directory / ("run.json" if case == "a run" else "history.csv")).write_text("{}")
    elif case == "no folder":
        directory = tmp_path / "a" / "b" / "run"
    said, error = PLACES[case]

    with pytest.raises(error):
        train("torch", tmp_path / "no scan.npz", SETTINGS, directory, **said)
