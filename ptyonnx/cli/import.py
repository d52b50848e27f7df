"""The verb `import`: makes a run of either framework from a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from ptyonnx.cli.output import summary
from ptyonnx.cli.progress import stage
from ptyonnx.cli.verb import Verb

__all__ = ["command"]


@click.command(cls=Verb)
@click.argument("bundle", type=click.Path(path_type=Path), metavar="BUNDLE")
@click.option("--backend", metavar="NAME", help="Framework: tensorflow (tf) or pytorch (torch).")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Directory of the run. [runs/<bundle>-<backend>]",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing run.")
def command(bundle: Path, backend: str | None, output: Path | None, overwrite: bool) -> None:
    """Make a run of either framework from a bundle.

    The run contains the bundle's weights bit for bit, whichever framework trained them, and can be exported again.
    Before it is written, the framework's network runs the bundle's self-test with these weights. If the result
    exceeds the tolerance, nothing is written.

    A bundle does not contain the state of the optimiser, so such a run cannot be resumed. 'ptyonnx train --from
    BUNDLE' continues the training with a new optimiser.

    Example:
      ptyonnx import bundle.onnx --backend torch -o run
    """
    from ptyonnx import backends
    from ptyonnx.cli.framework import load_quietly
    from ptyonnx.cli.tables import columns
    from ptyonnx.exchange.importing import import_bundle
    from ptyonnx.runs.folder import check_replaceable, check_unlocked
    from ptyonnx.runs.run import exported_bundle
    from ptyonnx_bundles import check_directory, read_bundle
    from ptyonnx_bundles.errors import SettingsError

    if backend is None:
        raise SettingsError("missing", key="--backend", expected=f"one of {', '.join(backends.ALIASES)}")
    name = backends.canonical_name(backend)
    opened = read_bundle(exported_bundle(bundle))
    output = output or Path("runs") / f"{Path(opened.name).stem}-{name}"
    check_directory(output)
    check_unlocked(output)
    check_replaceable(output, overwrite=overwrite, source=opened.path, resumable=False)
    load_quietly(name, "engine")
    with stage(f"writing {output} and running its self-test"):
        run = import_bundle(opened, name, output, overwrite=overwrite)
    digests = opened.manifest.digests
    values = {"backend": run.backend, "run": run.directory, "weights": digests.weights, "graph": digests.graph}
    summary(values, lambda: columns(values.items()))
