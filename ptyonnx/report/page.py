"""A report as HTML: text, tables, plots as SVG, previews of both objects, and their pixels for the page's script.

The page is closed: its policy (Content-Security-Policy) allows the one style sheet and the one script that it
contains, by digest, pictures that it contains, and nothing from anywhere else. Text may come from a bundle of
unknown origin: Jinja2 escapes it, and control characters are shown as escapes.
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
from ptyonnx.report.pixels import LARGEST_BYTES, encode_pixels
from ptyonnx.report.plots import NARROW, WIDE, draw_curves, draw_layers, draw_ring
from ptyonnx.report.previews import make_previews
from ptyonnx_bundles.terminal import escape_unprintable

__all__ = ["render"]

_SCRIPTS = ("pixels.js", "panels.js", "page.js")
_COLOURS = ("gray", "viridis", "twilight", "RdBu_r")  # matplotlib's names
_MOST_ROWS = 1000  # of one table
_LONGEST_CELL = 400  # characters; text in a manifest has no limit
# Class of the style sheet, and word. A difference between functions or weights is a fact, not a fault.
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
    style, script = _resource("page.css"), "\n".join(_resource(name) for name in _SCRIPTS)
    return environment.get_template("page.html.j2").render(
        report=report,
        **_images(report),
        layers=[draw_layers(report.layers, frame) for frame in (WIDE, NARROW)] if report.layers else None,
        curves=[draw_curves(report.curves, frame) for frame in (WIDE, NARROW)] if report.curves else None,
        ring=[draw_ring(report.ring, frame) for frame in (WIDE, NARROW)] if report.ring is not None else None,
        tables=_by_section(report.tables),
        most_rows=_MOST_ROWS,
        style=style,
        script=script,
        policy=f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'",
    )


def _images(report: Report) -> dict[str, Any]:
    """What the template needs to show the objects: previews, pixels, colours."""
    if report.picture_a is None or report.picture_b is None:
        return {"pixels": None, "binning": 1, "previews": {}, "colours": {}}
    previews = make_previews(report.picture_a, report.picture_b)
    room = LARGEST_BYTES - sum(preview.bytes for preview in previews.values())
    pixels = encode_pixels(report.picture_a, report.picture_b, report.object_pixel_size_m, room)
    return {
        "pixels": pixels.data,
        "binning": pixels.binning,
        "previews": previews,
        "colours": {name: _colour_table(name) for name in _COLOURS},
    }


def _word(verdict: Verdict) -> tuple[str, str]:
    """Class of the style sheet and word of a verdict."""
    style, word = _LEVELS.get(verdict.level, _JUDGEMENTS)[verdict.passed]
    return ("differs" if style == "failed" and not verdict.must_pass else style), word


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
