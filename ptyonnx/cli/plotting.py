"""Options of a picture: what it shows, in which colours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = ["PLOT_OPTIONS", "plot_arguments", "with_plot_options"]

F = TypeVar("F", bound=Callable[..., Any])

_DEFAULTS = {"panels": None, "cmap": (), "ranges": (), "show_probe": False, "ramp": True}
PLOT_OPTIONS = ("plot", *_DEFAULTS)  # names of the parameters


def with_plot_options(function: F) -> F:
    """Add ``--plot`` and the options that say what it shows."""
    for option in reversed(
        [
            click.option(
                "--plot", type=click.Path(path_type=Path), metavar="IMAGE", help="Draw a picture: .png, .pdf, .svg …"
            ),
            click.option(
                "--panels", metavar="LIST", help="amplitude, phase, residual, probe. [amplitude,phase,residual]"
            ),
            click.option(
                "--cmap", multiple=True, metavar="[PANEL=]NAME",
                help="matplotlib's colour map, of amplitude and phase or of one panel. Repeatable.",
            ),
            click.option(
                "--range", "ranges", multiple=True, metavar="PANEL=LOW,HIGH",
                help="Values at the ends of the colour map. Repeatable. [1st and 99th percentile]",
            ),
            click.option("--probe", "show_probe", is_flag=True, help="Also show the modes of the probe."),
            click.option("--ramp/--no-ramp", default=True, help="Keep or remove a linear phase ramp. [keep]"),
        ]
    ):  # fmt: skip
        function = option(function)
    return function


def plot_arguments(options: dict[str, Any], plot: Path | None) -> dict[str, Any]:
    """The arguments of :meth:`ptyonnx.results.reconstruction.Reconstruction.plot`, checked; none without a picture.

    Raises
    ------
    SettingsError
        A choice does not exist or has no effect, or is made although no picture is drawn.
    """
    from ptyonnx_bundles.errors import SettingsError

    panels = None if options["panels"] is None else [name.strip() for name in options["panels"].split(",")]
    arguments = {
        "panels": panels, "cmap": _cmap(options["cmap"], panels), "ranges": _ranges(options["ranges"]),
        "probe": options["show_probe"], "ramp": options["ramp"],
    }  # fmt: skip
    if plot is None:
        given = [name for name, default in _DEFAULTS.items() if options[name] != default]
        if given:
            raise SettingsError("only for a picture", key=", ".join(given), remedy="name the picture: plot=…")
        return {}
    # It loads matplotlib, which takes time and writes into the home directory.
    from ptyonnx.results.picture_options import picture_options

    picture_options(**arguments)
    return arguments


def _cmap(given: Iterable[str], panels: Sequence[str] | None) -> dict[str, str]:
    """Colour maps by panel; one without a panel is that of the object's drawn panels that have no other."""
    named, everywhere = {}, {}
    of_object = ("amplitude", "phase")
    drawn = [name for name in of_object if panels is None or name in panels]
    for each in given:
        panel, equals, name = each.rpartition("=")
        if equals:
            named[panel] = name
        else:
            everywhere = dict.fromkeys(drawn or of_object, name)
    return {**everywhere, **named}


def _ranges(given: Iterable[str]) -> dict[str, Any]:
    """Ranges by panel, unchecked."""
    pairs = (each.partition("=") for each in given)
    return {panel: text.split(",") for panel, _, text in pairs}
