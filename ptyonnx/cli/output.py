"""Everything that the command line prints, made safe for a terminal.

File names and texts from files may contain escape sequences and line breaks: these are shown, not sent.
No other module of `cli` may print; the linter enforces it. Results go to stdout; progress, notes and errors to stderr.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import click

__all__ = [
    "AS_JSON", "QUIET", "VERBOSE", "StatusLine", "answer", "note", "safe", "say", "say_aside", "say_lines", "summary",
    "verbosity", "wants_json",
]  # fmt: skip

# Keys of click's `Context.meta`, which a verb shares with the group; the common options of a verb set them.
AS_JSON, QUIET, VERBOSE = "ptyonnx.json", "ptyonnx.quiet", "ptyonnx.verbose"
_CLEAR = "\r\x1b[K"  # return to the beginning of the line and clear it
_DEFAULT_COLUMNS = 80  # of a terminal that does not state its width


def wants_json() -> bool:
    """Whether the running verb was called with ``--json``."""
    return bool(_option(AS_JSON))


def verbosity() -> int:
    """-1 with ``--quiet``, 0 by default, 1 with ``-v``, 2 and more with ``-vv``."""
    return -1 if _option(QUIET) else int(_option(VERBOSE) or 0)


def _option(key: str) -> Any:
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(key)


def answer(values: Mapping[str, object], text: str | Callable[[], str | Iterable[str]]) -> None:
    """Print what the user asked a verb for: a JSON object with ``--json``, otherwise the text.

    Parameters
    ----------
    values : mapping
        The JSON object. Paths become strings, and numbers that are not finite become null.
    text : str or callable
        One line, or a function that composes a table or gives lines; it is called only if they are printed.
    """
    if wants_json():
        import json

        say_lines(json.dumps(_jsonable(values), indent=2, allow_nan=False))
    else:
        composed = [text] if isinstance(text, str) else text()
        if isinstance(composed, str):
            say_lines(composed)
        else:
            for line in composed:
                say(line)


def summary(values: Mapping[str, object], text: str | Callable[[], str | Iterable[str]]) -> None:
    """Print a summary of a verb whose result is a file, as :func:`answer` does; with ``--quiet``, only as JSON."""
    if wants_json() or verbosity() >= 0:
        answer(values, text)


def _jsonable(value: Any) -> Any:
    """Replace what JSON has no form for: dataclasses, paths, NumPy scalars, numbers that are not finite."""
    if is_dataclass(value):
        value = {each.name: getattr(value, each.name) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _jsonable(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_jsonable(each) for each in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and value - value != 0:  # NaN or infinite
        return None
    return value


def say(line: str) -> None:
    """Print one line on stdout."""
    _clear_status()
    click.echo(safe(line))


def say_lines(text: str) -> None:
    """Print lines that this program composed on stdout: tables, JSON, help."""
    _clear_status()
    click.echo("\n".join(map(safe, text.split("\n"))))


def say_aside(line: str) -> None:
    """Print one line on stderr."""
    click.echo(f"{_CLEAR if sys.stderr.isatty() else ''}{safe(line)}", err=True)


def note(text: str) -> None:
    """Print on stderr what the user should know but need not act on; nothing with ``--quiet``."""
    if verbosity() >= 0:
        say_aside(f"note: {text}")


def _clear_status() -> None:
    """Clear the status line of a terminal, which may be the one that stdout writes to."""
    if sys.stderr.isatty() and verbosity() >= 0:
        click.echo(_CLEAR, err=True, nl=False)


class StatusLine:
    """The last line of a terminal on stderr, which is replaced while a verb works; elsewhere plain lines.

    It keeps a descriptor of its own, because stderr is closed while a framework loads.
    """

    def __init__(self) -> None:
        self.is_terminal = sys.stderr.isatty()
        try:
            self._descriptor: int | None = os.dup(sys.stderr.fileno())
        except (OSError, io.UnsupportedOperation):  # stderr is not a file, as in a notebook or a test
            self._descriptor = None
        self._stderr = sys.stderr

    @property
    def columns(self) -> int:
        """Width of the terminal."""
        return shutil.get_terminal_size((_DEFAULT_COLUMNS, 1)).columns

    def show(self, text: str) -> None:
        """Replace the line of a terminal; elsewhere, print a line."""
        self._write(f"{_CLEAR}{safe(text)[: self.columns - 1]}" if self.is_terminal else f"{safe(text)}\n")

    def clear(self) -> None:
        """Clear the line of a terminal."""
        if self.is_terminal:
            self._write(_CLEAR)

    def close(self) -> None:
        """Release the descriptor."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, text: str) -> None:
        if self._descriptor is None:
            self._stderr.write(text)
            self._stderr.flush()
        else:
            encoding = self._stderr.encoding or "utf-8"
            os.write(self._descriptor, text.encode(encoding, "replace"))


def safe(line: str) -> str:
    """Show characters that a terminal would obey."""
    if line.isprintable():
        return line
    from ptyonnx_bundles.terminal import escape_unprintable  # imports NumPy, which --help must not wait for

    return escape_unprintable(line)
