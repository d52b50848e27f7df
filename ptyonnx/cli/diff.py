"""The verb `diff`: compare two bundles, or two engines of one bundle.

By default the text fits a screen of 24 lines; with ``--verbose`` it lists every manifest entry, array and layer that
differs. The last line is the outcome.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptyonnx.cli.output import answer, verbosity
from ptyonnx.cli.progress import stage
from ptyonnx.cli.verb import Verb, with_limit

if TYPE_CHECKING:
    from ptyonnx.comparison import Comparison, ImageComparison, Implementation, WeightDifference

__all__ = ["command"]

_PATH = click.Path(path_type=Path)
_DIFFERENT = 1  # exit code
_WIDTH = 100  # characters of a line of text
_LINES_PER_LEVEL = 3  # without --verbose
_ANSWERS = {True: "same", False: "differ", None: "–"}


@click.command(cls=Verb)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--data", type=_PATH, metavar="FILE", help="A scan for both. [the patterns of the self-tests]")
@click.option("--values", metavar="KIND", help="What the patterns are: amplitude or intensity.")
@click.option("--axes", metavar="ORDER", help="Order of the patterns' axes in the file, such as yxn.")
@click.option("--zero-frequency", metavar="PLACE", help="Of the patterns in the file: centre or corner.")
@click.option("--tolerance", type=float, metavar="NUMBER", help="Allowed difference of the complex object. [1e-4]")
@click.option("--provider", default="auto", metavar="NAME", help="auto, cpu, cuda, tensorrt, openvino … [auto]")
@click.option("--report", type=_PATH, metavar="FILE", help="Also write an .html page with tables, plots, images.")
@with_limit
def command(a: str, b: str, data: Path | None, report: Path | None, **options: Any) -> int:
    """Compare two bundles, or two engines of one bundle.

    A and B are bundles or runs; an engine or a provider may follow an @. The comparison has four levels: identity,
    weights by name, activations layer by layer, and with --data the stitched images. The ambiguities of ptychography
    (phase, scale, ramp, shift) are removed first, except between two engines of one function.

    Exit code 0: A and B compute the same object within --tolerance, and two engines of one function also agree in every
    layer to rounding. Exit code 1: they do not. Two trainings of one recipe are different functions, usually with exit
    code 1; the last line then states how well their images correlate. Exit code 2: an input cannot be used.

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
    answer({**found.to_dict(), "report": report}, lambda: _text(found, report))
    return 0 if found.passed else _DIFFERENT


def _opened(implementation: Implementation) -> Implementation:
    """Open a framework's engine without its start-up messages; onnxruntime is opened only if it is needed."""
    from dataclasses import replace

    from ptyonnx.cli.framework import open_quietly
    from ptyonnx_runtime.inference.session import Session

    if implementation.engine == Session.name:
        return implementation
    opened = open_quietly(implementation.bundle, implementation.engine, provider=implementation.provider, threads=0)
    return replace(implementation, opened=opened)


def _text(found: Comparison, report: Path | None) -> str:
    """The whole text: names, levels, figures, with ``--verbose`` all differences, and the outcome on the last line.

    Before the outcome it names the page, or the options that show all differences.
    """
    from ptyonnx_bundles.terminal import escape_unprintable

    verbose = verbosity() > 0
    sections = [
        "\n".join(f"{letter}  {_tail(name, verbose=verbose)}" for letter, name in (("A", found.a), ("B", found.b))),
        "\n".join(_levels(found, verbose=verbose)),
        *(_details(found) if verbose else ["\n".join(_figures(found))]),
    ]
    answer = "Yes." if found.passed else "No."
    outcome = f"{found.question} {answer}\n{found.sentence}"
    hidden = not verbose and (found.manifest or not found.weights.passed or found.activations.passed is False)
    if report is not None:
        hint = f"Page with all differences: {escape_unprintable(str(report))}\n"
    else:
        hint = "All differences: --verbose, --json or --report FILE.\n" if hidden else ""
    return "\n\n".join([*filter(None, sections), hint + outcome])


def _tail(name: str, *, verbose: bool) -> str:
    """A name, without its beginning where it is too long for a line."""
    from ptyonnx_bundles.terminal import escape_unprintable

    shown = escape_unprintable(name)
    return shown if verbose or len(shown) <= _WIDTH - 3 else f"…{shown[4 - _WIDTH :]}"


def _levels(found: Comparison, *, verbose: bool) -> Iterator[str]:
    """For each level its name, its answer and its sentence."""
    from textwrap import wrap

    from ptyonnx_bundles.terminal import escape_unprintable

    for name, level in found.levels.items():
        head = f"{name:<11}  {_ANSWERS[level.passed]:<6}  "
        yield from wrap(
            escape_unprintable(level.sentence),
            _WIDTH,
            initial_indent=head,
            subsequent_indent=" " * len(head),
            max_lines=None if verbose else _LINES_PER_LEVEL,
            placeholder=" …",
            break_on_hyphens=False,
        )


def _figures(found: Comparison) -> Iterator[str]:
    """The most important figures, in a few lines."""
    from textwrap import wrap

    from ptyonnx.cli.tables import columns

    if found.image is not None:
        image, removed = found.image, found.image.alignment
        yield columns(
            [
                (name, part.maximum, part.rms, part.ssim, part.psnr_db)
                for name, part in (("amplitude", image.amplitude), ("phase (rad)", image.phase))
            ],
            ("stitched images", "largest", "rms", "SSIM", "PSNR (dB)"),
        )
        r_factors = _pair((image.r_factor_a, image.r_factor_b))
        yield f"phase correlation {image.phase_correlation:.3f}; R-factors of A and B {r_factors}"
        if image.free:
            yield from wrap(
                f"removed: scale {removed.amplitude_scale:.3g}, phase {removed.phase_rad:.3g} rad, ramp (y, x) "
                f"{_short(removed.ramp_rad_per_px)} rad/px, shift {_short(removed.shift_px)} px",
                _WIDTH,
            )
    elif found.patches is not None:
        patches, figures = found.patches, found.patches.difference
        removed_factor = (
            f"; removed: scale {figures.amplitude_scale:.3g}, phase {figures.phase_rad:.3g} rad" if patches.free else ""
        )
        yield (
            f"{patches.patterns} patches ({patches.source}): largest difference {figures.maximum:.3g}, "
            f"rms {figures.rms:.3g}{removed_factor}"
        )


def _details(found: Comparison) -> Iterator[str]:
    """Tables of all differences."""
    from ptyonnx.cli.tables import columns, short

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
            ("one factor removed" if found.patches.free else "nothing removed", "largest", "rms", "scale", "phase (rad)", "compared"),
        )  # fmt: skip
    if found.image is not None:
        yield from _image(found.image)


def _weights(found: Comparison) -> Iterator[str]:
    from ptyonnx.cli.tables import columns

    differing = [entry for entry in found.weights.arrays if not entry.equal]
    if not differing or found.weights.passed is None:
        return
    header = ("weights that differ", "relative", "cosine", "largest", "rms", "elements", "shape")
    equal = len(found.weights.arrays) - len(differing)
    yield f"{columns(map(_weight, differing), header)}\n{equal} arrays are equal"


def _weight(entry: WeightDifference) -> tuple[object, ...]:
    a, b = ("absent" if shape is None else str(shape) for shape in (entry.shape_a, entry.shape_b))
    shape = a if a == b else f"{a} and {b}"
    return entry.name, entry.relative, entry.cosine, entry.maximum, entry.rms, entry.differing, shape


def _layers(found: Comparison) -> Iterator[str]:
    """The layers that exceed their tolerance, in order of computation; the later ones inherit the first difference."""
    from ptyonnx.cli.tables import columns

    beyond = [layer for layer in found.activations.layers if not layer.passed]
    if not beyond:
        return
    rows = [(layer.name, layer.largest, layer.tolerance, layer.excess, layer.rms, layer.magnitude) for layer in beyond]
    yield columns(rows, ("layers that differ", "largest", "tolerance", "ratio", "rms", "of values up to"))


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


def _short(vector: tuple[float, float]) -> str:
    """A vector (y, x) with two digits."""
    return ", ".join(f"{number:.2g}" for number in vector)


def _pair(numbers: tuple[float | None, float | None]) -> str:
    return ", ".join("–" if number is None else f"{number:.4g}" for number in numbers)
