"""Make untrusted text safe for a terminal: errors and tables show texts from files."""

from __future__ import annotations

__all__ = ["escape_unprintable"]


def escape_unprintable(text: str) -> str:
    """Escape characters that control a terminal: escape sequences, line breaks, text direction.

    Parameters
    ----------
    text : str
        Untrusted.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
