"""The conventions of a foreign network that the user has to declare: its input and its output.

No model file in this field states the normalisation, the position of the zero frequency or the channel
order that the network was trained with. Each of these must be declared by name; none is guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from pydantic import JsonValue

from ptyonnx_bundles.errors import SettingsError
from ptyonnx_bundles.zero_frequency import PLACES

__all__ = ["ONE", "PARTS", "UNKNOWN", "ZERO", "Declaration", "Limit", "Scale", "Source", "positive"]

ONE = "one"  # the network has no amplitude output: the amplitude is 1
ZERO = "zero"  # the network has no phase output: the phase is 0
UNKNOWN = "unknown"
PARTS = ("amplitude", "phase", "real", "imaginary")
_VALUES = ("amplitude", "intensity")
_TRANSFORMS = ("none", "log1p", "log10p")


class Scale(NamedTuple):
    """How values are scaled before they enter the network.

    Attributes
    ----------
    kind : str
        "factor": values times `number`. "norm": counts divided by `number` and multiplied by `times`, then
        the square root if the network takes amplitudes. "maximum": every pattern divided by its own
        maximum.
    number, times : float
    """

    kind: str
    number: float = 1.0
    times: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Scale:
        """Read ``factor=0.01``, ``norm=25000,times=10000`` or ``maximum``."""
        expected = "factor=NUMBER, norm=NUMBER,times=NUMBER, or maximum"
        if text == "maximum":
            return cls("maximum")
        numbers: dict[str, float] = {}
        for part in text.split(","):
            name, equals, number = part.partition("=")
            if not equals or name in numbers:
                raise SettingsError("not a valid rule", key="scale", found=text, expected=expected)
            numbers[name] = positive(number, "scale")
        if set(numbers) == {"factor"}:
            return cls("factor", numbers["factor"])
        if set(numbers) == {"norm", "times"}:
            return cls("norm", numbers["norm"], numbers["times"])
        missing = "times" if set(numbers) == {"norm"} else None
        raise SettingsError(
            f"'{missing}' is missing" if missing else "not a valid rule", key="scale", found=text, expected=expected
        )

    def to_json(self) -> JsonValue:
        """Return the form that the manifest stores."""
        if self.kind == "norm":
            return {"divided_by": self.number, "times": self.times, "of": "counts"}
        return "each pattern divided by its maximum" if self.kind == "maximum" else {"times": self.number}


class Limit(NamedTuple):
    """The treatment of counts that are too large, such as hot pixels and saturation.

    Attributes
    ----------
    kind : str
        "none", "zero-above" (larger counts become 0) or "clip" (larger counts become `counts`).
    counts : float
        Limit in photons, also if the network takes amplitudes.
    """

    kind: str
    counts: float = math.inf

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Read ``none``, ``zero-above=50000`` or ``clip=1000``."""
        kind, equals, number = text.partition("=")
        if text == "none":
            return cls("none")
        if kind not in ("zero-above", "clip") or not equals:
            raise SettingsError(
                "not a valid rule", key="limit", found=text, expected="none, zero-above=COUNTS or clip=COUNTS"
            )
        return cls(kind, positive(number, "limit"))

    def to_json(self) -> JsonValue:
        """Return the form that the manifest stores."""
        return "none" if self.kind == "none" else {"kind": self.kind, "counts": self.counts}


class Source(NamedTuple):
    """The output and channel that hold a part of the object.

    Attributes
    ----------
    tensor : str
        Name of an output; empty: the only output.
    channel : int or None
        Index of the channel, of the block of C channels or, if a last axis holds the parts, along that
        axis. None: all channels.
    """

    tensor: str
    channel: int | None

    @classmethod
    def parse(cls, text: str, key: str) -> Source:
        """Read ``output@1``, ``output`` or ``@1``; the separator is @ because names may contain colons."""
        tensor, at, channel = text.rpartition("@")
        if not at:
            return cls(text, None)
        if not channel.isdecimal():
            raise SettingsError(
                "not a channel", key=key, found=text, expected="OUTPUT or OUTPUT@CHANNEL, such as output@1"
            )
        return cls(tensor, int(channel))

    def to_json(self) -> JsonValue:
        """Return the form that the manifest stores."""
        return {"tensor": self.tensor, "channel": self.channel}


@dataclass(frozen=True)
class Declaration:
    """The declared conventions of a network; None stands for one that is not declared.

    Attributes
    ----------
    system : str or None
        The system that trained it.
    values : {"amplitude", "intensity"} or None
        What the network takes.
    zero_frequency : {"centre", "corner"} or None
        Its position in the network's input.
    scale : Scale or None
    limit : Limit or None
    transform : {"none", "log1p", "log10p"} or None
        Applied last, before the network: nothing, ``log(1 + x)`` or ``log10(1 + x)``.
    mean_photons : float or "unknown" or None
        Per pattern of the scans that it was trained on.
    amplitude, phase : Source or None
        The phase is in rad. If the network outputs only one of them, the other is :data:`ONE` or :data:`ZERO`.
    real, imaginary : Source or None
        Instead of amplitude and phase.
    object : Source or None
        Instead of all four: an output with the real and the imaginary part in a last axis of 2, as
        ONNX stores complex numbers and as a bundle outputs the object.
    input : str or None
        Name of the tensor; needed only if there are several.
    N, gridsize : int or None
        Needed only if the file does not state them.
    """

    system: str | None = None
    values: str | None = None
    zero_frequency: str | None = None
    scale: Scale | None = None
    limit: Limit | None = None
    transform: str | None = None
    mean_photons: float | str | None = None
    amplitude: Source | str | None = None
    phase: Source | str | None = None
    real: Source | None = None
    imaginary: Source | None = None
    object: Source | None = None
    input: str | None = None
    N: int | None = None
    gridsize: int | None = None

    def __post_init__(self) -> None:
        for key, value, known in (
            ("values", self.values, _VALUES),
            ("zero_frequency", self.zero_frequency, PLACES),
            ("transform", self.transform, _TRANSFORMS),
        ):
            if value is not None and value not in known:
                raise SettingsError("no such choice", key=key, found=value, expected=" or ".join(known))
        if self.zero_frequency is not None:
            object.__setattr__(self, "zero_frequency", PLACES[self.zero_frequency])
        ways = (self.amplitude or self.phase, self.real or self.imaginary, self.object)
        if sum(way is not None for way in ways) > 1:
            raise SettingsError(
                "declare the object in two ways", key="amplitude, phase, real, imaginary, object",
                remedy="declare amplitude and phase, or real and imaginary part, or the complex object",
            )  # fmt: skip
        for part, constant in (("amplitude", ONE), ("phase", ZERO)):
            value = getattr(self, part)
            if isinstance(value, str) and value != constant:
                raise SettingsError("no such output", key=part, found=value, expected=f"an output, or {constant}")
        if self.amplitude == ONE and self.phase == ZERO:
            raise SettingsError(
                "take nothing from the network", key="amplitude, phase", found=f"{ONE}, {ZERO}",
                expected="at least one OUTPUT@CHANNEL",
            )  # fmt: skip
        self._check_channels()

    def _check_channels(self) -> None:
        """Refuse one channel for two parts; a source without a channel has only the first."""
        seen: dict[tuple[str, int], str] = {}
        for part, source in self.sources().items():
            place = (source.tensor, source.channel or 0)
            if place in seen:
                raise SettingsError(
                    "one channel for two parts of the object", key=f"{seen[place]}, {part}",
                    found="@".join(str(word) for word in source if word is not None),
                    remedy=f"give each its own; a network without phase has phase={ZERO}, one without amplitude has amplitude={ONE}",
                )  # fmt: skip
            seen[place] = part

    def missing(self) -> tuple[str, ...]:
        """List the missing declarations, each with the values that it may take."""
        asked: dict[str, object] = {
            "system=NAME": self.system,
            "values=amplitude|intensity": self.values,
            "zero_frequency=centre|corner": self.zero_frequency,
            "scale=RULE": self.scale,
            "limit=RULE": self.limit,
            "transform=none|log1p|log10p": self.transform,
            "mean_photons=NUMBER|unknown": self.mean_photons,
        }
        if self.real or self.imaginary:
            asked |= {"real=OUTPUT@CHANNEL": self.real, "imaginary=OUTPUT@CHANNEL": self.imaginary}
        elif self.object is None:
            asked |= {f"phase=OUTPUT@CHANNEL|{ZERO}": self.phase, f"amplitude=OUTPUT@CHANNEL|{ONE}": self.amplitude}
        return tuple(name for name, value in asked.items() if value is None)

    def sources(self) -> Mapping[str, Source]:
        """Parts of the object that the network outputs, by name; `object` is listed as its two parts."""
        if self.object is not None:
            real, imaginary = (Source(self.object.tensor, index) for index in range(2))
            return {"real": real, "imaginary": imaginary}
        parts = {part: getattr(self, part) for part in PARTS}
        return {part: source for part, source in parts.items() if isinstance(source, Source)}

    def fill_in(self, known: Mapping[str, Any]) -> Declaration:
        """Fill in known conventions; declared ones stay, except that the system's name becomes its full name."""
        declared = {field.name: getattr(self, field.name) for field in fields(self)}
        new = {name: value for name, value in known.items() if declared[name] is None or name == "system"}
        return Declaration(**{**declared, **new})


def positive(text: str, key: str) -> float:
    """Read a positive number; an error names `key`."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise SettingsError("not a positive number", key=key, found=text)
    return number
