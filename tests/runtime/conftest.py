"""A known object, seen through a known probe: what the runtime is measured against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
from bundle_factory import example_probe, make_bundle
from numpy.typing import NDArray

from ptyonnx_bundles import Bundle, Recipe
from ptyonnx_runtime.scan import Scan

N = 64


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Bundles by gridsize, made once."""
    made: dict[int, Bundle] = {}

    def bundle(gridsize: int = 1) -> Bundle:
        if gridsize not in made:
            path: Path = tmp_path_factory.mktemp("bundles") / f"gridsize{gridsize}.onnx"
            made[gridsize] = make_bundle(path, Recipe(N=N, gridsize=gridsize, filters_scale=0.0625))
        return made[gridsize]

    return bundle


@pytest.fixture(scope="session")
def truth() -> NDArray[np.complex64]:
    """(150, 170) complex64: smooth on the scale of a pixel, nothing alike anywhere."""
    generator = np.random.default_rng(7)
    rough = generator.standard_normal((2, 150, 170))
    amplitude, phase = (scipy.ndimage.gaussian_filter(part, 3) for part in rough)
    return np.asarray((1 + 0.5 * amplitude) * np.exp(5j * phase), np.complex64)


@pytest.fixture(scope="session")
def positions_px() -> NDArray[np.float64]:
    """(300, 2) float64: all patches lie on the object of `truth`."""
    return np.random.default_rng(3).uniform((32, 32), (150 - 33, 170 - 33), (300, 2))


@pytest.fixture(scope="session")
def true_patches(truth: NDArray[np.complex64], positions_px: NDArray[np.float64]) -> NDArray[np.complex64]:
    """(300, N, N) complex64: cubic splines know nothing of the runtime's interpolation."""
    index = np.arange(N) - N // 2
    patches = []
    for y, x in positions_px:
        where = np.meshgrid(y + index, x + index, indexing="ij")
        real, imag = (scipy.ndimage.map_coordinates(part, where, order=3) for part in (truth.real, truth.imag))
        patches.append(real + 1j * imag)
    return np.asarray(patches, np.complex64)


@pytest.fixture(scope="session")
def scan(true_patches: NDArray[np.complex64], positions_px: NDArray[np.float64]) -> Scan:
    """Noise-free amplitudes, computed with numpy.fft."""
    probe = example_probe(N)
    shifted = np.fft.ifftshift(true_patches * probe[0], axes=(-2, -1))
    far = np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=(-2, -1))
    diffraction = np.abs(far).astype(np.float32)
    return Scan(diffraction, positions_px, probe, name="made by numpy.fft")
