"""What is known about the files of systems in the field: it fills a declaration in, and leaves the rest to be asked for.

Facts only, each with its place. The scale, the place of the zero frequency and the photons differ from
training to training, and stand in no file: no preset knows them.
"""

from __future__ import annotations

from collections.abc import Mapping

from ptyonnx_bundles.errors import SettingsError
from ptyonnx_converters.declaration import ONE, Limit, Source

__all__ = ["PTYCHOVIT_TIMES", "SYSTEMS", "preset"]

SYSTEMS = {"ptychonn": "PtychoNN", "ptychovit": "PtychoViT"}
PTYCHOVIT_TIMES = 1e4  # ptychoml and holoptycho: sqrt(counts / norm * 1e4)
_PTYCHOVIT_LARGEST = 50_000  # counts above become 0 there


def preset(system: str, channels: Mapping[str, int | None]) -> tuple[str, dict[str, object]]:
    """Give a system's full name, and what is known about its files.

    Parameters
    ----------
    system : str
        A key of :data:`SYSTEMS`, whatever the case, or any other name.
    channels : mapping of str to int or None
        Outputs of the file and how many channels each has.

    Returns
    -------
    str
    dict
        Fields of a declaration.
    """
    key = system.lower()
    if key not in SYSTEMS:
        return system, {}
    name = next(iter(channels)) if len(channels) == 1 else "output" if "output" in channels else None
    if name is None:
        raise SettingsError(
            f"not the one output of {SYSTEMS[key]}", key="--system", found=", ".join(channels), expected="one output",
            remedy="declare the outputs by name: --amplitude, --phase",
        )  # fmt: skip
    two = channels[name] == 2
    if key == "ptychonn":  # channel 0 is the phase; the edge's file has nothing else; raw counts go in
        phase, amplitude = Source(name, 0 if two else None), Source(name, 1) if two else ONE
        return SYSTEMS[key], {
            "values": "intensity", "limit": Limit("none"), "transform": "none", "phase": phase, "amplitude": amplitude,
        }  # fmt: skip
    phase, amplitude = Source(name, 1 if two else None), Source(name, 0) if two else ONE
    return SYSTEMS[key], {
        "values": "amplitude", "limit": Limit("zero-above", _PTYCHOVIT_LARGEST), "transform": "none",
        "phase": phase, "amplitude": amplitude,
    }  # fmt: skip
