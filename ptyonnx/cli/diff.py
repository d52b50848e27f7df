"""The verb `diff`: two bundles, or two engines of one, beside each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptyonnx.cli.output import answer
from ptyonnx.cli.progress import stage
from ptyonnx.cli.verb import Verb, with_limit

if TYPE_CHECKING:
    from ptyonnx.comparison import Comparison, ImageComparison, Implementation, WeightDifference

__all__ = ["command"]

_PATH = click.Path(path_type=Path)
_BEYOND = 1  # exit code
_MOST_ROWS = 10  # of a table; --json has all
_WIDTH = 100  # characters of a line of text
_WORDS = {True: "same", False: "differ", None: "–"}


@click.command(cls=Verb)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--data", type=_PATH, metavar="FILE", help="A scan to run both on. [the patterns of their self-tests]")
@click.option("--values", metavar="KIND", help="What the scan's patterns are: amplitude or intensity.")
@click.option("--axes", metavar="ORDER", help="Order of the patterns' axes in the file, such as yxn.")
@click.option("--zero-frequency", metavar="PLACE", help="Of the patterns in the file: centre or corner.")
@click.option("--tolerance", type=float, metavar="NUMBER", help="Largest difference of the complex object. [1e-4]")
@click.option("--provider", default="auto", metavar="NAME", help="Where to run. [auto]")
@click.option("--report", type=_PATH, metavar="FILE", help="Also a page for a browser, .html: tables, plots, images.")
@with_limit
def command(a: str, b: str, data: Path | None, report: Path | None, **options: Any) -> int:
    """Compare two bundles, or two engines of one, on four levels.

    Identity, weights by name, activations layer by layer on the same patterns, and with --data the
    stitched images. What ptychography leaves free is removed first: phase, scale, ramp and shift.
    A and B are bundles; an engine or a provider may stand behind an @. Two engines of one function
    are held to more: nothing is removed, and they must agree in every layer.

    Exit code 1 where patches or images are further apart than the tolerance, or contain what is no
    number, and where two engines of one function part in a layer by more than rounding explains.

    Example:
      ptyonnx diff tensorflow.onnx pytorch.onnx --data scan.npz --tolerance 1e-3
      ptyonnx diff bundle.onnx bundle.onnx@torch
      ptyonnx diff bundle.onnx@tensorflow bundle.onnx@cuda --data scan.npz
      ptyonnx diff a.onnx b.onnx --data scan.npz --report page.html
    """
    from ptyonnx.comparison import TOLERANCE, compare, open_implementation
    from ptyonnx.formats import load_scan

    if report is not None:
        from ptyonnx.report import check_report_path, write_report
        from ptyonnx.report.comparison_report import build_report
        from ptyonnx_bundles import check_apart

        check_apart(report, a, b, data)
        check_report_path(report)

    with stage(f"reading {a} and {b}"):
        first, second = (_opened(open_implementation(each, options["provider"], options["limit_s"])) for each in (a, b))
    declared = {name: options[name] for name in ("values", "axes", "zero_frequency")}
    scan = None if data is None else load_scan(data, **declared)
    tolerance = TOLERANCE if options["tolerance"] is None else options["tolerance"]
    with stage("comparing"):
        found = compare(first, second, scan, tolerance=tolerance)
    if report is not None:
        write_report(report, build_report(found, first, second, None if scan is None else scan.name))
    answer(found.to_dict(), lambda: "\n\n".join(_sections(found)))
    return 0 if found.passed else _BEYOND


def _opened(subject: Implementation) -> Implementation:
    """Open a framework's engine without its greetings; onnxruntime has none, and may not be needed."""
    from dataclasses import replace

    from ptyonnx.cli.framework import open_quietly
    from ptyonnx_runtime.inference.session import Session

    if subject.engine == Session.name:
        return subject
    opened = open_quietly(subject.bundle, subject.engine, provider=subject.provider, threads=0)
    return replace(subject, opened=opened)


def _sections(found: Comparison) -> Iterator[str]:
    from ptyonnx.cli.tables import columns, short

    yield columns([("A", found.a), ("B", found.b)])
    yield "\n".join(_verdicts(found))
    if found.manifest:
        rows = [(entry.key, short(entry.a), short(entry.b)) for entry in found.manifest]
        yield columns(rows, ("manifest", "A", "B"))
    yield from _weights(found)
    yield from _layers(found)
    if found.patches is not None:
        figures = found.patches.difference
        of_all = "" if figures.pixels == found.patches.pixels else f" of {found.patches.pixels:,}"
        yield columns(
            [(f"{found.patches.patterns} patches ({found.patches.source})", figures.maximum, figures.rms, figures.amplitude_scale, figures.phase_rad, f"{figures.pixels:,}{of_all} px")],
            ("after one factor" if found.patches.free else "as they are", "largest", "rms", "scale", "phase (rad)", "compared"),
        )  # fmt: skip
    if found.image is not None:
        yield from _image(found.image)
    yield found.sentence


def _verdicts(found: Comparison) -> Iterator[str]:
    """A line for each level, longer sentences wrapped."""
    from textwrap import wrap

    from ptyonnx_bundles.terminal import escape_unprintable

    for name, level in found.levels.items():
        head = f"{name:<11}  {_WORDS[level.passed]:<6}  "
        yield from wrap(
            escape_unprintable(level.sentence), _WIDTH, initial_indent=head, subsequent_indent=" " * len(head)
        )


def _weights(found: Comparison) -> Iterator[str]:
    from ptyonnx.cli.tables import columns

    differing = [entry for entry in found.weights.arrays if not entry.equal]
    if not differing or found.weights.passed is None:
        return
    table = columns(
        [_weight(entry) for entry in differing[:_MOST_ROWS]],
        ("weights that differ most", "relative", "cosine", "largest", "rms", "elements", "shape"),
    )
    left_out, equal = len(differing) - _MOST_ROWS, len(found.weights.arrays) - len(differing)
    more = f"… {left_out} more that differ, {equal} equal" if left_out > 0 else f"{equal} more are equal"
    yield f"{table}\n{more}"


def _weight(entry: WeightDifference) -> tuple[object, ...]:
    a, b = ("absent" if shape is None else str(shape) for shape in (entry.shape_a, entry.shape_b))
    shape = a if a == b else f"{a} and {b}"
    return entry.name, entry.relative, entry.cosine, entry.maximum, entry.rms, entry.differing, shape


def _layers(found: Comparison) -> Iterator[str]:
    """The layers beyond their tolerance, from the first on: what comes later follows from it."""
    from ptyonnx.cli.tables import columns

    beyond = [layer for layer in found.activations.layers if not layer.passed]
    if not beyond:
        return
    rows = [
        (layer.name, layer.largest, layer.tolerance, layer.excess, layer.rms, layer.magnitude)
        for layer in beyond[:_MOST_ROWS]
    ]
    table = columns(
        rows, ("layers that part, first to last", "largest", "tolerance", "times", "rms", "of values up to")
    )
    left_out = len(beyond) - len(rows)
    yield f"{table}\n… {left_out} more" if left_out else table


def _image(image: ImageComparison) -> Iterator[str]:
    from ptyonnx.cli.tables import columns

    removed, ring = image.alignment, image.ring
    yield columns(
        [(removed.amplitude_scale, removed.phase_rad, _pair(removed.ramp_rad_per_px), _pair(removed.shift_px), f"{image.difference.pixels:,} px")],
        ("removed from the images: scale", "phase (rad)", "ramp y, x (rad/px)", "shift y, x (px)", "compared"),
    )  # fmt: skip
    yield columns(
        [
            ("complex", image.difference.maximum, image.difference.rms, None, None, None),
            *(
                (name, part.maximum, part.rms, part.ssim, part.psnr_db, part.data_range)
                for name, part in (("amplitude", image.amplitude), ("phase (rad)", image.phase))
            ),
        ],
        ("stitched images", "largest", "rms", "SSIM", "PSNR (dB)", "data range"),
    )
    yield columns(
        [
            ("Fourier rings", ring.sentence),
            ("phase correlation", image.phase_correlation),
            ("R-factor of A and B", _pair((image.r_factor_a, image.r_factor_b))),
        ]
    )


def _pair(numbers: tuple[float | None, float | None]) -> str:
    return ", ".join("–" if number is None else f"{number:.4g}" for number in numbers)
