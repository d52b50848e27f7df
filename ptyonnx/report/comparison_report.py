"""Describe a comparison as the contents of a page: sentences, tables, curves and pictures, in the page's order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ptyonnx.comparison import Comparison, ImageComparison, Implementation, WeightDifference
from ptyonnx.report.content import (
    Curve,
    LayerError,
    Picture,
    Report,
    RingCorrelation,
    Side,
    Table,
    Verdict,
)
from ptyonnx.runs.run import Run
from ptyonnx_bundles import Bundle
from ptyonnx_bundles.errors import RunError

__all__ = ["build_report"]

_QUESTIONS = {
    "identity": "Is it the same network?",
    "weights": "Are the weights equal?",
    "activations": "Do all layers agree to rounding?",
    "images": "Are the images equal within the tolerance?",
}
_METRIC_TOLERANCE = 1e-6  # relative, between the history of a run and the manifest of its bundle


def build_report(comparison: Comparison, a: Implementation, b: Implementation, scan_name: str | None = None) -> Report:
    """Describe a comparison.

    Parameters
    ----------
    comparison : Comparison
    a, b : Implementation
        The two that were compared.
    scan_name : str, optional
        Name of the scan that both ran on.
    """
    image = comparison.image
    name_a, name_b = _names(a, b)
    return Report(
        title=f"{name_a} and {name_b}",
        subtitle=_subtitle(comparison, a, b, scan_name),
        outcome=Verdict(
            "outcome",
            comparison.passed,
            comparison.sentence,
            comparison.question,
            must_pass=comparison.same_function or bool(comparison.faults),
        ),
        verdicts=tuple(
            Verdict(name, level.passed, level.sentence, _QUESTIONS[name], must_pass=comparison.is_fault(name))
            for name, level in comparison.levels.items()
        ),
        tables=tuple(_tables(comparison)),
        layers=tuple(
            LayerError(layer.name, layer.largest, layer.rms, layer.tolerance) for layer in comparison.activations.layers
        ),
        curves=(*_curves(a.bundle, "a"), *_curves(b.bundle, "b")),
        ring=None if image is None else _ring(image),
        picture_a=None if image is None else Picture(name_a, image.object_a),
        picture_b=None if image is None else Picture(name_b, image.object_b),
        object_pixel_size_m=None if image is None else image.object_pixel_size_m,
    )


def _names(a: Implementation, b: Implementation) -> tuple[str, str]:
    """Short names of both: as many folders as distinguish the files, and the engine unless it is onnxruntime."""
    files = [str(implementation.bundle.path or implementation.bundle.name) for implementation in (a, b)]
    engines = [implementation.name.removeprefix(file) for implementation, file in zip((a, b), files, strict=True)]
    parts = [Path(file).parts for file in files]
    for length in range(1, max(map(len, parts)) + 1):
        first, second = (str(Path(*part[-length:])) + engine for part, engine in zip(parts, engines, strict=True))
        if first != second:
            return first, second
    return a.name, b.name


def _subtitle(comparison: Comparison, a: Implementation, b: Implementation, scan_name: str | None) -> str:
    first, second = (implementation.bundle.manifest.physics for implementation in (a, b))
    same = (first.N, first.gridsize) == (second.N, second.gridsize)
    sizes = f"N {first.N}, gridsize {first.gridsize}"
    if not same:
        sizes = f"A: {sizes}; B: N {second.N}, gridsize {second.gridsize}"
    patterns = "the patterns of their self-tests" if scan_name is None else scan_name
    return f"A is {comparison.a}, B is {comparison.b}; on {patterns}. {sizes}."


def _tables(comparison: Comparison) -> Iterator[Table]:
    if comparison.image is not None:
        yield from _image_tables(comparison.image)
    if comparison.patches is not None:
        figures = comparison.patches.difference
        yield Table(
            f"{comparison.patches.patterns} patches of the same patterns, "
            f"{'after A was multiplied by one complex factor' if comparison.patches.free else 'unchanged'}",
            ("largest difference", "rms", "scale", "phase (rad)", "compared (px)", "of (px)"),
            (
                (
                    figures.maximum,
                    figures.rms,
                    figures.amplitude_scale,
                    figures.phase_rad,
                    f"{figures.pixels:,}",
                    f"{comparison.patches.pixels:,}",
                ),
            ),
            "images",
        )
    layers = comparison.activations.layers
    if layers:
        yield Table(
            "Output of every layer, in order of computation",
            ("name", "largest difference", "tolerance", "rms", "largest value"),
            tuple((each.name, each.largest, each.tolerance, each.rms, each.magnitude) for each in layers),
            "layers",
        )
    differing = [entry for entry in comparison.weights.arrays if not entry.equal]
    if differing:
        equal = len(comparison.weights.arrays) - len(differing)
        yield Table(
            f"Arrays that differ, largest difference first; {equal} are equal",
            ("name", "relative", "cosine", "largest", "rms", "differing elements", "shape"),
            tuple(map(_weight, differing)),
            "weights",
        )
    if comparison.manifest:
        rows = tuple((entry.key, entry.a, entry.b) for entry in comparison.manifest)
        yield Table("Entries that differ", ("entry", "A", "B"), rows, "manifests")
    graph = comparison.graph
    nodes = (*((name, "only in A") for name in graph.only_a), *((name, "only in B") for name in graph.only_b),
             *((name, "changed") for name in graph.changed))  # fmt: skip
    if nodes:
        yield Table("Nodes of the graphs that differ", ("node", "difference"), nodes, "manifests")


def _image_tables(image: ImageComparison) -> Iterator[Table]:
    parts = (("amplitude", image.amplitude), ("phase (rad)", image.phase))
    yield Table(
        f"Differences of the stitched images, {image.difference.pixels:,} pixels",
        ("of", "largest", "rms", "SSIM", "PSNR (dB)", "data range"),
        (
            ("complex object", image.difference.maximum, image.difference.rms, None, None, None),
            *((name, part.maximum, part.rms, part.ssim, part.psnr_db, part.data_range) for name, part in parts),
        ),
        "images",
    )
    removed = image.alignment
    yield Table(
        "Ambiguities of ptychography, fitted and removed from A first",
        ("figure", "value", "unit"),
        (
            ("amplitude scale", removed.amplitude_scale, None),
            ("global phase", removed.phase_rad, "rad"),
            ("phase ramp along y", removed.ramp_rad_per_px[0], "rad/px"),
            ("phase ramp along x", removed.ramp_rad_per_px[1], "rad/px"),
            ("shift along y", removed.shift_px[0], "px"),
            ("shift along x", removed.shift_px[1], "px"),
        ),
        "images",
    )
    yield Table(
        "Further figures",
        ("figure", "value", "unit"),
        (
            *_resolution(image),
            ("phase correlation, central part", image.phase_correlation, None),
            ("R-factor of A", image.r_factor_a, None),
            ("R-factor of B", image.r_factor_b, None),
        ),
        "images",
    )


def _resolution(image: ImageComparison) -> Iterator[tuple[object, ...]]:
    """Rows of the resolution, or the reason why there is none."""
    ring, figure = image.ring, "resolution (Fourier rings, half bit)"
    if ring.agreement != "partly":
        yield figure, f"none: {ring.sentence}", None
        return
    yield figure, ring.resolution_px, "px"
    if ring.resolution_m is not None:
        yield "resolution", ring.resolution_m * 1e9, "nm"


def _weight(entry: WeightDifference) -> tuple[object, ...]:
    a, b = entry.shape_a, entry.shape_b
    shape = str(a) if a == b else f"{a or 'absent'} and {b or 'absent'}"
    return entry.name, entry.relative, entry.cosine, entry.maximum, entry.rms, entry.differing, shape


def _ring(image: ImageComparison) -> RingCorrelation:
    ring = image.ring
    frequency, correlation, half_bit = (
        np.array(each, np.float64) for each in (ring.frequency, ring.correlation, ring.half_bit)
    )
    return RingCorrelation(frequency, correlation, half_bit, ring.resolution_px, ring.resolution_m)


def _curves(bundle: Bundle, side: Side) -> Iterator[Curve]:
    """Losses of the run that contains the bundle; none if the bundle is not an export of that run."""
    rows = _history(bundle)
    if not rows:
        return
    epochs = np.array([row["epoch"] for row in rows])
    for key, word, dashed in (("loss", "training", False), ("val_loss", "validation", True)):
        yield Curve(f"{side.upper()}, {word}", epochs, np.array([row[key] for row in rows]), side, dashed)


def _history(bundle: Bundle) -> list[dict[str, float]]:
    """Rows of the `history.csv` beside the bundle, if one of them has the metrics of the bundle's manifest."""
    metrics = bundle.manifest.metrics
    if bundle.path is None or not metrics:
        return []
    try:
        rows = Run.open(Path(bundle.path).parent).history
    except RunError:
        return []
    return rows if any(_agrees(row, metrics) for row in rows) else []


def _agrees(row: dict[str, float], metrics: dict[str, float]) -> bool:
    wanted = {"epoch", "loss", "val_loss"}
    return wanted <= row.keys() & metrics.keys() and all(
        math.isclose(row[key], metrics[key], rel_tol=_METRIC_TOLERANCE) for key in wanted
    )
