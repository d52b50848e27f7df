"""Two objects as the numbers that the page's script colours: few bytes, and small differences kept.

The page stores A and the difference B - A, each in 65 535 steps over its own range, rather than A and B:
a difference of 1e-6 would vanish in the steps of B. Where only B knows a pixel, its value is stored in
place of A's. A plane of flags says which of the two knows a pixel.

The numbers are deflated bytes in base64, not PNG: a canvas gives scripts only 8 bits per channel, and
browsers that resist fingerprinting falsify even those.
"""

from __future__ import annotations

import base64
import math
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.report.content import Picture
from ptyonnx.results.panels import limits

__all__ = ["LARGEST_BYTES", "Pixels", "Quantity", "binned", "encode_pixels", "quantities"]

LARGEST_BYTES = 4_300_000  # of base64, previews included: leaves room for the rest of a page of 5 MB
_STEPS = 65_535
_KNOWN_A, _KNOWN_B = 1, 2
_LEVEL = 6  # of deflate; 9 gains 1 % of phase noise and takes four times as long
_GUESSED_RATIO = 0.5  # of deflated to raw bytes, optimistic: the first trial of the binning
_OUTLIERS = 20  # times the spread of all but the outermost thousandth: what lies beyond is clipped, not resolved
_CYCLIC_SPAN_RAD = 0.75 * 2 * math.pi  # phases that fill more of the circle than this get a cyclic colour map


@dataclass(frozen=True)
class Pixels:
    """What the page's script needs to draw both objects.

    Attributes
    ----------
    data : dict
        For JSON: size, planes and first ranges.
    binning : int
        Pixels of the object along each side of one of the page's.
    """

    data: dict[str, Any]
    binning: int


@dataclass(frozen=True, eq=False)
class Quantity:
    """Amplitude or phase of two objects on the same pixels.

    Attributes
    ----------
    base : (y, x) float64
        Values of A; those of B where only B is known, and the mean where neither is.
    difference : (y, x) float64
        B - A; zero where one of the two is unknown. The phase is wrapped.
    range : tuple of float
        Lowest and highest value of the colours at first.
    largest, usual : float
        Of the absolute difference: maximum and 99th percentile.
    cyclic : bool
        The values fill so much of the circle that -pi and pi need the same colour.
    """

    base: NDArray[np.float64]
    difference: NDArray[np.float64]
    range: tuple[float, float]
    largest: float
    usual: float
    cyclic: bool = False


def encode_pixels(
    a: Picture, b: Picture, pixel_size_m: float | None = None, largest_bytes: int = LARGEST_BYTES
) -> Pixels:
    """Encode amplitude, phase and their differences, averaged over blocks of pixels if they would be too large.

    Parameters
    ----------
    a, b : Picture
        Same shape.
    pixel_size_m : float, optional
    largest_bytes : int
        Of all planes, as base64.
    """
    raw = a.object.size * 8 * 4 / 3
    binning = max(1, math.floor(math.sqrt(raw * _GUESSED_RATIO / largest_bytes)))
    while True:
        data = _planes(binned(a.object, binning), binned(b.object, binning))
        if _size(data) <= largest_bytes or max(data["height"], data["width"]) == 1:
            break
        binning += 1
    data["labels"] = {"a": a.label, "b": b.label}
    data["binning"] = binning
    data["pixelSize"] = None if pixel_size_m is None else pixel_size_m * binning
    return Pixels(data, binning)


def quantities(a: NDArray[np.complex64], b: NDArray[np.complex64]) -> tuple[Quantity, Quantity]:
    """Amplitude and phase of two objects, without the mean phase of A.

    Parameters
    ----------
    a, b : (y, x) complex64
        NaN where unknown.
    """
    known_a, known_b = np.isfinite(a), np.isfinite(b)
    known, both = known_a | known_b, known_a & known_b
    base = np.where(known_a, a, np.where(known_b, b, 0)).astype(np.complex128)
    other = np.where(known_b, b, base).astype(np.complex128)
    # The global phase is arbitrary. Without this rotation, phases near pi would wrap.
    mean_phase_rad = np.angle(np.sum(base[known]))
    base, other = (image * np.exp(-1j * mean_phase_rad) for image in (base, other))
    amplitude = _quantity(np.abs(base), np.abs(other) - np.abs(base), known, both)
    phase = _quantity(np.angle(base), np.angle(other * np.conj(base)), known, both)
    return amplitude, replace(phase, cyclic=_fills_the_circle(np.angle(base)[known]))


def binned(image: NDArray[np.complex64], binning: int) -> NDArray[np.complex64]:
    """Mean of the known pixels of each block; NaN where a block has none. Incomplete blocks at the edge are cut.

    Parameters
    ----------
    image : (y, x) complex64
    binning : int
        Pixels along each side of a block.
    """
    if binning == 1:
        return image
    height, width = (max(1, size // binning) for size in image.shape)
    part = image[: height * binning, : width * binning]
    known = np.isfinite(part)
    blocks = (height, part.shape[0] // height, width, part.shape[1] // width)
    total = np.where(known, part, 0).reshape(blocks).sum(axis=(1, 3))
    count = known.reshape(blocks).sum(axis=(1, 3))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan + 1j * np.nan).astype(np.complex64)


def _planes(a: NDArray[np.complex64], b: NDArray[np.complex64]) -> dict[str, Any]:
    amplitude, phase = quantities(a, b)
    return {
        "height": a.shape[0],
        "width": a.shape[1],
        "known": _packed((_KNOWN_A * np.isfinite(a) + _KNOWN_B * np.isfinite(b)).astype(np.uint8)),
        "amplitude": _encoded(amplitude),
        "phase": {**_encoded(phase), "cyclic": phase.cyclic},
    }


def _encoded(quantity: Quantity) -> dict[str, Any]:
    return {
        "base": _plane(quantity.base),
        "difference": _plane(quantity.difference),
        "range": quantity.range,
        "largest": quantity.largest,
        "usual": quantity.usual,
    }


def _quantity(
    base: NDArray[np.float64], difference: NDArray[np.float64], known: NDArray[np.bool_], both: NDArray[np.bool_]
) -> Quantity:
    differences = np.abs(difference[both])
    return Quantity(
        np.where(known, base, base[known].mean() if known.any() else 0),
        np.where(both, difference, 0),
        limits(np.concatenate([base[known], (base + difference)[both]])),
        float(differences.max(initial=0)),
        float(np.percentile(differences, 99)) if differences.size else 0.0,
    )


def _plane(values: NDArray[np.float64]) -> dict[str, Any]:
    low, high = _ends(values)
    fractions = (np.clip(values, low, high) - low) / (high - low) if high > low else np.zeros(values.shape)
    steps = np.rint(fractions * _STEPS).astype(np.uint16)
    # High bytes first, then low ones: deflate finds more in the former.
    return {"low": low, "high": high, "bytes": _packed((steps >> 8).astype(np.uint8), (steps & 255).astype(np.uint8))}


def _ends(values: NDArray[np.float64]) -> tuple[float, float]:
    """Smallest and largest value; less, where a few wild pixels would cost all others their resolution."""
    inner_low, inner_high = (float(value) for value in np.percentile(values, (0.1, 99.9)))
    margin = _OUTLIERS * (inner_high - inner_low) or math.inf
    return max(float(values.min()), inner_low - margin), min(float(values.max()), inner_high + margin)


def _packed(*planes: NDArray[np.uint8]) -> str:
    content = b"".join(np.ascontiguousarray(plane, np.uint8).tobytes() for plane in planes)
    return base64.b64encode(zlib.compress(content, _LEVEL)).decode("ascii")


def _size(data: dict[str, Any]) -> int:
    planes = (data[quantity][part]["bytes"] for quantity in ("amplitude", "phase") for part in ("base", "difference"))
    return len(data["known"]) + sum(map(len, planes))


def _fills_the_circle(phase_rad: NDArray[np.float64]) -> bool:
    """Whether phases wrap, so that -pi and pi must have one colour."""
    low, high = limits(phase_rad)
    return high - low > _CYCLIC_SPAN_RAD
