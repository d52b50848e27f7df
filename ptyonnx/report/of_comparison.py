"""From a comparison to what its page says: sentences, tables, curves and pictures, in the page's order."""

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

__all__ = ["report_of"]

_SAME_FIGURE = 1e-6  # relative: a run's figures and those in the manifest of its bundle


def report_of(found: Comparison, a: Implementation, b: Implementation, scan_name: str | None = None) -> Report:
    """Describe a comparison.

    Parameters
    ----------
    found : Comparison
    a, b : Implementation
        What was compared.
    scan_name : str, optional
        The scan that both ran on.
    """
    image = found.image
    name_a, name_b = _names(a, b)
    return Report(
        title=f"{name_a} and {name_b}",
        subtitle=_subtitle(found, a, b, scan_name),
        outcome=Verdict("outcome", found.passed, found.sentence),
        verdicts=tuple(Verdict(name, level.passed, level.sentence) for name, level in found.levels.items()),
        tables=tuple(_tables(found)),
        layers=tuple(
            LayerError(layer.name, layer.largest, layer.rms, layer.tolerance) for layer in found.activations.layers
        ),
        curves=(*_curves(a.bundle, "a"), *_curves(b.bundle, "b")),
        ring=None if image is None else _ring(image),
        picture_a=None if image is None else Picture(name_a, image.object_a),
        picture_b=None if image is None else Picture(name_b, image.object_b),
        object_pixel_size_m=None if image is None else image.object_pixel_size_m,
    )


def _names(a: Implementation, b: Implementation) -> tuple[str, str]:
    """Files with no more folders than tell them apart, and engines where they are not simply onnxruntime."""
    files = [str(subject.bundle.path or subject.bundle.name) for subject in (a, b)]
    engines = [subject.name.removeprefix(file) for subject, file in zip((a, b), files, strict=True)]
    parts = [Path(file).parts for file in files]
    for length in range(1, max(map(len, parts)) + 1):
        first, second = (str(Path(*part[-length:])) + engine for part, engine in zip(parts, engines, strict=True))
        if first != second:
            return first, second
    return a.name, b.name


def _subtitle(found: Comparison, a: Implementation, b: Implementation, scan_name: str | None) -> str:
    first, second = (subject.bundle.manifest.physics for subject in (a, b))
    same = (first.N, first.gridsize) == (second.N, second.gridsize)
    sizes = f"N {first.N}, gridsize {first.gridsize}"
    if not same:
        sizes = f"A: {sizes}; B: N {second.N}, gridsize {second.gridsize}"
    patterns = "the patterns of their self-tests" if scan_name is None else scan_name
    return f"A is {found.a}, B is {found.b}; on {patterns}. {sizes}."


def _tables(found: Comparison) -> Iterator[Table]:
    if found.image is not None:
        yield from _image_tables(found.image)
    if found.patches is not None:
        figures = found.patches.difference
        yield Table(
            f"{found.patches.patterns} patches of the same patterns, "
            f"{'A multiplied by one factor' if found.patches.free else 'as they are'}",
            ("largest difference", "rms", "scale", "phase (rad)", "compared (px)", "of (px)"),
            (
                (
                    figures.maximum,
                    figures.rms,
                    figures.amplitude_scale,
                    figures.phase_rad,
                    f"{figures.pixels:,}",
                    f"{found.patches.pixels:,}",
                ),
            ),
            "images",
        )
    layers = found.activations.layers
    if layers:
        yield Table(
            "Every value of the network, in order of computation",
            ("name", "largest difference", "tolerance", "rms", "values up to"),
            tuple((each.name, each.largest, each.tolerance, each.rms, each.magnitude) for each in layers),
            "layers",
        )
    differing = [entry for entry in found.weights.arrays if not entry.equal]
    if differing:
        equal = len(found.weights.arrays) - len(differing)
        yield Table(
            f"Arrays that differ, most first; {equal} are equal",
            ("name", "relative", "cosine", "largest", "rms", "differing elements", "shape"),
            tuple(map(_weight, differing)),
            "weights",
        )
    if found.manifest:
        rows = tuple((entry.key, entry.a, entry.b) for entry in found.manifest)
        yield Table("Entries that differ", ("entry", "A", "B"), rows, "manifests")
    graph = found.graph
    nodes = (*((name, "only in A") for name in graph.only_a), *((name, "only in B") for name in graph.only_b),
             *((name, "changed") for name in graph.changed))  # fmt: skip
    if nodes:
        yield Table("Nodes of the graphs that differ", ("node", "how"), nodes, "manifests")


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
        "What ptychography leaves free, removed first: what lays A on B",
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
    """Rows of the resolution, or why there is none."""
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
    """Losses of the run in whose directory the bundle lies; none where it is not that run's."""
    rows = _history(bundle)
    if not rows:
        return
    epochs = np.array([row["epoch"] for row in rows])
    for key, word, dashed in (("loss", "training", False), ("val_loss", "validation", True)):
        yield Curve(f"{side.upper()}, {word}", epochs, np.array([row[key] for row in rows]), side, dashed)


def _history(bundle: Bundle) -> list[dict[str, float]]:
    """Rows of `history.csv` beside the bundle, if one of them is what the bundle's manifest records."""
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
        math.isclose(row[key], metrics[key], rel_tol=_SAME_FIGURE) for key in wanted
    )
