"""Checks of the positions, the probe, the object and the metadata of a scan, for arrays and for readers of files."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import ScanError
from ptyonnx_bundles.foreign_recipe import LARGEST_FOREIGN_N

__all__ = [
    "METADATA_RANGES",
    "MOST_MODES",
    "as_unmasked_array",
    "check_pattern_size",
    "checked_metadata",
    "checked_object",
    "checked_positions",
    "checked_probe",
    "refuse_far_positions",
]

SMALLEST_N = 32
MOST_MODES = 64
FARTHEST_PX = 2.0**40  # beyond, float64 cannot resolve a thousandth of a pixel

# The metadata of a scan: smallest and largest plausible value, and unit. Within these ranges, products with positions and
# quotients of Planck's constant stay finite and positive.
METADATA_RANGES = {
    "object_pixel_size_m": (1e-15, 1.0, "m"),
    "photon_energy_eV": (1e-6, 1e12, "eV"),
    "detector_distance_m": (1e-9, 1e9, "m"),
}


def as_unmasked_array(given: Any, file: str, key: str) -> NDArray[Any]:
    """Convert to an array of any type. A mask that hides numbers is refused, as the conversion would reveal them.

    Parameters
    ----------
    given : array_like
    file, key : str
        Named in errors.

    Raises
    ------
    ScanError
        Rows of different lengths, or a mask that hides something.
    """
    parts = given if isinstance(given, list | tuple) else [given]
    if any(np.ma.is_masked(part) for part in parts):
        raise ScanError(
            "a mask that hides numbers", file=file, key=key, expected="an array without a mask",
            remedy="leave the patterns concerned out, or fill in what is hidden: array.filled(…)",
        )  # fmt: skip
    try:
        return np.asarray(given)
    except (ValueError, TypeError):
        raise ScanError(
            "not an array", file=file, key=key, found=type(given).__name__, expected="rows of equal length"
        ) from None


def check_pattern_size(N: int, file: str, key: str = "diffraction") -> None:
    """Refuse patterns of a size that no network has.

    Raises
    ------
    ScanError
        N is odd, too small or too large.
    """
    if N % 2 or not SMALLEST_N <= N <= LARGEST_FOREIGN_N:
        raise ScanError(
            "unusable pattern size", file=file, key=key, found=f"N = {N}",
            expected=f"an even number of {SMALLEST_N} to {LARGEST_FOREIGN_N} pixels",
            remedy="crop or pad the patterns around the zero frequency",
        )  # fmt: skip


def checked_positions(positions: Any, count: int, file: str, key: str = "positions") -> NDArray[np.float64]:
    """Positions as float64.

    Parameters
    ----------
    positions : (pattern, 2) real
    count : int
        Number of patterns.
    file, key : str
        Named in errors.

    Raises
    ------
    ScanError
        Wrong shape or type, NaN or infinity; all positions within one pixel, or one implausibly far away.
    """
    array = as_unmasked_array(positions, file, key)
    if array.dtype.kind not in "fiu" or array.ndim != 2 or array.shape[1] != 2:
        raise ScanError(
            "wrong array", file=file, key=key, found=f"{array.dtype} {array.shape}",
            expected=f"real numbers, ({count}, 2): y and x of every pattern",
        )  # fmt: skip
    if len(array) != count:
        raise ScanError(
            "positions and patterns differ in number", file=file, key=key,
            found=f"positions {array.shape} for {count} patterns", expected=f"({count}, 2)",
        )  # fmt: skip
    with np.errstate(over="ignore"):  # refused below
        positions_px = array.astype(np.float64, copy=False)
    finite = np.isfinite(positions_px).all(axis=1)
    if not finite.all():
        raise ScanError("NaN or infinity", file=file, key=key, found=f"pattern {int(np.argmin(finite))}")
    near = (np.abs(positions_px) <= FARTHEST_PX).all(axis=1)
    if not near.all():
        raise ScanError(
            "an implausibly distant position", file=file, key=key, found=f"{positions_px[~near][0].tolist()} of "
            f"pattern {int(np.argmin(near))}", expected=f"at most {FARTHEST_PX:.2g}, in object pixels",
            remedy="divide positions by the object pixel size, or leave the pattern out",
        )  # fmt: skip
    extent = float(np.ptp(positions_px, axis=0).max()) if count else 0.0
    if count > 1 and extent < 1:
        raise ScanError(
            "all positions are equal" if extent == 0 else "all positions lie within one pixel",
            file=file, key=key, found=f"extent {extent:.3g}", expected="object pixels",
            remedy="ptychography needs a scan; positions in metres must be divided by the object pixel size",
        )  # fmt: skip
    return positions_px


def checked_metadata(given: Any, file: str, key: str) -> float:
    """Check a length or an energy, and return it as a float.

    Parameters
    ----------
    given : real
    file : str
        Named in errors.
    key : str
        One of `METADATA_RANGES`.

    Raises
    ------
    ScanError
        Not a number, or not a plausible one: zero, negative, NaN or far outside of the range.
    """
    least, most, unit = METADATA_RANGES[key]
    if isinstance(given, np.ndarray) and given.ndim == 0:  # as NumPy reads one number from a file
        given = given.item()
    try:
        value = float(given) if isinstance(given, Real) and not isinstance(given, bool) else math.nan
    except OverflowError:
        value = math.inf
    if not least <= value <= most:
        raise ScanError(
            "not a plausible value", file=file, key=key, found=repr(given), expected=f"{least:g} to {most:g} {unit}",
            remedy=f"give it in {unit}, or leave it out where it is unknown",
        )  # fmt: skip
    return value


def checked_probe(probe: Any, N: int, file: str, key: str = "probe") -> NDArray[np.complex64]:
    """Probe modes as complex64.

    Parameters
    ----------
    probe : (N, N) or (mode, N, N) complex
    N : int
    file, key : str
        Named in errors.

    Raises
    ------
    ScanError
        Wrong shape or type, NaN or infinity, or zero everywhere.
    """
    array = as_unmasked_array(probe, file, key)
    if array.dtype.kind != "c" or array.ndim not in (2, 3) or array.shape[-2:] != (N, N):
        raise ScanError(
            "wrong array", file=file, key=key, found=f"{array.dtype} {array.shape}",
            expected=f"complex numbers, ({N}, {N}) or (mode, {N}, {N})",
        )  # fmt: skip
    with np.errstate(over="ignore"):  # refused below
        modes = array.reshape(-1, N, N).astype(np.complex64, copy=False)
    if not 1 <= len(modes) <= MOST_MODES:
        raise ScanError(
            "unusable number of modes", file=file, key=key, found=array.shape, expected=f"1 to {MOST_MODES}"
        )
    if not np.isfinite(modes).all():
        raise ScanError("NaN or infinity", file=file, key=key, found=_non_finite(modes))
    if not modes.any():
        raise ScanError("the probe is zero everywhere", file=file, key=key, remedy="check which array holds the probe")
    return modes


def checked_object(obj: Any, file: str, key: str = "object") -> NDArray[np.complex64]:
    """A reference object as complex64.

    Parameters
    ----------
    obj : (y, x) complex
        Further axes in front must have length 1.
    file, key : str
        Named in errors.

    Raises
    ------
    ScanError
        Wrong shape or type, NaN or infinity.
    """
    array = as_unmasked_array(obj, file, key)
    if array.dtype.kind != "c" or array.ndim < 2 or array.size != array.shape[-2] * array.shape[-1]:
        raise ScanError(
            "wrong array", file=file, key=key, found=f"{array.dtype} {array.shape}", expected="complex numbers, (y, x)"
        )
    with np.errstate(over="ignore"):  # refused below
        image = array.reshape(array.shape[-2:]).astype(np.complex64, copy=False)
    if not np.isfinite(image).all():
        raise ScanError("NaN or infinity", file=file, key=key, found=_non_finite(image))
    return image


def refuse_far_positions(
    positions_px: NDArray[np.float64], shape: tuple[int, ...], N: int, file: str, key: str = "positions"
) -> None:
    """Refuse positions whose patches do not touch the reference object.

    Parameters
    ----------
    positions_px : (pattern, 2) float64
    shape : (int, int)
        Of the object.
    N : int
    file, key : str
        Named in errors.

    Raises
    ------
    ScanError
    """
    outside = ((positions_px <= -N // 2) | (positions_px >= np.add(shape, N // 2))).any(axis=1)
    if outside.any():
        worst = int(np.argmax(outside))
        raise ScanError(
            f"{int(outside.sum())} positions lie wholly outside of the reference object", file=file, key=key,
            found=f"pattern {worst} at (y, x) = ({positions_px[worst, 0]:.6g}, {positions_px[worst, 1]:.6g})",
            expected=f"patches that touch an object of {shape}",
            remedy="check unit (object pixels), order and sign, or leave the reference object out",
        )  # fmt: skip


def _non_finite(array: NDArray[np.complex64]) -> str:
    return f"{int(np.sum(~np.isfinite(array))):,} non-finite pixels of {array.size:,}"
