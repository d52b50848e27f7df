"""Make a stranger's text safe for a terminal: errors and tables show what files say."""

from __future__ import annotations

__all__ = ["escape_unprintable"]


def escape_unprintable(text: str) -> str:
    """Show what a terminal would obey (escape sequences, line breaks, text direction) instead of sending it.

    Parameters
    ----------
    text : str
        May come from a stranger's file.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
