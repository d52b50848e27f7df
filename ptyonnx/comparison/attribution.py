"""Attribute the difference of two engines to one of them.

The difference alone does not say which engine is wrong. Therefore the layer is computed again in float64, for each
engine from the input that this engine gave the layer. An engine whose output differs from that by more than any order
of float32 summation allows has computed something else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ptyonnx.comparison.activations import batches
from ptyonnx.reference.local_errors import local_error
from ptyonnx.reference.pattern_selection import PatternGroups
from ptyonnx_bundles import Bundle
from ptyonnx_runtime.inference.engine import Engine

__all__ = ["Attribution", "attribute_difference"]


@dataclass(frozen=True)
class Attribution:
    """Errors of one layer in two engines, each for the layer's own input.

    Attributes
    ----------
    layer : str
        Canonical name.
    error_a, error_b : float
        Largest error, relative to the bound of float32, see :mod:`ptyonnx.reference.local_errors`. Infinite where
        float32 is exact and the engine is not.
    """

    layer: str
    error_a: float
    error_b: float

    @property
    def wrong(self) -> tuple[str, ...]:
        """Which of ``"A"`` and ``"B"`` exceed the bound."""
        return tuple(name for name, error in self._errors if error > 1)

    @property
    def sentence(self) -> str:
        """Which engine is wrong, and by how much."""
        parts = [
            f"{name} is wrong" if math.isinf(error) else f"{name} is wrong by {error:.2g} times the float32 bound"
            for name, error in self._errors
            if error > 1
        ]
        return (
            f"{' and '.join(parts)} (layer recomputed in float64)"
            if parts
            else "each engine computes this layer correctly from its own input: the difference accumulated before it"
        )

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON; None stands for infinity."""
        errors = {f"error_{name.lower()}": error if math.isfinite(error) else None for name, error in self._errors}
        return {"layer": self.layer, **errors, "wrong": self.wrong}

    @property
    def _errors(self) -> tuple[tuple[str, float], ...]:
        return ("A", self.error_a), ("B", self.error_b)


def attribute_difference(
    bundle: Bundle, layer: str, engines: tuple[Engine, Engine], patterns: PatternGroups
) -> Attribution:
    """Find out which of two engines computes a layer incorrectly.

    Parameters
    ----------
    bundle : Bundle
        The bundle that both compute.
    layer : str
        Canonical name of a value that both provide.
    engines : pair of Engine
        A and B.
    patterns : PatternGroups
        Patterns for which the two differ.
    """
    (node,) = [node for node in bundle.native_recipe("float64").nodes() if node.name == layer]
    errors = [0.0, 0.0]
    for diffraction in batches(patterns.diffraction):
        for index, engine in enumerate(engines):
            values = {"diffraction": diffraction, **engine.activations(diffraction)}
            errors[index] = max(errors[index], local_error(node, values, bundle.weights))
    return Attribution(layer, *errors)
