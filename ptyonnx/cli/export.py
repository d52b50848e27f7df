"""The verb `export`: a run in, a bundle out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ptyonnx.cli.verb import Verb, with_debug

if TYPE_CHECKING:
    from ptyonnx.run import Checkpoint

__all__ = ["command"]


@click.command(cls=Verb)
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="The bundle. [RUN/bundle.onnx]")
@click.option(
    "--checkpoint", type=click.Choice(["last", "best"]), default="last", help="Best: lowest validation loss. [last]"
)
@click.option("--licence", "--license", metavar="TEXT", help="Licence of the weights, for the manifest.")
@click.option("--notes", default="", metavar="TEXT", help="Notes for the manifest.")
@with_debug
def command(run: Path, output: Path | None, checkpoint: Checkpoint, licence: str | None, notes: str) -> None:
    """Write the weights of a run as a bundle.

    The exported graph is run beside the native network; beyond tolerance nothing is written.

    Example:
      ptyonnx export run -o siemens_star.onnx --licence CC-BY-4.0
    """
    from ptyonnx.cli.framework import load_quietly
    from ptyonnx.exporting import export
    from ptyonnx.run import Run
    from ptyonnx_bundles import check_writable

    opened = Run.open(run)
    output = output or run / "bundle.onnx"
    check_writable(output)
    load_quietly(opened.backend)
    bundle = export(opened, output, which=checkpoint, licence=licence, notes=notes)
    click.echo(f"bundle    {bundle.path}")
    click.echo(f"weights   {bundle.manifest.digests.weights}")
    click.echo(f"graph     {bundle.manifest.digests.graph}")
