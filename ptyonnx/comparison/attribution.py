"""Which of two engines errs where they part.

Their distance does not tell: float64 does. The layer is computed again from what each engine itself
gave it, and whoever is further from that than float32 arithmetic can be, in whatever order it sums,
has computed something else.
"""

from __future__ import annotations

import math

from ptyonnx.comparison.activations import batches
from ptyonnx.reference.local_errors import local_error
from ptyonnx.reference.pattern_selection import PatternGroups
from ptyonnx_bundles import Bundle
from ptyonnx_runtime.inference.engine import Engine

__all__ = ["attribute_difference"]


def attribute_difference(bundle: Bundle, layer: str, engines: tuple[Engine, Engine], patterns: PatternGroups) -> str:
    """Say which engine errs at a layer.

    Parameters
    ----------
    bundle : Bundle
        That both compute.
    layer : str
        Canonical name of a value that both give.
    engines : pair of Engine
        Called A and B.
    patterns : PatternGroups
        On which they part.
    """
    (node,) = [node for node in bundle.native_recipe("float64").nodes() if node.name == layer]
    errors = {"A": 0.0, "B": 0.0}
    for diffraction in batches(patterns.diffraction):
        for letter, engine in zip(errors, engines, strict=True):
            values = {"diffraction": diffraction, **engine.activations(diffraction)}
            errors[letter] = max(errors[letter], local_error(node, values, bundle.weights))
    said = [_sentence(letter, error) for letter, error in errors.items() if error > 1]
    return f"computing this layer from its own input, {' and '.join(said) or 'neither errs'}"


def _sentence(letter: str, error: float) -> str:
    if math.isinf(error):  # it chooses or copies: nothing is rounded
        return f"{letter} errs where float32 is exact"
    return f"{letter} errs by {error:.2g} times what float32 may"
