"""The verb `inspect`: what a bundle says about itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptyonnx.cli.verb import Verb, with_debug

if TYPE_CHECKING:
    from ptyonnx_bundles import Bundle

__all__ = ["command"]

_SETTINGS_PER_LINE = 5


@click.command(cls=Verb)
@click.argument("bundle", type=click.Path(path_type=Path), metavar="BUNDLE")
@click.option("--json", "as_json", is_flag=True, help="For machines: manifest, interface, sizes.")
@with_debug
def command(bundle: Path, as_json: bool) -> None:
    """Show what a bundle is, what it was trained on and how.

    Example:
      ptyonnx inspect bundle.onnx
      ptyonnx inspect bundle.onnx --json | jq .manifest.physics
    """
    import json

    from ptyonnx.cli.tables import columns
    from ptyonnx_bundles import read_bundle

    opened = read_bundle(bundle)
    description = _describe(opened)
    if as_json:
        click.echo(json.dumps(description, indent=2))
    else:
        click.echo(columns(_rows(opened, description)))


def _describe(bundle: Bundle) -> dict[str, Any]:
    """Everything but the arrays, for JSON."""
    import numpy as np

    graph = bundle.graph
    trained = bundle.manifest.recipe.weight_shapes()
    return {
        "file": str(bundle.path),
        "bytes": len(bundle.model),
        "parameters": sum(int(bundle.weights[name].size) for name in trained if name in bundle.weights),
        "nodes": len(graph.nodes),
        "opset": graph.opset,
        "ir_version": graph.ir_version,
        "inputs": [{"name": value.name, "dtype": value.dtype, "shape": list(value.shape)} for value in graph.inputs],
        "outputs": [{"name": value.name, "dtype": value.dtype, "shape": list(value.shape)} for value in graph.outputs],
        "probe": {"shape": list(bundle.probe.shape), "photons": float(np.sum(np.abs(bundle.probe) ** 2))},
        "selftest": {"groups": len(bundle.selftest.diffraction), "tolerance": bundle.selftest.tolerance},
        "manifest": bundle.manifest.model_dump(mode="json"),
    }


def _rows(bundle: Bundle, description: dict[str, Any]) -> Iterator[tuple[str, object]]:
    manifest = bundle.manifest
    physics, recipe, data = manifest.physics, manifest.recipe, manifest.training_data
    yield "file", f"{description['file']}, {description['bytes'] / 1e6:.2f} MB"
    yield "protocol", f"{manifest.protocol} (opset {description['opset']}, IR version {description['ir_version']})"
    for side in ("inputs", "outputs"):
        for value in description[side]:
            yield side.removesuffix("s"), f"{value['name']} {value['dtype']} {value['shape']}"
    yield (
        "network",
        (
            f"{recipe.name}, depth {recipe.depth}, filters x {recipe.filters_scale:g}: "
            f"{description['parameters']:,} parameters in {description['nodes']} nodes"
        ),
    )
    yield "trained with", ", ".join(f"{name} {version}" for name, version in manifest.producer.versions.items())
    yield "framework", manifest.producer.framework
    yield "trained on", f"{data.name}, {data.patterns} patterns, digest {data.digest[:16]}…"
    yield "photons", f"{physics.mean_photons:.4g} per pattern on average"
    yield "probe", f"{physics.probe_modes} mode(s) of {physics.N} x {physics.N}, gridsize {physics.gridsize}"
    if physics.wavelength_m:
        yield "wavelength", f"{physics.wavelength_m:.4g} m"
    if physics.object_pixel_size_m:
        yield "pixel size", f"{physics.object_pixel_size_m:.4g} m"
    for name, number in manifest.metrics.items():
        yield name, float(number)
    settings = [f"{name}={value}" for name, value in manifest.settings.items()]
    for start in range(0, len(settings), _SETTINGS_PER_LINE):
        yield "" if start else "settings", ", ".join(settings[start : start + _SETTINGS_PER_LINE])
    yield "weights", manifest.digests.weights
    yield "graph", manifest.digests.graph
    yield "created", manifest.created.isoformat()
    yield "licence", manifest.licence
    if manifest.notes:
        yield "notes", manifest.notes
