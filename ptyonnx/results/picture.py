"""The picture of a reconstruction: amplitude, phase, and how well each pattern is explained.

Drawn with Figure objects, never pyplot: no display is needed, and no global figure is left.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from ptyonnx_bundles import atomic_write, check_writable
from ptyonnx_bundles.errors import OutputError
from ptyonnx_bundles.terminal import escape_unprintable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ptyonnx_runtime.reconstruct import Reconstruction

__all__ = ["check_picture_path", "draw", "limits", "save_figure", "scale_bar", "without_global_phase"]

_PERCENTILES = (1, 99)  # colours are chosen without the worst pixels
_BAR_FRACTION = 0.25  # of the image's width, rounded down to 1, 2 or 5
_DPI = 150
_EMPTY = "0.85"  # light grey shows through where there is no data


def draw(result: Reconstruction) -> Figure:
    """Amplitude, phase and residual side by side.

    Parameters
    ----------
    result : Reconstruction

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(15, 5), dpi=_DPI, layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    obj = without_global_phase(result.object)
    _image(figure, left, np.abs(obj), "gray", "amplitude")
    _image(figure, middle, np.angle(obj), "viridis", "phase (rad)")
    for axes in (left, middle):
        scale_bar(axes, result.object.shape[1], result.object_pixel_size_m)
    _residual(figure, right, result)
    figure.suptitle(
        escape_unprintable(
            f"{result.scan_name}, {result.bundle.name}: R-factor {result.r_factor:.3f} "
            f"(vacuum {result.vacuum_r_factor:.3f})"
        ),
        parse_math=False,  # a dollar in the name of a file is no formula
    )
    return figure


def check_picture_path(path: Path) -> None:
    """Refuse, before anything is computed, a path that :func:`save_figure` would refuse.

    Raises
    ------
    OutputError
        The suffix is unknown to matplotlib, or the file cannot be written.
    """
    kind = _kind(path)
    known = FigureCanvasBase.get_supported_filetypes()
    if kind not in known:
        raise OutputError(
            "unknown picture format",
            file=path,
            found=f"'{path.suffix}'",
            expected=", ".join(f".{name}" for name in known),
        )
    check_writable(path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, atomically; the suffix chooses the format.

    Raises
    ------
    OutputError
        The suffix is unknown to matplotlib, or the file cannot be written.
    """
    check_picture_path(path)

    def write(stream: BinaryIO) -> None:
        figure.savefig(stream, format=_kind(path))

    atomic_write(path, write)


def without_global_phase(obj: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """The object with its mean phase removed: ptychography does not know it, and it would wrap the colours.

    Parameters
    ----------
    obj : (y, x) complex64
        May hold NaN.
    """
    mean = complex(np.nansum(obj))
    return obj * np.complex64(mean.conjugate() / abs(mean)) if mean else obj


def limits(image: NDArray[Any]) -> tuple[float, float]:
    """Smallest and largest value to tell apart by colour: percentiles, without NaN."""
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(finite, _PERCENTILES))
    margin = max(0.02 * (high - low), 1e-6)
    return low - margin, high + margin


def scale_bar(axes: Axes, width_px: int, pixel_size_m: float | None) -> None:
    """Draw a bar of a round length into the lower left corner, in µm or nm, or in pixels if unknown.

    Parameters
    ----------
    axes : Axes
        Showing an image in pixel coordinates.
    width_px : int
        Width of the image.
    pixel_size_m : float or None
    """
    length, unit = _round_down(_BAR_FRACTION * width_px * (pixel_size_m or 1)), "px"
    length_px = length / (pixel_size_m or 1)
    if pixel_size_m:
        length, unit = (length * 1e6, "µm") if length >= 1e-6 else (length * 1e9, "nm")
    height, margin = 0.018, 0.04
    axes.add_patch(
        Rectangle(
            (margin, margin), length_px / width_px, height, transform=axes.transAxes, color="white", ec="black", lw=0.5
        )
    )
    axes.text(
        margin + length_px / width_px / 2, margin + 1.5 * height, f"{length:g} {unit}", transform=axes.transAxes,
        color="white", ha="center", va="bottom", fontsize=10, bbox={"facecolor": "black", "alpha": 0.5, "pad": 1.5, "lw": 0},
    )  # fmt: skip


def _kind(path: Path) -> str:
    return path.suffix.lower().removeprefix(".")


def _image(figure: Figure, axes: Axes, image: NDArray[Any], colours: str, title: str) -> None:
    low, high = limits(image)
    axes.set_facecolor(_EMPTY)
    shown = axes.imshow(np.ma.masked_invalid(image), cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.02, extend="both")


def _residual(figure: Figure, axes: Axes, result: Reconstruction) -> None:
    y, x = (result.positions_px - result.origin_px).T
    low, high = limits(result.residual)
    size = min(60.0, 20_000 / max(1, len(x)))
    shown = axes.scatter(x, y, c=result.residual, cmap="magma", vmin=low, vmax=high, s=size, lw=0)
    height, width = result.object.shape
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="equal", title="R-factor of every pattern")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor(_EMPTY)
    figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.02, extend="both")


def _round_down(length: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not larger."""
    power = 10.0 ** math.floor(math.log10(length))
    return next(factor for factor in (5, 2, 1) if factor * power <= length * (1 + 1e-9)) * power
