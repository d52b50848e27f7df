"""Results in files: as ptychodus finds them, and as they were."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from bundle_factory import example_probe, make_bundle
from float32_bounds import of_polar, of_sums
from numpy.typing import NDArray

from ptyonnx.formats import load_result, write_result
from ptyonnx.results.reconstruction import Reconstruction, reconstruct
from ptyonnx_bundles.errors import ObjectError, OutputError
from ptyonnx_runtime.scan import Scan

N = 64
POSITION_PX = 8 * 2.0**-52 * 1000  # eight roundings in float64 of lengths below 1000 pixels


@pytest.fixture(scope="module")
def scan() -> Scan:
    """Positions such that the canvas begins at a negative coordinate, and is not square."""
    generator = np.random.default_rng(0)
    return Scan(
        generator.gamma(2.0, 3.0, (20, N, N)).astype(np.float32),
        generator.uniform((10, 50), (30, 90), (20, 2)),
        example_probe(N, modes=2),
        photon_energy_eV=8800.0,
        detector_distance_m=1.5,
        name="measured.npz",
    )


@pytest.fixture(scope="module")
def result(scan: Scan, tmp_path_factory: pytest.TempPathFactory) -> Reconstruction:
    path = tmp_path_factory.mktemp("result") / "trained.onnx"
    bundle = make_bundle(path, probe=example_probe(N, modes=2))
    return reconstruct(bundle, replace(scan, object_pixel_size_m=12e-9))


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".npz", ".H5"])
@pytest.mark.parametrize("pixel_size", [12e-9, None])
def test_a_result_is_read_back_as_it_was(
    tmp_path: Path, result: Reconstruction, suffix: str, pixel_size: float | None
) -> None:
    written = Reconstruction(**{**vars(result), "object_pixel_size_m": pixel_size})
    written.save(tmp_path / f"r{suffix}")
    found = load_result(tmp_path / f"r{suffix}")
    np.testing.assert_array_equal(found.object, written.object)
    np.testing.assert_array_equal(found.mask, written.mask)
    np.testing.assert_allclose(found.positions_px, written.positions_px, atol=POSITION_PX)
    np.testing.assert_array_equal(found.probe, written.bundle.probe)
    np.testing.assert_array_equal(found.residual, written.residual)
    assert found.origin_px == written.origin_px
    assert min(found.origin_px) < 0
    assert (found.r_factor, found.vacuum_r_factor) == (written.r_factor, written.vacuum_r_factor)
    assert found.object_pixel_size_m == pixel_size


def test_ptychodus_finds_everything_it_needs(tmp_path: Path, result: Reconstruction) -> None:
    """Names and ranks of the ptychodus product format, its formula for pixels, and no NaN for its viewer."""
    result.save(tmp_path / "r.h5")
    with h5py.File(tmp_path / "r.h5") as file:
        assert file.attrs["name"] == "measured"
        assert "trained.onnx" in file.attrs["comments"]
        assert float(file.attrs["probe_energy_eV"]) == 8800
        assert float(file.attrs["detector_object_distance_m"]) == 1.5
        assert float(file.attrs["exposure_time_s"]) == 0
        photons = np.sum(np.abs(result.bundle.probe) ** 2)
        assert float(file.attrs["probe_photon_count"]) == pytest.approx(photons, rel=2 * of_sums(2 * N * N))
        obj, probe = file["object"], file["probe"]
        assert (obj.ndim, obj.dtype, obj.shape[0]) == (3, np.complex64, 1)
        assert probe.shape == (1, 2, N, N)
        assert np.isfinite(obj[()]).all()
        mean_phase = np.angle(np.mean(result.object[~result.mask]))
        np.testing.assert_allclose(
            obj[0][result.mask], np.exp(1j * mean_phase), atol=of_polar(1, np.pi) + of_sums(obj.size)
        )
        np.testing.assert_array_equal(obj[0][~result.mask], result.object[~result.mask])
        for array in (obj, probe):
            assert float(array.attrs["pixel_width_m"]) == float(array.attrs["pixel_height_m"]) == 12e-9
        height, width = obj.shape[1:]
        for axis, size, key in ((0, height, "y"), (1, width, "x")):
            pixels = (file[f"probe_position_{key}_m"][()] - obj.attrs[f"center_{key}_m"]) / 12e-9 + size / 2
            np.testing.assert_allclose(pixels, result.positions_px[:, axis] - result.origin_px[axis], atol=POSITION_PX)
        np.testing.assert_array_equal(file["probe_position_indexes"][()], np.arange(20))
        assert file["object_layer_spacing_m"].shape == file["loss_values"].shape == file["loss_epochs"].shape == (0,)


def test_a_result_says_where_it_comes_from(tmp_path: Path, result: Reconstruction) -> None:
    result.save(tmp_path / "r.h5")
    with h5py.File(tmp_path / "r.h5") as file:
        attributes = dict(file["ptyonnx"].attrs)
    assert attributes["weights_digest"] == result.bundle.manifest.digests.weights
    assert attributes["graph_digest"] == result.bundle.manifest.digests.graph
    assert (attributes["framework"], attributes["provider"]) == ("pytorch", "cpu")
    assert (attributes["scan"], attributes["bundle"]) == ("measured.npz", "trained.onnx")
    assert attributes["flux_scale"] == pytest.approx(result.flux.scale)
    assert attributes["length_unit"] == "m"


def test_without_a_pixel_size_lengths_are_pixels_and_the_file_says_so(tmp_path: Path, result: Reconstruction) -> None:
    Reconstruction(**{**vars(result), "object_pixel_size_m": None}).save(tmp_path / "r.h5")
    with h5py.File(tmp_path / "r.h5") as file:
        assert "no pixel size: all lengths are in object pixels" in file.attrs["comments"]
        assert file["ptyonnx"].attrs["length_unit"] == "object pixel"
        assert float(file["object"].attrs["pixel_width_m"]) == 1
        np.testing.assert_array_equal(file["probe_position_x_m"][()], result.positions_px[:, 1])


def _product_of_another_tool(path: Path, y_px: NDArray[np.float64], x_px: NDArray[np.float64]) -> None:
    """A product with other centres and oblong pixels, without the group of ptyonnx."""
    with h5py.File(path, "w") as file:
        file.attrs.update(
            name="other", comments="", detector_object_distance_m=1.0, probe_energy_eV=9e3, exposure_time_s=1
        )
        obj = file.create_dataset("object", data=np.full((1, 80, 100), 1j, np.complex64))
        obj.attrs.update(center_x_m=3e-6, center_y_m=-2e-6, pixel_width_m=2e-8, pixel_height_m=1e-8)
        file.create_dataset("probe", data=np.ones((1, 2, N, N), np.complex64))
        file["probe_position_indexes"] = np.arange(2)
        file["probe_position_x_m"] = (x_px - 50) * 2e-8 + 3e-6
        file["probe_position_y_m"] = (y_px - 40) * 1e-8 - 2e-6


def test_a_product_of_another_tool_is_read(tmp_path: Path) -> None:
    y_px, x_px = np.array([30.5, 40.25]), np.array([50.0, 60.75])
    _product_of_another_tool(tmp_path / "p.h5", y_px, x_px)
    found = load_result(tmp_path / "p.h5")
    assert found.object.shape == (80, 100)
    assert not found.mask.any()
    assert found.probe.shape == (2, N, N)
    np.testing.assert_allclose(found.positions_px - found.origin_px, np.stack([y_px, x_px], 1), atol=POSITION_PX)
    assert (found.residual, found.r_factor) == (None, None)


@pytest.mark.parametrize("coordinate", [1e308, math.inf, math.nan])
def test_positions_that_no_scan_has_are_refused(tmp_path: Path, coordinate: float) -> None:
    _product_of_another_tool(tmp_path / "p.h5", np.array([30.5, 40.25]), np.array([50.0, 60.75]))
    with h5py.File(tmp_path / "p.h5", "a") as file:
        file["probe_position_y_m"][1] = coordinate
    with pytest.raises(ObjectError) as refusal:
        load_result(tmp_path / "p.h5")
    assert "probe_position_y_m" in str(refusal.value.key)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"),
        lambda path: path.write_bytes(b"text"),
        lambda path: path.write_bytes(b"PK\3\4"),
        lambda path: h5py.File(path, "w").close(),
        lambda path: np.savez(path.open("wb"), other=np.ones(3)),
    ],
    ids=["truncated HDF5", "text", "truncated NPZ", "empty HDF5", "another NPZ"],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the lambdas leave closing to the collector
def test_what_is_no_result_is_refused_in_one_line(tmp_path: Path, write: Any) -> None:
    write(tmp_path / "r.h5")
    with pytest.raises(ObjectError) as caught:
        load_result(tmp_path / "r.h5")
    assert caught.value.file == str(tmp_path / "r.h5")
    assert "\n" not in str(caught.value)


def test_a_missing_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ObjectError) as caught:
        load_result(tmp_path / "r.h5")
    assert caught.value.file == str(tmp_path / "r.h5")


def test_an_unknown_suffix_and_an_unwritable_place_are_refused(tmp_path: Path, result: Reconstruction) -> None:
    with pytest.raises(OutputError) as caught:
        result.save(tmp_path / "r.tif")
    assert (caught.value.file, caught.value.expected) == (str(tmp_path / "r.tif"), ".h5, .hdf5, .npz")
    (tmp_path / "file").write_text("in the way")
    for suffix in (".h5", ".npz"):
        with pytest.raises(OutputError) as caught:
            write_result(tmp_path / "file" / f"r{suffix}", result)
        assert str(tmp_path / "file") in str(caught.value.file)
    assert (tmp_path / "file").read_text() == "in the way"


FULL_DISK = """
import resource, sys
import numpy as np
from ptyonnx.formats import load_result, load_scan, write_result, write_scan
from ptyonnx.results.reconstruction import reconstruct
from ptyonnx_bundles import read_bundle
from ptyonnx_bundles.errors import OutputError

bundle, scan, *targets = sys.argv[1:]
scan = load_scan(scan)
result = reconstruct(read_bundle(bundle), scan)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for target in targets:
    try:
        (write_scan if "scan" in target else write_result)(target, scan if "scan" in target else result)
    except OutputError as error:
        assert "cannot be written (File too large)" in str(error), error
    else:
        sys.exit(f"{target} was written")
"""


def test_a_full_disk_loses_nothing(tmp_path: Path, result: Reconstruction, scan: Scan) -> None:
    np.savez(
        tmp_path / "in.npz",
        diffraction=scan.diffraction,
        xcoords=scan.positions_px[:, 1],
        ycoords=scan.positions_px[:, 0],
    )
    targets = [tmp_path / name for name in ("r.h5", "r.npz", "scan.npz")]
    for target in targets:
        target.write_text("earlier")
    subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(result.bundle.path), str(tmp_path / "in.npz"), *map(str, targets)],
        check=True,
    )
    assert [target.read_text() for target in targets] == ["earlier"] * 3
    assert len(list(tmp_path.iterdir())) == 4
