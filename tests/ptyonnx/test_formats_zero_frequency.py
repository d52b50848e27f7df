"""Where the zero frequency lies is declared, or in the middle; what looks otherwise is refused."""

from pathlib import Path

import numpy as np
import pytest
from bundle_factory import make_bundle
from hypothesis import given
from hypothesis import strategies as st

from ptyonnx.cli import main
from ptyonnx.formats import load_scan
from ptyonnx_bundles import Recipe
from ptyonnx_bundles.errors import ScanError, SettingsError
from ptyonnx_runtime.scan.zero_frequency import looks_like_the_corner, to_the_centre

SAMPLE = Path(__file__).parents[2] / "samples" / "siemens_star_64.npz"


@pytest.fixture
def cornered(tmp_path: Path) -> Path:
    """The sample, as a detector's FFT order leaves it."""
    with np.load(SAMPLE) as arrays:
        few = {key: array[:30] if len(array) == 516 else array for key, array in arrays.items()}
    few["diffraction"] = np.fft.ifftshift(few["diffraction"], axes=(1, 2))
    np.savez(tmp_path / "corner.npz", **few)
    return tmp_path / "corner.npz"


def test_a_corner_that_nobody_declared_is_refused_and_the_option_named(cornered: Path) -> None:
    with pytest.raises(ScanError) as caught:
        load_scan(cornered)
    assert (caught.value.file, caught.value.key) == (str(cornered), "diffraction")
    assert 'zero_frequency="corner"' in str(caught.value.remedy)
    assert 'zero_frequency="centre"' in str(caught.value.remedy)


@pytest.mark.parametrize("axes", ["nyx", "yxn"])
def test_declared_it_is_shifted_as_it_is_read(cornered: Path, axes: str) -> None:
    with np.load(cornered) as arrays:
        stored = dict(arrays)
    stored["diffraction"] = stored["diffraction"].transpose(["nyx".index(axis) for axis in axes])
    np.savez(cornered, **stored)
    expected = load_scan(SAMPLE, limit=30).diffraction[:]
    scan = load_scan(cornered, zero_frequency="corner", axes=axes)
    np.testing.assert_array_equal(scan.diffraction[:], expected)
    np.testing.assert_array_equal(scan.diffraction[np.array([7, 3])], expected[[7, 3]])
    believed = load_scan(cornered, zero_frequency="centre", axes=axes)
    np.testing.assert_array_equal(to_the_centre(believed.diffraction[:]), expected)


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(SettingsError) as caught:
        load_scan(SAMPLE, zero_frequency="edge")
    assert (caught.value.key, caught.value.found) == ("zero_frequency", "edge")


def test_the_command_line_takes_it(cornered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make_bundle(tmp_path / "bundle.onnx", Recipe(N=64, filters_scale=0.0625)).path
    words = ["reconstruct", str(bundle), "--data", str(cornered), "-o", str(tmp_path / "r.h5")]
    assert main(words) == 2
    assert "--zero-frequency corner" in capsys.readouterr().err
    assert main([*words, "--zero-frequency", "corner"]) == 0
    capsys.readouterr()


@given(width=st.floats(0.5, 40), beam_stop=st.integers(0, 6), seed=st.integers(0, 9), N=st.sampled_from([32, 64]))
def test_no_pattern_around_the_middle_is_suspected(width: float, beam_stop: int, seed: int, N: int) -> None:
    """From a narrow peak to an even glow, with and without a beam stop, with photon noise."""
    y, x = np.indices((N, N)) - N // 2
    counts = np.random.default_rng(seed).poisson(300 * np.exp(-(x**2 + y**2) / (2 * width**2)), (4, N, N))
    counts[:, np.hypot(y, x) < beam_stop] = 0
    assert looks_like_the_corner(np.sqrt(counts)) is None
    narrow = width < N / 8 and beam_stop < width
    if narrow:
        assert looks_like_the_corner(np.fft.ifftshift(np.sqrt(counts), axes=(1, 2))) is not None
