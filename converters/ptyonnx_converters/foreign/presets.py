"""Known conventions of systems in the field, which complete a declaration.

A preset contains facts only. Scale, position of the zero frequency and photons differ from training to
training and are stated in no file, so no preset contains them. A preset never overrides the file or the
user: if they contradict it, it says nothing about the outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ptyonnx_converters.foreign.declaration import ONE, ZERO, Declaration, Limit, Source

__all__ = ["PTYCHOVIT_TIMES", "SYSTEMS", "Preset", "preset"]

SYSTEMS = {"ptychonn": "PtychoNN", "ptychovit": "PtychoViT"}
PTYCHOVIT_TIMES = 1e4  # ptychoml and holoptycho: sqrt(counts / norm * 1e4)
_PTYCHOVIT_LARGEST = 50_000  # larger counts become 0 in its pipelines
_AMPLITUDES = ("amp", "abs", "mag", "mod")  # an output with such a name is not a phase

Polar = Mapping[str, Source | str]


class Preset(NamedTuple):
    """What is known about the files of a system.

    Attributes
    ----------
    name : str
        Full name of the system.
    known : mapping of str to object
        Fields of a declaration that concern the input.
    ways : tuple of mapping
        Possible outputs, amplitude and phase: several if files of the system differ.
    """

    name: str
    known: Mapping[str, object]
    ways: tuple[Polar, ...]

    def fill(self, declared: Declaration) -> Declaration:
        """Complete a declaration whose sources name their tensors; declared conventions stay.

        The outputs are completed only if exactly one way agrees with every declared part.
        """
        agreeing = [way for way in self.ways if _agree(way, declared)]
        outputs = agreeing[0] if len(agreeing) == 1 else {}
        return declared.fill_in({**self.known, **outputs, "system": self.name})


def preset(system: str, channels: Mapping[str, int | None]) -> Preset:
    """Return the known conventions of a system's files.

    Parameters
    ----------
    system : str
        A key of :data:`SYSTEMS` in upper or lower case, or any other name.
    channels : mapping of str to int or None
        Outputs of the file and their numbers of channels; None: not stated.
    """
    key = system.lower()
    if key not in SYSTEMS:
        return Preset(system, {}, ())
    output = next(iter(channels)) if len(channels) == 1 else "output" if "output" in channels else None
    count = None if output is None else channels[output]
    if key == "ptychonn":  # channel 0 is the phase, in the edge's file the only one; the input is raw counts
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
    """PtychoViT's exporter writes amplitude and phase, or one of them alone under the same name."""
    if output is not None and count == 2:
        return ({"amplitude": Source(output, 0), "phase": Source(output, 1)},)
    if output is not None and count == 1:
        return (
            {"amplitude": ONE, "phase": Source(output, None)},
            {"amplitude": Source(output, None), "phase": ZERO},
        )
    return ()


def _agree(way: Polar, declared: Declaration) -> bool:
    """Whether the declared outputs agree with a preset."""
    if declared.real or declared.imaginary or declared.object:
        return False
    outputs = {"amplitude": declared.amplitude, "phase": declared.phase}
    return all(value is None or _position(value) == _position(way[part]) for part, value in outputs.items())


def _position(value: Source | str) -> tuple[str, int] | str:
    return (value.tensor, value.channel or 0) if isinstance(value, Source) else value
