"""The verb `export`: writes a run as a bundle, or a run or bundle as a file for another program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptyonnx.cli.output import note, summary
from ptyonnx.cli.progress import stage
from ptyonnx.cli.verb import Verb, with_limit

if TYPE_CHECKING:
    from ptyonnx.runs.run import Checkpoint, Run

__all__ = ["command"]

_FOR_PROFILES, _FOR_BUNDLES = "add --profile ptychovit", "give it when the bundle is exported"
_OPTIONS = {  # option -> outputs that it affects, and the remedy for the others
    "checkpoint": ({"bundle", "autoencoder"}, "export the checkpoint's bundle first, and give that"),
    "licence": ({"bundle"}, _FOR_BUNDLES),
    "notes": ({"bundle"}, _FOR_BUNDLES),
    "batch": ({"profile"}, _FOR_PROFILES),
    "norm": ({"profile"}, _FOR_PROFILES),
    "zero_frequency": ({"profile"}, _FOR_PROFILES),
    "limit_s": ({"profile"}, _FOR_PROFILES),
}


@click.command(cls=Verb)
@click.argument("source", type=click.Path(path_type=Path), metavar="RUN|BUNDLE")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="The file to write. [RUN/bundle.onnx]"
)
@click.option(
    "--graph",
    type=click.Choice(["bundle", "autoencoder"]),
    default="bundle",
    help="bundle, or autoencoder: the network and its forward model in one file. [bundle]",
)
@click.option(
    "--checkpoint",
    type=click.Choice(["last", "best"]),
    default="last",
    help="Epoch to export; best: lowest validation loss. [last]",
)
@click.option("--licence", "--license", metavar="TEXT", help="Licence of the weights, for the manifest.")
@click.option("--notes", default="", metavar="TEXT", help="Notes for the manifest.")
@click.option("--profile", metavar="NAME", help="Write a file for another system instead of a bundle: ptychovit.")
@click.option("--batch", type=click.IntRange(min=1), metavar="NUMBER", help="With --profile: patterns per call.")
@click.option("--norm", type=float, metavar="NUMBER", help="With --profile: divisor of the counts. [10000]")
@click.option(
    "--zero-frequency",
    metavar="PLACE",
    help="With --profile: position of the zero frequency, centre or corner. [centre]",
)
@with_limit
def command(
    source: Path,
    *,
    output: Path | None,
    graph: str,
    checkpoint: Checkpoint,
    licence: str | None,
    notes: str,
    **profile: Any,
) -> None:
    """Write the weights of a run as a bundle.

    The exported graph is compared with the framework's network. If they differ by more than the tolerance, nothing is
    written.

    --graph autoencoder writes an ordinary ONNX file, not a bundle, that contains the network, the probe and the
    forward model. Its input is 'diffraction' (with gridsize > 1, also 'positions'); its outputs are 'object' and the
    predicted 'amplitude'. --profile writes a file that another system can load. Both accept a run or a bundle.

    Example:
      ptyonnx export run -o siemens_star.onnx --licence CC-BY-4.0
      ptyonnx export bundle.onnx --graph autoencoder -o autoencoder.onnx
      ptyonnx export bundle.onnx --profile ptychovit --batch 64 -o vit.onnx
    """
    mode = graph if profile["profile"] is None else "profile"
    _check_options(click.get_current_context(), mode, source)
    if mode == "profile":
        _profile(source, output, profile)
    elif mode == "autoencoder":
        _autoencoder(source, output, checkpoint)
    else:
        _bundle(source, output, checkpoint, licence=licence, notes=notes)


def _check_options(context: click.Context, mode: str, source: Path) -> None:
    """Refuse options that have no effect on the output."""
    from ptyonnx_bundles.errors import SettingsError

    default = click.core.ParameterSource.DEFAULT
    given = {name for name in context.params if context.get_parameter_source(name) is not default}
    if {"profile", "graph"} <= given:
        raise SettingsError("contradict each other", key="--profile, --graph", remedy="give one of them")
    for name in sorted(given & _OPTIONS.keys()):
        modes, remedy = _OPTIONS[name]
        if mode not in modes:
            option = f"--{name.replace('_', '-')}"
            raise SettingsError(f"only for {' and '.join(sorted(modes))}", key=option, found=mode, remedy=remedy)
    if "checkpoint" in given and source.is_file():
        raise SettingsError(
            "a bundle has one set of weights", file=source, key="--checkpoint", remedy="leave it out, or give the run"
        )


def _check_output(output: Path, bundle: Path | None) -> None:
    """Refuse to overwrite the source bundle with a file that is not a bundle, and another suffix than .onnx."""
    from ptyonnx.exchange.output_path import check_onnx_path
    from ptyonnx_bundles import check_apart

    check_apart(output, bundle)
    check_onnx_path(output)


def _bundle(source: Path, output: Path | None, checkpoint: Checkpoint, *, licence: str | None, notes: str) -> None:
    """Write a run's weights as a bundle."""
    from ptyonnx.cli.framework import load_quietly
    from ptyonnx.exchange.exporting import export
    from ptyonnx.exchange.output_path import check_onnx_path
    from ptyonnx.runs.run import Run
    from ptyonnx_bundles.errors import RunError

    if source.is_file():
        raise RunError(
            "a file, not a run: a bundle need not be exported", file=source,
            remedy="add --graph autoencoder or --profile ptychovit, which accept a bundle",
        )  # fmt: skip
    opened = Run.open(source)
    output = output or source / "bundle.onnx"
    check_onnx_path(output)
    load_quietly(opened.backend)
    with stage(f"exporting {output}"):
        bundle = export(opened, output, which=checkpoint, licence=licence, notes=notes)
    _note_partial(opened)
    digests = bundle.manifest.digests
    _summarize({"bundle": bundle.path, "digest": bundle.digest, "weights": digests.weights, "graph": digests.graph}, {})


def _profile(source: Path, output: Path | None, profile: dict[str, Any]) -> None:
    """Write a file for another system."""
    from ptyonnx.exchange.profiles import export_profile
    from ptyonnx.runs.run import exported_bundle
    from ptyonnx_bundles import read_bundle
    from ptyonnx_bundles.errors import SettingsError
    from ptyonnx_bundles.zero_frequency import PLACES

    for key, value in (("-o", output), ("--batch", profile["batch"])):
        if value is None:
            raise SettingsError("missing", key=key, remedy="a profile needs a file and a number of patterns per call")
    bundle = read_bundle(exported_bundle(source))
    path, norm = Path(str(output)), 1e4 if profile["norm"] is None else profile["norm"]
    place = profile["zero_frequency"] or "centre"
    _check_output(path, bundle.path)
    choices = {"batch": profile["batch"], "norm": norm, "limit_s": profile["limit_s"]}
    with stage(f"writing {path}"):
        export_profile(bundle, path, profile["profile"], zero_frequency=place, **choices)
    photons, N = bundle.manifest.physics.mean_photons, bundle.manifest.physics.N
    modes, batch = len(bundle.probe), profile["batch"]
    exposure = "" if photons is None else f" x mean counts per pattern / {photons:.4g}"
    _summarize(
        {
            "file": path, "input": [batch, 1, N, N], "output": [batch, 2, N, N], "zero_frequency": PLACES[place],
            "probe_modes": modes, "norm": norm, "mean_photons": photons,
        },
        {
            "input": f"input [{batch}, 1, {N}, {N}]: sqrt(counts / norm * 1e4), zero frequency at the {PLACES[place]}",
            "output": f"output [{batch}, 2, {N}, {N}]: amplitude, phase (rad)",
            "probe": f"probe_real, probe_imag [{N}, {N}]: the strongest of {modes} mode(s)"
            if modes
            else "not in the bundle: the pipeline can neither check the orientation nor crop to the probe",
            "norm": f"{norm:g}{exposure}",
        },
    )  # fmt: skip


def _autoencoder(source: Path, output: Path | None, checkpoint: Checkpoint) -> None:
    """Write the network inside its forward model."""
    from ptyonnx.cli.framework import load_quietly
    from ptyonnx.exchange.autoencoder import AMPLITUDE_TOLERANCE, OBJECT_TOLERANCE, export_autoencoder
    from ptyonnx.runs.run import Run
    from ptyonnx_bundles import read_bundle

    opened = Run.open(source) if source.is_dir() else read_bundle(source)
    output = output or (source / "autoencoder.onnx" if source.is_dir() else source.with_suffix(".autoencoder.onnx"))
    _check_output(output, opened.bundle if isinstance(opened, Run) else opened.path)
    if isinstance(opened, Run):
        load_quietly(opened.backend, "autoencoder")
    with stage(f"exporting {output}"):
        written = export_autoencoder(opened, output, which=checkpoint)
    if isinstance(opened, Run):
        _note_partial(opened)
    _summarize(
        {
            "file": written.path, "compared_with": written.reference,
            "object_difference": written.object_difference, "object_tolerance": OBJECT_TOLERANCE,
            "amplitude_difference": written.amplitude_difference, "amplitude_tolerance": AMPLITUDE_TOLERANCE,
        },
        {
            "object": f"differs by {written.object_difference:.2g} from {written.reference} (tolerance {OBJECT_TOLERANCE:g})",
            "amplitude": f"differs by {written.amplitude_difference:.2g} of its maximum (tolerance {AMPLITUDE_TOLERANCE:g})",
        },
    )  # fmt: skip


def _note_partial(run: Run) -> None:
    """Say that the exported weights are those of an unfinished training."""
    if run.is_partial:
        note(f"{run.directory}: {run.progress}; the exported weights are not those of a complete training")


def _summarize(values: dict[str, Any], sentences: dict[str, str]) -> None:
    """Print a summary: as text, the file and the sentences, or all values if there are none."""
    from itertools import islice

    rows = dict(islice(values.items(), 1)) | sentences if sentences else values
    summary(values, lambda: (f"{name:<9} {value}" for name, value in rows.items()))
