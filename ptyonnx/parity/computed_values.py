"""The values that one implementation computed, as named arrays, and their transfer between processes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ComputedValues"]

_MAPPINGS = ("weights", "activations", "gradients", "branches")
_ARRAYS = ("object", "intensity", "losses")


@dataclass(frozen=True, eq=False)
class ComputedValues:
    """The values that one implementation computed. Values that it does not compute are None or empty.

    Attributes
    ----------
    implementation : str
        ``"float64"``, ``"pytorch"``, ``"tensorflow"``, ``"onnxruntime"``.
    versions : dict of str to str
        Package -> version.
    weights : dict of str to ndarray
        Canonical name -> array, read back from the implementation.
    activations : dict of str to ndarray
        Canonical name of a node -> its value, (B, C, y, x).
    object : (B, C, N, N) complex
        Output for the shared patterns, as users receive it.
    intensity : (region, pattern, N, N)
        Photons that the forward model predicts for the shared patch.
    gradients : dict of str to ndarray
        Gradients of the first batch's loss, in the order of the backward pass.
    branches : dict of str to ndarray
        Branches of every ReLU and pooling for the first batch.
    losses : (steps,)
        Loss before every optimiser step; the first belongs to the given weights.
    model : bytes
        The exported ONNX model.
    refusal : str
        Error message of the exporter, where it exported nothing.
    """

    implementation: str
    versions: dict[str, str] = field(default_factory=dict)
    weights: dict[str, NDArray[Any]] = field(default_factory=dict)
    activations: dict[str, NDArray[Any]] = field(default_factory=dict)
    object: NDArray[Any] | None = None
    intensity: NDArray[Any] | None = None
    gradients: dict[str, NDArray[Any]] = field(default_factory=dict)
    branches: dict[str, NDArray[Any]] = field(default_factory=dict)
    losses: NDArray[np.float64] | None = None
    model: bytes | None = None
    refusal: str = ""

    def renamed(self, implementation: str) -> ComputedValues:
        """A copy under another name."""
        return replace(self, implementation=implementation)

    def write(self, path: Path) -> None:
        """Write the values to an `.npz` file."""
        arrays = {f"{kind}/{name}": array for kind in _MAPPINGS for name, array in getattr(self, kind).items()}
        arrays |= {kind: getattr(self, kind) for kind in _ARRAYS if getattr(self, kind) is not None}
        if self.model is not None:
            arrays["model"] = np.frombuffer(self.model, np.uint8)
        about = {"implementation": self.implementation, "versions": self.versions, "refusal": self.refusal}
        np.savez(path, **arrays, about=np.frombuffer(json.dumps(about).encode(), np.uint8))

    @classmethod
    def read(cls, path: Path) -> ComputedValues:
        """Read a file of :meth:`write`, without pickle."""
        found: dict[str, Any] = {kind: {} for kind in _MAPPINGS}
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays:
                kind, slash, key = name.partition("/")
                if slash:
                    found[kind][key] = arrays[name]
                else:
                    found[kind] = arrays[name]
        about, model = json.loads(found.pop("about").tobytes()), found.pop("model", None)
        return cls(**about, **found, model=None if model is None else model.tobytes())
