"""What the small arrays of a scan must satisfy, under whatever names they came in."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import ScanError
from ptyonnx_bundles.foreign_recipe import LARGEST_FOREIGN_N

__all__ = [
    "FACTS",
    "MOST_MODES",
    "check_pattern_size",
    "checked_fact",
    "checked_object",
    "checked_positions",
    "checked_probe",
    "plain_array",
    "refuse_far_positions",
]

SMALLEST_N = 32
MOST_MODES = 64
FARTHEST_PX = 2.0**40  # beyond, float64 has no room for a thousandth of a pixel

# What a scan may say beside its arrays: the least and the most of which anybody could have measured, and the unit. Products
# with positions and quotients of Planck's constant stay finite and positive.
FACTS = {
    "object_pixel_size_m": (1e-15, 1.0, "m"),
    "photon_energy_eV": (1e-6, 1e12, "eV"),
    "detector_distance_m": (1e-9, 1e9, "m"),
}


def plain_array(given: Any, file: str, key: str) -> NDArray[Any]:
    """An array of whatever was given, of any type; nothing that a mask hides comes to light.

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
            "no array", file=file, key=key, found=type(given).__name__, expected="rows of equal length"
        ) from None


def check_pattern_size(N: int, file: str, key: str = "diffraction") -> None:
    """Refuse patterns that no network takes.

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
        Another shape or kind, NaN or infinity, a scan that stands still, or one that is nowhere near.
    """
    array = plain_array(positions, file, key)
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
            "a position that no instrument reaches", file=file, key=key, found=f"{positions_px[~near][0].tolist()} of "
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


def checked_fact(given: Any, file: str, key: str) -> float:
    """A length or an energy as a float.

    Parameters
    ----------
    given : real
    file : str
        Named in errors.
    key : str
        One of `FACTS`.

    Raises
    ------
    ScanError
        No number, or one that nobody can have measured: zero, negative, NaN, or far off.
    """
    least, most, unit = FACTS[key]
    try:
        value = float(given) if isinstance(given, Real) and not isinstance(given, bool) else math.nan
    except OverflowError:
        value = math.inf
    if not least <= value <= most:
        raise ScanError(
            "no measured value", file=file, key=key, found=repr(given), expected=f"{least:g} to {most:g} {unit}",
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
        Another shape or kind, NaN or infinity, or no light.
    """
    array = plain_array(probe, file, key)
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
        raise ScanError("NaN or infinity", file=file, key=key)
    if not modes.any():
        raise ScanError("the probe is zero everywhere", file=file, key=key)
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
        Another shape or kind, NaN or infinity.
    """
    array = plain_array(obj, file, key)
    if array.dtype.kind != "c" or array.ndim < 2 or array.size != array.shape[-2] * array.shape[-1]:
        raise ScanError(
            "wrong array", file=file, key=key, found=f"{array.dtype} {array.shape}", expected="complex numbers, (y, x)"
        )
    with np.errstate(over="ignore"):  # refused below
        image = array.reshape(array.shape[-2:]).astype(np.complex64, copy=False)
    if not np.isfinite(image).all():
        raise ScanError("NaN or infinity", file=file, key=key)
    return image


def refuse_far_positions(
    positions_px: NDArray[np.float64], shape: tuple[int, ...], N: int, file: str, key: str = "positions"
) -> None:
    """Refuse positions whose patches do not even touch the reference object.

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
