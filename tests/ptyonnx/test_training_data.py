"""Regions, schedule, task and journal: what both frameworks share, checked without either."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ptyonnx.runs.checkpoints import Snapshot
from ptyonnx.runs.history import best_epoch, read_history, write_history
from ptyonnx.settings import Settings
from ptyonnx.training.health import HeadSpread, head_spread
from ptyonnx.training.journal import Journal, Metrics
from ptyonnx.training.observer import Unobserved
from ptyonnx.training.regions import Regions
from ptyonnx.training.schedule import one_cycle
from ptyonnx.training.task import prepare, scan_digest
from ptyonnx_bundles.errors import CollapseError, DivergenceError, RunError, ScanError
from ptyonnx_runtime.scan import Scan

HEALTHY = HeadSpread(0.1, 0.3)
SNAPSHOT = Snapshot({}, np.ones((1, 4, 4), np.complex64))


class Notes(Unobserved):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def scan_of(count: int, N: int = 32, photons: float = 1e4, seed: int = 0) -> Scan:
    generator = np.random.default_rng(seed)
    counts = generator.poisson(photons / N**2, (count, N, N))
    probe = np.full((1, N, N), math.sqrt(photons) / N, np.complex64)
    positions = generator.uniform(N, 3 * N, (count, 2))
    return Scan(np.sqrt(counts).astype(np.float32), positions, probe, name="made.npz")


def of(regions: Regions) -> NDArray[np.float32]:
    """All patterns of some regions."""
    return regions.patterns(np.arange(len(regions)))


@given(st.integers(20, 60), st.sampled_from([1, 2]), st.integers(1, 20), st.integers(1, 4), st.integers(0, 5))
def test_an_epoch_depends_only_on_seed_and_number_and_names_existing_patterns(
    count: int, gridsize: int, region_size: int, batch_size: int, epoch: int
) -> None:
    scan = scan_of(count)
    settings = Settings(gridsize=gridsize, region_size=region_size, batch_size=batch_size)
    regions = Regions(np.asarray(scan.diffraction), scan.positions_px, settings)
    first, again = regions.epoch(3, epoch), regions.epoch(3, epoch)
    assert len(first) == regions.steps_per_epoch >= 1
    for members, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(members, same)
        assert members.shape == (regions.batch_size, regions.groups_per_region, gridsize**2)
        assert 0 <= members.min() <= members.max() < count


def test_every_pattern_is_seed_of_a_region_about_once_per_epoch_of_single_patterns() -> None:
    scan = scan_of(50)
    regions = Regions(np.asarray(scan.diffraction), scan.positions_px, Settings(region_size=1))
    seen = np.concatenate([members.ravel() for members in regions.epoch(0, 0)])
    np.testing.assert_array_equal(np.sort(seen), np.arange(50))


@given(st.integers(17, 60), st.sampled_from([1, 2, 3]), st.integers(1, 32))
def test_every_region_fits_on_the_static_canvas(count: int, gridsize: int, region_size: int) -> None:
    scan = scan_of(count)
    settings = Settings(gridsize=gridsize, region_size=region_size)
    regions = Regions(np.asarray(scan.diffraction), scan.positions_px, settings)
    for members in regions.epoch(0, 0):
        batch = regions.batch(members)
        assert batch.offset_px.min() >= 0
        assert batch.offset_px.max() + regions.N <= regions.canvas


def test_a_pattern_far_from_all_others_is_not_forced_into_their_region() -> None:
    scan = scan_of(40)
    positions = scan.positions_px.copy()
    positions[7] += 10_000
    regions = Regions(np.asarray(scan.diffraction), positions, Settings())
    assert regions.canvas < 5 * scan.N


def test_the_rate_rises_to_its_peak_and_ends_near_zero() -> None:
    rates = one_cycle(2e-3, 1000, 0.1)
    assert rates.shape == (1000,)
    assert rates.argmax() == 100
    assert rates.max() == pytest.approx(2e-3)
    assert (np.diff(rates[:100]) > 0).all()
    assert (np.diff(rates[100:]) < 0).all()
    assert rates[-1] < 1e-3 * rates.max()


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_short_trainings_have_a_rate_for_every_step(steps: int) -> None:
    assert one_cycle(1e-3, steps, 0.1).shape == (steps,)


def test_whitening_gives_zero_mean_and_unit_deviation() -> None:
    task = prepare(scan_of(60), Settings(), Unobserved())
    mean, scale = task.initial_weights["whitening.mean"], task.initial_weights["whitening.scale"]
    whitened = (of(task.training) - mean) * scale
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-5)
    assert whitened.std() == pytest.approx(1, rel=1e-5)


def test_held_out_patterns_are_not_trained_on() -> None:
    task = prepare(scan_of(100), Settings(validation_fraction=0.1), Unobserved())
    assert len(task.training) == 90
    assert len(task.validation) == 10
    trained = {pattern.tobytes() for pattern in of(task.training)}
    assert not any(pattern.tobytes() in trained for pattern in of(task.validation))


def test_a_probe_of_another_scale_is_scaled_and_said_aloud() -> None:
    scan = scan_of(30)
    assert scan.probe is not None
    weak = Scan(scan.diffraction, scan.positions_px, scan.probe / 100, name="weak.npz")
    notes = Notes()
    task = prepare(weak, Settings(), notes)
    assert np.sum(np.abs(task.probe) ** 2) == pytest.approx(task.mean_photons, rel=1e-3)
    assert any("probe scaled" in text for text in notes.texts)
    as_is = prepare(weak, Settings(probe_photons="as-is"), Unobserved())
    np.testing.assert_array_equal(as_is.probe, weak.probe)


def test_a_test_scan_of_another_dose_is_scaled_to_the_training_scan() -> None:
    notes = Notes()
    task = prepare(scan_of(30), Settings(), notes, test_scan=scan_of(30, photons=4e4, seed=1))
    assert np.mean(np.sum(of(task.validation) ** 2, axis=(1, 2))) == pytest.approx(task.mean_photons, rel=0.02)
    assert any("amplitudes scaled" in text for text in notes.texts)


def test_scans_that_cannot_be_trained_on_are_refused_by_name() -> None:
    scan = scan_of(30)
    with pytest.raises(ScanError) as caught:
        prepare(Scan(scan.diffraction, scan.positions_px, name="made.npz"), Settings(), Unobserved())
    assert (caught.value.file, caught.value.key) == ("made.npz", "probeGuess")
    with pytest.raises(ScanError) as caught:
        prepare(scan_of(3), Settings(gridsize=2), Unobserved())
    assert (caught.value.key, caught.value.found) == ("diffraction", 3)
    equal = Scan(np.ones((30, 32, 32), np.float32), scan.positions_px, scan.probe)
    with pytest.raises(ScanError) as caught:
        prepare(equal, Settings(), Unobserved())
    assert caught.value.key == "diffraction"
    with pytest.raises(ScanError) as caught:
        prepare(
            Scan.trusted(np.zeros((30, 32, 32), np.float32), scan.positions_px, scan.probe), Settings(), Unobserved()
        )
    assert caught.value.key == "diffraction"
    with pytest.raises(ScanError) as caught:
        prepare(scan, Settings(n_subsample=31), Unobserved())
    assert (caught.value.key, caught.value.found) == ("n_subsample", 30)
    with pytest.raises(ScanError) as caught:
        prepare(scan, Settings(), Unobserved(), test_scan=scan_of(30, N=48))
    assert (caught.value.key, caught.value.found) == ("diffraction", 48)


def test_the_digest_of_a_scan_changes_with_any_of_its_arrays() -> None:
    scan = scan_of(20)
    moved = Scan(scan.diffraction, scan.positions_px + 1, scan.probe)
    brighter = Scan(np.asarray(scan.diffraction) * 2, scan.positions_px, scan.probe)
    assert len({scan_digest(scan), scan_digest(moved), scan_digest(brighter)}) == 3
    assert scan_digest(scan) == scan_digest(scan_of(20))


def test_the_history_is_a_csv_with_a_line_per_epoch_and_the_best_epoch_is_the_lowest(tmp_path: Path) -> None:
    journal = Journal(tmp_path, Settings(patience=2), Unobserved())
    ended = []
    for loss in (3.0, 1.0, 2.0, 1.5):
        journal.step(loss, 0.2)
        ended.append(journal.epoch(Metrics(loss, 0.2), 1e-3, HEALTHY, SNAPSHOT))
    assert ended == [False, False, False, True]
    assert Journal(tmp_path, Settings(patience=2), Unobserved(), journal.rows).finished
    assert best_epoch(journal.rows) == 1
    with (tmp_path / "history.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["val_loss"]) for row in rows] == [3.0, 1.0, 2.0, 1.5]


def test_a_resumed_history_looks_like_an_uninterrupted_one(tmp_path: Path) -> None:
    rows = [{"epoch": n, "loss": 2.0, "r_factor": 0.1 + n, "val_loss": 1 / n, "val_r_factor": 0.3} for n in (1, 2, 3)]
    write_history(tmp_path / "whole.csv", rows)
    write_history(tmp_path / "parts.csv", rows[:2])
    write_history(tmp_path / "parts.csv", [*read_history(tmp_path / "parts.csv"), rows[2]])
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize(
    "text",
    [
        "epoch,loss\n1,2\n",
        "1,2\n3,4\n",
        "epoch,loss,r_factor,val_loss,val_r_factor\n1,2,3,4\n",
        "epoch,loss,r_factor,val_loss,val_r_factor\n1,2,3,4,5,6\n",
        "epoch,loss,r_factor,val_loss,val_r_factor\n1,2,x,4,5\n",
        "epoch,loss,r_factor,val_loss,val_r_factor\n2,1,1,1,1\n",
        "epoch,loss,r_factor,val_loss,val_r_factor\nnan,1,1,1,1\n",
        'epoch,loss,r_factor,val_loss,val_r_factor\n"1,1,1,1,1\n',
        "\0\n1\n",
        "\udcff",
    ],
)
def test_a_damaged_history_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "history.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RunError, match=r"not a (training history|text file, expected the history)") as refusal:
        read_history(tmp_path / "history.csv")
    assert refusal.value.file == str(tmp_path / "history.csv")


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_training_at_that_step(tmp_path: Path, loss: float) -> None:
    journal = Journal(tmp_path, Settings(), Unobserved())
    journal.step(1.0, 0.2)
    with pytest.raises(DivergenceError, match=r"epoch 1, step 2; lower the learning rate \(rate="):
        journal.step(loss, 0.2)
    with pytest.raises(DivergenceError, match="validation loss"):
        journal.epoch(Metrics(loss, 0.2), 1e-3, HEALTHY, SNAPSHOT)


@pytest.mark.parametrize("head, spread", [("amplitude", HeadSpread(0, 0.1)), ("phase", HeadSpread(0.1, 0))])
def test_a_dead_head_is_named(tmp_path: Path, head: str, spread: HeadSpread) -> None:
    journal = Journal(tmp_path, Settings(), Unobserved())
    with pytest.raises(CollapseError, match=f"the {head} no longer depends on the pattern.*seed=1"):
        journal.epoch(Metrics(1.0, 0.2), 1e-3, spread, SNAPSHOT)


def test_the_spread_of_heads_is_their_deviation_over_patterns() -> None:
    pattern = np.arange(4)[:, np.newaxis, np.newaxis, np.newaxis]
    spread = head_spread(pattern * np.ones((1, 1, 8, 8)), np.zeros((4, 1, 8, 8)), np.ones((8, 8)))
    assert spread.amplitude == pytest.approx(np.std(np.arange(4)))
    assert spread.phase_rad == 0
    assert math.isnan(head_spread(np.ones((1, 1, 8, 8)), np.ones((1, 1, 8, 8)), np.ones((8, 8))).amplitude)
