"""What a picture of a reconstruction shows, validated once."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from matplotlib import colormaps

from ptyonnx_bundles.errors import SettingsError

__all__ = ["PANELS", "PictureOptions", "picture_options"]

PANELS = ("amplitude", "phase", "residual", "probe")
_DEFAULT_PANELS = ("amplitude", "phase", "residual")
_DEFAULT_CMAPS = {"amplitude": "gray", "phase": "viridis", "residual": "magma", "probe": "inferno"}
_OF_OBJECT = ("amplitude", "phase")  # the panels that a colour map without a name is for

Range = tuple[float, float]


@dataclass(frozen=True)
class PictureOptions:
    """What a picture of a reconstruction shows.

    Attributes
    ----------
    panels : tuple of str
        Some of :data:`PANELS`, in the order in which they are drawn.
    cmaps : mapping of str to str
        A matplotlib colour map for each panel.
    ranges : mapping of str to (float, float)
        Values at the ends of the colour map, for some panels; percentiles for the others.
    ramp : bool
        Keep the linear phase ramp.
    """

    panels: tuple[str, ...] = _DEFAULT_PANELS
    cmaps: Mapping[str, str] = field(default_factory=lambda: MappingProxyType(_DEFAULT_CMAPS))
    ranges: Mapping[str, Range] = field(default_factory=lambda: MappingProxyType({}))
    ramp: bool = True


def picture_options(
    panels: Sequence[str] | None = None,
    cmap: str | Mapping[str, str] | None = None,
    ranges: Mapping[str, Sequence[float]] | None = None,
    *,
    probe: bool = False,
    ramp: bool = True,
) -> PictureOptions:
    """Check what a picture is to show.

    Parameters
    ----------
    panels : sequence of str, optional
        Some of ``"amplitude"``, ``"phase"``, ``"residual"`` and ``"probe"``, in the order in which they are drawn; by
        default the first three.
    cmap : str or mapping of str to str, optional
        A matplotlib colour map for amplitude and phase, or one for each panel that is named.
    ranges : mapping of str to (float, float), optional
        Values at the ends of the colour map, by panel; by default percentiles.
    probe : bool
        Also draw the modes of the probe.
    ramp : bool
        Keep the linear phase ramp; False removes it, and the picture says so.

    Returns
    -------
    PictureOptions

    Raises
    ------
    SettingsError
        A panel or a colour map does not exist, a range is not one, or an option concerns no panel that is drawn.
    """
    chosen = _DEFAULT_PANELS if panels is None else (panels,) if isinstance(panels, str) else tuple(panels)
    for name in chosen:
        _check_panel(name, "panels")
    if not chosen or len(set(chosen)) < len(chosen):
        raise SettingsError(
            "each panel at most once, and one at least", key="panels", found=", ".join(chosen) or "none",
            expected=f"some of {', '.join(PANELS)}",
        )  # fmt: skip
    if probe and "probe" not in chosen:
        chosen = (*chosen, "probe")
    maps = dict.fromkeys(_OF_OBJECT, cmap) if isinstance(cmap, str) else dict(cmap or {})
    for name, value in maps.items():
        _check_panel(name, "cmap")
        _check_cmap(value)
    checked = {name: _range(name, pair) for name, pair in (ranges or {}).items()}
    if not isinstance(cmap, str) or not set(_OF_OBJECT) & set(chosen):
        _check_drawn(maps, chosen, "cmap")
    _check_drawn(checked, chosen, "ranges")
    if not ramp:
        _check_drawn(["phase"], chosen, "ramp")
    return PictureOptions(chosen, MappingProxyType({**_DEFAULT_CMAPS, **maps}), MappingProxyType(checked), ramp)


def _check_panel(name: str, key: str) -> None:
    if name not in PANELS:
        raise SettingsError("no such panel", key=key, found=name, expected=", ".join(PANELS))


def _check_drawn(names: Iterable[str], chosen: Sequence[str], key: str) -> None:
    """Refuse an option for a panel that is not drawn: it would have no effect."""
    absent = [name for name in names if name not in chosen]
    if absent:
        raise SettingsError(
            "no effect, because the panel is not drawn", key=key, found=", ".join(absent), expected=", ".join(chosen),
            remedy="add the panel, or omit the option",
        )  # fmt: skip


def _check_cmap(name: str) -> None:
    if name not in colormaps:
        near = difflib.get_close_matches(str(name), list(colormaps), n=1)
        raise SettingsError(
            "no such colour map", key="cmap", found=name, expected="a name that matplotlib has, such as gray or viridis",
            remedy=f"did you mean {near[0]}?" if near else None,
        )  # fmt: skip


def _range(name: str, pair: Sequence[float]) -> Range:
    _check_panel(name, "ranges")
    try:
        low, high = map(float, pair)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise SettingsError(
            "not a range", key="ranges", found=f"{name}={_joined(pair)}",
            expected="two finite numbers, the smaller one first, such as -0.5,0.5",
        )  # fmt: skip
    return low, high


def _joined(pair: object) -> str:
    if isinstance(pair, Iterable) and not isinstance(pair, str):
        return ",".join(map(str, pair))
    return str(pair)
