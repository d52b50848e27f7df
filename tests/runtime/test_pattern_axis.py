"""Which axis of a cube runs over patterns is told by where light lies, or not at all."""

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ptyonnx.formats import load_scan
from ptyonnx.simulation import simulate
from ptyonnx_runtime.scan.pattern_axis import pattern_axis

SAMPLE = Path(__file__).parents[2] / "samples" / "siemens_star_64.npz"
ORDERS = tuple(permutations(range(3)))


def told(cube: NDArray[Any]) -> set[int | None]:
    """The axis of the patterns (pattern, y, x) in every order that they may be stored in: 0 where it is told right."""
    answers = set()
    for order in ORDERS:
        squares = np.square(cube.transpose(order), dtype=np.float64)
        axis = pattern_axis([squares.sum(axis=tuple(a for a in range(3) if a != kept)) for kept in range(3)])
        answers.add(None if axis is None else order[axis])
    return answers


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["amplitude", "counts", "corner", "dark frames"]))
def test_any_patterns_of_the_shipped_scan_are_told(seed: int, kind: str) -> None:
    generator = np.random.default_rng(seed)
    with np.load(SAMPLE) as arrays:
        patterns = arrays["diffraction"][np.sort(generator.choice(516, 64, replace=False))]
    changed = {
        "amplitude": patterns,
        "counts": patterns**2,
        "corner": np.fft.ifftshift(patterns, axes=(1, 2)),
        "dark frames": patterns * (np.arange(64) % 5 > 0)[:, None, None],
    }
    assert told(changed[kind]) == {0}


@pytest.mark.parametrize("phase_rad, photons", [(0.1, 1e6), (3, 1e6), (0.5, 1e3), (6, 1e5)])
def test_simulated_scans_are_told(phase_rad: float, photons: float) -> None:
    y, x = np.indices((150, 150))
    probe = load_scan(SAMPLE).probe
    assert probe is not None
    obj = np.exp(1j * phase_rad * np.sin(y / 5) * np.cos(x / 7)).astype(np.complex64)
    for seed in range(4):
        positions = np.random.default_rng(seed).uniform(33, 116, (64, 2))
        assert told(np.asarray(simulate(obj, probe, positions, photons=photons, seed=seed).diffraction)) == {0}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_where_light_varies_from_pattern_to_pattern_nothing_wrong_is_told(seed: int) -> None:
    """A beam of any shape, opaque parts of the sample, a source that decays."""
    generator = np.random.default_rng(seed)
    y, x = np.indices((32, 32)) - 16
    widths = generator.uniform(1, 15, 2)
    mean = np.exp(-((y / widths[0]) ** 2 + (x / widths[1]) ** 2) / 2)
    light = np.exp(generator.normal(0, generator.uniform(0, 1.5), 32) - np.arange(32) * generator.uniform(0, 0.1))
    patterns = generator.poisson(1e4 * light[:, None, None] * mean / mean.sum())
    assert told(np.sqrt(patterns)) <= {0, None}


def test_nothing_is_told_of_noise() -> None:
    assert told(np.random.default_rng(0).uniform(0, 1, (32, 32, 32))) == {None}
