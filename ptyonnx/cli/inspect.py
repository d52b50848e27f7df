"""The verb `inspect`: shows the contents of a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptyonnx.cli.output import answer
from ptyonnx.cli.progress import stage
from ptyonnx.cli.verb import Verb

if TYPE_CHECKING:
    from ptyonnx.runs.run import Run
    from ptyonnx_bundles import AnyManifest, Bundle

__all__ = ["command"]

_SETTINGS_PER_LINE = 5


@click.command(cls=Verb)
@click.argument("bundle", type=click.Path(path_type=Path), metavar="BUNDLE|RUN")
def command(bundle: Path) -> None:
    """Show a bundle's network, training data, settings and digests.

    For a run, its directory, state and framework are shown first, then its bundle. A run without a bundle is
    refused: export it first.

    The digest covers the graph, weights, manifest, probe and self-test: compare it with the digest that the sender
    published. Two bundles compute the same function if their digests of weights and graph are equal.

    Example:
      ptyonnx inspect bundle.onnx
      ptyonnx inspect bundle.onnx --json | jq .manifest.physics
    """
    from ptyonnx.cli.tables import columns
    from ptyonnx.runs.run import Run, exported_bundle
    from ptyonnx_bundles import read_bundle

    with stage(f"reading {bundle}"):
        opened = read_bundle(exported_bundle(bundle))
    run = Run.open(bundle) if bundle.is_dir() else None
    description = _describe(opened) | ({} if run is None else {"run": _describe_run(run)})
    answer(description, lambda: columns(_rows(opened, description)))


def _describe(bundle: Bundle) -> dict[str, Any]:
    """Everything except the arrays, for JSON."""
    import numpy as np

    graph = bundle.graph
    return {
        "file": str(bundle.path),
        "bytes": len(bundle.model),
        "digest": bundle.digest,
        "parameters": _parameters(bundle),
        "nodes": len(graph.nodes),
        "opset": graph.opset,
        "ir_version": graph.ir_version,
        "inputs": [{"name": value.name, "dtype": value.dtype, "shape": list(value.shape)} for value in graph.inputs],
        "outputs": [{"name": value.name, "dtype": value.dtype, "shape": list(value.shape)} for value in graph.outputs],
        "probe": {"shape": list(bundle.probe.shape), "photons": float(np.sum(np.abs(bundle.probe) ** 2))},
        "selftest": {"groups": len(bundle.selftest.diffraction), "tolerance": bundle.selftest.tolerance},
        "manifest": bundle.manifest.model_dump(mode="json"),
    }


def _describe_run(run: Run) -> dict[str, str]:
    """Describe the run: where it is, how far its training came, and its framework."""
    message = f" ({run.record.message})" if run.record.message else ""
    return {"run": str(run.directory), "state": f"{run.progress}{message}", "framework": run.backend}


def _rows(bundle: Bundle, description: dict[str, Any]) -> Iterator[tuple[str, object]]:
    manifest = bundle.manifest
    physics, data = manifest.physics, manifest.training_data
    run = description.get("run", {})
    yield from run.items()
    yield "bundle" if run else "file", f"{description['file']}, {description['bytes'] / 1e6:.2f} MB"
    yield "protocol", f"{manifest.protocol} (opset {description['opset']}, IR version {description['ir_version']})"
    for side in ("inputs", "outputs"):
        for value in description[side]:
            yield side.removesuffix("s"), f"{value['name']} {value['dtype']} ({', '.join(map(str, value['shape']))})"
    yield (
        "network",
        f"{_network(manifest)}: {description['parameters']:,} parameters in {description['nodes']} nodes",
    )
    yield from _conventions(manifest)
    yield (
        "adopted with" if bundle.is_foreign else "trained with",
        ", ".join(f"{name} {version}" for name, version in manifest.producer.versions.items()),
    )
    yield "trained by" if run else "framework", manifest.producer.framework
    yield (
        "trained on",
        "unknown" if data is None else f"{data.name}, {data.patterns} patterns, digest {data.digest[:16]}…",
    )
    photons = physics.mean_photons
    yield (
        "photons",
        "unknown: amplitudes are not scaled" if photons is None else f"{photons:.4g} per pattern on average",
    )
    modes = f"{physics.probe_modes} mode(s) of" if physics.probe_modes else "unknown, taken from the scan;"
    yield "probe", f"{modes} {physics.N} x {physics.N}, gridsize {physics.gridsize}"
    if physics.wavelength_m:
        yield "wavelength", f"{physics.wavelength_m:.4g} m"
    if physics.object_pixel_size_m:
        yield "pixel size", f"{physics.object_pixel_size_m:.4g} m"
    for name, number in manifest.metrics.items():
        yield name, _epoch(manifest, number) if name == "epoch" else float(number)
    settings = [f"{name}={value}" for name, value in manifest.settings.items() if value is not None]
    for start in range(0, len(settings), _SETTINGS_PER_LINE):
        yield "" if start else "settings", ", ".join(settings[start : start + _SETTINGS_PER_LINE])
    yield "digest", bundle.digest
    yield "weights", manifest.digests.weights
    yield "graph", manifest.digests.graph
    yield "created", manifest.created.isoformat()
    yield "licence", manifest.licence
    if manifest.notes:
        yield "notes", manifest.notes


def _epoch(manifest: AnyManifest, epoch: float) -> str:
    """The epoch of the weights, beside the number of epochs that the training was to have."""
    epochs = manifest.settings.get("epochs")
    return f"{epoch:.0f}" if epochs is None else f"{epoch:.0f} of {epochs}"


def _parameters(bundle: Bundle) -> int:
    """Number of trained parameters; for a graph of another system, of all floating-point weights."""
    from ptyonnx_bundles import Manifest

    manifest = bundle.manifest
    if isinstance(manifest, Manifest):
        trained = manifest.recipe.weight_shapes()
        return sum(int(bundle.weights[name].size) for name in trained if name in bundle.weights)
    return sum(int(array.size) for array in bundle.weights.values() if array.dtype.kind == "f")


def _network(manifest: AnyManifest) -> str:
    from ptyonnx_bundles import Manifest

    if isinstance(manifest, Manifest):
        recipe = manifest.recipe
        return f"{recipe.name}, depth {recipe.depth}, filters x {recipe.filters_scale:g}"
    return f"network of {manifest.recipe.system}"


def _conventions(manifest: AnyManifest) -> Iterator[tuple[str, object]]:
    """Declared conventions of another system's network, one line for each."""
    import json

    from ptyonnx_bundles import ForeignManifest

    if isinstance(manifest, ForeignManifest):
        for part, convention in manifest.recipe.conventions.items():
            yield part, convention if isinstance(convention, str) else json.dumps(convention)
