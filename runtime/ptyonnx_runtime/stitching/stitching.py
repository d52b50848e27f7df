"""Stitch overlapping patches on one canvas, at sub-pixel positions.

Every patch is placed by bilinear interpolation and weighted by the probe's intensity. The sum is divided by the summed
weight; pixels with hardly any light are masked, as the division would amplify noise there. The result does not depend on
the order or batching of patches.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import ScanError
from ptyonnx_runtime.scan import Scan

__all__ = ["LEAST_WEIGHT", "Canvas", "Frame", "Tiles", "frame_of", "interpolate", "probe_weight", "split_subpixel"]

# An object pixel is known if all patterns together illuminated it with at least this fraction of the intensity of one probe
# at its brightest pixel. On the shipped scan, any value from 0.01 to 0.3 moves the border of the known area by at most 10
# pixels and the R-factor by 4e-4.
LEAST_WEIGHT = 0.05
LARGEST_CANVAS_PX = 2**28  # 4 GiB of accumulators: positions in another unit than object pixels exceed it


class Frame(NamedTuple):
    """Origin and shape of a canvas: its pixel (i, j) has the object coordinate ``origin_px + (i, j)``."""

    origin_px: tuple[int, int]
    shape: tuple[int, int]


class Tiles(NamedTuple):
    """Weighted patches, shifted onto the canvas's pixel grid.

    Attributes
    ----------
    values : (patch, N+1, 2 (N+1)) float32
        Real and imaginary parts alternate along the last axis.
    corner : (patch, 2) int64
        Canvas index (y, x) of each tile's first pixel.
    fraction : (patch, 2) float64
        Sub-pixel part (y, x) of each position.
    share : (patch,) float64
        Factor that multiplies the weight of each patch.
    """

    values: NDArray[np.float32]
    corner: NDArray[np.int64]
    fraction: NDArray[np.float64]
    share: NDArray[np.float64]

    def rotated(self, factors: NDArray[np.complex64]) -> Tiles:
        """Multiply every patch by its complex factor, (patch,)."""
        values = self.values.view(np.complex64) * factors[:, np.newaxis, np.newaxis]
        return self._replace(values=values.view(np.float32))


def probe_weight(probe: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Weight of each patch pixel: intensity summed over probe modes, 1 at the brightest pixel.

    Parameters
    ----------
    probe : (mode, N, N) complex64

    Returns
    -------
    (N, N) float32
    """
    intensity = np.sum(np.abs(np.asarray(probe, np.complex128)) ** 2, axis=0)
    return np.asarray(intensity / intensity.max(), np.float32)


def frame_of(scan: Scan) -> Frame:
    """Choose the canvas of a scan: that of its reference object if all patches fit into it, otherwise the smallest.

    Patches of dark patterns are left out.

    Parameters
    ----------
    scan : Scan

    Raises
    ------
    ScanError
        The positions span more than :data:`LARGEST_CANVAS_PX` pixels.
    """
    half = scan.N // 2
    positions_px = scan.positions_px[scan.lit]
    low = np.floor(positions_px.min(axis=0)) - half
    high = np.ceil(positions_px.max(axis=0)) + half  # one past the last pixel
    if scan.object is not None and (low >= 0).all() and (high <= scan.object.shape).all():
        return Frame((0, 0), (scan.object.shape[0], scan.object.shape[1]))
    height, width = high - low
    if height * width > LARGEST_CANVAS_PX:
        raise ScanError(
            "the positions span too many pixels", file=scan.name, key="positions", found=f"{height:.0f} x {width:.0f}",
            expected=f"at most {LARGEST_CANVAS_PX:.2g} pixels in all", remedy="positions must be in object pixels",
        )  # fmt: skip
    return Frame((int(low[0]), int(low[1])), (int(height), int(width)))


class Canvas:
    """Sums of weighted patches, in float64.

    :meth:`tiles` may be called from any thread, :meth:`add` from one at a time.

    Parameters
    ----------
    frame : Frame
    weight : (N, N) float32
        From :func:`probe_weight`.
    """

    def __init__(self, frame: Frame, weight: NDArray[np.float32]) -> None:
        self.frame = frame
        self._weight = weight
        self._weight_twice = np.repeat(weight, 2, axis=1)  # for real and imaginary parts
        height, width = frame.shape
        # one pixel more: bilinear placement of N pixels touches N + 1, the last with weight 0
        self._sum = np.zeros((height + 1, 2 * (width + 1)))
        self._impulses = np.zeros((height + 1, width + 1))  # bilinear weights of each position at its four pixels

    def tiles(
        self,
        patches: NDArray[np.complex64],
        positions_px: NDArray[np.float64],
        share: NDArray[np.float64] | None = None,
    ) -> Tiles:
        """Weight patches and shift them to whole pixels.

        Parameters
        ----------
        patches : (patch, N, N) complex64
        positions_px : (patch, 2) float64
            (y, x) in object pixels.
        share : (patch,) float64, optional
            Factor that multiplies the weight of each patch; 1 by default.
        """
        N = patches.shape[-1]
        corner, fraction = split_subpixel(positions_px, self.frame.origin_px, N)
        share = np.ones(len(patches)) if share is None else share
        padded = np.zeros((len(patches), N + 2, 2 * N + 4), np.float32)
        inner = padded[:, 1:-1, 2:-2]
        np.multiply(np.ascontiguousarray(patches).view(np.float32), self._weight_twice, out=inner)
        if (share != 1).any():
            inner *= share.astype(np.float32)[:, np.newaxis, np.newaxis]
        return Tiles(interpolate(padded, 1 - fraction, pixel=2), corner, fraction, share)

    def add(self, tiles: Tiles) -> None:
        """Add tiles to the sums."""
        _, rows, columns = tiles.values.shape
        near = np.stack([1 - tiles.fraction, tiles.fraction], axis=1)  # (patch, 2 pixels, axis)
        bilinear = tiles.share[:, np.newaxis, np.newaxis] * near[:, :, np.newaxis, 0] * near[:, np.newaxis, :, 1]
        for values, footprint, (y, x) in zip(tiles.values, bilinear, tiles.corner.tolist(), strict=True):
            self._sum[y : y + rows, 2 * x : 2 * x + columns] += values
            self._impulses[y : y + 2, x : x + 2] += footprint

    def weights(self) -> NDArray[np.float64]:
        """Summed weight of every canvas pixel.

        All patches carry the same weight, so the sum is one convolution of that weight with the
        bilinear footprints of the positions.

        Returns
        -------
        (y, x) float64
        """
        height, width = self.frame.shape
        N = len(self._weight)
        full = (height + 1 + N, width + 1 + N)
        spectrum = np.fft.rfft2(self._impulses, full)
        spectrum *= np.fft.rfft2(self._weight.astype(np.float64), full)
        return np.asarray(np.fft.irfft2(spectrum, full)[:height, :width])

    def finish(self) -> tuple[NDArray[np.complex64], NDArray[np.bool_]]:
        """Compute the weighted mean of all patches.

        Returns
        -------
        object : (y, x) complex64
            NaN where the mask is True.
        mask : (y, x) bool
            True where the illumination was too weak, as in NumPy's masked arrays.
        """
        weights = self.weights()
        mask = weights < LEAST_WEIGHT
        height, width = self.frame.shape
        sums = self._sum.view(np.complex128)[:height, :width]
        mean = np.full(self.frame.shape, complex(np.nan, np.nan), np.complex64)
        np.divide(sums, weights, out=mean, where=~mask, casting="same_kind")
        return mean, mask


def split_subpixel(
    positions_px: NDArray[np.float64], origin_px: tuple[int, int], N: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Split positions into the canvas index of each patch's first pixel and a sub-pixel remainder.

    Parameters
    ----------
    positions_px : (patch, 2) float64
    origin_px : (int, int)
        Object coordinate of canvas pixel (0, 0).
    N : int
        Patch width; the position lies at patch index N//2.

    Returns
    -------
    corner : (patch, 2) int64
    fraction : (patch, 2) float64
        In [0, 1).
    """
    whole = np.floor(positions_px)
    return whole.astype(np.int64) - N // 2 - np.array(origin_px), positions_px - whole


def interpolate(array: NDArray[np.float32], fraction: NDArray[np.float64], pixel: int = 1) -> NDArray[np.float32]:
    """Interpolate every array linearly at ``index + fraction``, along y and x.

    Exact where the fraction is 0 or 1.

    Parameters
    ----------
    array : (n, rows, columns * pixel) float32
    fraction : (n, 2) float64
        In [0, 1], along y and x.
    pixel : int
        Number of values per pixel along the last axis.

    Returns
    -------
    (n, rows - 1, (columns - 1) * pixel) float32
    """
    part = fraction.astype(np.float32)[:, :, np.newaxis, np.newaxis]
    rows = array[:, 1:] * part[:, 0]
    rows += array[:, :-1] * (1 - part[:, 0])
    columns = rows[:, :, pixel:] * part[:, 1]
    columns += rows[:, :, :-pixel] * (1 - part[:, 1])
    return columns
