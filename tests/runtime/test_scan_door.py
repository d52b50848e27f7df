"""`Scan` from arrays converts and refuses as a file's reader does: one door for both."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from float32_bounds import of_sums
from numpy.typing import NDArray

from ptyonnx.formats import load_scan
from ptyonnx_bundles.errors import ScanError, SettingsError
from ptyonnx_runtime.scan import Scan

SAMPLE = Path(__file__).parents[2] / "samples" / "siemens_star_64.npz"
COUNT = 24
SUMS = of_sums(64 * 64)  # of the photons of a pattern, in float32
REAL = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", ">u2", ">i4", ">f4", ">f8"]


def arrays() -> dict[str, Any]:
    with np.load(SAMPLE) as sample:
        return {
            "diffraction": sample["diffraction"][:COUNT],
            "positions_px": np.stack([sample["ycoords"], sample["xcoords"]], axis=1)[:COUNT],
            "probe": sample["probeGuess"][np.newaxis],
            "object": sample["objectGuess"],
        }


def refusal(error: type[Exception] = ScanError, **changes: Any) -> Any:
    with pytest.raises(error) as caught:
        Scan(**{**arrays(), **changes})
    assert "\n" not in str(caught.value)
    return caught.value


def counts(dtype: str) -> NDArray[Any]:
    """Photons as a detector of few bits has them."""
    few = np.rint(np.square(arrays()["diffraction"]) / 40)
    return np.minimum(few, 100).astype(dtype)


@pytest.mark.parametrize("dtype", REAL)
def test_declared_counts_of_any_type_become_float32_square_roots(dtype: str) -> None:
    found = np.asarray(Scan(**{**arrays(), "diffraction": counts(dtype)}, values="intensity").diffraction)
    assert found.dtype == np.dtype("=f4")
    np.testing.assert_array_equal(found, np.sqrt(counts("f8")).astype(np.float32))


@pytest.mark.parametrize("dtype", REAL)
def test_declared_counts_in_a_file_of_any_type_become_the_same(tmp_path: Path, dtype: str) -> None:
    y, x = arrays()["positions_px"].T
    np.savez(tmp_path / "a.npz", diffraction=counts(dtype), ycoords=y, xcoords=x)
    scan = load_scan(tmp_path / "a.npz", values="intensity")
    np.testing.assert_array_equal(scan.diffraction[:], np.sqrt(counts("f8")).astype(np.float32))
    assert scan.mean_photons == pytest.approx(counts("f8").sum() / COUNT, rel=SUMS)


@pytest.mark.parametrize("dtype", ["u2", "i8", "f8", ">f4"])
def test_declared_amplitudes_of_any_type_keep_their_values(dtype: str) -> None:
    amplitude = np.rint(arrays()["diffraction"] * 10).astype(dtype)
    scan = Scan(**{**arrays(), "diffraction": amplitude}, values="amplitude")
    np.testing.assert_array_equal(scan.diffraction[:], amplitude.astype(np.float32))
    assert scan.mean_photons == pytest.approx(np.square(amplitude.astype(float)).sum() / COUNT, rel=SUMS)


@pytest.mark.parametrize("dtype", ["u4", "f4", "f8", "f2"])
def test_undeclared_intensities_are_refused(dtype: str) -> None:
    error = refusal(diffraction=np.rint(np.square(arrays()["diffraction"])).astype(dtype))
    assert error.key == "diffraction"
    assert 'values="intensity"' in str(error)


def test_a_zero_frequency_in_the_corner_is_refused_or_declared() -> None:
    centred = arrays()["diffraction"]
    cornered = np.fft.ifftshift(centred, axes=(1, 2))
    assert 'zero_frequency="corner"' in str(refusal(diffraction=cornered))
    scan = Scan(**{**arrays(), "diffraction": cornered}, zero_frequency="corner")
    np.testing.assert_array_equal(scan.diffraction[:], centred)
    believed = Scan(**{**arrays(), "diffraction": cornered}, zero_frequency="centre")
    np.testing.assert_array_equal(believed.diffraction[:], cornered)


def spoiled(value: float) -> NDArray[Any]:
    changed = arrays()["diffraction"].copy()
    changed[3, 4, 5] = value
    return changed


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1])
def test_patterns_that_are_no_amplitudes_are_refused_with_their_pixel(value: float) -> None:
    error = refusal(diffraction=spoiled(value))
    assert error.key == "diffraction"
    assert "in pattern 3 at (y, x) = (4, 5)" in str(error)


WRONG = {
    "a path": ("diffraction", "scan.npz"),
    "complex patterns": ("diffraction", np.ones((COUNT, 64, 64), np.complex64)),
    "patterns of booleans": ("diffraction", np.ones((COUNT, 64, 64), bool)),
    "one pattern": ("diffraction", np.ones((64, 64))),
    "no pattern": ("diffraction", np.ones((0, 64, 64))),
    "dark patterns": ("diffraction", np.zeros((COUNT, 64, 64))),
    "a masked array": ("diffraction", np.ma.masked_equal(np.ones((COUNT, 64, 64)), 0)),
    "positions of another number": ("positions_px", np.ones((COUNT - 1, 2))),
    "positions in three dimensions": ("positions_px", np.ones((COUNT, 3))),
    "positions as text": ("positions_px", np.full((COUNT, 2), "1")),
    "positions in metres": ("positions_px", 1e-8 * np.random.default_rng(0).uniform(0, 99, (COUNT, 2))),
    "an infinite position": ("positions_px", np.where(np.eye(COUNT, 2), np.inf, 40.0)),
    "a position that nobody reaches": ("positions_px", np.where(np.eye(COUNT, 2), -1e300, 40.0)),
    "positions and probe swapped": ("positions_px", np.ones((1, 64, 64), np.complex64)),
    "a real probe": ("probe", np.ones((1, 64, 64))),
    "a probe of another size": ("probe", np.ones((1, 32, 32), np.complex64)),
    "no mode": ("probe", np.ones((0, 64, 64), np.complex64)),
    "a dark probe": ("probe", np.zeros((1, 64, 64), np.complex64)),
    "a real object": ("object", np.ones((300, 300))),
    "two objects": ("object", np.ones((2, 300, 300), np.complex64)),
    "an object that is not finite": ("object", np.full((300, 300), np.nan, np.complex64)),
    "a pixel without size": ("object_pixel_size_m", 0.0),
    "a negative pixel size": ("object_pixel_size_m", -1e-8),
    "a pixel size in nm": ("object_pixel_size_m", 20),
    "a pixel size that makes products infinite": ("object_pixel_size_m", 1e300),
    "a pixel size that makes products vanish": ("object_pixel_size_m", 1e-320),
    "a pixel size that is not a number": ("object_pixel_size_m", float("nan")),
    "two pixel sizes": ("object_pixel_size_m", np.array([1e-8, 1e-8])),
    "a negative energy": ("photon_energy_eV", -8000.0),
    "an energy beyond float64": ("photon_energy_eV", 10**400),
    "an energy as text": ("photon_energy_eV", "8 keV"),
    "a truth for an energy": ("photon_energy_eV", True),
    "no distance": ("detector_distance_m", np.float32(0)),
    "an infinite distance": ("detector_distance_m", float("inf")),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_array_is_refused_by_its_name(case: str) -> None:
    name, value = WRONG[case]
    assert refusal(**{name: value}).key == name.removesuffix("_px")


@pytest.mark.parametrize("value", [np.float32(0.5), np.int64(1), 1])
def test_facts_of_any_real_type_become_floats(value: Any) -> None:
    scan = Scan(**arrays(), object_pixel_size_m=value, photon_energy_eV=value, detector_distance_m=value)
    known = (scan.object_pixel_size_m, scan.photon_energy_eV, scan.detector_distance_m)
    assert known == (float(value),) * 3
    assert {type(fact) for fact in known} == {float}


def test_positions_outside_of_the_object_are_refused() -> None:
    assert refusal(positions_px=arrays()["positions_px"] + 1000).key == "positions"


@pytest.mark.parametrize("declared", [{"values": "counts"}, {"zero_frequency": "edge"}])
def test_a_declaration_that_does_not_exist_is_refused(declared: dict[str, str]) -> None:
    (name,) = declared
    assert refusal(SettingsError, **declared).key == name


def test_probe_object_and_positions_are_brought_to_their_types() -> None:
    given = arrays()
    scan = Scan(
        given["diffraction"], given["positions_px"].astype(int).tolist(), given["probe"][0].astype(complex),
        given["object"].astype(complex),
    )  # fmt: skip
    assert scan.probe is not None
    assert scan.object is not None
    assert (scan.probe.dtype, scan.probe.shape) == (np.complex64, (1, 64, 64))
    assert scan.object.dtype == np.complex64
    assert scan.positions_px.dtype == np.float64
    np.testing.assert_array_equal(scan.probe, given["probe"])


def test_a_cube_that_lies_as_y_x_pattern_is_refused() -> None:
    with np.load(SAMPLE) as sample:
        patterns = sample["diffraction"][:64]
    positions = np.random.default_rng(0).uniform(0, 99, (64, 2))
    assert len(Scan(patterns, positions)) == 64
    assert refusal(diffraction=patterns.transpose(1, 2, 0), positions_px=positions, object=None).key == "diffraction"


def test_a_data_set_in_an_open_file_stays_there_and_is_converted(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["dp"] = counts("u2")
        scan = Scan(**{**arrays(), "diffraction": file["dp"]}, values="intensity")
        expected = np.sqrt(counts("f8")).astype(np.float32)
        np.testing.assert_array_equal(scan.diffraction[:], expected)
        np.testing.assert_array_equal(scan.diffraction[np.array([7, 2, 7])], expected[[7, 2, 7]])
        assert scan.mean_photons == pytest.approx(counts("f8").sum() / COUNT, rel=SUMS)
        with pytest.raises(ScanError):
            Scan(**{**arrays(), "diffraction": file["dp"]})


def test_what_was_declared_once_stays_declared() -> None:
    scan = Scan(**{**arrays(), "diffraction": counts("u2")}, values="intensity")
    assert (scan.values, scan.zero_frequency) == ("amplitude", "centre")
    counted = Scan(**{**arrays(), "diffraction": counts("f4")}, values="amplitude")
    np.testing.assert_array_equal(replace(counted, name="b").diffraction[:], counts("f4"))


def test_a_scan_travels_between_processes_as_it_is() -> None:
    scan = Scan(**arrays(), name="there")
    back = pickle.loads(pickle.dumps(scan))  # noqa: S301 - what we have just written ourselves
    np.testing.assert_array_equal(back.diffraction, scan.diffraction)
    np.testing.assert_array_equal(back.photons, scan.photons)
    assert repr(back) == repr(scan)


def test_trusted_arrays_are_not_looked_at() -> None:
    class Untouchable(np.ndarray):
        def __getitem__(self, index: Any) -> Any:
            raise AssertionError(index)

    Scan.trusted(np.zeros((COUNT, 64, 64), np.float32).view(Untouchable), arrays()["positions_px"])


def _hidden(array: NDArray[Any]) -> NDArray[Any]:
    return np.ma.masked_array(array, np.arange(array.size).reshape(array.shape) == 1)


@pytest.mark.parametrize("name", ["positions_px", "probe", "object"])
def test_what_a_mask_hides_is_not_brought_to_light(name: str) -> None:
    key = name.removesuffix("_px")
    assert refusal(**{name: _hidden(arrays()[name])}).key == key
    assert refusal(**{name: list(map(_hidden, arrays()[name]))}).key == key
    Scan(**{**arrays(), name: np.ma.masked_array(arrays()[name])})


def test_a_list_of_patterns_with_masks_is_refused() -> None:
    assert refusal(diffraction=[_hidden(pattern) for pattern in arrays()["diffraction"]]).key == "diffraction"


@pytest.mark.parametrize("name", ["diffraction", "positions_px", "probe", "object"])
def test_rows_of_different_lengths_are_refused(name: str) -> None:
    assert refusal(**{name: [[1, 2], [3]]}).key == name.removesuffix("_px")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype, values, factor", [
    ("f4", "amplitude", 1e18), ("f4", "intensity", 1e30), ("f8", "amplitude", 1e300), ("f8", "intensity", 1e300),
])  # fmt: skip
def test_more_light_than_anybody_counts_is_refused(tmp_path: Path, dtype: str, values: str, factor: float) -> None:
    given = arrays()
    patterns = given["diffraction"].astype(dtype) * np.asarray(factor, dtype)
    assert refusal(diffraction=patterns, values=values).key == "diffraction"
    y, x = given["positions_px"].T
    np.savez(tmp_path / "a.npz", diffraction=patterns, ycoords=y, xcoords=x)
    with pytest.raises(ScanError) as caught:
        load_scan(tmp_path / "a.npz", values=values)  # type: ignore[arg-type]
    assert caught.value.key == "diffraction"


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_the_largest_number_of_a_float_type_is_a_mark(dtype: str) -> None:
    patterns = arrays()["diffraction"].astype(dtype)
    patterns[:, 3, 5] = np.finfo(dtype).max
    with np.errstate(over="ignore"):
        assert str(refusal(diffraction=patterns, values="amplitude").found).endswith("(3, 5)")


def test_a_number_in_an_array_without_axes_is_a_number() -> None:
    """As NumPy reads it from a file."""
    scan = Scan(np.ones((2, 32, 32), np.float32), [[0, 0], [9, 9]], object_pixel_size_m=np.array(8e-9))
    assert scan.object_pixel_size_m == 8e-9
