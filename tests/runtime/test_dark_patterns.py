"""Frames without photons are left out: the result is that of the scan without them."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_factory import make_foreign_bundle
from numpy.typing import NDArray
from session_runs import patches, predict, reconstruct

from ptyonnx.reference.pattern_selection import middle_of_scan
from ptyonnx_bundles.errors import ScanError
from ptyonnx_runtime.reconstruct import Reconstruction
from ptyonnx_runtime.scan import Scan

DARK = np.arange(0, 60, 3)  # 20 of 60
LIT = np.setdiff1d(np.arange(60), DARK)


@pytest.fixture
def few(scan: Scan) -> Scan:
    return scan.part(np.arange(60))


def darkened(scan: Scan, light: float = 0.0) -> Scan:
    """With a shutter that closed for some frames, at positions of their own."""
    diffraction, positions_px = np.array(scan.diffraction[:]), scan.positions_px.copy()
    diffraction[DARK] *= np.float32(np.sqrt(light))
    positions_px[DARK] += 40
    return Scan(diffraction, positions_px, scan.probe, name="shuttered.npz")


def same(found: Reconstruction, expected: Reconstruction) -> None:
    np.testing.assert_array_equal(found.object, expected.object)
    np.testing.assert_array_equal(found.mask, expected.mask)
    np.testing.assert_array_equal(found.residual[LIT], expected.residual)
    np.testing.assert_array_equal(found.probe, expected.probe)
    assert np.isnan(found.residual[DARK]).all()
    assert len(found.residual) == len(found.positions_px) == 60
    assert (found.r_factor, found.vacuum_r_factor) == (expected.r_factor, expected.vacuum_r_factor)
    assert (found.origin_px, found.flux) == (expected.origin_px, expected.flux)
    assert (found.dark, expected.dark) == (20, 0)


@pytest.mark.parametrize("gridsize", [1, 2])
@pytest.mark.parametrize("phases", ["overlap", "network"])
def test_the_result_is_that_without_them(
    bundles: Any, few: Scan, gridsize: int, phases: Any, caplog: pytest.LogCaptureFixture
) -> None:
    expected = reconstruct(bundles(gridsize), few.part(LIT), phases=phases)
    with caplog.at_level(logging.WARNING):
        found = reconstruct(bundles(gridsize), darkened(few), phases=phases)
    same(found, expected)
    assert "shuttered.npz: 20 of 60 patterns are dark and left out" in caplog.text


def test_the_scale_of_a_foreign_bundle_is_that_without_them(few: Scan, tmp_path: Path) -> None:
    """A bundle that states its photons has every amplitude brought to them."""
    photons = few.part(LIT).mean_photons
    bundle = make_foreign_bundle(tmp_path / "f.onnx", mean_photons=photons)
    found = reconstruct(bundle, darkened(few))
    assert found.flux.scale == pytest.approx(
        1.0, abs=1e-6
    )  # the same float32 sums of each pattern, whose mean is float64
    same(found, reconstruct(bundle, few.part(LIT)))


def test_a_foreign_bundle_that_knows_no_photons_gives_the_same(few: Scan, tmp_path: Path) -> None:
    bundle = make_foreign_bundle(tmp_path / "f.onnx")
    same(reconstruct(bundle, darkened(few)), reconstruct(bundle, few.part(LIT)))


@pytest.mark.parametrize("light,left_out", [(0.0, True), (0.005, True), (0.02, False), (0.5, False)])
def test_nearly_dark_frames_are_dark(few: Scan, light: float, left_out: bool) -> None:
    """Below 1 % of the median: what a shutter lets through while it closes."""
    scan = darkened(few, light)
    assert (~scan.lit).sum() == (20 if left_out else 0)
    expected = few.photons[LIT].mean() if left_out else scan.photons.mean()
    assert scan.mean_photons == pytest.approx(expected, rel=1e-6)  # likewise
    assert ("20 of them dark" in repr(scan)) == left_out


def test_few_photons_are_not_dark() -> None:
    diffraction = np.zeros((9, 32, 32), np.float32)
    diffraction[np.arange(9), 16, 16] = np.sqrt([1, 2, 5, 9, 3, 1, 0, 20, 1])
    scan = Scan(diffraction, np.random.default_rng(0).uniform(0, 60, (9, 2)))
    np.testing.assert_array_equal(scan.lit, np.arange(9) != 6)


def test_groups_are_of_lit_patterns_alone(bundles: Any, few: Scan) -> None:
    used = np.concatenate([found.pattern for found in predict(bundles(2), darkened(few))])
    np.testing.assert_array_equal(np.unique(used), LIT)


def test_a_dark_pattern_has_no_patch(bundles: Any, few: Scan) -> None:
    found = patches(bundles(), darkened(few))
    assert np.isnan(found[DARK]).all()
    np.testing.assert_array_equal(found[LIT], patches(bundles(), few.part(LIT)))


@pytest.mark.parametrize("most", [16, 128])
def test_comparisons_take_lit_patterns(few: Scan, most: int) -> None:
    part = middle_of_scan(darkened(few), most)
    assert part.lit.all()
    assert len(part) == min(most, 40)


def test_too_few_lit_patterns_for_a_group_are_refused(bundles: Any, few: Scan) -> None:
    diffraction: NDArray[np.float32] = np.zeros((60, 64, 64), np.float32)
    diffraction[:3] = few.diffraction[:3]
    with pytest.raises(ScanError) as caught:
        reconstruct(bundles(2), replace(few, diffraction=diffraction))
    assert (caught.value.key, caught.value.found) == ("diffraction", 3)
