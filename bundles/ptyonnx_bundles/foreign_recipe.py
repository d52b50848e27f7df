"""The recipe of a network that another system trained: its size and its declared conventions.

A foreign recipe does not describe the layers; only the graph in the file does. Such a network can be run,
but it cannot be trained further or compared layer by layer with a native one.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints, field_validator

from ptyonnx_bundles.recipe import SMALLEST_N

__all__ = ["LARGEST_FOREIGN_N", "READ_CONVENTIONS", "ForeignRecipe", "Setting"]

# Conventions that readers must follow, since they concern the use of the patches.
READ_CONVENTIONS = {"patch_position": ("pattern", "group"), "known": ("everywhere", "central half")}
LARGEST_FOREIGN_N = 2048  # pixels; two patterns of this size still fit into a self-test


def _refuse_infinities(value: JsonValue) -> JsonValue:
    json.dumps(value, allow_nan=False)
    return value


Setting = Annotated[JsonValue, AfterValidator(_refuse_infinities)]


class ForeignRecipe(BaseModel):
    """A network of another system.

    Attributes
    ----------
    name : str
        Always "foreign".
    system : str
        The system that trained it, such as "PtychoNN".
    N : int
        Width and height of a diffraction pattern and of an object patch, in pixels.
    gridsize : int
        ``gridsize**2`` neighbouring patterns enter the network together as channels.
    conventions : dict of str to JSON
        Declared conventions of the original's input and output, for documentation: the graph in the
        bundle already follows the conventions of bundles. Readers use two of them: the position of a
        patch, and the region in which it is known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Literal["foreign"] = "foreign"
    system: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    N: int = Field(ge=SMALLEST_N, le=LARGEST_FOREIGN_N, multiple_of=2)
    gridsize: int = Field(default=1, ge=1, le=4)
    conventions: dict[str, Setting] = Field(description="declared conventions of the original's input and output")

    @field_validator("conventions")
    @classmethod
    def _check_read(cls, conventions: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for name, allowed in READ_CONVENTIONS.items():
            if conventions.get(name, allowed[0]) not in allowed:
                raise ValueError(f"'{name}' is none of {', '.join(allowed)}")
        return conventions

    @property
    def channels(self) -> int:
        """Patterns per group, C = gridsize squared."""
        return self.gridsize**2
