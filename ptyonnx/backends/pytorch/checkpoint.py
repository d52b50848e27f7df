"""The state that Lightning needs to resume a training, as arrays. Twin of the TensorFlow file."""

from __future__ import annotations

import json
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from ptyonnx.runs.checkpoints import State

__all__ = ["InMemoryCheckpointIO", "from_state", "to_state"]


class InMemoryCheckpointIO(CheckpointIO):
    """Keeps Lightning's checkpoints in memory; `runs.checkpoints` writes the files.

    Parameters
    ----------
    checkpoint : dict, optional
        To resume from.
    """

    def __init__(self, checkpoint: dict[str, Any] | None = None) -> None:
        self.checkpoint = checkpoint or {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Keep a checkpoint in memory."""
        del path, storage_options
        self.checkpoint = checkpoint

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Return the checkpoint."""
        del path, map_location, weights_only
        return self.checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        """Do nothing: there is no file."""


def to_state(checkpoint: dict[str, Any]) -> State:
    """Split a checkpoint into arrays and JSON, which refers to the arrays by name."""
    arrays: dict[str, Any] = {}

    def outline(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            name = str(len(arrays))
            arrays[name] = value.detach().cpu().contiguous().numpy()
            return {"tensor": name, "channels_last": _is_channels_last(value)}
        if isinstance(value, dict):
            return {"dict": [[key, outline(item)] for key, item in value.items()]}
        if isinstance(value, list | tuple):
            return [outline(item) for item in value]
        return value

    return State(arrays, json.dumps(outline(checkpoint)))


def from_state(state: State) -> dict[str, Any]:
    """Rebuild a checkpoint from its state.

    Raises
    ------
    ValueError, KeyError, TypeError, RecursionError
        The state was not made by :func:`to_state`.
    """

    def value(part: Any) -> Any:
        if isinstance(part, list):
            return [value(item) for item in part]
        if not isinstance(part, dict):
            return part
        if "dict" in part:
            return {key: value(item) for key, item in part["dict"]}
        tensor = torch.from_numpy(state.arrays[part["tensor"]])
        return tensor.to(memory_format=torch.channels_last) if part["channels_last"] else tensor

    checkpoint: dict[str, Any] = value(json.loads(state.outline))
    return checkpoint


def _is_channels_last(tensor: torch.Tensor) -> bool:
    """Whether a tensor is channels-last in memory. This is restored, as sums would otherwise round differently."""
    return tensor.dim() == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)
