"""The command line: it loads the file of a verb, runs it, and prints an error in one line.

Each verb has a file of its own, whose docstring is its help. Neither this file nor the top of a verb's file imports
large packages, so that the help appears at once.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

import click

from ptyonnx.cli.output import say, say_aside, say_lines
from ptyonnx.cli.verb import WithExamples, common_options

__all__ = ["VERBS", "main"]

VERBS = ("train", "export", "import", "adopt", "reconstruct", "diff", "parity", "inspect", "verify", "simulate")
REFUSED = 2  # exit code: an error that the user can correct
INTERRUPTED = 130  # exit code: 128 + SIGINT, as in shells


class Verbs(WithExamples, click.Group):
    """The verbs, each loaded from the file of its name."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Own options, those of every verb, help."""
        *own, help_option = super().get_params(ctx)
        return [*own, *common_options(with_json=False), help_option]

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name the verbs in the order of work."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Load one verb."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"ptyonnx.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, or suggest the nearest one."""
        verb = args[0]
        if verb not in VERBS and not verb.startswith("-"):
            import difflib

            near = difflib.get_close_matches(verb, VERBS, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"expected one of {', '.join(VERBS)}"
            ctx.fail(f"no such verb '{verb}'; {hint}")
        return super().resolve_command(ctx, args)


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from ptyonnx import __version__

        say(f"ptyonnx {__version__}")
        context.exit()


@click.group(
    cls=Verbs,
    subcommand_metavar="VERB ...",
    invoke_without_command=True,
    context_settings={"max_content_width": 100},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
@click.pass_context
def commands(context: click.Context) -> None:
    """Train a ptychography network, export it as one ONNX bundle, and reconstruct scans with it.

    Example, from a scan to an image:
      ptyonnx train --backend pytorch --data scan.npz -o run
      ptyonnx reconstruct run/bundle.onnx --data scan.npz -o result.h5 --plot result.png
    """
    if context.invoked_subcommand is None:
        say_lines(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command-line arguments; by default those of the process.

    Returns
    -------
    int
        Exit code: 0 success, 1 comparison not passed (`diff`, `parity`, `verify`), 2 error, 130 interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # NumPy's BLAS starts one thread per core when it is loaded; the matrix products here are too small to need them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        outcome = commands.main(given, prog_name="ptyonnx", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        if "--debug" in given:
            traceback.print_exception(error)
        say_aside(f"ptyonnx: error: {' '.join(error.format_message().split())}")
        return REFUSED
    except click.Abort as stop:
        reason = str(stop.__cause__ or "")
        say_aside(f"ptyonnx: interrupted; {reason or 'no incomplete file was left'}")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # discards what is still buffered
        return 0
    return outcome if isinstance(outcome, int) else 0
