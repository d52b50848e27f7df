"""The verb `verify`: runs a bundle's self-test on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from ptyonnx.cli.output import answer
from ptyonnx.cli.progress import stage
from ptyonnx.cli.verb import Verb, with_limit

__all__ = ["command"]

_FAILED = 1  # exit code


@click.command(cls=Verb)
@click.argument("bundle", type=click.Path(path_type=Path), metavar="BUNDLE|RUN")
@click.option(
    "--provider",
    default="auto",
    metavar="NAME",
    help="Device of onnxruntime: auto, cpu, cuda, tensorrt, openvino … [auto]",
)
@click.option(
    "--threads", type=click.IntRange(min=0), default=0, metavar="NUMBER", help="CPU threads; 0: one per core. [0]"
)
@with_limit
def command(bundle: Path, provider: str, threads: int, limit_s: float) -> int:
    """Check a bundle and run its self-test on this machine.

    The digests are checked first. The self-test compares the reconstruction of stored patterns with the result that the bundle recorded when it was
    made. The exit code is 1 if the difference exceeds the bundle's tolerance.

    Example:
      ptyonnx verify bundle.onnx --provider cpu
    """
    from ptyonnx.runs.run import exported_bundle
    from ptyonnx_bundles import read_bundle
    from ptyonnx_runtime.inference.verify import verify

    with stage(f"checking {bundle}") as show:
        opened = read_bundle(exported_bundle(bundle))
        show("running the self-test")
        found = verify(opened, provider, threads, limit_s=limit_s)
    reference = "the result recorded when it was adopted" if opened.is_foreign else "the native network"
    answer(
        {**vars(found), "passed": found.passed},
        f"{bundle}: digests match; on {found.provider} the self-test differs by {found.difference:.2g} "
        f"from {reference} (tolerance {found.tolerance:.2g}): {'passed' if found.passed else 'FAILED'}",
    )
    return 0 if found.passed else _FAILED
