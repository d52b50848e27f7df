"""Plots as plain shapes in a fixed frame; the template turns them into SVG, the style sheet into colours.

Three of them: error over layers, loss over epochs, correlation over rings. Numbers are turned into
places here, so that the page needs no script for its plots.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator

from ptyonnx.report.content import Curve, LayerError, RingCorrelation

__all__ = ["Label", "Line", "Marker", "Plot", "draw_curves", "draw_layers", "draw_ring"]

WIDTH, HEIGHT = 960.0, 340.0
LEFT, RIGHT, TOP, BOTTOM = 74.0, 18.0, 26.0, 52.0
_DECADES = 0.5  # added above and below what is drawn on a logarithmic axis
_LINE = 12.0  # height of one, the same
_LETTER = 6.4  # width of one at the size of labels, about
_LAYER_KEY = (
    ("dot", "largest"),
    ("cross", "largest, beyond the tolerance"),
    ("ring", "rms"),
    ("tolerance", "tolerance"),
)
_FLOOR = 1e-12  # relative to the largest: zero and what is smaller stand on the lower edge


@dataclass(frozen=True)
class Label:
    """Words at a place; `anchor` is SVG's: start, middle, end."""

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
    """A symbol with what is said when one points at it: dot, ring or cross."""

    x: float
    y: float
    shape: str
    text: str


@dataclass(frozen=True)
class Plot:
    """Shapes in a frame of `WIDTH` times `HEIGHT`.

    Attributes
    ----------
    name : str
        Unique on the page.
    description : str
        What a reader who cannot see it is told.
    bands : tuple of (x, width)
        Shaded.
    """

    name: str
    description: str
    lines: tuple[Line, ...] = ()
    markers: tuple[Marker, ...] = ()
    labels: tuple[Label, ...] = ()
    bands: tuple[tuple[float, float], ...] = ()
    key: tuple[tuple[str, str], ...] = ()
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM


def draw_layers(layers: Sequence[LayerError]) -> Plot:
    """Largest and rms difference behind every layer, in order of computation, with the tolerance."""
    finite = [value for layer in layers for value in (layer.largest, layer.tolerance) if 0 < value < math.inf]
    rms = [layer.rms for layer in layers if 0 < layer.rms < math.inf]
    top = max(finite, default=1.0)
    low, high = max(min(finite + rms, default=1.0), top * _FLOOR), top
    y = _logarithmic(low, high)
    step = (WIDTH - LEFT - RIGHT) / len(layers)
    places = [LEFT + (index + 0.5) * step for index in range(len(layers))]
    first = next((index for index, layer in enumerate(layers) if not layer.passed), None)
    bands, labels = _groups([layer.name for layer in layers], step)
    markers = []
    for x, layer in zip(places, layers, strict=True):
        said = f"{layer.name}: largest {layer.largest:.3g}, rms {layer.rms:.3g}, allowed {layer.tolerance:.3g}"
        markers.append(Marker(x, y(layer.rms), "ring", said))
        markers.append(Marker(x, y(layer.largest), "dot" if layer.passed else "cross", said))
    tolerance = [
        (x + side * step / 2, y(layer.tolerance)) for x, layer in zip(places, layers, strict=True) for side in (-1, 1)
    ]
    lines = [Line(_points(tolerance), "tolerance")]
    said = f"{len(layers)} layers, all within the tolerance"
    if first is not None:
        lines.append(Line(_points([(places[first], TOP), (places[first], HEIGHT - BOTTOM)]), "parting"))
        anchor = "end" if places[first] > WIDTH / 2 else "start"
        labels.append(
            Label(places[first] + (-6 if anchor == "end" else 6), TOP + 14, layers[first].name, anchor, "callout")
        )
        said = f"{len(layers)} layers; the first beyond the tolerance is {layers[first].name}"
    axis = _log_ticks(low, high, y)
    if any(value == 0 for layer in layers for value in (layer.largest, layer.rms)):
        zero = Label(LEFT - 8, y(0) + 4, "0", "end")
        axis = axis[0], [zero, *(label for label in axis[1] if zero.y - label.y > _LINE)]
    return Plot(
        "layers", f"Difference of every layer on a logarithmic axis: {said}",
        (*axis[0], *lines), tuple(markers), (*axis[1], *labels, _upright("largest and rms difference")), tuple(bands),
        tuple((style, text) for style, text in _LAYER_KEY if style != "cross" or first is not None),
    )  # fmt: skip


def draw_curves(curves: Sequence[Curve]) -> Plot:
    """Losses over epochs; logarithmic where all are positive."""
    values = np.concatenate([np.asarray(curve.y, float) for curve in curves])
    epochs = np.concatenate([np.asarray(curve.x, float) for curve in curves])
    values, epochs = values[np.isfinite(values)], epochs[np.isfinite(epochs)]
    x = _linear(float(epochs.min(initial=0)), float(epochs.max(initial=1)), LEFT, WIDTH - RIGHT)
    if values.size and values.min() > 0 and values.max() > 2 * values.min():
        low, high = float(values.min()), float(values.max())
        y = _logarithmic(low, high, margin=0.08)
        ticks = _log_ticks(low, high, y, margin=0.08)
    else:
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
        margin = 0.06 * (high - low or 1.0)
        low, high = low - margin, high + margin
        y = _linear(low, high, HEIGHT - BOTTOM, TOP)
        ticks = _ticks(low, high, y, across=True)
    lines = tuple(
        Line(_points(zip(map(x, curve.x), map(y, curve.y), strict=True)), _curve_style(curve)) for curve in curves
    )
    across = _ticks(float(epochs.min(initial=0)), float(epochs.max(initial=1)), x, across=False, whole=True)
    return Plot(
        "curves", f"Loss over epochs: {'; '.join(curve.label for curve in curves)}",
        (*ticks[0], *lines), labels=(*ticks[1], *across[1], _along("epoch"), _upright("loss")),
        key=tuple((_curve_style(curve), curve.label) for curve in curves),
    )  # fmt: skip


def draw_ring(ring: RingCorrelation) -> Plot:
    """Fourier ring correlation with the half-bit threshold."""
    largest = float(max(0.5, np.max(ring.frequency, initial=0.5)))
    lowest = min(0.0, float(np.nanmin(ring.correlation, initial=0.0)))
    x, y = _linear(0, largest, LEFT, WIDTH - RIGHT), _linear(lowest, 1.05, HEIGHT - BOTTOM, TOP)
    ticks, across = _ticks(lowest, 1.05, y, across=True), _ticks(0, largest, x, across=False)
    lines = [
        Line(_points(zip(map(x, ring.frequency), map(y, ring.half_bit), strict=True)), "tolerance"),
        Line(_points(zip(map(x, ring.frequency), map(y, ring.correlation), strict=True)), "curve a"),
    ]
    labels = [*ticks[1], *across[1], _along("spatial frequency (1/pixel)"), _upright("correlation")]
    said = "the curve does not fall below the threshold: A and B agree at every frequency"
    if ring.resolution_px is not None and math.isinf(ring.resolution_px):
        said = "below the threshold from the first ring on: A and B agree at no frequency"
        labels.append(Label(LEFT + 8, TOP + 14, said, "start", "callout"))
    elif ring.resolution_px is not None:
        place = x(1 / ring.resolution_px)
        said = f"resolution {ring.resolution_px:.3g} px"
        if ring.resolution_m is not None:
            said += f" = {_length(ring.resolution_m)}"
        lines.append(Line(_points([(place, TOP), (place, HEIGHT - BOTTOM)]), "parting"))
        anchor = "end" if place > WIDTH / 2 else "start"
        labels.append(Label(place + (-6 if anchor == "end" else 6), TOP + 14, said, anchor, "callout"))
    return Plot(
        "ring", f"Fourier ring correlation with the half-bit threshold: {said}",
        (*ticks[0], *lines), labels=tuple(labels),
        key=(("curve a", "correlation of A and B"), ("tolerance", "half-bit threshold")),
    )  # fmt: skip


def _length(metres: float) -> str:
    for unit, size in (("mm", 1e-3), ("µm", 1e-6)):
        if metres >= size:
            return f"{metres / size:.3g} {unit}"
    return f"{metres / 1e-9:.3g} nm"


def _curve_style(curve: Curve) -> str:
    return f"curve {curve.side}{' dashed' if curve.dashed else ''}"


def _linear(low: float, high: float, first: float, last: float) -> Callable[[float], float]:
    span = high - low or 1.0
    return lambda value: first + (last - first) * (float(value) - low) / span


def _logarithmic(low: float, high: float, margin: float = _DECADES) -> Callable[[float], float]:
    """Height of a value; zero and less stand on the lower edge, NaN and infinity on the upper."""
    bottom, top = math.log10(low) - margin, math.log10(high) + margin

    def place(value: float) -> float:
        if not math.isfinite(value):
            return TOP
        fraction = (math.log10(value) - bottom) / (top - bottom) if value > 0 else 0.0
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * min(max(fraction, 0.0), 1.0)

    return place


def _log_ticks(
    low: float, high: float, y: Callable[[float], float], margin: float = _DECADES
) -> tuple[list[Line], list[Label]]:
    bottom, top = low * 10**-margin, high * 10**margin
    few = math.log10(top / bottom) < 2  # decades alone would be one line or none
    locator = LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=9)
    values = [float(value) for value in locator.tick_values(bottom, top) if bottom <= value <= top]
    return (
        [Line(_points([(LEFT, y(value)), (WIDTH - RIGHT, y(value))]), "grid") for value in values],
        [Label(LEFT - 8, y(value) + 4, _power(value), "end") for value in values],
    )


def _ticks(
    low: float, high: float, place: Callable[[float], float], *, across: bool, whole: bool = False
) -> tuple[list[Line], list[Label]]:
    locator = MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=whole)
    edge = 1e-9 * (high - low)
    values = [float(value) for value in locator.tick_values(low, high) if low - edge <= value <= high + edge]
    texts = _alike(values)
    if across:
        lines = [Line(_points([(LEFT, place(value)), (WIDTH - RIGHT, place(value))]), "grid") for value in values]
        return lines, [
            Label(LEFT - 8, place(value) + 4, text, "end") for value, text in zip(values, texts, strict=True)
        ]
    return [], [Label(place(value), HEIGHT - BOTTOM + 18, text) for value, text in zip(values, texts, strict=True)]


def _short(value: float) -> str:
    return f"{value:.6g}".replace("e-0", "e-").replace("e+0", "e").replace("-", "−")


def _alike(values: Sequence[float]) -> list[str]:
    """Numbers with as many decimals as tell neighbours apart; zero has none."""
    step = min(np.diff(values), default=1.0)
    if not 1e-4 <= step < 1e5:
        return [_short(value) for value in values]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return ["0" if abs(value) < step / 2 else f"{value:.{decimals}f}".replace("-", "−") for value in values]


def _power(value: float) -> str:
    return _short(value) if 0.01 <= value < 1e4 else f"{value:.0e}".replace("e-0", "e−").replace("e+0", "e")


def _groups(names: Sequence[str], step: float) -> tuple[list[tuple[float, float]], list[Label]]:
    """Shaded bands for the parts of the network, every second one, with their names where they fit."""
    bands, labels, start = [], [], 0
    for index, (part, members) in enumerate(groupby(names, key=_part)):
        count = len(list(members))
        x, width = LEFT + start * step, count * step
        if index % 2 == 0:
            bands.append((x, width))
        if width >= _LETTER * max(map(len, part.split())):
            for line, word in enumerate(part.split()):
                labels.append(Label(x + width / 2, HEIGHT - BOTTOM + 16 + 13 * line, word, style="part"))
        start += count
    return bands, labels


def _part(name: str) -> str:
    """Encoder 0, decoder.phase 1, …: what a layer's canonical name says of its place."""
    words = name.split(".")
    if words[0] == "encoder" and len(words) > 2:
        return f"encoder {words[1]}"
    if words[0] == "decoder" and len(words) > 3:
        return f"decoder {words[1]} {words[2]}"
    return "in" if words[0] == "whitening" else "out"


def _points(places: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places if math.isfinite(x) and math.isfinite(y))


def _along(text: str) -> Label:
    return Label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, text, style="axis")


def _upright(text: str) -> Label:
    return Label(LEFT, TOP - 10, text, "start", "axis")
