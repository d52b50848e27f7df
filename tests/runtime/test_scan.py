"""What a scan must satisfy, wherever it comes from."""

from typing import Any

import numpy as np
import pytest
from float32_bounds import of_sums

from ptyonnx_bundles.errors import ScanError
from ptyonnx_runtime.scan import Scan, chunks


def make(**changes: Any) -> Any:
    arguments = {
        "diffraction": np.ones((3, 32, 32), np.float32),
        "positions_px": np.array([[40.0, 40.0], [42.0, 40.0], [44.0, 41.0]]),
        "probe": np.ones((1, 32, 32), np.complex64),
    }
    return Scan(**{**arguments, **changes})


def test_mean_photons_is_the_mean_of_squared_amplitudes() -> None:
    diffraction = np.random.default_rng(0).uniform(0, 5, (700, 32, 32)).astype(np.float32)
    scan = make(diffraction=diffraction, positions_px=np.random.default_rng(1).uniform(0, 99, (700, 2)))
    expected = np.mean(np.sum(diffraction.astype(np.float64) ** 2, axis=(1, 2)))
    assert scan.mean_photons == pytest.approx(expected, rel=of_sums(32 * 32))


def test_photons_that_the_reader_counted_are_not_counted_again() -> None:
    class Counted(np.ndarray):
        photons = np.array([100.0, 123.0, 146.0])

    assert make(diffraction=np.ones((3, 32, 32), np.float32).view(Counted)).mean_photons == 123


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"diffraction": np.ones((3, 32, 34), np.float32)}, "wrong shape"),
        ({"diffraction": np.ones((32, 32), np.float32)}, "wrong shape"),
        ({"diffraction": np.ones((3, 33, 33), np.float32)}, "unusable pattern size.*even number"),
        ({"diffraction": np.ones((3, 30, 30), np.float32)}, "unusable pattern size.*N = 30"),
        ({"positions_px": np.zeros((2, 2))}, "differ in number"),
        ({"positions_px": np.array([[0.0, 0], [1, np.nan], [2, 2]])}, "NaN"),
        ({"positions_px": np.full((3, 2), 7.0)}, "all positions are equal"),
        ({"probe": np.ones((1, 64, 64), np.complex64)}, "wrong array"),
        ({"probe": np.zeros((1, 32, 32), np.complex64)}, "zero everywhere"),
        ({"probe": np.full((1, 32, 32), np.nan, np.complex64)}, "NaN"),
    ],
)
def test_what_cannot_be_a_scan_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ScanError, match=message) as caught:
        make(**changes)
    assert "\n" not in str(caught.value)


def test_chunks_cover_every_index_once() -> None:
    for count, size in ((0, 4), (1, 4), (8, 4), (9, 4)):
        assert [i for part in chunks(count, size) for i in range(count)[part]] == list(range(count))
