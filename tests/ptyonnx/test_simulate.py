from pathlib import Path
from typing import Any

import numpy as np
import pytest
from float32_bounds import of_roundings, of_sums
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import fft, ndimage

from ptyonnx.formats.objects import load_object
from ptyonnx.formats.positions import read_positions
from ptyonnx.formats.probes import load_probe
from ptyonnx.simulation import (
    add_modes,
    object_from_images,
    overlap_step,
    scan_positions,
    simulate,
)
from ptyonnx.simulation.positions import Kind
from ptyonnx_bundles.errors import ObjectError, ScanError, SettingsError

N = 32


def _example(seed: int = 0, shape: tuple[int, int] = (50, 61), modes: int = 1) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(generator.standard_normal((2, *shape)), (0, 3, 3)) * 5
    y, x = (np.indices((N, N)) - N // 2) / N
    probe = np.stack([np.exp(-(x**2 + y**2) / 0.05 + 3j * x * (mode + 1)) for mode in range(modes)])
    return (0.9 + 0.1 * np.tanh(smooth[0])) * np.exp(1j * smooth[1]), 30 * probe


def _assert_amplitudes(found: np.ndarray, photons: np.ndarray) -> None:
    """Exit wave of two products a part, transform by rows and by columns, squares of three modes."""
    expected = np.sqrt(photons)
    atol = np.sqrt(2) * of_sums(2, 2, 2, 2 * N, 2 * N, 6, size=float(expected.max()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def _by_fft(obj: np.ndarray, probe: np.ndarray, y: int, x: int) -> np.ndarray:
    """Expected photons at a whole-pixel position, by slicing and scipy's FFT."""
    patch = obj[y - N // 2 : y + N // 2, x - N // 2 : x + N // 2]
    wave = fft.fftshift(fft.fft2(fft.ifftshift(patch * probe, axes=(-2, -1)), norm="ortho"), axes=(-2, -1))
    return np.sum(np.abs(wave) ** 2, axis=0)


@pytest.mark.numerical
@pytest.mark.parametrize("modes", [1, 3])
def test_patterns_are_those_of_an_independent_fft(modes: int) -> None:
    obj, probe = _example(modes=modes)
    positions = np.array([[16, 16], [34, 45], [20, 31]])  # both corners of what fits, and between
    scan = simulate(obj, probe, positions, noise=False)
    for pattern, (y, x) in zip(scan.diffraction[:], positions, strict=True):
        _assert_amplitudes(pattern, _by_fft(obj, probe, y, x))


@pytest.mark.numerical
def test_between_pixels_the_object_is_interpolated_linearly() -> None:
    obj, probe = _example()
    shifted = ndimage.shift(obj.real, (-0.25, -0.5), order=1) + 1j * ndimage.shift(obj.imag, (-0.25, -0.5), order=1)
    scan = simulate(obj, probe, np.array([[20.25, 30.5], [30, 30]]), noise=False)
    _assert_amplitudes(scan.diffraction[0], _by_fft(shifted, probe, 20, 30))


@pytest.mark.numerical
def test_photons_through_vacuum_are_those_asked_for() -> None:
    _, probe = _example(modes=2)
    vacuum = np.ones((64, 64), complex)
    scan = simulate(vacuum, probe, np.array([[20.0, 20.0], [30.5, 31.0]]), photons=1e5, noise=False)
    assert scan.mean_photons == pytest.approx(1e5, rel=2 * of_sums(2 * N, 2 * N, N * N))
    assert np.sum(np.abs(scan.probe) ** 2) == pytest.approx(1e5, rel=of_sums(2 * N * N))


def test_noise_is_poisson_and_follows_from_the_seed() -> None:
    obj, probe = _example()
    positions = np.tile([[20, 30], [30, 31]], (200, 1))
    expected = simulate(obj, probe, positions[:2], noise=False).diffraction[:] ** 2
    counts = simulate(obj, probe, positions, seed=5).diffraction[:] ** 2
    # A root that is rounded, squared, and rounded again.
    np.testing.assert_allclose(counts, np.round(counts), rtol=0, atol=of_roundings(3, float(counts.max())))
    for index in (0, 1):
        same = counts[index::2]
        bright = expected[index] > 5
        z = (same.mean(axis=0) - expected[index])[bright] / np.sqrt(expected[index][bright] / len(same))
        assert abs(z.mean()) < 4 / np.sqrt(bright.sum())
        assert 0.8 < z.std() < 1.2
        assert 0.9 < np.mean(same.var(axis=0)[bright] / expected[index][bright]) < 1.1
    np.testing.assert_array_equal(counts, simulate(obj, probe, positions, seed=5).diffraction[:] ** 2)
    assert (counts != simulate(obj, probe, positions, seed=6).diffraction[:] ** 2).any()


@pytest.mark.parametrize("position", [[15.9, 20], [20, 45.1], [np.nan, 20]])
def test_a_patch_beyond_the_object_is_refused(position: list[float]) -> None:
    obj, probe = _example()
    with pytest.raises(ScanError) as caught:
        simulate(obj, probe, np.array([position, [20, 20]]))
    assert caught.value.key == "positions"


@pytest.mark.parametrize(
    "obj, probe",
    [
        (np.ones((50, 50)), np.ones((1, N, N), complex)),
        (np.full((50, 50), np.nan, complex), np.ones((1, N, N), complex)),
        (np.ones((2, 50, 50), complex), np.ones((1, N, N), complex)),
        (np.ones((50, 50), complex), np.zeros((1, N, N), complex)),
        (np.ones((50, 50), complex), np.ones((N, N), complex)),
    ],
)
def test_objects_and_probes_that_cannot_be_used_are_refused(obj: np.ndarray, probe: np.ndarray) -> None:
    with pytest.raises(ObjectError):
        simulate(obj, probe, np.array([[20, 20], [21, 20]]))


@settings(deadline=None)
@given(
    st.sampled_from(["raster", "fermat", "random"]),
    st.integers(34, 120), st.integers(34, 120), st.integers(1, 80), st.none() | st.floats(1, 20),
)  # fmt: skip
def test_positions_stay_within_the_object_and_are_as_many_as_asked_for(
    kind: Kind, height: int, width: int, count: int, step: float | None
) -> None:
    try:
        points = scan_positions(kind, (height, width), N, step_px=step, count=count)
    except ScanError:
        assert step is not None
        return
    assert points.shape == (count, 2)
    assert (points >= N / 2 - 1e-9).all()
    assert (points <= np.array([height, width]) - N / 2 + 1e-9).all()


@pytest.mark.parametrize("kind", ["raster", "fermat", "random"])
def test_the_step_sets_the_density(kind: Kind) -> None:
    points = scan_positions(kind, (232, 232), N, step_px=8)
    assert len(points) == pytest.approx((200 / 8) ** 2, rel=0.1)


def test_a_raster_is_a_grid_about_the_middle() -> None:
    points = scan_positions("raster", (52, 62), N, step_px=10)
    np.testing.assert_array_equal(np.unique(points[:, 0]), [16, 26, 36])
    np.testing.assert_array_equal(np.unique(points[:, 1]), [16, 26, 36, 46])


def test_no_two_points_of_a_spiral_are_near() -> None:
    points = scan_positions("fermat", (132, 132), N, step_px=8)
    distance = np.linalg.norm(points[:, None] - points, axis=-1)[~np.eye(len(points), dtype=bool)]
    assert distance.min() >= 8 / np.sqrt(np.pi) - 1e-9  # the first two; outwards they are farther apart


@pytest.mark.parametrize(
    "arguments", [{}, {"step_px": -1.0}, {"step_px": np.nan}, {"count": 0}, {"step_px": 4.0, "kind": "spiral"}]
)
def test_scans_that_make_no_sense_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        scan_positions(arguments.pop("kind", "raster"), (64, 64), N, **arguments)


def test_an_object_no_larger_than_the_probe_is_refused() -> None:
    with pytest.raises(ObjectError) as caught:
        scan_positions("raster", (32, 80), N, step_px=4)
    assert caught.value.found == (32, 80)


def test_the_overlap_of_a_disc_is_that_of_its_diameter() -> None:
    y, x = np.indices((128, 128)) - 64
    disc = (np.hypot(y, x) < 30).astype(complex)
    assert overlap_step(disc[np.newaxis], 0.75) == pytest.approx(15, rel=0.01)
    with pytest.raises(SettingsError):
        overlap_step(disc[np.newaxis], 1.0)


@pytest.mark.numerical
def test_added_modes_are_orthogonal_and_keep_the_photons() -> None:
    _, probe = _example()
    modes = add_modes(probe, 3, 0.2).astype(np.complex128).reshape(3, -1)
    gram = modes @ modes.conj().T
    power = np.diagonal(gram).real
    assert power.sum() == pytest.approx(np.sum(np.abs(probe) ** 2), rel=of_sums(N * N))
    np.testing.assert_allclose(power[1:] / power[:-1], 0.25, rtol=of_sums(N * N))
    assert np.abs(gram - np.diag(power)).max() < 1e-5 * power[0]
    ratio = modes[0] / probe.reshape(-1)
    np.testing.assert_allclose(ratio, ratio[0].real, rtol=1e-4)  # the first mode keeps its form and its phase


def test_two_modes_share_as_asked_for_and_one_mode_stays() -> None:
    _, probe = _example()
    power = np.sum(np.abs(add_modes(probe, 2, 0.3)) ** 2, axis=(1, 2))
    assert power[1] / power.sum() == pytest.approx(0.3, rel=of_sums(2 * N * N))
    np.testing.assert_allclose(add_modes(probe, 1), probe, rtol=1e-6)
    with pytest.raises(SettingsError) as caught:
        add_modes(add_modes(probe, 2), 3)
    assert (caught.value.key, caught.value.found) == ("probe_modes", 2)
    with pytest.raises(SettingsError):
        add_modes(probe, 2, 1.5)


def _grey(path: Path, values: np.ndarray) -> Path:
    Image.fromarray(values).save(path)
    return path


def test_grey_values_become_phase_and_amplitude(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 40 * 50).reshape(40, 50)
    phase = _grey(tmp_path / "phase.tiff", ramp.astype(np.uint16))
    amplitude = _grey(tmp_path / "amplitude.png", (255 - ramp / 257).astype(np.uint8))
    obj = object_from_images(phase, amplitude, phase_range_rad=0.3, amplitude_range=(0.8, 1.0))
    assert obj.shape == (40, 50)
    np.testing.assert_allclose(np.angle(obj), 0.3 * ramp / 65535, atol=1e-4)
    np.testing.assert_allclose(np.abs(obj), 1.0 - 0.2 * ramp / 65535, atol=1e-3)


def test_colour_images_and_other_sizes_are_resampled(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    phase = _grey(tmp_path / "colour.png", generator.integers(0, 255, (30, 20, 3), np.uint8))
    amplitude = _grey(tmp_path / "other.png", generator.integers(0, 255, (64, 64), np.uint8))
    obj = object_from_images(phase, amplitude, shape=(40, 44))
    assert obj.shape == (40, 44)
    assert 0.9 - 1e-6 <= np.abs(obj).min() < np.abs(obj).max() <= 1 + 1e-6


@pytest.mark.parametrize("content", [None, b"no image", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "picture.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ObjectError) as caught:
        object_from_images(path)
    assert caught.value.file == str(path)


def test_an_image_without_contrast_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ObjectError) as caught:
        object_from_images(_grey(tmp_path / "flat.png", np.full((20, 20), 7, np.uint8)))
    assert caught.value.file == str(tmp_path / "flat.png")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_are_read_and_never_unpickled(tmp_path: Path, suffix: str) -> None:
    obj, probe = _example()
    path = tmp_path / f"arrays{suffix}"
    if suffix == ".npy":
        np.save(path, obj)
    else:
        np.savez(path, objectGuess=obj, probeGuess=probe[0])
        np.testing.assert_allclose(load_probe(path), probe, rtol=1e-6)
    np.testing.assert_allclose(load_object(path), obj, rtol=1e-6)
    hostile = tmp_path / f"hostile{suffix}"
    pickled = np.array([{"a": 1}], object)
    if suffix == ".npy":
        np.save(hostile, pickled)
    else:
        np.savez(hostile, object=pickled, probe=pickled)
    for read in (load_object, load_probe):
        with pytest.raises(ObjectError):
            read(hostile)


@pytest.mark.parametrize(
    "name", ["absent.npz", "absent.h5", "text.npz", "text.h5", "text.npy", "picture.gif", "real.npy"]
)
def test_unusable_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.startswith("text"):
        path.write_text("nothing", encoding="utf-8")
    if name == "real.npy":
        np.save(path, np.ones((40, 40)))
    for read in (load_object, load_probe):
        with pytest.raises(ObjectError) as caught:
            read(path)
        assert caught.value.file == str(path)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", diffraction=np.ones(3))
    with pytest.raises(ObjectError) as caught:
        load_object(tmp_path / "other.npz")
    assert (caught.value.key, caught.value.found) == ("object or objectGuess", "diffraction")


def test_positions_are_read_from_scans_arrays_and_text(tmp_path: Path) -> None:
    points = np.array([[20.0, 30.5], [21.25, 33.0]])
    np.savez(tmp_path / "scan.npz", ycoords=points[:, 0], xcoords=points[:, 1])
    np.save(tmp_path / "points.npy", points)
    (tmp_path / "points.csv").write_text("20, 30.5\n21.25, 33\n", encoding="utf-8")
    for name in ("scan.npz", "points.npy", "points.csv"):
        np.testing.assert_array_equal(read_positions(tmp_path / name), points)


@pytest.mark.parametrize("text", ["1 2 3\n", "a b\n", "nan 1\n2 3\n", "1 2\n3\n", "0 1 2 0\n1 3 4 0\n"])
def test_text_that_holds_no_positions_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "points.txt").write_text(text, encoding="utf-8")
    with pytest.raises(ScanError) as caught:
        read_positions(tmp_path / "points.txt")
    assert (caught.value.file, caught.value.key) == (str(tmp_path / "points.txt"), "positions")
    with pytest.raises(ScanError) as refusal:
        read_positions(tmp_path / "spiral")
    assert refusal.value.key == "positions"
