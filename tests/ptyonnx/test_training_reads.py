"""Before training begins every pattern is read once, and dark ones take no part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from small_training import simulated_scan

from ptyonnx.formats import load_scan, write_scan
from ptyonnx.settings import Settings
from ptyonnx.training.observer import Unobserved
from ptyonnx.training.start import Start
from ptyonnx.training.task import Task, prepare, scan_digest
from ptyonnx_bundles.files import positional_io
from ptyonnx_runtime.scan import Scan

COUNT, N = 300, 32
SETTINGS = Settings(filters_scale=0.125)


class Notes(Unobserved):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


class CountedReads:
    """Patterns that remember how often each was read."""

    def __init__(self, diffraction: NDArray[np.float32]) -> None:
        self._diffraction = diffraction
        self.shape, self.photons = diffraction.shape, np.square(diffraction, dtype=np.float64).sum(axis=(1, 2))
        self.reads = np.zeros(len(diffraction), int)

    def __len__(self) -> int:
        return len(self._diffraction)

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        self.reads[index] += 1
        return self._diffraction[index]


@pytest.fixture(scope="module")
def scan() -> Scan:
    return simulated_scan(N, count=COUNT)


def start(scan: Scan) -> Start:
    """A bundle that was trained at a quarter of the photons."""
    task = prepare(scan, SETTINGS, Unobserved())
    return Start("a.onnx", task.recipe, task.initial_weights, task.probe, task.mean_photons / 4)


@pytest.mark.parametrize("continued", [False, True], ids=["anew", "from a bundle"])
def test_every_pattern_is_read_once(scan: Scan, continued: bool) -> None:
    counted = CountedReads(np.asarray(scan.diffraction))
    watched = Scan(counted, scan.positions_px, scan.probe)
    task = prepare(watched, SETTINGS, Unobserved(), start=start(scan) if continued else None)
    np.testing.assert_array_equal(counted.reads, 1)
    assert task.digest == scan_digest(scan)
    factor = np.float32(0.5 if continued else 1)
    every = np.arange(len(task.training))
    expected = {pattern.tobytes() for pattern in np.asarray(scan.diffraction) * factor}
    assert {pattern.tobytes() for pattern in task.training.patterns(every)} <= expected
    assert task.mean_photons == pytest.approx(scan.mean_photons * factor**2, rel=0.02)  # 5 % are held out


@pytest.mark.parametrize("continued", [False, True], ids=["anew", "from a bundle"])
def test_a_file_is_read_once(scan: Scan, continued: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scan(tmp_path / "a.npz", scan)
    first, read, some = start(scan), [], positional_io._read_some

    def counting(descriptor: int, buffer: memoryview, offset: int) -> int:
        read.append((offset, some(descriptor, buffer, offset)))
        return read[-1][1]

    monkeypatch.setattr(positional_io, "_read_some", counting)
    opened = load_scan(tmp_path / "a.npz", in_memory=True)
    task = prepare(opened, SETTINGS, Unobserved(), start=first if continued else None)
    header = 128  # bytes before the patterns, which their checksum includes
    assert sum(size for _, size in read) == header + COUNT * N * N * 4
    assert np.shares_memory(task.training.diffraction, np.asarray(opened.diffraction))  # and kept once


def test_where_the_scan_lies_makes_no_difference(scan: Scan, tmp_path: Path) -> None:
    """In memory, in a file, or in part."""
    write_scan(tmp_path / "a.npz", scan)
    settings = SETTINGS.model_copy(update={"n_subsample": 200})
    tasks = [prepare(load_scan(tmp_path / "a.npz", in_memory=kept), settings, Unobserved()) for kept in (False, True)]
    for regions in (lambda task: task.training, lambda task: task.validation):
        one, other = (regions(task) for task in tasks)
        every = np.arange(len(one))
        np.testing.assert_array_equal(one.patterns(every), other.patterns(every))
        np.testing.assert_array_equal(one.positions_px, other.positions_px)
        np.testing.assert_array_equal(one.batch(np.zeros((1, 1, 1), int)).diffraction, other.patterns(every[:1])[None])
    assert tasks[0].digest == tasks[1].digest


def patterns_of(task: Task) -> set[bytes]:
    both = (task.training, task.validation)
    return {pattern.tobytes() for part in both for pattern in part.patterns(np.arange(len(part)))}


def test_dark_patterns_are_neither_trained_on_nor_held_out_nor_counted(scan: Scan) -> None:
    dark = np.arange(0, COUNT, 5)
    lit = np.setdiff1d(np.arange(COUNT), dark)
    diffraction = np.array(scan.diffraction[:])
    diffraction[dark] = 0
    notes = Notes()
    shuttered = Scan(diffraction, scan.positions_px, scan.probe, name="shuttered.npz")
    settings = SETTINGS.model_copy(update={"validation_fraction": 0.1})
    task = prepare(shuttered, settings, notes, test_scan=None)
    expected = prepare(scan.part(lit), settings, Unobserved())
    assert len(task.training) + len(task.validation) == len(lit)
    assert np.zeros((N, N), np.float32).tobytes() not in patterns_of(task)
    assert patterns_of(task) == patterns_of(expected)
    assert task.mean_photons == expected.mean_photons
    for name in ("whitening.mean", "whitening.scale"):
        np.testing.assert_array_equal(task.initial_weights[name], expected.initial_weights[name])
    assert "shuttered.npz: 60 of 300 patterns are dark and left out" in notes.texts


def test_dark_patterns_of_a_test_scan_are_left_out(scan: Scan) -> None:
    diffraction = np.array(scan.diffraction[:])
    diffraction[:100] = 0
    notes = Notes()
    test = Scan(diffraction, scan.positions_px, scan.probe, name="test.npz")
    task = prepare(scan, SETTINGS, notes, test_scan=test)
    assert len(task.validation) == 200
    assert notes.texts == ["test.npz: 100 of 300 patterns are dark and left out"]  # and nothing is scaled


def bytes_read() -> int:
    """By this process from files, the system's own count."""
    for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines():
        if line.startswith("rchar:"):
            return int(line.split()[1])
    raise AssertionError


@pytest.mark.parametrize("fortran", [False, True], ids=["C", "Fortran"])
def test_the_bytes_of_a_stored_scan_go_by_once_with_their_checksum(tmp_path: Path, fortran: bool) -> None:
    size, path = 256, tmp_path / "scan.npz"
    made = np.random.default_rng(0).random((COUNT, size, size), np.float32)
    stored = {"axes": "xyn", "patterns": np.asfortranarray(made.transpose(2, 1, 0))} if fortran else {"patterns": made}
    positions = np.random.default_rng(1).uniform(0, 300, (2, COUNT))
    np.savez(path, diffraction=stored["patterns"], xcoords=positions[0], ycoords=positions[1])
    load_scan(path, axes=stored.get("axes"), values="amplitude", zero_frequency="centre", limit=1)
    before = bytes_read()
    scan = load_scan(path, axes=stored.get("axes"), values="amplitude", zero_frequency="centre", in_memory=True)
    assert bytes_read() - before < 1.05 * path.stat().st_size
    np.testing.assert_array_equal(scan.diffraction[:], made)
