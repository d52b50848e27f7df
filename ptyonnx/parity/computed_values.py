"""What one implementation made of a inputs, as named arrays; how it travels out of a child process."""

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
    """What was computed; what an implementation does not do is None or empty.

    Attributes
    ----------
    implementation : str
        ``"float64"``, ``"pytorch"``, ``"tensorflow"``, ``"onnxruntime"``.
    versions : dict of str to str
        Of packages.
    weights : dict of str to ndarray
        Read back out of the implementation, canonical names.
    activations : dict of str to ndarray
        Every node's value by canonical name, (B, C, y, x).
    object : (B, C, N, N) complex
        Of the shared patterns, as users get it.
    intensity : (region, pattern, N, N)
        Photons from the shared patch.
    gradients : dict of str to ndarray
        Of the first batch's loss, in the order of the backward pass.
    branches : dict of str to ndarray
        Which way every rectifier and pooling went for the first batch.
    losses : (steps,)
        Of every step of training; the first is that of the given weights.
    model : bytes
        What the exporter wrote, ONNX.
    refusal : str
        Why the exporter wrote nothing, in its own words.
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
        """The same, of an implementation of this name."""
        return replace(self, implementation=implementation)

    def write(self, path: Path) -> None:
        """Write it as `.npz`."""
        arrays = {f"{kind}/{name}": array for kind in _MAPPINGS for name, array in getattr(self, kind).items()}
        arrays |= {kind: getattr(self, kind) for kind in _ARRAYS if getattr(self, kind) is not None}
        if self.model is not None:
            arrays["model"] = np.frombuffer(self.model, np.uint8)
        about = {"implementation": self.implementation, "versions": self.versions, "refusal": self.refusal}
        np.savez(path, **arrays, about=np.frombuffer(json.dumps(about).encode(), np.uint8))

    @classmethod
    def read(cls, path: Path) -> ComputedValues:
        """Read what :meth:`write` wrote; nothing in it is unpickled."""
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
