"""What is known about the files of systems in the field: it fills a declaration in, and leaves the rest to be asked for.

Facts only, each with its place. The scale, the place of the zero frequency and the photons differ from
training to training, and stand in no file: no preset knows them. What the file or the user says
against a preset is never overruled: then the preset says nothing about the outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ptyonnx_converters.foreign.declaration import ONE, ZERO, Declaration, Limit, Source

__all__ = ["PTYCHOVIT_TIMES", "SYSTEMS", "Preset", "preset"]

SYSTEMS = {"ptychonn": "PtychoNN", "ptychovit": "PtychoViT"}
PTYCHOVIT_TIMES = 1e4  # ptychoml and holoptycho: sqrt(counts / norm * 1e4)
_PTYCHOVIT_LARGEST = 50_000  # counts above become 0 there
_AMPLITUDES = ("amp", "abs", "mag", "mod")  # an output that is called so is no phase

Polar = Mapping[str, Source | str]


class Preset(NamedTuple):
    """What is known about the files of a system.

    Attributes
    ----------
    name : str
        Of the system, in full.
    known : mapping of str to object
        Fields of a declaration that concern the input.
    ways : tuple of mapping
        What the outputs may be, amplitude and phase: none, one, or several where such files differ.
    """

    name: str
    known: Mapping[str, object]
    ways: tuple[Polar, ...]

    def fill(self, declared: Declaration) -> Declaration:
        """Complete a declaration whose sources have their tensor's name; what was declared stays.

        The outputs are completed where one way, and no other, has every part where it was declared.
        """
        agreeing = [way for way in self.ways if _agree(way, declared)]
        outputs = agreeing[0] if len(agreeing) == 1 else {}
        return declared.filled({**self.known, **outputs, "system": self.name})


def preset(system: str, channels: Mapping[str, int | None]) -> Preset:
    """Give what is known about a system's files.

    Parameters
    ----------
    system : str
        A key of :data:`SYSTEMS`, whatever the case, or any other name.
    channels : mapping of str to int or None
        Outputs of the file and how many channels each has, as far as it says.
    """
    key = system.lower()
    if key not in SYSTEMS:
        return Preset(system, {}, ())
    output = next(iter(channels)) if len(channels) == 1 else "output" if "output" in channels else None
    count = None if output is None else channels[output]
    if key == "ptychonn":  # channel 0 is the phase; the edge's file has nothing else; raw counts go in
        known = {"values": "intensity", "limit": Limit("none"), "transform": "none"}
        return Preset(SYSTEMS[key], known, _ptychonn(output, count))
    known = {"values": "amplitude", "limit": Limit("zero-above", _PTYCHOVIT_LARGEST), "transform": "none"}
    return Preset(SYSTEMS[key], known, _ptychovit(output, count))


def _ptychonn(output: str | None, count: int | None) -> tuple[Polar, ...]:
    if output is not None and count == 2:
        return ({"phase": Source(output, 0), "amplitude": Source(output, 1)},)
    if output is not None and count == 1 and not any(word in output.lower() for word in _AMPLITUDES):
        return ({"phase": Source(output, None), "amplitude": ONE},)
    return ()


def _ptychovit(output: str | None, count: int | None) -> tuple[Polar, ...]:
    """Its exporter writes amplitude and phase, or either of them alone under the same name."""
    if output is not None and count == 2:
        return ({"amplitude": Source(output, 0), "phase": Source(output, 1)},)
    if output is not None and count == 1:
        return (
            {"amplitude": ONE, "phase": Source(output, None)},
            {"amplitude": Source(output, None), "phase": ZERO},
        )
    return ()


def _agree(way: Polar, declared: Declaration) -> bool:
    """Whether everything that was declared about the outputs is as a preset has it."""
    if declared.real or declared.imaginary or declared.object:
        return False
    said = {"amplitude": declared.amplitude, "phase": declared.phase}
    return all(value is None or _place(value) == _place(way[part]) for part, value in said.items())


def _place(value: Source | str) -> tuple[str, int] | str:
    return (value.tensor, value.channel or 0) if isinstance(value, Source) else value
