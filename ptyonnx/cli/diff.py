"""The verb `diff`: two bundles beside each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptyonnx.cli.verb import Verb, with_debug

if TYPE_CHECKING:
    from ptyonnx.comparison import Comparison, Difference

__all__ = ["command"]

_PATH = click.Path(path_type=Path)
_BEYOND = 1  # exit code
_MOST_WEIGHTS = 12  # lines; --json has all


@click.command(cls=Verb)
@click.argument("a", type=_PATH, metavar="A")
@click.argument("b", type=_PATH, metavar="B")
@click.option("--data", type=_PATH, metavar="FILE", help="A scan to run both on. [the patterns of their self-tests]")
@click.option("--values", metavar="KIND", help="What the scan's patterns are: amplitude or intensity.")
@click.option("--axes", metavar="ORDER", help="Order of the patterns' axes in the file, such as yxn.")
@click.option("--tolerance", type=float, metavar="NUMBER", help="Largest difference of the complex object. [1e-4]")
@click.option("--provider", default="auto", metavar="NAME", help="Where to run. [auto]")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@with_debug
def command(a: Path, b: Path, data: Path | None, as_json: bool, **options: Any) -> int:
    """Compare two bundles and what they compute.

    Manifests, graphs and weights side by side; then both run on the same patterns. A global phase and amplitude scale do not count as a difference. Exit code 1 beyond the
    tolerance.

    Example:
      ptyonnx diff tensorflow.onnx pytorch.onnx --data scan.npz --tolerance 1e-3
    """
    import json

    from ptyonnx.comparison import TOLERANCE, compare
    from ptyonnx.formats import load_scan

    scan = None if data is None else load_scan(data, values=options["values"], axes=options["axes"])
    tolerance = TOLERANCE if options["tolerance"] is None else options["tolerance"]
    found = compare(a, b, scan, tolerance=tolerance, provider=options["provider"])
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else "\n\n".join(_sections(found)))
    return 0 if found.passed else _BEYOND


def _sections(found: Comparison) -> Iterator[str]:
    from ptyonnx.cli.tables import columns, short

    yield columns([("a", found.a), ("b", found.b)])
    if found.manifest:
        rows = [(entry.key, short(entry.a), short(entry.b)) for entry in found.manifest]
        yield columns(rows, ("manifest", "a", "b"))
    yield _graph(found)
    yield _weights(found)
    computed = list(_computed(found))
    if computed:
        yield columns(computed, ("after one factor", "largest", "rms", "scale", "phase (rad)", "compared"))
    if found.image is not None:
        yield columns(
            [
                ("phase correlation", found.image.phase_correlation),
                ("R-factor of a", found.image.r_factor_a),
                ("R-factor of b", found.image.r_factor_b),
            ]
        )
    yield _verdict(found)


def _graph(found: Comparison) -> str:
    graph = found.graph
    if not (graph.only_a or graph.only_b or graph.changed):
        return f"graph: {graph.nodes_a} nodes, the same in both"
    return (
        f"graph: {graph.nodes_a} and {graph.nodes_b} nodes; {len(graph.only_a)} only in a, "
        f"{len(graph.only_b)} only in b, {len(graph.changed)} changed"
    )


def _weights(found: Comparison) -> str:
    from ptyonnx.cli.tables import columns

    differing = [entry for entry in found.weights if not entry.equal]
    if not differing:
        return f"weights: {len(found.weights)} arrays, the same in both"
    differing.sort(key=lambda entry: -(float("inf") if entry.maximum is None else entry.maximum))
    rows = [
        (entry.name, entry.maximum, entry.rms, entry.rms_a, _shapes(entry.shape_a, entry.shape_b))
        for entry in differing[:_MOST_WEIGHTS]
    ]
    table = columns(rows, ("weights that differ", "largest", "rms", "rms of a", "shape"))
    left_out = len(differing) - len(rows)
    equal = len(found.weights) - len(differing)
    return f"{table}\n… {left_out} more that differ, {equal} equal" if left_out else f"{table}\n{equal} more are equal"


def _shapes(a: tuple[int, ...] | None, b: tuple[int, ...] | None) -> str:
    return str(a) if a == b else f"{a or 'absent'} and {b or 'absent'}"


def _computed(found: Comparison) -> Iterator[tuple[object, ...]]:
    def row(name: str, difference: Difference) -> tuple[object, ...]:
        return (
            name,
            difference.maximum,
            difference.rms,
            difference.amplitude_scale,
            difference.phase_rad,
            f"{difference.pixels:,} px",
        )

    if found.patches is not None:
        yield row(f"{found.patches.patterns} patches ({found.patches.source})", found.patches.difference)
    if found.image is not None:
        yield row("stitched image", found.image.difference)


def _verdict(found: Comparison) -> str:
    if found.same_function:
        function = "the same function: digests of weights and graph are equal"
        return (
            function
            if found.passed
            else f"{function}; but the images differ by {found.largest:.3g}: probe or photons do"
        )
    if found.patches is None and found.image is None:
        return "different functions; their gridsizes differ, so only a scan can compare them: --data scan.npz"
    verdict = "within" if found.passed else "beyond"
    return f"different functions, {verdict} the tolerance: largest difference {found.largest:.3g}, allowed {found.tolerance:.3g}"
