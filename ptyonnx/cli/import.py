"""The verb `import`: a bundle in, a run of either framework out."""

from __future__ import annotations

from pathlib import Path

import click

from ptyonnx.cli.output import summary
from ptyonnx.cli.progress import stage
from ptyonnx.cli.verb import Verb

__all__ = ["command"]


@click.command(cls=Verb)
@click.argument("bundle", type=click.Path(path_type=Path), metavar="BUNDLE")
@click.option("--backend", metavar="NAME", help="tensorflow (tf) or pytorch (torch).")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="The run. [runs/<bundle>-<backend>]"
)
@click.option("--overwrite", is_flag=True, help="Replace a run that stands there.")
def command(bundle: Path, backend: str | None, output: Path | None, overwrite: bool) -> None:
    """Make a run of either framework from a bundle.

    The run holds the bundle's weights bit for bit, whichever framework trained them, and can be exported again. The
    framework's own network is given the weights and runs the bundle's self-test first; where it computes something
    else, nothing is written.

    The state of an optimiser does not travel in a bundle: such a run cannot be resumed. 'ptyonnx train --from BUNDLE'
    goes on training, with a new optimiser.

    Example:
      ptyonnx import bundle.onnx --backend torch -o run
    """
    from ptyonnx import backends
    from ptyonnx.cli.framework import load_quietly
    from ptyonnx.cli.tables import columns
    from ptyonnx.exchange.importing import import_bundle
    from ptyonnx.runs.folder import check_room, check_unused
    from ptyonnx.runs.run import exported_bundle
    from ptyonnx_bundles import check_directory, read_bundle
    from ptyonnx_bundles.errors import SettingsError

    if backend is None:
        raise SettingsError("missing", key="--backend", expected=f"one of {', '.join(backends.ALIASES)}")
    name = backends.canonical_name(backend)
    opened = read_bundle(exported_bundle(bundle))
    output = output or Path("runs") / f"{Path(opened.name).stem}-{name}"
    check_directory(output)
    check_unused(output)
    check_room(output, overwrite=overwrite, source=opened.path)
    load_quietly(name, "engine")
    with stage(f"writing {output} and running its self-test"):
        run = import_bundle(opened, name, output, overwrite=overwrite)
    digests = opened.manifest.digests
    values = {"backend": run.backend, "run": run.directory, "weights": digests.weights, "graph": digests.graph}
    summary(values, lambda: columns(values.items()))
