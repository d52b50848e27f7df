"""Small pictures of both objects, which need no script: the page shows them until its script has drawn the images.

A mail program, a telephone's preview of an attachment and a screenshot of the page being loaded show these.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from ptyonnx.report.content import Picture
from ptyonnx.report.pixels import Quantity, binned, quantities

__all__ = ["LARGEST_SIDE_PX", "Preview", "make_previews"]

LARGEST_SIDE_PX = 400
_COLOURS = 255  # of a palette of 256: the last entry is transparent, for unknown pixels
_UNKNOWN = 255


@dataclass(frozen=True)
class Preview:
    """Amplitude or phase of both objects in the same colours.

    Attributes
    ----------
    a, b, colour_bar : str
        PNG files in base64. The colour bar is one pixel wide, its highest value on top.
    width, height : int
        Of `a` and `b`, in pixels.
    ticks : tuple of float
        Highest, middle and lowest value of the colours.
    """

    a: str
    b: str
    colour_bar: str
    width: int
    height: int
    ticks: tuple[float, float, float]

    @property
    def bytes(self) -> int:
        """Size of all pictures in base64."""
        return len(self.a) + len(self.b) + len(self.colour_bar)


def make_previews(a: Picture, b: Picture) -> dict[str, Preview]:
    """Draw amplitude and phase of two objects.

    Parameters
    ----------
    a, b : Picture
        Same shape.

    Returns
    -------
    dict of str to Preview
        "amplitude" and "phase".
    """
    binning = math.ceil(max(a.object.shape) / LARGEST_SIDE_PX)
    first, second = (binned(picture.object, binning) for picture in (a, b))
    amplitude, phase = quantities(first, second)
    known = np.isfinite(first), np.isfinite(second)
    return {
        "amplitude": _preview(amplitude, "gray", amplitude.range, known),
        "phase": _preview(phase, "twilight", (-math.pi, math.pi), known)
        if phase.cyclic
        else _preview(phase, "viridis", phase.range, known),
    }


def _preview(
    quantity: Quantity, colours: str, ends: tuple[float, float], known: tuple[NDArray[np.bool_], NDArray[np.bool_]]
) -> Preview:
    low, high = ends
    palette = (colormaps[colours](np.linspace(0, 1, _COLOURS))[:, :3] * 255).round().astype(np.uint8)
    second = quantity.base + quantity.difference
    if colours != "gray":
        second = np.angle(np.exp(1j * second))
    a, b = (
        _png(np.where(mask, _indices(values, low, high), _UNKNOWN).astype(np.uint8), palette)
        for values, mask in zip((quantity.base, second), known, strict=True)
    )
    bar = _png(np.arange(_COLOURS - 1, -1, -1, dtype=np.uint8)[:, np.newaxis], palette)
    height, width = quantity.base.shape
    return Preview(a, b, bar, width, height, (high, (low + high) / 2, low))


def _indices(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    if not high > low:
        return np.full(values.shape, float(_COLOURS // 2))
    return np.rint((np.clip(values, low, high) - low) / (high - low) * (_COLOURS - 1))


def _png(indices: NDArray[np.uint8], palette: NDArray[np.uint8]) -> str:
    picture = Image.fromarray(indices, mode="P")
    picture.putpalette([*palette.ravel().tolist(), 0, 0, 0])
    stream = io.BytesIO()
    picture.save(stream, "PNG", transparency=_UNKNOWN, optimize=True)
    return base64.b64encode(stream.getvalue()).decode("ascii")
