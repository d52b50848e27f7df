"""The demo's two pictures: three objects side by side, and the histories of two trainings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ptyonnx.comparison import global_factor
from ptyonnx.results.panels import known_window, limits, scale_bar
from ptyonnx.results.phase import without_global_phase

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ptyonnx import Scan

__all__ = ["draw_comparison", "draw_history"]

Image = NDArray[np.complex64]
DPI = 110  # the comparison is then as wide as a page of documentation: 1430 pixels
LEVELS = 64  # of every colour map: enough for the eye, and few enough for a picture with a palette
EMPTY = "0.88"  # light grey shows through where there is no data
COLOURS = ("#d55e00", "#0072b2")  # vermilion and blue: distinguishable with colour-vision deficiency [Okabe & Ito]


class Quantity(NamedTuple):
    """One row of the comparison."""

    name: str
    unit: str
    of: Callable[[Image], Any]
    apart: Callable[[Image, Image], Any]  # the second minus the first
    colours: str


QUANTITIES = (
    Quantity("amplitude", "", np.abs, lambda a, b: np.abs(b) - np.abs(a), "gray"),
    Quantity("phase", "rad", np.angle, lambda a, b: np.angle(b * np.conj(a)), "viridis"),
)


def draw_comparison(scan: Scan, objects: Mapping[str, Image], captions: Mapping[str, str]) -> Figure:
    """Amplitude and phase of the reference and of two networks, and the difference of the two.

    All images of a row share their colour limits, and the difference spans as much as they do.
    Only pixels that both networks determine are shown; each object has the global phase of the reference.

    Parameters
    ----------
    scan : Scan
        With a reference object, on whose canvas the objects lie.
    objects : mapping of str to (y, x) complex64
        Two of them, by title; NaN where there is no data.
    captions : mapping of str to str
        A second line for the titles.
    """
    assert scan.object is not None
    known = np.all([np.isfinite(image) for image in objects.values()], axis=0)
    window = known_window(~known)
    reference = without_global_phase(np.where(known, scan.object, np.nan)[window].astype(np.complex64))
    images = {"iterative reference": reference}
    for title, image in objects.items():
        cut = np.where(known, image, np.nan)[window].astype(np.complex64)
        images[title] = same_phase(cut, reference)
    figure = Figure(figsize=(13, 6.6), dpi=DPI, layout="constrained")
    panels = figure.subplots(2, 4)
    apart = [draw_row(figure, axes, quantity, images) for quantity, axes in zip(QUANTITIES, panels, strict=True)]
    for axes, title in zip(panels[0], images, strict=False):
        axes.set_title(f"{title}\n{captions[title]}", fontsize=10)
    *_, first, second = images
    panels[0, -1].set_title(f"{second} − {first}\nrms {', '.join(apart)}", fontsize=10)
    figure.suptitle(f"{scan.name}: {len(scan)} diffraction patterns, two networks, one runtime", fontsize=12)
    return figure


def draw_row(figure: Figure, axes: Sequence[Axes], quantity: Quantity, images: Mapping[str, Image]) -> str:
    """One quantity of all images, then the difference of the last two; returns how large that is."""
    values = [quantity.of(image) for image in images.values()]
    low, high = limits(np.stack(values))
    for place, value in zip(axes, values, strict=False):
        shown = show(place, value, quantity.colours, low, high)
    figure.colorbar(shown, ax=axes[:-1], pad=0.01, fraction=0.05, aspect=28, extend="both")
    axes[0].set_ylabel(f"{quantity.name} ({quantity.unit})" if quantity.unit else quantity.name, fontsize=10)
    apart = quantity.apart(*list(images.values())[-2:])
    half = (high - low) / 2
    shown = show(axes[-1], apart, "RdBu_r", -half, half)
    figure.colorbar(shown, ax=axes[-1], pad=0.02, fraction=0.05, aspect=28, extend="both")
    return f"{quantity.name} {np.sqrt(np.nanmean(apart**2)):.3f} {quantity.unit}".strip()


def show(axes: Axes, values: NDArray[Any], colours: str, low: float, high: float) -> Any:
    """One image with a scale bar; the pixel size of the sample is not known, so lengths are in pixels."""
    axes.set_facecolor(EMPTY)
    axes.set_xticks([])
    axes.set_yticks([])
    scale_bar(axes, values.shape, None)
    return axes.imshow(
        np.ma.masked_invalid(values), cmap=colormaps[colours].resampled(LEVELS), vmin=low, vmax=high,
        interpolation="nearest",
    )  # fmt: skip


def same_phase(image: Image, reference: Image) -> Image:
    """The image with the global phase of the reference; its amplitude stays as it is."""
    factor = global_factor(image, reference)
    return image * np.complex64(factor / abs(factor))


def draw_history(histories: Mapping[str, Sequence[Mapping[str, float]]], vacuum_r_factor: float | None) -> Figure:
    """Loss and R-factor of every epoch, for both trainings.

    Parameters
    ----------
    histories : mapping of str to sequence of rows
        Of a run, by title.
    vacuum_r_factor : float or None
        Drawn as a line: a network that stays there has not learnt anything.
    """
    figure = Figure(figsize=(11, 4.2), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, key, name in zip(panels, ("loss", "r_factor"), ("Poisson loss", "R-factor"), strict=True):
        for (title, rows), colour, width in zip(histories.items(), COLOURS, (3.5, 1.5), strict=True):
            epochs = [row["epoch"] for row in rows]
            axes.plot(epochs, [row[key] for row in rows], color=colour, lw=width, label=f"{title}, training")
            axes.plot(
                epochs, [row[f"val_{key}"] for row in rows], color=colour, lw=width, ls=":", label=f"{title}, held out"
            )
        axes.set(xlabel="epoch", title=name)
        axes.grid(color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False)
    if vacuum_r_factor is not None:
        panels[1].axhline(vacuum_r_factor, color="0.4", lw=1, ls="--")
        panels[1].annotate("vacuum", (1, vacuum_r_factor), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    return figure
