"""The verb `adopt`: makes a bundle from a network of another system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptyonnx.cli.output import summary
from ptyonnx.cli.progress import stage
from ptyonnx.cli.verb import Verb, with_limit

if TYPE_CHECKING:
    from ptyonnx_bundles import Bundle
    from ptyonnx_converters.foreign.declaration import Declaration

__all__ = ["command"]

_PATH = click.Path(path_type=Path)


@click.command(cls=Verb)
@click.argument("file", type=_PATH, metavar="FILE")
@click.option("-o", "--output", type=_PATH, required=True, metavar="FILE", help="The bundle to write.")
@click.option(
    "--probe",
    "probe_file",
    type=_PATH,
    metavar="FILE",
    help="Probe: .npz, .npy, .h5 or a bundle. [the probe of each scan]",
)
@click.option(
    "--system",
    metavar="NAME",
    help="System that trained it. ptychonn and ptychovit set the conventions that are known.",
)
@click.option(
    "--input", "input_name", metavar="NAME", help="Name of the input for patterns, if there are several inputs."
)
@click.option("--values", metavar="KIND", help="Input of the network: amplitude or intensity.")
@click.option("--zero-frequency", metavar="PLACE", help="Zero frequency of the input: centre or corner.")
@click.option(
    "--scale", metavar="RULE", help="Scale of the input: factor=F, norm=N,times=T (counts / N x T), or maximum."
)
@click.option("--limit", metavar="RULE", help="Treatment of large counts: none, zero-above=COUNTS or clip=COUNTS.")
@click.option(
    "--transform",
    metavar="KIND",
    help="Applied to the input before the network: none, log1p or log10p (log10 of 1 + x).",
)
@click.option("--mean-photons", metavar="NUMBER", help="Mean photons per pattern of the training scans, or unknown.")
@click.option(
    "--amplitude",
    metavar="OUTPUT",
    help="Output that contains the amplitude, OUTPUT@CHANNEL; or one, if it is constant.",
)
@click.option("--phase", metavar="OUTPUT", help="Output that contains the phase in rad, OUTPUT@CHANNEL; or zero.")
@click.option("--real", metavar="OUTPUT", help="Output that contains the real part, instead of amplitude and phase.")
@click.option("--imaginary", metavar="OUTPUT", help="Output that contains the imaginary part.")
@click.option(
    "--object", metavar="OUTPUT", help="Output whose last axis contains real and imaginary part, instead of all four."
)
@click.option(
    "--size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Pixels of a pattern along one side, if the file does not state them.",
)
@click.option(
    "--gridsize",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="gridsize^2 patterns form one input; if the file does not state it.",
)
@click.option(
    "--probe-big",
    "--probe_big",
    type=bool,
    metavar="true|false",
    help="For an older PtychoPINN bundle from PyTorch: its setting probe_big.",
)
@click.option(
    "--amp-activation",
    "--amp_activation",
    metavar="NAME",
    help="For an older PtychoPINN bundle from PyTorch: sigmoid or silu.",
)
@click.option("--licence", "--license", metavar="TEXT", help="Licence of the weights, for the manifest.")
@click.option("--notes", default="", metavar="TEXT", help="Notes for the manifest.")
@with_limit
def command(file: Path, output: Path, probe_file: Path | None, **options: Any) -> None:
    """Make a bundle from a network that another system trained.

    FILE is an ONNX network that maps diffraction patterns to images, or a PtychoPINN wts.h5.zip. An ONNX file does
    not state its conventions (intensity or amplitude, scale, zero frequency, meaning of the outputs). Declare them
    with the options below; an error names those that are missing. The bundle is compared with the original network.
    If they differ by more than the tolerance, nothing is written.

    Example:
      ptyonnx adopt wts.h5.zip -o bundle.onnx --probe scan.npz
      ptyonnx adopt model.onnx -o bundle.onnx --system ptychonn --zero-frequency centre --scale factor=1 --mean-photons unknown
      ptyonnx adopt vit.onnx -o bundle.onnx --system ptychovit --zero-frequency corner --scale norm=25000,times=10000 --mean-photons unknown
    """
    from ptyonnx.exchange.adopting import adopt
    from ptyonnx.exchange.output_path import check_onnx_path
    from ptyonnx.formats.probes import load_probe
    from ptyonnx_bundles import check_apart

    check_apart(output, file, probe_file)
    check_onnx_path(output)
    declaration = _declaration(options)
    probe = None if probe_file is None else load_probe(probe_file)
    others = {name: options[name] for name in ("probe_big", "amp_activation", "licence", "notes", "limit_s")}
    with stage(f"converting {file} and running it beside the original"):
        bundle = adopt(file, output, declaration, probe=probe, **others)
    values = _values(bundle)
    summary(values, lambda: _rows(values))


def _values(bundle: Bundle) -> dict[str, Any]:
    physics, digests = bundle.manifest.physics, bundle.manifest.digests
    return {
        "bundle": bundle.path, "trained_with": bundle.trained_with, "N": physics.N, "gridsize": physics.gridsize,
        "nodes": len(bundle.graph.nodes), "probe_modes": len(bundle.probe), "mean_photons": physics.mean_photons,
        "compared_with": _compared(bundle), "tolerance": bundle.selftest.tolerance, "digest": bundle.digest,
        "weights": digests.weights, "graph": digests.graph,
    }  # fmt: skip


def _rows(values: dict[str, Any]) -> Iterator[str]:
    modes, photons = values["probe_modes"], values["mean_photons"]
    yield f"bundle    {values['bundle']}"
    yield f"network   {values['trained_with']}, N = {values['N']}, gridsize {values['gridsize']}, {values['nodes']} nodes"
    yield f"probe     {f'{modes} mode(s)' if modes else 'unknown: every scan must contain its own'}"
    yield f"photons   {'unknown: amplitudes are not scaled' if photons is None else f'{photons:.4g} per pattern'}"
    yield f"self-test {values['compared_with']}, within {values['tolerance']:.2g} for one and for several patterns"
    yield f"digest    {values['digest']}"
    yield f"weights   {values['weights']}"
    yield f"graph     {values['graph']}"


def _declaration(options: dict[str, Any]) -> Declaration:
    from ptyonnx_converters.foreign.declaration import (
        ONE,
        UNKNOWN,
        ZERO,
        Declaration,
        Limit,
        Scale,
        Source,
        positive,
    )

    def source(part: str) -> Source | None:
        text = options[part]
        return None if text is None else Source.parse(text, part)

    photons, amplitude, phase = (options[name] for name in ("mean_photons", "amplitude", "phase"))
    return Declaration(
        system=options["system"],
        input=options["input_name"],
        values=options["values"],
        zero_frequency=options["zero_frequency"],
        scale=None if options["scale"] is None else Scale.parse(options["scale"]),
        limit=None if options["limit"] is None else Limit.parse(options["limit"]),
        transform=options["transform"],
        mean_photons=photons if photons in (None, UNKNOWN) else positive(photons, "mean_photons"),
        amplitude=ONE if amplitude == ONE else source("amplitude"),
        phase=ZERO if phase == ZERO else source("phase"),
        real=source("real"),
        imaginary=source("imaginary"),
        object=source("object"),
        N=options["size"],
        gridsize=options["gridsize"],
    )


def _compared(bundle: Bundle) -> str:
    """Describe what the bundle was compared with."""
    from ptyonnx_bundles import ForeignManifest

    manifest = bundle.manifest
    return str(manifest.recipe.conventions["selftest"]) if isinstance(manifest, ForeignManifest) else ""
