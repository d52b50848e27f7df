"""What all verbs have in common: the spelling of flags, common options, notes, and errors in one line."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ptyonnx.cli.completion import offer_values
from ptyonnx.cli.output import AS_JSON, QUIET, VERBOSE, say_aside, verbosity
from ptyonnx.cli.progress import announce

if TYPE_CHECKING:
    from ptyonnx_bundles.errors import PtyonnxError

__all__ = ["Refusal", "Verb", "WithExamples", "common_options", "with_limit"]

F = TypeVar("F", bound=Callable[..., Any])

# Parameters of libraries whose flags have another name.
_OTHER_NAMES = {
    "scan": "data",
    "shape": "object_size",
    "initial": "source",
    "input": "input_name",
    "probe": "probe_file",
    "N": "size",
    "timeout_s": "timeout",
}
# values="intensity", limit_s=60, resume=True, axes=…, phase=OUTPUT@CHANNEL|zero
_PARAMETER = re.compile(r'(?<!--set )(?<![\w-])(\w+)=(?:"([^"\s]+)"|(True)\b|(…)|([\w|@+-]+(?:\.\w+)*))')
_LOGGERS = ("ptyonnx", "ptyonnx_bundles", "ptyonnx_converters", "ptyonnx_runtime")


class Refusal(click.ClickException):
    """An error that the user can correct; it becomes the last line on stderr."""


class WithExamples(click.Command):
    """A command whose help is its docstring; a paragraph that begins with "Example" keeps its line breaks."""

    def get_help_option_names(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name the help option the same in every context: click keeps the option of the first."""
        return ["-h", "--help"]

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
    """A command with the common options, which also accepts ``--train_data`` and reports an error in one line.

    ``--json``, ``--quiet`` and ``--verbose`` are not passed to the verb: it prints with
    :func:`ptyonnx.cli.output.answer` or :func:`~ptyonnx.cli.output.summary`, and shows its work with
    :func:`ptyonnx.cli.progress.stage` and :func:`~ptyonnx.cli.progress.bar`, all of which follow them.
    """

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Own options, common options, help."""
        *own, help_option = super().get_params(ctx)
        for param in own:
            offer_values(param)
        return [*own, *common_options(), help_option]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the common options and ``--help`` in a section of their own."""
        *params, help_option = self.get_params(ctx)
        common = [*common_options(), help_option]
        left_out = set(map(id, common))
        options = [param for param in params if isinstance(param, click.Option) and id(param) not in left_out]
        for title, members in (*self.sections(options), ("Common options", common)):
            rows = [row for member in members if (row := member.get_help_record(ctx))]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def sections(self, options: Sequence[click.Option]) -> Iterable[tuple[str, Sequence[click.Option]]]:
        """Titles of the help's sections, and the verb's own options in each."""
        yield "Options", options

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments with hyphens or underscores, and refuse values that are not valid UTF-8."""
        ctx.allow_extra_args = True  # click's own message has no remedy
        try:
            rest = super().parse_args(ctx, [_hyphenated(argument) for argument in args])
        except (click.MissingParameter, click.BadParameter) as error:
            raise _with_remedy(error, ctx) from error
        if rest and not ctx.resilient_parsing:
            raise Refusal(
                f"unexpected argument, found {' '.join(rest)}; {_usage(ctx)}; quote names that contain spaces"
            )
        for parameter in self.get_params(ctx):
            _check_text(parameter, ctx.params.get(parameter.name or ""))
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb, and turn an error that the user can correct into a refusal."""
        announce(f"ptyonnx {ctx.info_name}: starting")
        from ptyonnx_bundles.errors import PtyonnxError  # imports NumPy

        try:
            with _log_on_stderr(ctx):
                return super().invoke(ctx)
        except PtyonnxError as error:
            raise Refusal(_with_flag_names(error, ctx)) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            raise Refusal(f"{place}{error.strerror or error}") from error


@cache
def common_options(*, with_json: bool = True) -> tuple[click.Option, ...]:
    """Options that every verb has; all but ``--json`` may also precede the verb."""
    json_option = _common("--json", key=AS_JSON, is_flag=True, help="Print one JSON object instead of text.")
    return (
        *([json_option] if with_json else []),
        _common(
            "-q", "--quiet", key=QUIET, is_flag=True, help="No progress, notes or summary; only what was asked for."
        ),
        _common(
            "-v", "--verbose", key=VERBOSE, count=True, help="Log each stage and its duration; -vv logs everything."
        ),
        click.Option(["--debug"], is_flag=True, expose_value=False, help="Show the trace of an error."),
    )


def _common(*names: str, key: str, **attributes: Any) -> click.Option:
    """An option that is kept in the context, where all that prints finds it."""

    def keep(context: click.Context, _: click.Parameter, value: bool | int) -> None:
        if value:
            context.meta[key] = value
        if context.meta.get(QUIET) and context.meta.get(VERBOSE):
            raise click.UsageError("'--quiet, --verbose': contradict each other; give one of them", context)

    return click.Option(list(names), expose_value=False, callback=keep, **attributes)


def with_limit(function: F) -> F:
    """Add ``--limit-s`` to a verb that may run a graph of another system."""
    return click.option(
        "--limit-s",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        default=60.0,
        help="Time limit per batch for a network of another system. [60]",
    )(function)


def _with_flag_names(error: PtyonnxError, ctx: click.Context) -> str:
    """Compose an error's line, with flags instead of a library's parameters; the value that was found stays unchanged."""
    from ptyonnx_bundles.errors import SettingsError

    flags, renamed = _flags(ctx), copy.copy(error)
    for part in ("problem", "expected", "remedy"):
        text = getattr(error, part)
        if isinstance(text, str):
            setattr(renamed, part, _with_flags(text, flags))
    config = ctx.params.get("config")  # keys of this file are not flags
    if isinstance(error, SettingsError) and error.key and not (config and error.file == str(config)):
        names = error.key.split(", ")
        if all(name in flags for name in names):
            renamed.key = ", ".join(flags[name].opts[0] for name in names)
    return str(renamed)


def _flags(ctx: click.Context) -> Mapping[str, click.Option]:
    """Map the names of libraries' parameters to the verb's flags."""
    options = {
        option.name: option
        for option in ctx.command.get_params(ctx)
        if isinstance(option, click.Option) and option.name
    }
    others = {other: options[name] for other, name in _OTHER_NAMES.items() if name in options}
    return {**others, **options}


def _with_flags(text: str, flags: Mapping[str, click.Option]) -> str:
    """Replace a library's parameters by the verb's flags.

    ``--values intensity`` for ``values="intensity"``, ``--limit-s 600`` for ``limit_s=600``, ``--resume`` for
    ``resume=True``, ``--axes ORDER`` for ``axes=…``; text after ``--set`` is not changed.
    """

    def as_flag(match: re.Match[str]) -> str:
        name, quoted, switch, placeholder, value = match.groups()
        if name not in flags:
            return match[0]
        flag, metavar = flags[name].opts[0], flags[name].metavar
        return flag if switch else f"{flag} {metavar if placeholder else quoted or value}"

    return _PARAMETER.sub(as_flag, text)


def _usage(ctx: click.Context) -> str:
    return " ".join(["usage:", ctx.command_path, *ctx.command.collect_usage_pieces(ctx)])


def _with_remedy(error: click.BadParameter, ctx: click.Context) -> click.ClickException:
    """Give a remedy for a missing parameter and an unusable path; click's other messages state what was expected."""
    param = error.param
    if param is None:
        return error
    shown = param.make_metavar(ctx) if isinstance(param, click.Argument) else param.opts[0]
    if isinstance(error, click.MissingParameter):
        remedy = _usage(ctx) if isinstance(param, click.Argument) else f"give it: {shown} {param.make_metavar(ctx)}"
        return Refusal(f"'{shown}': missing; {remedy}")
    if isinstance(param.type, click.Path):
        return Refusal(f"'{shown}': {error.message.rstrip('.')}; check the path and its permissions")
    return error


def _hyphenated(argument: str) -> str:
    """Accept flags spelled with underscores, as PtychoPINN spells them."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _check_text(parameter: click.Parameter, value: object) -> None:
    """Refuse bytes that are not UTF-8, because results, run records and pages could not contain them."""
    for each in value if isinstance(value, tuple) else (value,):
        try:
            (os.fspath(each) if isinstance(each, os.PathLike) else str(each)).encode()
        except UnicodeEncodeError:
            name = parameter.metavar if isinstance(parameter, click.Argument) else parameter.opts[-1]
            raise Refusal(f"'{name}': not UTF-8, found {each}; rename the file or change the text") from None


@contextmanager
def _log_on_stderr(ctx: click.Context) -> Iterator[None]:
    """Print what the libraries log: warnings as notes, and with ``--verbose`` also less important messages."""
    import logging

    wanted = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(verbosity(), logging.DEBUG)

    class Notes(logging.Handler):
        printed: set[str] = set()  # noqa: RUF012 - the class lives as long as one command

        def emit(self, record: logging.LogRecord) -> None:
            text = _with_flags(record.getMessage(), _flags(ctx))
            if record.levelno < logging.WARNING:
                say_aside(f"{record.levelname.lower()}: {text}")
            elif text not in self.printed:  # two bundles and one scan would print each note twice
                self.printed.add(text)
                say_aside(f"note: {text}")

    notes = Notes(wanted)
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(notes)
        if wanted < logging.WARNING:
            logger.setLevel(wanted)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(notes)
            logger.setLevel(level)
