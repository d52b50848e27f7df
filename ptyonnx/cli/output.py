"""Everything that the command line says goes through here, made safe for a terminal.

Names of files, and what files say, may hold escape sequences and line breaks: they are shown, not sent.
Nothing else in `cli` may print; the linter sees to it.
"""

from __future__ import annotations

import click

__all__ = ["note", "redraw", "safe", "say", "say_aside", "say_lines"]

_BACK = "\r\x1b[K"  # to the line's beginning, and clear it


def say(line: str) -> None:
    """Say one line on stdout: a result."""
    click.echo(safe(line))


def say_lines(text: str) -> None:
    """Say lines of our own making on stdout: tables, JSON, help."""
    click.echo("\n".join(map(safe, text.split("\n"))))


def say_aside(line: str) -> None:
    """Say one line on stderr: progress, or what went wrong."""
    click.echo(safe(line), err=True)


def note(text: str) -> None:
    """Say on stderr what the user should know but need not act on."""
    say_aside(f"note: {text}")


def redraw(line: str = "") -> None:
    """Write over the last line of a terminal on stderr, which stays open for the next; without text, clear it."""
    click.echo(f"{_BACK}{safe(line)}", err=True, nl=False)


def safe(line: str) -> str:
    """What a terminal would obey in a line is shown instead."""
    if line.isprintable():
        return line
    from ptyonnx_bundles.terminal import escape_unprintable  # which brings NumPy along: help is to be instant

    return escape_unprintable(line)
