"""The forward model of ptychography, written once with Python operators.

Every function takes arrays that support ``@ + - * /`` and indexing, so that NumPy, PyTorch and TensorFlow arrays share
one code: in simulation, in training with both frameworks, and in the residual. Complex dtypes and FFTs differ between
frameworks and are not used. A complex array is a :class:`Pair` of real arrays, and the centred Fourier transform is two
matrix products.

    psi_m = P_m o(r)                 exit wave of probe mode m
    Psi_m = F psi_m F                F: centred unitary DFT matrix (symmetric)
    I     = sum_m |Psi_m|^2          expected photons per pixel

Only functions that compute constants use NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Pair",
    "dft_matrix",
    "hat",
    "intensity",
    "overlap_average",
    "pair_from_complex",
    "place",
    "propagate",
    "shift_matrices",
    "sum_patterns",
    "swap_last",
    "take",
]

WEIGHT_FLOOR = 1e-3  # of the largest probe intensity: so that patches agree where the probe is dark, too


class Pair(NamedTuple):
    """A complex array as two real arrays of one shape."""

    real: Any
    imag: Any


def pair_from_complex(array: NDArray[np.complexfloating[Any, Any]], dtype: Any = np.float32) -> Pair:
    """Split a NumPy complex array into a :class:`Pair` of real NumPy arrays."""
    return Pair(np.ascontiguousarray(array.real, dtype), np.ascontiguousarray(array.imag, dtype))


def dft_matrix(N: int, dtype: Any = np.float32) -> Pair:
    """Centred, unitary discrete Fourier transform of length N as a matrix.

    ``F[k, j] = exp(-2 pi i (k - N/2) (j - N/2) / N) / sqrt(N)``, zero frequency at N//2.

    Parameters
    ----------
    N : int
        Even number of pixels.
    dtype : dtype
        Of the real and imaginary part.

    Returns
    -------
    Pair of (N, N) ndarray
        F is symmetric, so ``F @ x @ F`` transforms both axes of x.
    """
    index = np.arange(N) - N // 2
    turns = (np.outer(index, index) % N) / N  # modulo with exact integers: no phase error at large N
    return pair_from_complex(np.exp(-2j * np.pi * turns) / np.sqrt(N), dtype)


def propagate(wave: Pair, dft: Pair) -> Pair:
    """Far field of a wave: the centred unitary 2-D Fourier transform.

    Parameters
    ----------
    wave : Pair of (..., N, N)
    dft : Pair of (N, N)
        From :func:`dft_matrix`.

    Returns
    -------
    Pair of (..., N, N)
    """
    rows = Pair(dft.real @ wave.real - dft.imag @ wave.imag, dft.real @ wave.imag + dft.imag @ wave.real)
    return Pair(rows.real @ dft.real - rows.imag @ dft.imag, rows.real @ dft.imag + rows.imag @ dft.real)


def intensity(patch: Pair, probe: Pair, dft: Any, transform: Callable[[Pair, Any], Pair] = propagate) -> Any:
    """Expected photons per detector pixel, summed over incoherent probe modes.

    Parameters
    ----------
    patch : Pair of (..., N, N)
        Transmission of the object at each position.
    probe : Pair of (mode, N, N)
        sqrt(photons).
    dft : Pair of (N, N)
        Or other constants that `transform` takes.
    transform : callable
        Computes the far field of a wave. An FFT is faster, but cannot be differentiated in every framework or exported.

    Returns
    -------
    (..., N, N) real
        Photons. ``sum(I) = sum(|P o|^2)`` (Parseval).
    """
    total: Any = 0
    for mode in range(probe.real.shape[0]):
        real, imag = probe.real[mode], probe.imag[mode]
        exit_wave = Pair(patch.real * real - patch.imag * imag, patch.real * imag + patch.imag * real)
        field = transform(exit_wave, dft)
        total = total + (field.real * field.real + field.imag * field.imag)
    return total


def hat(distance: Any) -> Any:
    """Linear interpolation kernel ``max(0, 1 - |distance|)``, computed with operators only."""
    height = 1 - abs(distance)
    return (height + abs(height)) / 2


def shift_matrices(offset_px: NDArray[np.floating[Any]], canvas: int, N: int, dtype: Any = np.float32) -> NDArray[Any]:
    """Matrices that place N pixels on a canvas at sub-pixel offsets, by linear interpolation.

    ``T_d[i, j] = max(0, 1 - |i - j - d|)``: canvas row i, patch row j. Pixels outside of the canvas are lost. The transpose
    extracts a patch and is the exact adjoint.

    Parameters
    ----------
    offset_px : (...) float
        Canvas coordinate of patch pixel 0.
    canvas, N : int
        Pixels of canvas and patch along this axis.

    Returns
    -------
    (..., canvas, N) ndarray
    """
    offset = np.asarray(offset_px, np.float64)[..., np.newaxis, np.newaxis]
    lattice = np.arange(canvas)[:, np.newaxis] - np.arange(N)[np.newaxis, :]
    return np.asarray(hat(lattice - offset), dtype)


def place(patch: Any, rows: Any, columns: Any) -> Any:
    """Place real patches on canvases: ``T_y X T_x'``.

    Parameters
    ----------
    patch : (..., N, N)
    rows : (..., canvas, N)
        ``T_y`` from :func:`shift_matrices`.
    columns : (..., N, canvas)
        ``T_x`` transposed.

    Returns
    -------
    (..., canvas, canvas)
    """
    return rows @ patch @ columns


def take(canvas: Any, rows: Any, columns: Any) -> Any:
    """Extract patches from canvases, the adjoint of :func:`place`: ``T_y' X T_x``.

    Parameters
    ----------
    canvas : (..., canvas, canvas)
    rows : (..., N, canvas)
        ``T_y`` transposed.
    columns : (..., canvas, N)
        ``T_x``.

    Returns
    -------
    (..., N, N)
    """
    return rows @ canvas @ columns


def sum_patterns(stack: Any) -> Any:
    """Sum over axis 1 with indexing and ``+``, which every array library supports."""
    total = stack[:, 0]
    for index in range(1, stack.shape[1]):
        total = total + stack[:, index]
    return total


def swap_last(stack: Any) -> Any:
    """Exchange the last two axes, for libraries whose arrays have `swapaxes`; TensorFlow's do not."""
    return stack.swapaxes(-1, -2)


def overlap_average(
    patch: Pair,
    weight: Any,
    *,
    rows: Any,
    rows_transposed: Any,
    columns: Any,
    columns_transposed: Any,
    add: Callable[[Any], Any] = sum_patterns,
) -> Pair:
    """Make overlapping patches agree: place them on a canvas, average them by weight, and extract them again.

    Parameters
    ----------
    patch : Pair of (region, pattern, N, N)
    weight : (N, N)
        Positive; see :data:`WEIGHT_FLOOR`.
    rows, columns : (region, pattern, canvas, N)
        Shift matrices along y and x, and their transposes (region, pattern, N, canvas).
    add : callable
        Sums over axis 1. The gradient of a framework's own sum is faster than that of slices.

    Returns
    -------
    Pair of (region, pattern, N, N)
        The averaged object at each position.
    """
    real = add(place(patch.real * weight, rows, columns_transposed))
    imag = add(place(patch.imag * weight, rows, columns_transposed))
    total = add(rows @ weight @ columns_transposed) + WEIGHT_FLOOR * WEIGHT_FLOOR
    return Pair(
        take((real / total)[:, np.newaxis], rows_transposed, columns),
        take((imag / total)[:, np.newaxis], rows_transposed, columns),
    )
