"""Which weights a network takes: complete, of the recipe's names and shapes, float32.

Both native networks check here what they are given, so that both refuse the same things in
the same words, and what they computed on the way gets its canonical names complete. How a framework stores its weights is that framework's business.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles import Recipe
from ptyonnx_bundles.errors import SettingsError

__all__ = ["checked_weights", "in_recipe_order", "starting_weights"]


def starting_weights(recipe: Recipe) -> dict[str, NDArray[np.float32]]:
    """Return what a new network holds: the recipe's weights of seed 0, whitening that changes nothing."""
    shapes = recipe.constant_shapes()
    return {
        **recipe.initial_weights(seed=0),
        "whitening.mean": np.zeros(shapes["whitening.mean"], np.float32),
        "whitening.scale": np.ones(shapes["whitening.scale"], np.float32),
    }


def checked_weights(recipe: Recipe, weights: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Return the weights in the recipe's order, once they are known to be complete and to fit.

    Parameters
    ----------
    recipe : Recipe
        Says which names and shapes there are, the two whitening constants included.
    weights : mapping of str to ndarray
        Canonical name -> float32; kernels (out, in, y, x).

    Raises
    ------
    SettingsError
        A name is missing or unknown, a shape or dtype is not the recipe's.
    """
    shapes = {**recipe.weight_shapes(), **recipe.constant_shapes()}
    unknown = sorted(set(weights) - set(shapes))
    if unknown:
        raise SettingsError("the network has no such weight", key=unknown[0], remedy="check N, gridsize and depth")
    checked = {}
    for name, shape in shapes.items():
        if name not in weights:
            raise SettingsError("missing among the weights", key=name, expected=f"float32 {shape}")
        array = np.asarray(weights[name])
        if array.shape != shape or array.dtype != np.float32:
            raise SettingsError(
                "the weight does not fit the network", key=name,
                found=f"{array.dtype} {array.shape}", expected=f"float32 {shape}",
            )  # fmt: skip
        checked[name] = array
    return checked


def in_recipe_order(recipe: Recipe, seen: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Return what a network computed on the way, in the recipe's order, each node of the recipe once.

    Frameworks stack real and imaginary part in one step; the recipe gives each a last axis first.

    Parameters
    ----------
    recipe : Recipe
    seen : mapping of str to ndarray
        What passed by, by canonical name.
    """
    lasts = {f"{name}.last": seen[name][..., np.newaxis] for name in ("real", "imaginary")}
    values = {**seen, **lasts}
    return {node.name: values[node.name] for node in recipe.nodes()}
