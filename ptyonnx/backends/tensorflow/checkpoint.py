"""The state that Keras needs to resume a training, as arrays. Twin of the PyTorch file."""

from __future__ import annotations

from typing import Any

from ptyonnx.runs.checkpoints import State

__all__ = ["restore", "to_state"]


def to_state(variables: dict[str, list[Any]]) -> State:
    """Values of variables, named by kind and index."""
    return State({f"{kind}.{place}": value.numpy() for kind, place, value in _named(variables)})


def restore(variables: dict[str, list[Any]], state: State) -> None:
    """Restore the values of variables.

    Raises
    ------
    ValueError, KeyError
        The state belongs to other variables.
    """
    named = list(_named(variables))
    if len(named) != len(state.arrays):
        raise ValueError(f"{len(state.arrays)} arrays for {len(named)} variables")
    for kind, place, variable in named:
        variable.assign(state.arrays[f"{kind}.{place}"])


def _named(variables: dict[str, list[Any]]) -> list[tuple[str, int, Any]]:
    return [(kind, place, variable) for kind, members in variables.items() for place, variable in enumerate(members)]
