"""A PtychoPINN NPZ becomes a scan, however it is stored, and without filling the memory."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from float32_bounds import of_roundings, of_sums
from hypothesis import given, settings
from hypothesis import strategies as st

from ptyonnx.formats import load_scan, write_scan
from ptyonnx.formats.axes import AXES
from ptyonnx_runtime.scan import Scan

SAMPLE = Path(__file__).parents[2] / "samples" / "siemens_star_64.npz"
COUNT, N = 23, 32
SUMS = of_sums(N * N)  # of the photons of a pattern, in float32


@pytest.fixture
def arrays() -> dict[str, Any]:
    """Amplitudes, positions, probe and object of a small scan, none of them symmetric."""
    generator = np.random.default_rng(0)

    def complex_array(*shape: int) -> Any:
        return (generator.standard_normal(shape) + 1j * generator.standard_normal(shape)).astype(np.complex64)

    return {
        "diffraction": generator.uniform(0, 9, (COUNT, N, N)).astype(np.float32),
        "xcoords": generator.uniform(20, 70, COUNT),
        "ycoords": generator.uniform(20, 50, COUNT),
        "probeGuess": complex_array(N, N),
        "objectGuess": complex_array(80, 100),
    }


def test_the_shipped_scan_is_read_as_numpy_reads_it() -> None:
    scan = load_scan(SAMPLE)
    with np.load(SAMPLE) as expected:
        np.testing.assert_array_equal(scan.diffraction[:], expected["diffraction"])
        np.testing.assert_array_equal(scan.positions_px[:, 1], expected["xcoords"])
        np.testing.assert_array_equal(scan.positions_px[:, 0], expected["ycoords"])
        np.testing.assert_array_equal(scan.probe, expected["probeGuess"][np.newaxis])
        np.testing.assert_array_equal(scan.object, expected["objectGuess"])
    assert scan.name == "siemens_star_64.npz"
    assert scan.mean_photons == pytest.approx(np.mean(np.sum(scan.diffraction[:].astype(float) ** 2, axis=(1, 2))))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "compressed"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("axes", AXES)
def test_every_order_of_axes_gives_the_same_patterns(
    tmp_path: Path, arrays: dict[str, Any], axes: str, order: Any, save: Any
) -> None:
    amplitude = arrays["diffraction"]
    stored = np.asarray(amplitude.transpose(["nyx".index(axis) for axis in axes]), order=order)
    save(tmp_path / "a.npz", **{**arrays, "diffraction": stored})
    scan = load_scan(tmp_path / "a.npz", axes=axes)
    np.testing.assert_array_equal(scan.diffraction[:], amplitude)
    np.testing.assert_array_equal(scan.diffraction[np.array([3, 9, 3])], amplitude[[3, 9, 3]])
    limited = load_scan(tmp_path / "a.npz", axes=axes, limit=5)
    np.testing.assert_array_equal(limited.diffraction[:], amplitude[:5])
    np.testing.assert_array_equal(limited.positions_px[:, 0], arrays["ycoords"][:5])


@pytest.mark.parametrize("dtype", ["f8", ">f4", "f2", "u1", "i8"])
def test_every_real_type_becomes_float32(tmp_path: Path, arrays: dict[str, Any], dtype: str) -> None:
    stored = arrays["diffraction"].astype(dtype)
    np.savez(tmp_path / "a.npz", **{**arrays, "diffraction": stored})
    found = load_scan(tmp_path / "a.npz", values="amplitude").diffraction[:]
    assert found.dtype == np.dtype("float32")
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, stored.astype(np.float32))


def test_declared_counts_become_amplitudes_and_keep_their_photons(tmp_path: Path, arrays: dict[str, Any]) -> None:
    counts = np.random.default_rng(1).poisson(arrays["diffraction"] ** 2).astype(np.uint16)
    np.savez(tmp_path / "a.npz", **{**arrays, "diffraction": counts})
    scan = load_scan(tmp_path / "a.npz", values="intensity")
    np.testing.assert_allclose(
        scan.diffraction[:], np.sqrt(counts), rtol=of_roundings(2)
    )  # of the root, and of the count to float32
    assert scan.mean_photons == pytest.approx(counts.sum() / COUNT, rel=SUMS)


def test_the_legacy_file_of_counts_with_the_pattern_last_is_read_when_declared(
    tmp_path: Path, arrays: dict[str, Any]
) -> None:
    counts = np.rint(arrays["diffraction"] ** 2).astype(np.uint16)
    legacy = {key: value for key, value in arrays.items() if key not in ("diffraction", "objectGuess")}
    np.savez(tmp_path / "a.npz", diff3d=counts.transpose(1, 2, 0), **legacy)
    scan = load_scan(tmp_path / "a.npz", values="intensity", axes="yxn")
    np.testing.assert_allclose(
        scan.diffraction[:], np.sqrt(counts), rtol=of_roundings(2)
    )  # of the root, and of the count to float32


def test_several_probe_modes_and_another_probe_file(tmp_path: Path, arrays: dict[str, Any]) -> None:
    modes = np.stack([arrays["probeGuess"], 2j * arrays["probeGuess"]])
    np.savez(tmp_path / "a.npz", **{**arrays, "probeGuess": modes})
    np.testing.assert_array_equal(load_scan(tmp_path / "a.npz").probe, modes)
    np.save(tmp_path / "p.npy", 3 * modes)
    np.testing.assert_array_equal(load_scan(tmp_path / "a.npz", probe=tmp_path / "p.npy").probe, 3 * modes)


def test_probe_and_object_may_be_absent(tmp_path: Path, arrays: dict[str, Any]) -> None:
    np.savez(tmp_path / "a.npz", **{key: arrays[key] for key in ("diffraction", "xcoords", "ycoords")})
    scan = load_scan(str(tmp_path / "a.npz"))
    assert (scan.probe, scan.object) == (None, None)


def test_patterns_are_sliced_as_an_array_is(tmp_path: Path, arrays: dict[str, Any]) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    patterns, expected = load_scan(tmp_path / "a.npz").diffraction, arrays["diffraction"]
    for index in (slice(None), slice(3, 9), slice(20, 99), slice(5, 2), slice(-4, None), slice(None, None, 5)):
        np.testing.assert_array_equal(patterns[index], expected[index])
    np.testing.assert_array_equal(np.asarray(patterns), expected)
    assert (len(patterns), patterns.shape) == (COUNT, (COUNT, N, N))


@settings(max_examples=15, deadline=None)
@given(modes=st.integers(0, 3), count=st.integers(2, 9), N=st.sampled_from([32, 48]), with_object=st.booleans())
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, modes: int, count: int, N: int, with_object: bool
) -> None:
    generator = np.random.default_rng(0)
    scan = Scan(
        generator.uniform(0, 5, (count, N, N)).astype(np.float32),
        generator.uniform(40, 60, (count, 2)),
        generator.uniform(1, 2, (modes, N, N)).astype(np.complex64) if modes else None,
        generator.uniform(1, 2, (100, 90)).astype(np.complex64) if with_object else None,
    )
    path = tmp_path_factory.mktemp("scans") / "a.npz"
    write_scan(path, scan)
    found = load_scan(path)
    np.testing.assert_array_equal(found.diffraction[:], scan.diffraction)
    np.testing.assert_array_equal(found.positions_px, scan.positions_px)
    for a, b in ((found.probe, scan.probe), (found.object, scan.object)):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "compressed"])
@pytest.mark.parametrize("axes", ["nyx", "yxn"])
def test_a_long_scan_is_opened_in_little_memory(tmp_path: Path, save: Any, axes: str) -> None:
    count = 6000  # 98 MB; the block in which axes are put in order is 17 MB, twice
    diffraction = np.full((count, 64, 64), 0.5, np.float32)
    positions = np.random.default_rng(0).uniform(0, 99, (2, count))
    stored = diffraction if axes == "nyx" else diffraction.transpose(1, 2, 0)
    save(tmp_path / "a.npz", diffraction=stored, xcoords=positions[0], ycoords=positions[1])
    del diffraction, stored
    tracemalloc.start()
    try:
        scan = load_scan(tmp_path / "a.npz", axes=axes)
        total = sum(float(scan.diffraction[start : start + 50].sum()) for start in range(0, count, 50))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 0.5 * count * 64 * 64
    assert peak < (8e6 if axes == "nyx" else 60e6)
