"""Plots as plain shapes in a fixed frame. The template turns them into SVG, the style sheet adds the colours.

Three plots: difference by layer, loss by epoch, correlation by spatial frequency. Coordinates are computed here, so
that the plots need no script. Each plot is drawn twice: in a wide frame, and in a narrow one for telephones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator

from ptyonnx.report.content import Curve, LayerError, RingCorrelation

__all__ = ["NARROW", "WIDE", "Frame", "Label", "Line", "Marker", "Plot", "draw_curves", "draw_layers", "draw_ring"]

_Ticks: TypeAlias = "tuple[list[Line], list[Label]]"

_DECADES = 0.5  # margin above and below the values on a logarithmic axis
_LINE_HEIGHT = 12.0  # of tick labels, in units of the frame
_LETTER_WIDTH = 6.4  # of tick labels, approximate, in units of the frame
_TICK_SPACING = 110.0  # between labelled ticks of the horizontal axis, at least, in units of the frame
_LAYER_KEY = (
    ("dot", "largest"),
    ("cross", "largest, beyond the tolerance"),
    ("ring", "rms"),
    ("tolerance", "tolerance"),
)
_FLOOR = 1e-12  # relative to the largest value: smaller values, and zero, are drawn on the lower edge


@dataclass(frozen=True)
class Frame:
    """Size of a plot and edges of its axes, in CSS pixels where the plot is shown unscaled.

    Attributes
    ----------
    name : str
        A class of the style sheet, which decides on which screens the plot is shown.
    width, height : float
    left, right, top, bottom : float
        Edges of the axes.
    """

    name: str
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float


WIDE = Frame("wide", width=960.0, height=340.0, left=74.0, right=942.0, top=26.0, bottom=288.0)
NARROW = Frame("narrow", width=358.0, height=286.0, left=48.0, right=348.0, top=26.0, bottom=230.0)


@dataclass(frozen=True)
class Label:
    """Text at a position; `anchor` is SVG's text-anchor: start, middle or end."""

    x: float
    y: float
    text: str
    anchor: str = "middle"
    style: str = "tick"


@dataclass(frozen=True)
class Line:
    """A polyline; `style` is a class of the style sheet."""

    points: str
    style: str


@dataclass(frozen=True)
class Marker:
    """A symbol (dot, ring or cross) with the text of its tooltip."""

    x: float
    y: float
    shape: str
    text: str


@dataclass(frozen=True)
class Plot:
    """Shapes in a frame.

    Attributes
    ----------
    name : str
        Unique on the page, apart from the frame.
    description : str
        Text for screen readers.
    frame : Frame
    bands : tuple of (x, width)
        Shaded columns.
    key : tuple of (style, text)
        The legend.
    """

    name: str
    description: str
    frame: Frame
    lines: tuple[Line, ...] = ()
    markers: tuple[Marker, ...] = ()
    labels: tuple[Label, ...] = ()
    bands: tuple[tuple[float, float], ...] = ()
    key: tuple[tuple[str, str], ...] = ()


def draw_layers(layers: Sequence[LayerError], frame: Frame = WIDE) -> Plot:
    """Largest and rms difference after every layer, in order of computation, with the tolerance."""
    finite = [value for layer in layers for value in (layer.largest, layer.tolerance) if 0 < value < math.inf]
    rms = [layer.rms for layer in layers if 0 < layer.rms < math.inf]
    high = max(finite, default=1.0)
    low = max(min(finite + rms, default=1.0), high * _FLOOR)
    y = _logarithmic(low, high, frame)
    step = (frame.right - frame.left) / len(layers)
    x = [frame.left + (index + 0.5) * step for index in range(len(layers))]
    first = next((index for index, layer in enumerate(layers) if not layer.passed), None)
    bands, labels = _network_parts([layer.name for layer in layers], step, frame)
    markers = []
    for place, layer in zip(x, layers, strict=True):
        tooltip = f"{layer.name}: largest {layer.largest:.3g}, rms {layer.rms:.3g}, tolerance {layer.tolerance:.3g}"
        markers.append(Marker(place, y(layer.rms), "ring", tooltip))
        markers.append(Marker(place, y(layer.largest), "dot" if layer.passed else "cross", tooltip))
    tolerance = [
        (place + side * step / 2, y(layer.tolerance))
        for place, layer in zip(x, layers, strict=True)
        for side in (-1, 1)
    ]
    lines = [Line(_points(tolerance), "tolerance")]
    summary = f"{len(layers)} layers, all within the tolerance"
    if first is not None:
        lines.append(_upright_line(x[first], frame))
        labels.append(_callout(x[first], layers[first].name, frame))
        summary = f"{len(layers)} layers; the first beyond the tolerance is {layers[first].name}"
    grid, ticks = _log_ticks(low, high, y, frame)
    if any(value == 0 for layer in layers for value in (layer.largest, layer.rms)):
        zero = Label(frame.left - 8, y(0) + 4, "0", "end")
        ticks = [zero, *(label for label in ticks if zero.y - label.y > _LINE_HEIGHT)]
    return Plot(
        "layers", f"Difference after every layer on a logarithmic axis: {summary}", frame,
        (*grid, *lines), tuple(markers), (*ticks, *labels, _vertical_title("largest and rms difference", frame)),
        tuple(bands), tuple((style, text) for style, text in _LAYER_KEY if style != "cross" or first is not None),
    )  # fmt: skip


def draw_curves(curves: Sequence[Curve], frame: Frame = WIDE) -> Plot:
    """Losses by epoch; the axis is logarithmic where all losses are positive."""
    values = np.concatenate([np.asarray(curve.y, float) for curve in curves])
    epochs = np.concatenate([np.asarray(curve.x, float) for curve in curves])
    values, epochs = values[np.isfinite(values)], epochs[np.isfinite(epochs)]
    begin, end = float(epochs.min(initial=0)), float(epochs.max(initial=1))
    x = _linear(begin, end, frame.left, frame.right)
    if values.size and values.min() > 0 and values.max() > 2 * values.min():
        low, high = float(values.min()), float(values.max())
        y = _logarithmic(low, high, frame, margin=0.08)
        grid, ticks = _log_ticks(low, high, y, frame, margin=0.08)
    else:
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
        margin = 0.06 * (high - low or 1.0)
        low, high = low - margin, high + margin
        y = _linear(low, high, frame.bottom, frame.top)
        grid, ticks = _vertical_ticks(low, high, y, frame)
    lines = tuple(
        Line(_points(zip(map(x, curve.x), map(y, curve.y), strict=True)), _curve_style(curve)) for curve in curves
    )
    return Plot(
        "curves", f"Loss by epoch: {'; '.join(curve.label for curve in curves)}", frame, (*grid, *lines),
        labels=(
            *ticks, *_horizontal_ticks(begin, end, x, frame, whole=True),
            _horizontal_title("epoch", frame), _vertical_title("loss", frame),
        ),
        key=tuple((_curve_style(curve), curve.label) for curve in curves),
    )  # fmt: skip


def draw_ring(ring: RingCorrelation, frame: Frame = WIDE) -> Plot:
    """Fourier ring correlation with the half-bit threshold."""
    largest = float(max(0.5, np.max(ring.frequency, initial=0.5)))
    lowest = min(0.0, float(np.nanmin(ring.correlation, initial=0.0)))
    x, y = _linear(0, largest, frame.left, frame.right), _linear(lowest, 1.05, frame.bottom, frame.top)
    grid, ticks = _vertical_ticks(lowest, 1.05, y, frame)
    lines = [
        Line(_points(zip(map(x, ring.frequency), map(y, ring.half_bit), strict=True)), "tolerance"),
        Line(_points(zip(map(x, ring.frequency), map(y, ring.correlation), strict=True)), "curve a"),
    ]
    labels = [
        *ticks, *_horizontal_ticks(0, largest, x, frame),
        _horizontal_title("spatial frequency (1/pixel)", frame), _vertical_title("correlation", frame),
    ]  # fmt: skip
    summary = "the curve stays above the threshold: A and B agree at every frequency"
    if ring.resolution_px is not None and math.isinf(ring.resolution_px):
        summary = "below the threshold from the first ring on: A and B agree at no frequency"
        short = "A and B agree at no frequency" if frame is NARROW else summary
        labels.append(Label(frame.left + 8, frame.top + 14, short, "start", "callout"))
    elif ring.resolution_px is not None:
        place = x(1 / ring.resolution_px)
        summary = f"resolution {ring.resolution_px:.3g} px"
        if ring.resolution_m is not None:
            summary += f" = {_length(ring.resolution_m)}"
        lines.append(_upright_line(place, frame))
        labels.append(_callout(place, summary, frame))
    return Plot(
        "ring", f"Fourier ring correlation with the half-bit threshold: {summary}", frame,
        (*grid, *lines), labels=tuple(labels),
        key=(("curve a", "correlation of A and B"), ("tolerance", "half-bit threshold")),
    )  # fmt: skip


def _length(metres: float) -> str:
    for unit, size in (("mm", 1e-3), ("µm", 1e-6)):
        if metres >= size:
            return f"{metres / size:.3g} {unit}"
    return f"{metres / 1e-9:.3g} nm"


def _curve_style(curve: Curve) -> str:
    return f"curve {curve.side}{' dashed' if curve.dashed else ''}"


def _upright_line(x: float, frame: Frame) -> Line:
    return Line(_points([(x, frame.top), (x, frame.bottom)]), "parting")


def _callout(x: float, text: str, frame: Frame) -> Label:
    """Text beside an upright line, on the side with more room."""
    if x > (frame.left + frame.right) / 2:
        return Label(x - 6, frame.top + 14, text, "end", "callout")
    return Label(x + 6, frame.top + 14, text, "start", "callout")


def _linear(low: float, high: float, first: float, last: float) -> Callable[[float], float]:
    span = high - low or 1.0
    return lambda value: first + (last - first) * (float(value) - low) / span


def _logarithmic(low: float, high: float, frame: Frame, margin: float = _DECADES) -> Callable[[float], float]:
    """Map a value to a height; values up to zero lie on the lower edge, NaN and infinity on the upper."""
    bottom, top = math.log10(low) - margin, math.log10(high) + margin

    def height(value: float) -> float:
        if not math.isfinite(value):
            return frame.top
        fraction = (math.log10(value) - bottom) / (top - bottom) if value > 0 else 0.0
        return frame.bottom - (frame.bottom - frame.top) * min(max(fraction, 0.0), 1.0)

    return height


def _grid(values: Sequence[float], texts: Sequence[str], y: Callable[[float], float], frame: Frame) -> _Ticks:
    return (
        [Line(_points([(frame.left, y(value)), (frame.right, y(value))]), "grid") for value in values],
        [Label(frame.left - 8, y(value) + 4, text, "end") for value, text in zip(values, texts, strict=True)],
    )


def _log_ticks(low: float, high: float, y: Callable[[float], float], frame: Frame, margin: float = _DECADES) -> _Ticks:
    bottom, top = low * 10**-margin, high * 10**margin
    few = math.log10(top / bottom) < 2  # decades alone would give at most one line
    locator = LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=9)
    values = [float(value) for value in locator.tick_values(bottom, top) if bottom <= value <= top]
    return _grid(values, list(map(_power, values)), y, frame)


def _vertical_ticks(low: float, high: float, y: Callable[[float], float], frame: Frame) -> _Ticks:
    values = _round_values(low, high, 8)
    return _grid(values, _with_equal_decimals(values), y, frame)


def _horizontal_ticks(
    low: float, high: float, x: Callable[[float], float], frame: Frame, *, whole: bool = False
) -> list[Label]:
    values = _round_values(low, high, max(3, int((frame.right - frame.left) / _TICK_SPACING)), whole=whole)
    texts = _with_equal_decimals(values)
    return [Label(x(value), frame.bottom + 18, text) for value, text in zip(values, texts, strict=True)]


def _round_values(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    locator = MaxNLocator(nbins=most, steps=[1, 2, 5, 10], integer=whole)
    edge = 1e-9 * (high - low)
    return [float(value) for value in locator.tick_values(low, high) if low - edge <= value <= high + edge]


def _short(value: float) -> str:
    return f"{value:.6g}".replace("e-0", "e-").replace("e+0", "e").replace("-", "−")


def _with_equal_decimals(values: Sequence[float]) -> list[str]:
    """Numbers with just as many decimals as distinguish neighbours; zero has none."""
    step = min(np.diff(values), default=1.0)
    if not 1e-4 <= step < 1e5:
        return [_short(value) for value in values]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return ["0" if abs(value) < step / 2 else f"{value:.{decimals}f}".replace("-", "−") for value in values]


def _power(value: float) -> str:
    return _short(value) if 0.01 <= value < 1e4 else f"{value:.0e}".replace("e-0", "e−").replace("e+0", "e")


def _network_parts(names: Sequence[str], step: float, frame: Frame) -> tuple[list[tuple[float, float]], list[Label]]:
    """Shade every second part of the network, and label the parts that are wide enough."""
    bands, labels, start = [], [], 0
    for index, (part, members) in enumerate(groupby(names, key=lambda name: _part(name, levels=frame is WIDE))):
        count = len(list(members))
        x, width = frame.left + start * step, count * step
        if index % 2 == 0:
            bands.append((x, width))
        if width >= _LETTER_WIDTH * max(map(len, part.split())):
            for line, word in enumerate(part.split()):
                labels.append(Label(x + width / 2, frame.bottom + 16 + 13 * line, word, style="part"))
        start += count
    return bands, labels


def _part(name: str, *, levels: bool) -> str:
    """Name the part of the network that a layer's canonical name states: "encoder 0", "decoder phase 1", …."""
    words = name.split(".")
    if words[0] == "encoder" and len(words) > 2:
        return f"encoder {words[1]}" if levels else "encoder"
    if words[0] == "decoder" and len(words) > 3:
        return f"decoder {words[1]} {words[2]}" if levels else f"decoder {words[1]}"
    return "in" if words[0] == "whitening" else "out"


def _points(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points if math.isfinite(x) and math.isfinite(y))


def _horizontal_title(text: str, frame: Frame) -> Label:
    return Label((frame.left + frame.right) / 2, frame.height - 8, text, style="axis")


def _vertical_title(text: str, frame: Frame) -> Label:
    return Label(frame.left, frame.top - 10, text, "start", "axis")
