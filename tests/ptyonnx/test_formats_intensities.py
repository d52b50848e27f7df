"""Intensities where amplitudes are expected are refused; amplitudes never are."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from float32_bounds import of_roundings
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ptyonnx.formats import load_scan
from ptyonnx.simulation import simulate
from ptyonnx_bundles.errors import ScanError
from ptyonnx_runtime.scan.intensity_signs import IntensitySigns

SAMPLE = Path(__file__).parents[2] / "samples" / "siemens_star_64.npz"
COUNT = 26  # every 20th of the sample's 516
WAYS = ("counts", "without noise", "exact squares", "times a gain")


@cache
def sample() -> dict[str, Any]:
    """Some patterns of the shipped scan, and all else."""
    with np.load(SAMPLE) as arrays:
        return {
            "diffraction": arrays["diffraction"][::20],
            "xcoords": arrays["xcoords"][::20],
            "ycoords": arrays["ycoords"][::20],
            "probeGuess": arrays["probeGuess"],
            "probe_unrefined": arrays["probe_unrefined"],
            "objectGuess": arrays["objectGuess"],
        }


def saved(folder: Path, values: NDArray[Any], **others: Any) -> Path:
    names = ("xcoords", "ycoords", "probeGuess")
    arrays = {**{name: sample()[name] for name in names}, "diffraction": values, **others}
    np.savez(folder / "a.npz", **{name: array for name, array in arrays.items() if array is not None})
    return folder / "a.npz"


def simulated(photons: float, range_rad: float, *, noise: bool, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    """Amplitudes and probe of the sample's illumination on another object."""
    y, x = np.indices((160, 160))
    obj = np.exp(1j * range_rad * np.sin(y / (3 + seed % 5)) * np.cos(x / 4)).astype(np.complex64)
    positions = np.random.default_rng(seed).uniform(33, 126, (COUNT, 2))
    scan = simulate(obj, sample()["probeGuess"][np.newaxis], positions, photons=photons, noise=noise, seed=seed)
    assert scan.probe is not None
    return np.asarray(scan.diffraction[:]), scan.probe


def signs(values: NDArray[Any], probe: NDArray[Any] | None, **options: Any) -> str | None:
    signs = IntensitySigns(values[:7])
    for start in range(0, len(values), 7):
        signs.add(values[start : start + 7])
    return signs.reason(probe, **options)


@pytest.mark.parametrize("dtype", ["f4", "f8", "u2", "i8", ">f4", "f2"])
@pytest.mark.parametrize("with_probe", [True, False])
def test_the_sample_squared_is_refused_and_the_option_named(tmp_path: Path, dtype: str, with_probe: bool) -> None:
    squared = np.square(sample()["diffraction"])
    stored = np.rint(squared).astype(dtype) if dtype[-2] in "ui" else squared.astype(dtype)
    path = saved(tmp_path, stored, **({} if with_probe else {"probeGuess": None}))
    with pytest.raises(ScanError) as caught:
        load_scan(path)
    assert (caught.value.file, caught.value.key) == (str(path), "diffraction")
    assert 'values="intensity"' in str(caught.value.remedy)
    assert 'values="amplitude"' in str(caught.value.remedy)


def test_declared_they_are_what_was_declared(tmp_path: Path) -> None:
    amplitude = sample()["diffraction"]
    path = saved(tmp_path, np.square(amplitude))
    np.testing.assert_allclose(
        load_scan(path, values="intensity").diffraction[:], amplitude, rtol=of_roundings(2)
    )  # square, root
    np.testing.assert_array_equal(load_scan(path, values="amplitude").diffraction[:], np.square(amplitude))


@pytest.mark.parametrize("probe", ["probeGuess", "probe_unrefined", None])
@pytest.mark.parametrize("scale", [1, 1 / 31.032, 1e-4, 37.5])
def test_the_sample_is_never_taken_for_intensities(tmp_path: Path, probe: str | None, scale: float) -> None:
    """Also normalised; also beside a probe that was not normalised with it."""
    values = (sample()["diffraction"] * scale).astype(np.float32)
    for factor in (1, scale):
        path = saved(tmp_path, values, probeGuess=None if probe is None else factor * sample()[probe])
        load_scan(path)


def test_a_probe_that_was_scaled_apart_does_not_make_amplitudes_intensities() -> None:
    """Whatever the probe's photons happen to be, even those that the amplitudes sum to."""
    amplitude = sample()["diffraction"]
    for probe in (sample()["probeGuess"], sample()["probe_unrefined"]):
        for photons in np.geomspace(1e-3, 1e8, 45):
            assert signs(amplitude, probe[np.newaxis] * np.sqrt(photons / np.sum(np.abs(probe) ** 2))) is None


@settings(max_examples=40, deadline=None)
@given(dose=st.floats(-1, 8), range_rad=st.floats(0, 12), noise=st.booleans(), seed=st.integers(0, 99))
@example(dose=3.0, range_rad=3.0, noise=False, seed=0)  # once taken for intensities
@example(dose=2.8, range_rad=5.0, noise=False, seed=1)
def test_amplitudes_at_any_dose_are_read(dose: float, range_rad: float, noise: bool, seed: int) -> None:
    amplitude, probe = simulated(10**dose, range_rad, noise=noise, seed=seed)
    assert signs(amplitude, probe) is None
    assert signs(amplitude, None) is None
    assert signs(amplitude / max(float(amplitude.max()), 1e-3), probe) is None


@settings(max_examples=40, deadline=None)
@given(
    dose=st.floats(4, 8),
    range_rad=st.floats(0, 1),
    way=st.sampled_from(WAYS),
    seed=st.integers(0, 99),
)
def test_intensities_at_usual_doses_are_recognised(dose: float, range_rad: float, way: str, seed: int) -> None:
    amplitude, probe = simulated(10**dose, range_rad, noise=way != "without noise", seed=seed)
    exact = np.square(amplitude.astype(np.float64))
    values = {
        "counts": np.rint(exact).astype(np.uint32),
        "without noise": exact,
        "exact squares": np.square(amplitude),
        "times a gain": (0.37 * np.rint(exact)).astype(np.float32),
    }[way]
    found = signs(values, probe)
    expected = {
        "counts": "whole numbers|no detector",
        "without noise": "the probe holds|no detector",
        "exact squares": "whole numbers|no detector",
        "times a gain": r"whole multiples of 0\.37|the probe holds|no detector",
    }[way]
    assert found
    assert re.search(expected, found)


@pytest.mark.parametrize("photons", [0.1, 3, 40])
def test_where_a_pixel_counts_one_photon_amplitude_and_intensity_are_the_same_numbers(photons: float) -> None:
    amplitude, probe = simulated(photons, 1, noise=True)
    few = np.minimum(amplitude, 1)
    assert signs(few, probe) is None
    assert signs(np.square(few), probe) is None


def test_the_probe_is_compared_in_the_patterns_own_axes() -> None:
    """An oblong probe: transposed patterns match it only if it is transposed, too."""
    N = 64
    y, x = (np.indices((N, N)) - N // 2) / N
    probe = 30 * np.exp(-((y / 0.05) ** 2) - (x / 0.3) ** 2).astype(np.complex64)[np.newaxis]
    far_field = np.abs(np.fft.fftshift(np.fft.fft2(probe[0], norm="ortho"))) ** 2
    noise = np.random.default_rng(0).uniform(0.9, 1.1, (COUNT, N, N))
    assert "the probe holds" in (signs(far_field * noise, probe) or "")
    assert "the probe holds" in (signs(far_field.T * noise, probe, transposed=True) or "")
    assert signs(np.sqrt(far_field * noise), probe) is None
    assert signs(np.sqrt(far_field * noise).swapaxes(1, 2), probe, transposed=True) is None


def test_the_probe_named_by_the_user_is_believed_and_not_that_of_the_file(tmp_path: Path) -> None:
    amplitude, probe = simulated(1e5, 1, noise=False)
    np.save(tmp_path / "probe.npy", probe)
    path = saved(tmp_path, np.square(amplitude.astype(np.float64)), probeGuess=np.zeros((64, 64), np.complex64))
    with pytest.raises(ScanError) as caught:
        load_scan(path, probe=tmp_path / "probe.npy")
    assert caught.value.key == "diffraction"
    assert load_scan(path, probe=tmp_path / "probe.npy", values="intensity").mean_photons == pytest.approx(1e5, rel=0.1)
