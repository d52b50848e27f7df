"""The self-test stores the native object if onnxruntime agrees with it, and refuses a difference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ptyonnx_bundles import Recipe
from ptyonnx_bundles.errors import ConversionError, MissingDependencyError
from ptyonnx_converters import exporters
from ptyonnx_converters.canonical import build_model
from ptyonnx_converters.selftest import TOLERANCE, make_selftest

RECIPE = Recipe(N=32, gridsize=2, filters_scale=0.1)
DIFFRACTION = np.random.default_rng(0).random((3, 4, 32, 32), np.float32)


@pytest.fixture(scope="module")
def vacuum() -> bytes:
    """A network whose every weight is zero but one: amplitude 1 and phase 0 for every input."""
    weights = {name: np.zeros_like(array) for name, array in RECIPE.initial_weights(0).items()}
    weights["decoder.amplitude.output.bias"] += np.float32(np.log(2))
    weights["whitening.mean"], weights["whitening.scale"] = np.zeros((32, 32), np.float32), np.ones((), np.float32)
    return build_model(RECIPE, weights).SerializeToString()


def off_by(difference: complex) -> Callable[[np.ndarray], np.ndarray]:
    """Vacuum, but for one pixel of one pattern."""

    def native(diffraction: np.ndarray) -> np.ndarray:
        result = np.ones(diffraction.shape, np.complex64)
        result[2, 3, 31, 0] += np.complex64(difference)
        return result

    return native


@pytest.mark.parametrize("difference", [0, 0.8 * TOLERANCE, -0.8j * TOLERANCE])
def test_within_the_tolerance_the_native_object_is_kept(vacuum: bytes, difference: complex) -> None:
    kept = make_selftest(off_by(difference), vacuum, DIFFRACTION)
    assert kept.object.tobytes() == off_by(difference)(DIFFRACTION).tobytes()
    assert (kept.diffraction.tobytes(), kept.tolerance) == (DIFFRACTION.tobytes(), 5e-5)


@pytest.mark.parametrize("difference", [1.2 * TOLERANCE, -1.2j * TOLERANCE, 0.8 * TOLERANCE * (1 + 1j), 1])
def test_beyond_the_tolerance_it_refuses(vacuum: bytes, difference: complex) -> None:
    with pytest.raises(ConversionError) as refusal:
        make_selftest(off_by(difference), vacuum, DIFFRACTION)
    assert refusal.value.expected == "at most 5e-05"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_object_that_is_not_finite_is_refused(vacuum: bytes, value: float) -> None:
    with pytest.raises(ConversionError) as refusal:
        make_selftest(off_by(value), vacuum, DIFFRACTION)
    assert refusal.value.expected is None  # not the tolerance: it was never compared


def test_another_shape_is_refused(vacuum: bytes) -> None:
    with pytest.raises(ConversionError) as refusal:
        make_selftest(lambda diffraction: np.ones(diffraction.shape[1:], np.complex64), vacuum, DIFFRACTION)
    assert (refusal.value.found, refusal.value.expected) == (DIFFRACTION.shape, DIFFRACTION.shape[1:])


def test_a_model_that_onnxruntime_does_not_run_is_refused_in_one_line(vacuum: bytes) -> None:
    for model, diffraction in ((b"no model", DIFFRACTION), (vacuum, DIFFRACTION[:, :1])):
        with pytest.raises(ConversionError) as refusal:
            make_selftest(lambda batch: np.ones(batch.shape, np.complex64), model, diffraction)
        assert refusal.value.found
        assert "\n" not in str(refusal.value)


def test_a_missing_onnxruntime_is_named_with_its_remedy(vacuum: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporters, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match="onnxruntime") as refusal:
        make_selftest(off_by(0), vacuum, DIFFRACTION)
    assert refusal.value.remedy == "pip install 'ptyonnx[cpu]'"
