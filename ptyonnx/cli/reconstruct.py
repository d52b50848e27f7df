"""The verb `reconstruct`: a bundle and a scan in, an object out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptyonnx.cli.output import note, summary
from ptyonnx.cli.plotting import PLOT_OPTIONS, plot_arguments, with_plot_options
from ptyonnx.cli.progress import bars, stage
from ptyonnx.cli.verb import Verb, with_limit

if TYPE_CHECKING:
    from ptyonnx.results.reconstruction import Reconstruction
    from ptyonnx_bundles import Bundle
    from ptyonnx_runtime.inference.engine import Engine

__all__ = ["command"]

_PATH = click.Path(path_type=Path)
_STAGES = {
    "network": ("running the network", "group"),
    "stitching": ("stitching", "patch"),
    "residual": ("computing the residual", "pattern"),
}
_OBSOLETE = ("config", "n_images", "n_groups", "n_subsample", "subsample_seed", "neighbor_count")


def _ptychopinn(function: Any) -> Any:
    """Accept PtychoPINN's flags that choose a part of the scan."""
    for name in _OBSOLETE:
        function = click.option(f"--{name.replace('_', '-')}", name, hidden=True)(function)
    return function


class ReconstructVerb(Verb):
    """Lists the options of the picture in a section of their own."""

    def sections(self, options: Sequence[click.Option]) -> Iterable[tuple[str, Sequence[click.Option]]]:
        """Titles and options of the two sections."""
        yield "Options", [option for option in options if option.name not in PLOT_OPTIONS]
        yield "Picture", [option for option in options if option.name in PLOT_OPTIONS]


@click.command(cls=ReconstructVerb)
@click.argument("bundle", type=_PATH, required=False, metavar="BUNDLE")
@click.option("--data", "--test-data", type=_PATH, metavar="FILE", help="The scan.")
@click.option("-o", "--output", type=_PATH, metavar="FILE", help="The result, .h5 or .npz; optional with --plot.")
@click.option(
    "--engine", metavar="NAME", help="onnxruntime, or the bundle's weights in torch or tensorflow. [onnxruntime]"
)
@click.option("--provider", default="auto", metavar="NAME", help="auto, cpu, cuda, tensorrt, openvino … [auto]")
@click.option("--threads", type=click.IntRange(min=0), default=0, metavar="NUMBER", help="0: as many as cores. [0]")
@click.option("--batch-size", type=click.IntRange(min=1), metavar="NUMBER", help="Groups of patterns in a batch.")
@click.option(
    "--flux",
    default="match",
    metavar="KIND",
    help="match: scale amplitudes to the bundle's photons; as-is: do not. [match]",
)
@click.option(
    "--phases",
    default="auto",
    metavar="KIND",
    help="Where global phases of patches come from: overlap, network or auto. [auto]",
)
@click.option("--values", metavar="KIND", help="What the patterns are: amplitude or intensity.")
@click.option("--axes", metavar="ORDER", help="Order of the patterns' axes in the file, such as yxn.")
@click.option("--zero-frequency", metavar="PLACE", help="Its place in the patterns of the file: centre or corner.")
@with_plot_options
@click.option("--backend", hidden=True)
@click.option("--model-path", type=_PATH, hidden=True)
@click.option("--output-dir", type=_PATH, hidden=True)
@_ptychopinn
@with_limit
def command(bundle: Path | None, data: Path | None, **options: Any) -> None:
    """Reconstruct the object of a scan with a bundle.

    The network runs in onnxruntime or, with --engine, in a training framework, which need not be the one that it was
    trained in. Weights, grouping, stitching and residual are the same.

    Example:
      ptyonnx reconstruct bundle.onnx --data scan.npz -o result.h5 --plot result.png
      ptyonnx reconstruct bundle.onnx --data scan.npz --plot phase.png --panels phase --range phase=-0.5,0.5
      ptyonnx reconstruct bundle.onnx --data scan.npz -o result.h5 --engine torch
      ptyonnx reconstruct --model_path run --test_data scan.npz --output_dir out --backend tensorflow
    """
    from time import perf_counter

    from ptyonnx.formats import load_scan
    from ptyonnx.results.reconstruction import reconstruct
    from ptyonnx.runs.run import exported_bundle
    from ptyonnx_bundles import read_bundle
    from ptyonnx_bundles.errors import SettingsError

    for name in _OBSOLETE:
        if options[name] is not None:
            note(f"{name} has no effect here: the bundle contains the settings, and every pattern is used")
    if data is None:
        raise SettingsError("missing", key="--data", remedy="name the scan to reconstruct: --data scan.npz")
    name = _engine_name(options["engine"], options["backend"])
    source = bundle or options["model_path"]
    if source is None:
        raise SettingsError("missing", key="BUNDLE", remedy="name the bundle: ptyonnx reconstruct bundle.onnx …")
    for used, other in ((bundle, "model_path"), (options["output"], "output_dir")):
        if used is not None and options[other] is not None:
            raise SettingsError(f"no effect, because {used} is given", key=other, remedy="give one of them")
    source = exported_bundle(source)
    output, plot = _outputs(options, data, source)
    drawn = plot_arguments(options, plot)
    declared = {name: options[name] for name in ("values", "axes", "zero_frequency")}
    with stage(f"reading {source}") as show:
        opened = read_bundle(source)
        show(f"reading {data}")
        scan = load_scan(data, **declared)
    engine = _engine(opened, name, options)
    start = perf_counter()
    with bars("preparing the network", _STAGES) as stages:
        result = reconstruct(
            opened,
            scan,
            provider=options["provider"],
            threads=options["threads"],
            batch_size=options["batch_size"],
            flux=options["flux"],
            phases=options["phases"],
            stages=stages,
            engine=engine,
            limit_s=options["limit_s"],
        )
    seconds = perf_counter() - start
    _write(result, output, plot, drawn, declared)
    values = {
        "r_factor": result.r_factor, "vacuum_r_factor": result.vacuum_r_factor, "patterns": len(scan),
        "seconds": seconds, "provider": result.provider, "engine": result.engine, "photons": result.flux,
        "result": output, "picture": plot,
    }  # fmt: skip
    summary(values, lambda: _rows(values))


def _write(
    result: Reconstruction,
    output: Path | None,
    plot: Path | None,
    drawn: dict[str, Any],
    declared: dict[str, str | None],
) -> None:
    """Write result and picture, with a note if the object explains the patterns hardly better than vacuum."""
    if output is not None:
        with stage(f"writing {output}"):
            result.save(output)
    if result.is_hardly_better_than_vacuum:
        flags = ("values", "zero_frequency")
        given = [f"--{name.replace('_', '-')} {declared[name]}" for name in flags if declared[name] is not None]
        note(
            "the object explains the patterns hardly better than vacuum does, or worse; check "
            f"{''.join(f'{each}, ' for each in given)}the orientation of the "
            "patterns (axes and positions may be swapped or mirrored), the unit of the positions (object pixels), and "
            "whether the bundle is for this kind of sample; with very few photons no object explains much"
        )
    if plot is not None:
        with stage(f"drawing {plot}"):
            result.plot(plot, **drawn)


def _rows(values: dict[str, Any]) -> Iterator[str]:
    patterns, seconds, engine = values["patterns"], values["seconds"], values["engine"]
    where = values["provider"] if engine == "onnxruntime" else f"{values['provider']} in {engine}"
    yield f"R-factor  {values['r_factor']:.4f}  (vacuum {values['vacuum_r_factor']:.4f})"
    yield f"speed     {patterns / seconds:.0f} patterns/s  ({patterns} in {seconds:.2f} s on {where})"
    yield f"photons   {values['photons']}"
    if values["result"] is not None:
        yield f"result    {values['result']}"
    if values["picture"] is not None:
        yield f"picture   {values['picture']}"


def _engine_name(engine: str | None, backend: str | None) -> str:
    """The engine to use; ``--backend`` is PtychoPINN's option for a framework."""
    from ptyonnx.backends import canonical_name
    from ptyonnx.backends.engines import canonical_engine
    from ptyonnx_bundles.errors import SettingsError

    named = canonical_engine("onnxruntime" if engine is None else engine)
    if backend is None:
        return named
    framework = canonical_name(backend)
    if engine is not None and named != framework:
        raise SettingsError(
            "values contradict each other",
            key="--engine, --backend",
            found=f"{engine} and {backend}",
            remedy="give one of them",
        )
    return framework


def _engine(bundle: Bundle, name: str, options: dict[str, Any]) -> Engine | str:
    """Open a framework's engine without showing its greetings; onnxruntime has none and is opened by its name."""
    if name == "onnxruntime":
        return name
    from ptyonnx.cli.framework import open_quietly

    return open_quietly(bundle, name, provider=options["provider"], threads=options["threads"])


def _outputs(options: dict[str, Any], *sources: Path) -> tuple[Path | None, Path | None]:
    """The paths of result and picture, checked before anything is computed; ``--output-dir`` gets both."""
    from ptyonnx.formats import check_result_path
    from ptyonnx_bundles import check_apart
    from ptyonnx_bundles.errors import SettingsError

    output, directory, plot = options["output"], options["output_dir"], options["plot"]
    if output is None and directory is not None:
        output, plot = directory / "reconstruction.h5", plot or directory / "reconstruction.png"
    if output is None and plot is None:
        raise SettingsError("missing", key="output, plot", remedy="name the result or a picture, or both: -o result.h5")
    if output is not None:
        check_apart(output, *sources)
        check_result_path(output)
    if plot is not None:
        from ptyonnx.results.picture import check_picture_path

        check_apart(plot, *sources)
        check_picture_path(plot)
    return output, plot
