"""What all verbs have in common: spelling of flags, `--debug`, notes, and errors in one line."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ptyonnx.cli.output import note

if TYPE_CHECKING:
    from ptyonnx_bundles.errors import PtyonnxError

__all__ = ["Refusal", "Verb", "WithExamples", "with_debug", "with_limit"]

F = TypeVar("F", bound=Callable[..., Any])

# What libraries call otherwise than the verbs that have a flag for it.
_OTHER_NAMES = {
    "scan": "data",
    "initial": "source",
    "input": "input_name",
    "probe": "probe_file",
    "N": "size",
    "timeout_s": "timeout",
}
# values="intensity", limit_s=60, resume=True, axes=…, phase=OUTPUT@CHANNEL|zero
_SAID = re.compile(r'(?<!--set )(?<![\w-])(\w+)=(?:"([^"\s]+)"|(True)\b|(…)|([\w|@+-]+(?:\.\w+)*))')
_LOGGERS = ("ptyonnx", "ptyonnx_bundles", "ptyonnx_converters", "ptyonnx_runtime")


class Refusal(click.ClickException):
    """An error that the user can mend, on its way to the last line on stderr."""


class WithExamples(click.Command):
    """Help is the docstring; a paragraph that begins with "Example" keeps its lines."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the docstring."""
        with formatter.indentation():
            for paragraph in cleandoc(self.help or "").split("\n\n"):
                formatter.write_paragraph()
                if paragraph.startswith("Example"):
                    formatter.write("".join(f"  {line}\n" for line in paragraph.splitlines()))
                else:
                    formatter.write_text(paragraph)


class Verb(WithExamples):
    """A command that takes ``--train_data`` for ``--train-data`` and reports errors in one line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, whatever the spelling, and refuse what is not text before anything is done with it."""
        rest = super().parse_args(ctx, [_hyphenated(argument) for argument in args])
        for parameter in self.get_params(ctx):
            _check_text(parameter, ctx.params.get(parameter.name or ""))
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb and turn what the user can mend into a refusal."""
        from ptyonnx_bundles.errors import PtyonnxError

        try:
            with _log_on_stderr(ctx):
                return super().invoke(ctx)
        except PtyonnxError as error:
            raise Refusal(_shown(error, ctx)) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            raise Refusal(f"{place}{error.strerror or error}") from error


def with_debug(function: F) -> F:
    """Add ``--debug``; :func:`ptyonnx.cli.main` looks for it."""
    return click.option("--debug", is_flag=True, expose_value=False, help="Show the trace of an error.")(function)


def with_limit(function: F) -> F:
    """Add ``--limit-s`` to a verb that may run a foreign graph."""
    return click.option(
        "--limit-s",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        default=60.0,
        help="That a network of another system may take for a batch. [60]",
    )(function)


def _shown(error: PtyonnxError, ctx: click.Context) -> str:
    """An error's line, in which flags are named where a library names its parameters; what was found stays as it is."""
    from ptyonnx_bundles.errors import SettingsError

    flags, shown = _flags(ctx), copy.copy(error)
    for part in ("problem", "expected", "remedy"):
        said = getattr(error, part)
        if isinstance(said, str):
            setattr(shown, part, _with_flags(said, flags))
    config = ctx.params.get("config")  # whose keys are not flags
    if isinstance(error, SettingsError) and error.key and not (config and error.file == str(config)):
        names = error.key.split(", ")
        if all(name in flags for name in names):
            shown.key = ", ".join(flags[name].opts[0] for name in names)
    return str(shown)


def _flags(ctx: click.Context) -> Mapping[str, click.Option]:
    """A verb's flags by the names that libraries have for them."""
    options = {
        option.name: option
        for option in ctx.command.get_params(ctx)
        if isinstance(option, click.Option) and option.name
    }
    others = {other: options[name] for other, name in _OTHER_NAMES.items() if name in options}
    return {**others, **options}


def _with_flags(text: str, flags: Mapping[str, click.Option]) -> str:
    """Name the verb's flags where a library names its parameters.

    ``--values intensity`` for ``values="intensity"``, ``--limit-s 600`` for ``limit_s=600``, ``--resume`` for
    ``resume=True``, ``--axes ORDER`` for ``axes=…``; what follows ``--set`` stays.
    """

    def spelled(found: re.Match[str]) -> str:
        name, quoted, switched, unsaid, plain = found.groups()
        if name not in flags:
            return found[0]
        flag, metavar = flags[name].opts[0], flags[name].metavar
        return flag if switched else f"{flag} {metavar if unsaid else quoted or plain}"

    return _SAID.sub(spelled, text)


def _hyphenated(argument: str) -> str:
    """Accept flags spelled with underscores: users of PtychoPINN do."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _check_text(parameter: click.Parameter, value: object) -> None:
    """Refuse bytes that are no UTF-8: a result, a record or a page could not name them."""
    for each in value if isinstance(value, tuple) else (value,):
        try:
            (os.fspath(each) if isinstance(each, os.PathLike) else str(each)).encode()
        except UnicodeEncodeError:
            name = parameter.metavar if isinstance(parameter, click.Argument) else parameter.opts[-1]
            raise Refusal(f"'{name}': not UTF-8, found {each}; rename the file, or leave the text out") from None


@contextmanager
def _log_on_stderr(ctx: click.Context) -> Iterator[None]:
    """Say aloud what the libraries log as warnings."""
    import logging

    class Notes(logging.Handler):
        said: set[str] = set()  # noqa: RUF012 - the class lives as long as one command

        def emit(self, record: logging.LogRecord) -> None:
            text = _with_flags(record.getMessage(), _flags(ctx))
            if text not in self.said:  # two bundles and one scan would say everything twice
                self.said.add(text)
                note(text)

    notes = Notes(logging.WARNING)
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(notes)
    try:
        yield
    finally:
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(notes)
