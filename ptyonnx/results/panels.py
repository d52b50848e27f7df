"""What the panels of a picture show: images with a scale bar, points, the modes of a probe."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from numpy.typing import NDArray

from ptyonnx.results.picture_options import PictureOptions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ptyonnx_runtime.reconstruct import Reconstruction

__all__ = [
    "draw_image", "draw_probe", "draw_residual", "extend_of", "known_window", "limits", "mode_grid", "scale_bar",
]  # fmt: skip

_PERCENTILES = (1, 99)  # of the values, between which colours vary
_FONT_PT = 9
_SCALE_BAR_FRACTION = 0.25  # of the side of a square of the same area, rounded down to 1, 2 or 5
_EMPTY = "0.85"  # light grey, where there is no data
_BEHIND_POINTS = "0.72"  # grey that differs from both ends of the colour map


def known_window(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The smallest window that contains all pixels that are not masked; everything if there are none.

    Parameters
    ----------
    mask : (y, x) bool
        True where there is no data.
    """
    if mask.all():
        return slice(0, mask.shape[0]), slice(0, mask.shape[1])
    rows, columns = (np.flatnonzero(~mask.all(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def limits(image: NDArray[Any]) -> tuple[float, float]:
    """The values at the ends of a colour map: percentiles of the finite pixels, with a small margin."""
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(finite, _PERCENTILES))
    margin = max(0.02 * (high - low), 1e-6)
    return low - margin, high + margin


def scale_bar(axes: Axes, shape: tuple[int, ...], pixel_size_m: float | None) -> None:
    """Draw a bar of a round length into the lower left corner, white on a dark translucent box.

    Parameters
    ----------
    axes : Axes
        Shows an image in pixel coordinates.
    shape : (int, int)
        (y, x) of the image.
    pixel_size_m : float or None
        The length is in µm or nm; in pixels if this is unknown.
    """
    side = math.sqrt(shape[0] * shape[1])
    length_px = min(_SCALE_BAR_FRACTION * side, 0.6 * shape[1])
    length, unit = _round_down(length_px * (pixel_size_m or 1)), "px"
    length_px = length / (pixel_size_m or 1)
    if pixel_size_m:
        length, unit = (length * 1e6, "µm") if length >= 1e-6 else (length * 1e9, "nm")
    bar = AnchoredSizeBar(
        axes.transData, length_px, f"{length:g} {unit}", loc="lower left", color="white", label_top=True, sep=3,
        pad=0.35, borderpad=0.6, size_vertical=0.01 * side, fontproperties={"size": _FONT_PT},
    )  # fmt: skip
    bar.patch.set(facecolor="black", edgecolor="none", alpha=0.7)
    axes.add_artist(bar)


def draw_image(axes: Axes, image: NDArray[Any], name: str, options: PictureOptions) -> Any:
    """Draw an image that fills its axes, grey where it is NaN."""
    low, high = options.ranges.get(name) or limits(image)
    axes.set_facecolor(_EMPTY)
    return axes.imshow(
        np.ma.masked_invalid(image), cmap=options.cmaps[name], vmin=low, vmax=high, interpolation="antialiased",
        aspect="auto",
    )  # fmt: skip


def draw_residual(
    axes: Axes,
    result: Reconstruction,
    window: tuple[slice, slice],
    options: PictureOptions,
    size_in: tuple[float, float],
) -> Any:
    """A point for each pattern, as large as their distance allows; dark patterns are crosses."""
    y, x = (result.positions_px - result.origin_px - [part.start for part in window]).T
    height, width = (part.stop - part.start for part in window)
    low, high = options.ranges.get("residual") or limits(result.residual)
    spacing_pt = 72 * math.sqrt(size_in[0] * size_in[1] / max(1, len(x)))
    dark = np.isnan(result.residual)
    axes.scatter(x[dark], y[dark], marker="x", s=25, lw=1.2, color="0.25", rasterized=True)
    shown = axes.scatter(
        x, y, c=result.residual, cmap=options.cmaps["residual"], vmin=low, vmax=high, lw=0, rasterized=True,
        s=min(max(0.8 * spacing_pt, 1.0), 10.0) ** 2,
    )  # fmt: skip
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), facecolor=_BEHIND_POINTS)
    return shown


def draw_probe(axes: Axes, result: Reconstruction, options: PictureOptions, size_in: tuple[float, float]) -> Any:
    """Amplitudes of all modes in one image, and the part of the photons that each has."""
    modes, N = len(result.probe), result.probe.shape[-1]
    rows, columns = mode_grid(modes, size_in[0] / size_in[1])
    amplitude = np.full((rows * N, columns * N), np.nan)
    power = [float(np.sum(np.abs(mode) ** 2, dtype=np.float64)) for mode in result.probe]
    for mode in range(modes):
        y, x = divmod(mode, columns)
        amplitude[y * N : (y + 1) * N, x * N : (x + 1) * N] = np.abs(result.probe[mode])
        if modes > 1:
            axes.text(
                (x + 0.03) * N, (y + 0.03) * N, f"{power[mode] / sum(power):.1%}", color="white", va="top",
                fontsize=_FONT_PT, bbox={"facecolor": "black", "alpha": 0.6, "lw": 0, "pad": 2},
            )  # fmt: skip
    shown = draw_image(axes, amplitude, "probe", options)
    if "probe" not in options.ranges:
        shown.set_clim(0, max(float(np.nanmax(amplitude)), 1e-6))
    for x in range(1, columns):
        axes.axvline(x * N - 0.5, color="white", lw=0.8)
    for y in range(1, rows):
        axes.axhline(y * N - 0.5, color="white", lw=0.8)
    scale_bar(axes, amplitude.shape, result.object_pixel_size_m)
    return shown


def mode_grid(count: int, aspect: float) -> tuple[int, int]:
    """Rows and columns in which square tiles fill a panel best."""
    columns = min(count, max(1, round(math.sqrt(count * aspect))))
    return math.ceil(count / columns), columns


def extend_of(shown: Any) -> str:
    """Whether the colour bar has arrows: where values lie beyond its ends."""
    values = np.ma.masked_invalid(shown.get_array()).compressed()
    low, high = shown.get_clim()
    below, beyond = bool((values < low).any()), bool((values > high).any())
    return "both" if below and beyond else "min" if below else "max" if beyond else "neither"


def _round_down(length: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not larger."""
    power = 10.0 ** math.floor(math.log10(length))
    return next(factor for factor in (5, 2, 1) if factor * power <= length * (1 + 1e-9)) * power
