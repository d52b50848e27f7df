"""Pictures of a reconstruction: amplitude, phase, the misfit of each pattern, the modes of the probe.

Figures are made without pyplot: they need no display, and no figure stays in pyplot's list. Every panel has the size
that its image needs, in inches, so that images keep their aspect and their colour bars have their height.
"""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

from ptyonnx.results.panels import (
    draw_image,
    draw_probe,
    draw_residual,
    extend_of,
    known_window,
    mode_grid,
    scale_bar,
)
from ptyonnx.results.phase import phase_ramp, without_global_phase, without_ramp
from ptyonnx.results.picture_options import PictureOptions
from ptyonnx_bundles import atomic_write, check_writable
from ptyonnx_bundles.errors import OutputError
from ptyonnx_bundles.terminal import escape_unprintable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.text import Text

    from ptyonnx_runtime.reconstruct import Reconstruction

__all__ = ["check_picture_path", "draw", "save_figure"]

_DPI = 150
_PANEL_IN = 3.9  # side of a square panel; others have its area
_LONGEST_IN = 10.0  # side of a panel
_STACKED_ASPECT = 1.8  # panels that are this much wider than high lie one below the other,
_STACKED_SCALE = 1.3  # and are larger
_BAR_IN = (0.08, 0.13, 0.75)  # of a colour bar: gap to its panel, width, and room for its numbers and its label
_GAP_IN = 0.25  # between panels, and at the edge of the figure
_NARROWEST_IN = 2.2  # panel with colour bar: room for its title
_LINE_IN = 0.19  # of text
_LETTERS_PER_IN = 11.0  # of a title
_LONGEST_TITLE = 4  # lines of names
_FONT_PT = 10
_LABELLED_IN = 1.7  # height of a colour bar beside which its label fits; otherwise the title states the unit
_LABELS = {
    "amplitude": "amplitude (vacuum = 1)", "phase": "phase (rad)", "residual": "R-factor",
    "probe": "amplitude (√photons)",
}  # fmt: skip


@dataclass(frozen=True)
class _Panel:
    """A panel and its size in inches; `lines` is its title."""

    name: str
    width: float
    height: float
    lines: Sequence[str]

    @property
    def outer_width(self) -> float:
        """Width with the colour bar."""
        return max(self.width + sum(_BAR_IN), _NARROWEST_IN)


def draw(
    result: Reconstruction,
    options: PictureOptions | None = None,
    *,
    ink: str | None = None,
    title: bool = True,
    panel_in: float = _PANEL_IN,
) -> Figure:
    """Draw the panels of a reconstruction, cropped to where the object is known.

    Parameters
    ----------
    result : Reconstruction
    options : PictureOptions, optional
    ink : str, optional
        Colour of text and frames; the background is transparent then. By default, both are those of matplotlib's style.
    title : bool
        Write the names of scan and bundle, and the R-factor, above the panels.
    panel_in : float
        Side of a square panel, inches.

    Returns
    -------
    matplotlib.figure.Figure
    """
    options = options or PictureOptions()
    window = known_window(result.mask)
    obj = result.object[window]
    ramp = None if options.ramp else phase_ramp(obj)
    obj = without_global_phase(obj if ramp is None else without_ramp(obj, ramp))
    stacked = obj.shape[1] >= _STACKED_ASPECT * obj.shape[0]
    side = panel_in * (_STACKED_SCALE if stacked else 1)
    panels = [_panel(name, obj.shape, result, ramp, side) for name in options.panels]
    figure, places = _figure(panels, stacked=stacked, title=_title(result) if title else "", ink=ink)
    for panel, (axes, bar_axes) in zip(panels, places, strict=True):
        if panel.name == "residual":
            shown = draw_residual(axes, result, window, options, (panel.width, panel.height))
        elif panel.name == "probe":
            shown = draw_probe(axes, result, options, (panel.width, panel.height))
        else:
            shown = draw_image(axes, np.angle(obj) if panel.name == "phase" else np.abs(obj), panel.name, options)
            scale_bar(axes, obj.shape, result.object_pixel_size_m)
        heading = axes.set_title("\n".join(panel.lines), loc="left", fontsize=_FONT_PT)
        bar = figure.colorbar(shown, cax=bar_axes, extend=extend_of(shown))
        if panel.height >= _LABELLED_IN:
            bar.set_label(_LABELS[panel.name], fontsize=_FONT_PT)
        _finish(axes, heading, bar, ink)
    return figure


def check_picture_path(path: Path) -> None:
    """Refuse, before anything is computed, a path that :func:`save_figure` would refuse.

    Raises
    ------
    OutputError
        matplotlib does not know the suffix, or the file cannot be written.
    """
    if os.path.isdir(path):  # noqa: PTH112 - pathlib raises for a name that is too long
        raise OutputError("a folder", file=path, expected="a file", remedy=f"name a file in it: {path / 'name.png'}")
    suffix = _suffix(path)
    known = FigureCanvasBase.get_supported_filetypes()
    if suffix not in known:
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
        matplotlib does not know the suffix, or the file cannot be written.
    """
    check_picture_path(path)

    def write(stream: BinaryIO) -> None:
        figure.savefig(stream, format=_suffix(path))

    atomic_write(path, write)


def _suffix(path: Path) -> str:
    return path.suffix.lower().removeprefix(".")


def _title(result: Reconstruction) -> str:
    names = escape_unprintable(f"{result.scan_name}, {result.bundle.name}")
    return f"{names}\nR-factor {result.r_factor:.3f} (vacuum {result.vacuum_r_factor:.3f})"


def _panel(
    name: str, shape: tuple[int, ...], result: Reconstruction, ramp: tuple[float, float] | None, side: float
) -> _Panel:
    """Size and title of a panel."""
    aspect = shape[1] / shape[0]
    width, height = side * math.sqrt(aspect), side / math.sqrt(aspect)
    shrink = min(1.0, _LONGEST_IN / max(width, height))
    width, height = width * shrink, height * shrink
    if name == "probe":
        rows, columns = mode_grid(len(result.probe), aspect)
        tile = min(height / rows, max(width, side) / columns)
        width, height = tile * columns, tile * rows
    letters = int(max(width + sum(_BAR_IN), _NARROWEST_IN) * _LETTERS_PER_IN)
    lines = _panel_title(name, result, ramp)
    if height < _LABELLED_IN and name != "residual":
        lines[0] = lines[0].replace(name, _LABELS[name], 1) if name != "probe" else f"{lines[0]}, {_LABELS[name]}"
    return _Panel(name, width, height, [part for line in lines for part in textwrap.wrap(line, letters)])


def _panel_title(name: str, result: Reconstruction, ramp: tuple[float, float] | None) -> list[str]:
    """Lines above a panel."""
    if name == "residual":
        return [f"R-factor of each pattern{f' ({result.dark} dark: ×)' if result.dark else ''}"]
    if name == "probe":
        modes = len(result.probe)
        return ["probe" if modes == 1 else f"probe, {modes} modes (% of photons)"]
    if name == "phase" and ramp is not None:
        y, x = (f"{step:.2g}".replace("-", "−") for step in ramp)
        return ["phase, linear ramp removed:", f"{y} rad/px along y, {x} rad/px along x"]
    return [name]


def _figure(
    panels: Sequence[_Panel], *, stacked: bool, title: str, ink: str | None
) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """A figure with axes for all panels and their colour bars, from left to right or from top to bottom."""
    above = [_LINE_IN * len(panel.lines) + 0.08 for panel in panels]
    outer = [panel.outer_width for panel in panels]
    gaps = _GAP_IN * (len(panels) + 1)
    width = max(outer) + 2 * _GAP_IN if stacked else sum(outer) + gaps
    lines = _wrapped_title(title, int(0.9 * width * _LETTERS_PER_IN))  # its font is larger
    top = _GAP_IN + _LINE_IN * 1.1 * len(lines) if lines else 0.0
    heights = [panel.height + room for panel, room in zip(panels, above, strict=True)]
    height = top + (sum(heights) + gaps - _GAP_IN if stacked else max(heights) + _GAP_IN)
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="none" if ink else None)
    if lines:
        figure.text(
            0.5, 1 - 0.6 * _GAP_IN / height, "\n".join(lines), ha="center", va="top", fontsize=_FONT_PT + 1, color=ink,
            parse_math=False,
        )  # fmt: skip
    places = []
    x, y = _GAP_IN, top  # from the upper left corner
    common = max(above)
    for panel, room, taken in zip(panels, above, outer, strict=True):
        place = x, y + (room if stacked else common)
        bar = place[0] + panel.width + _BAR_IN[0], place[1]
        places.append(
            (
                _axes(figure, place, (panel.width, panel.height)),
                _axes(figure, bar, (_BAR_IN[1], panel.height)),
            )
        )
        x, y = (x, y + room + panel.height + _GAP_IN) if stacked else (x + taken + _GAP_IN, y)
    return figure, places


def _wrapped_title(title: str, letters: int) -> list[str]:
    """Lines of a title; names that are too long lose their middle."""
    lines = []
    for line in title.splitlines():
        half = letters * _LONGEST_TITLE // 2 - 2
        short = line if len(line) <= 2 * half else f"{line[:half]} … {line[-half:]}"
        lines += textwrap.wrap(short, letters)
    return lines


def _axes(figure: Figure, corner: tuple[float, float], size: tuple[float, float]) -> Axes:
    """Axes at a distance from the upper left corner of the figure, inches."""
    width, height = figure.get_size_inches()
    return figure.add_axes((corner[0] / width, 1 - (corner[1] + size[1]) / height, size[0] / width, size[1] / height))


def _finish(axes: Axes, heading: Text, bar: Colorbar, ink: str | None) -> None:
    """Remove the ticks of the image, and set the colour of all lines and texts."""
    axes.set_xticks([])
    axes.set_yticks([])
    bar.ax.tick_params(labelsize=_FONT_PT - 1)
    if ink is not None:
        heading.set_color(ink)
        axes.spines[:].set_color(ink)
        bar.outline.set_edgecolor(ink)
        bar.ax.tick_params(color=ink, labelcolor=ink)
        bar.ax.yaxis.label.set_color(ink)
        bar.ax.yaxis.get_offset_text().set_color(ink)
