"""The verb `verify`: whether a bundle computes here what it computed at home."""

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
@click.option("--provider", default="auto", metavar="NAME", help="auto, cpu, cuda, tensorrt, openvino … [auto]")
@click.option("--threads", type=click.IntRange(min=0), default=0, metavar="NUMBER", help="0: as many as cores. [0]")
@with_limit
def command(bundle: Path, provider: str, threads: int, limit_s: float) -> int:
    """Check a bundle and run its self-test on this machine. Exit code 1 if it fails.

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
    home = "what was recorded when it was adopted" if opened.is_foreign else "the native network"
    answer(
        {**vars(found), "passed": found.passed},
        f"{bundle}: digests are right; on {found.provider} the self-test is {found.difference:.2g} "
        f"from {home}, {found.tolerance:.2g} allowed: {'passed' if found.passed else 'FAILED'}",
    )
    return 0 if found.passed else _FAILED
