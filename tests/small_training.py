"""A training that takes a second: a simulated scan, settings, and an observer that remembers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ptyonnx.training import Unobserved
from ptyonnx_runtime.scan import Scan

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SMALL", "Losses", "simulated_scan"]

SMALL = {
    "filters_scale": 0.125,
    "epochs": 2,
    "region_size": 4,
    "threads": 1,
}  # threads that wait for a busy core are slow


class Losses(Unobserved):
    def __init__(self, stop_after_epochs: int = 10**9) -> None:
        self.losses: list[float] = []
        self.rows: list[dict[str, float]] = []
        self.stop_after_epochs = stop_after_epochs

    def step(self, loss: float, r_factor: float) -> None:
        del r_factor
        self.losses.append(loss)
        if len(self.rows) == self.stop_after_epochs:
            raise KeyboardInterrupt

    def epoch(self, row: dict[str, float]) -> None:  # type: ignore[override]
        self.rows.append(dict(row))


def simulated_scan(N: int = 32, modes: int = 1, photons: float = 1e5, count: int = 48) -> Scan:
    """A smooth random object under a Gaussian probe, noise included; independent of `simulate`."""
    generator = np.random.default_rng(5)
    size = 3 * N
    spectrum = np.fft.fft2(generator.standard_normal((2, size, size)))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    smooth = np.fft.ifft2(spectrum * np.exp(-((frequency * 12) ** 2))).real
    smooth /= smooth.std(axis=(1, 2), keepdims=True)
    obj = (0.9 + 0.05 * smooth[0]) * np.exp(0.4j * smooth[1])
    y, x = np.mgrid[:N, :N] - N // 2
    probe = np.stack([np.exp(-((x - 2 * m) ** 2 + y**2) / (N / 3) ** 2 + 0.3j * m * y) for m in range(modes)])
    probe *= math.sqrt(photons / np.sum(np.abs(probe) ** 2))
    corners = generator.integers(0, size - N, (count, 2))
    patches = np.stack([obj[r : r + N, c : c + N] for r, c in corners])
    fields = np.fft.fft2(np.fft.ifftshift(patches[:, np.newaxis] * probe, axes=(-2, -1)), norm="ortho")
    counts = generator.poisson(np.sum(np.abs(np.fft.fftshift(fields, axes=(-2, -1))) ** 2, axis=1))
    amplitude: NDArray[np.float32] = np.sqrt(counts).astype(np.float32)
    return Scan(amplitude, corners + N / 2, probe.astype(np.complex64), obj.astype(np.complex64), name="made.npz")
