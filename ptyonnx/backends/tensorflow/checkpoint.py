"""What Keras needs to go on with a training, as arrays. Twin of the PyTorch file."""

from __future__ import annotations

from typing import Any

from ptyonnx.runs.checkpoints import State

__all__ = ["restore", "to_state"]


def to_state(variables: dict[str, list[Any]]) -> State:
    """Values of variables, by what they belong to and their place among them."""
    return State({f"{kind}.{place}": value.numpy() for kind, place, value in _named(variables)})


def restore(variables: dict[str, list[Any]], state: State) -> None:
    """Give variables their values again.

    Raises
    ------
    ValueError, KeyError
        The state is that of other variables.
    """
    named = list(_named(variables))
    if len(named) != len(state.arrays):
        raise ValueError(f"{len(state.arrays)} arrays for {len(named)} variables")
    for kind, place, variable in named:
        variable.assign(state.arrays[f"{kind}.{place}"])


def _named(variables: dict[str, list[Any]]) -> list[tuple[str, int, Any]]:
    return [(kind, place, variable) for kind, members in variables.items() for place, variable in enumerate(members)]
