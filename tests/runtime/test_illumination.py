"""Foreign bundles in the runtime: their photons, their probe, and nothing else that differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_factory import example_probe
from float32_bounds import UNIT_ROUNDOFF, of_bundle, of_sums
from foreign_factory import make_foreign_bundle
from session_runs import reconstruct

from ptyonnx_bundles.errors import ScanError
from ptyonnx_runtime.flux import match_flux
from ptyonnx_runtime.inference.verify import verify
from ptyonnx_runtime.scan import Scan
from ptyonnx_runtime.stitching.illumination import illumination
from ptyonnx_runtime.stitching.residual import ForwardModel
from ptyonnx_runtime.stitching.stitching import Frame

pytestmark = pytest.mark.numerical

NOTHING = np.zeros((0, 64, 64), np.complex64)


@pytest.fixture
def scan() -> Scan:
    generator = np.random.default_rng(0)
    positions = generator.uniform(40, 60, (12, 2))
    return Scan(generator.gamma(2, 5, (12, 64, 64)).astype(np.float32), positions, example_probe(64, photons=3.0))


def photons(probe: Any) -> float:
    return float(np.sum(np.abs(probe.astype(complex)) ** 2))


def test_a_native_bundle_keeps_its_probe_as_it_is(bundles: Any, scan: Scan) -> None:
    assert illumination(bundles(), scan, match_flux(bundles(), scan)) is bundles().probe


@pytest.mark.parametrize("mean_photons", [None, 1024.0])
@pytest.mark.parametrize("modes", [0, 2])
def test_a_foreign_probe_has_the_photons_of_the_patterns_as_the_network_gets_them(
    mean_photons: float | None, modes: int, scan: Scan, tmp_path: Path
) -> None:
    probe = example_probe(64, modes) if modes else NOTHING
    bundle = make_foreign_bundle(tmp_path / "f.onnx", probe=probe, mean_photons=mean_photons)
    found = reconstruct(bundle, scan, threads=1)
    assert photons(found.probe) == pytest.approx(mean_photons or scan.mean_photons, rel=of_sums(64 * 64))
    assert scan.probe is not None
    source = probe if modes else scan.probe
    correlation = np.abs(np.vdot(found.probe.astype(complex), source)) / np.sqrt(photons(found.probe) * photons(source))
    assert correlation == pytest.approx(1, abs=1e-6)  # quadratic in the roundings of the probe
    assert np.isfinite(found.r_factor)


def test_a_foreign_scale_is_matched_exactly_whatever_the_exposure(scan: Scan, tmp_path: Path) -> None:
    """The network gets the same numbers from the same patterns, however long they were exposed."""
    bundle = make_foreign_bundle(tmp_path / "f.onnx", mean_photons=1024.0)
    first = reconstruct(bundle, scan, threads=1)
    rtol = of_sums(64 * 64)  # the photons of a pattern
    # Patterns that are scaled by other numbers are rounded otherwise: a product each, and their photons' error.
    patterns = scan.diffraction[:][:, np.newaxis] * np.float32(first.flux.scale)
    atol = of_bundle(bundle.model, patterns, roundings=2 + round(rtol / 2 / UNIT_ROUNDOFF))
    for factor in (0.3, 1.01, 7.0):
        longer = replace(scan, diffraction=scan.diffraction[:] * np.float32(factor))
        again = reconstruct(bundle, longer, threads=1)
        assert again.flux.scale == pytest.approx(first.flux.scale / factor, rel=rtol)
        np.testing.assert_allclose(again.object[~again.mask], first.object[~first.mask], rtol=0, atol=atol)
        assert again.r_factor == pytest.approx(
            first.r_factor, rel=1e-4
        )  # a mean over all patterns of errors like these


def test_the_residual_of_a_foreign_network_does_not_depend_on_the_scale_of_its_amplitudes(
    truth: Any, positions_px: Any, tmp_path: Path
) -> None:
    """A network that gives every amplitude three times too large fits as well: one factor is free."""
    probe = example_probe(64)
    patches = np.stack([truth[y - 32 : y + 32, x - 32 : x + 32] for y, x in positions_px.astype(int)[:60]])
    far = np.fft.fftshift(np.fft.fft2(patches * probe[0], norm="ortho"), axes=(1, 2))
    scan = Scan(np.abs(far).astype(np.float32), positions_px.astype(int)[:60].astype(float), probe)
    single = make_foreign_bundle(tmp_path / "one.onnx", probe=probe)
    triple = make_foreign_bundle(tmp_path / "three.onnx", probe=probe, amplitude=3.0)
    one, three = (reconstruct(bundle, scan, threads=1) for bundle in (single, triple))
    assert np.nanmedian(np.abs(three.object)) == pytest.approx(3 * np.nanmedian(np.abs(one.object)), rel=1e-4)
    assert three.r_factor == pytest.approx(one.r_factor, rel=5e-3)  # masked pixels stay vacuum
    assert three.vacuum_r_factor == pytest.approx(one.vacuum_r_factor, rel=1e-4)


def test_photons_by_parseval_are_those_of_the_expected_patterns(truth: Any, positions_px: Any) -> None:
    probe = example_probe(64, 2)
    model = ForwardModel(truth, Frame((0, 0), truth.shape), probe)
    nothing = np.zeros((5, 64, 64), np.float32)
    expected = model.compare(nothing, positions_px[:5]).object  # sum (sqrt(I) - 0)**2
    rtol = 2 * of_sums(2, 2 * 64, 2 * 64, 2 * 64 * 64)  # exit wave, transform by rows and columns, and their squares
    np.testing.assert_allclose(model.photons(positions_px[:5]), expected, rtol=rtol)


def test_an_unknown_scale_leaves_amplitudes_alone_and_is_said(scan: Scan, tmp_path: Path) -> None:
    flux = match_flux(make_foreign_bundle(tmp_path / "f.onnx"), scan)
    assert (flux.scale, flux.differs, np.isnan(flux.bundle_photons)) == (1, False, True)
    assert "trained at an unknown number" in str(flux)


def test_without_any_probe_one_is_asked_for(scan: Scan, tmp_path: Path) -> None:
    bundle = make_foreign_bundle(tmp_path / "f.onnx", probe=NOTHING)
    with pytest.raises(ScanError) as caught:
        reconstruct(bundle, replace(scan, probe=None), threads=1)
    assert caught.value.key == "probeGuess"
    assert verify(bundle, threads=1).passed


def test_the_phases_of_a_foreign_network_are_kept_and_those_of_a_native_one_are_not(
    bundles: Any, scan: Scan, tmp_path: Path
) -> None:
    foreign = make_foreign_bundle(tmp_path / "f.onnx", mean_photons=1024.0)
    for bundle, kept, other in ((foreign, "network", "overlap"), (bundles(), "overlap", "network")):
        found = {phases: reconstruct(bundle, scan, threads=1, phases=phases).object for phases in ("auto", kept, other)}
        np.testing.assert_array_equal(found["auto"], found[kept])
        assert np.nanmax(np.abs(found["auto"] - found[other])) > 1e-3
