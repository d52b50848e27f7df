"""A report as HTML: text, tables, plots as SVG, and the objects' pixels for the page's script.

The page is closed: its policy (Content-Security-Policy) allows the one style sheet and the one
script that stand in it, by digest, and nothing from anywhere else. Text may come from a
stranger's bundle: Jinja2 escapes it, and what a screen would obey is shown instead.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from ptyonnx.report.content import Report, Section, Table, Verdict
from ptyonnx.report.pixels import Pixels, encode_pixels
from ptyonnx.report.plots import draw_curves, draw_layers, draw_ring
from ptyonnx_bundles.terminal import escape_unprintable

__all__ = ["render"]

_SCRIPTS = ("pixels.js", "panels.js", "page.js")
_COLOURS = ("gray", "viridis", "twilight", "RdBu_r")  # matplotlib's names
_MOST_ROWS = 1000  # of one table; a page is to be read
_LONGEST_CELL = 400  # characters; a stranger's manifest may hold a book
# Class of the style sheet, and word. That two functions or sets of weights differ is a fact, no fault.
_FACTS = {True: ("passed", "equal"), False: ("differs", "differ"), None: ("unknown", "not compared")}
_JUDGEMENTS = {
    True: ("passed", "within tolerance"),
    False: ("failed", "beyond tolerance"),
    None: ("unknown", "not compared"),
}
_LEVELS = {"identity": _FACTS, "weights": _FACTS}


def render(report: Report) -> str:
    """The page of a report.

    Parameters
    ----------
    report : Report

    Returns
    -------
    str
        HTML.
    """
    environment = Environment(
        loader=PackageLoader("ptyonnx.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["cell"] = _cell
    environment.filters["word"] = _word
    environment.filters["sentence"] = _sentence
    environment.filters["numeric"] = _numeric
    pixels = _pixels(report)
    style, script = _resource("page.css"), "\n".join(_resource(name) for name in _SCRIPTS)
    return environment.get_template("page.html.j2").render(
        report=report,
        pixels=None if pixels is None else pixels.data,
        colours={name: _colour_table(name) for name in _COLOURS},
        layers=draw_layers(report.layers) if report.layers else None,
        curves=draw_curves(report.curves) if report.curves else None,
        ring=draw_ring(report.ring) if report.ring is not None else None,
        tables=_by_section(report.tables),
        most_rows=_MOST_ROWS,
        style=style,
        script=script,
        policy=f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'",
    )


def _pixels(report: Report) -> Pixels | None:
    if report.picture_a is None or report.picture_b is None:
        return None
    return encode_pixels(report.picture_a, report.picture_b, report.object_pixel_size_m)


def _word(verdict: Verdict) -> tuple[str, str]:
    """Class of the style sheet and word of a verdict."""
    return _LEVELS.get(verdict.level, _JUDGEMENTS)[verdict.passed]


def _sentence(verdict: Verdict) -> str:
    text = _cell(verdict.sentence)
    return text[:1].upper() + text[1:]


def _by_section(tables: tuple[Table, ...]) -> dict[Section, list[Table]]:
    sections: dict[Section, list[Table]] = {}
    for table in tables:
        sections.setdefault(table.section, []).append(table)
    return sections


def _resource(name: str) -> str:
    return files("ptyonnx.report").joinpath("templates", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """As a policy names an inline style sheet or script: digest of exactly what stands between the tags."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def _colour_table(name: str) -> str:
    """256 colours, six hexadecimal digits each."""
    from matplotlib import colormaps

    colours = colormaps[name](np.arange(256), bytes=True)[:, :3]
    return bytes(colours.astype(np.uint8).tobytes()).hex()


def _shown(value: Any) -> Any:
    """Control characters and those that turn the direction of text, as escapes."""
    return escape_unprintable(value) if type(value) is str else value


def _numeric(table: Table) -> list[bool]:
    """Which columns hold numbers and nothing else; they are set flush right."""
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.header)
    return [
        any(map(_is_number, cells)) and all(cell is None or _is_number(cell) for cell in cells) for cells in columns
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _cell(value: object) -> str:
    """What a cell of a table says; numbers with four digits."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        text = f"{value:.4g}" if math.isfinite(value) else {math.inf: "∞", -math.inf: "-∞"}.get(float(value), "NaN")
        return text.replace("e-0", "e-").replace("e+0", "e").replace("-", "−")
    text = " ".join(str(value).split())
    text = text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 1]}…"
    # A minus, unlike a hyphen, does not end a line within a number.
    return escape_unprintable(re.sub(r"(?<=\d)e-0?(?=\d)", "e−", text))
