"""Text tables for a terminal. Cells may come from untrusted bundles and are escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ptyonnx_bundles.terminal import escape_unprintable

__all__ = ["columns", "short"]

_WIDEST = 48  # characters of a truncated cell
_NUMBER_FORMAT = ".4g"


def columns(rows: Iterable[Sequence[object]], header: Sequence[str] | None = None) -> str:
    """Format rows with aligned columns and numbers with four digits.

    Parameters
    ----------
    rows : iterable of sequence
    header : sequence of str, optional
        Titles, which are underlined.
    """
    cells = [[_text(cell) for cell in row] for row in rows]
    if header is not None:
        cells = [list(header), ["-" * len(title) for title in header], *cells]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def short(value: object) -> str:
    """A value, truncated to the width of a column."""
    text = _text(value)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def _text(cell: object) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return format(cell, _NUMBER_FORMAT)
    return escape_unprintable(" ".join(str(cell).split()))
