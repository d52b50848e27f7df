"""Checks of weights and order of activations that both native networks share.

Weights must be complete and float32, with the names and shapes of the recipe.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles import Recipe
from ptyonnx_bundles.errors import SettingsError

__all__ = ["checked_weights", "in_recipe_order", "starting_weights"]


def starting_weights(recipe: Recipe) -> dict[str, NDArray[np.float32]]:
    """Weights of a new network: the recipe's initial weights of seed 0, and an identity whitening."""
    shapes = recipe.constant_shapes()
    return {
        **recipe.initial_weights(seed=0),
        "whitening.mean": np.zeros(shapes["whitening.mean"], np.float32),
        "whitening.scale": np.ones(shapes["whitening.scale"], np.float32),
    }


def checked_weights(recipe: Recipe, weights: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Check that weights are complete and fit the recipe, and return them in its order.

    Parameters
    ----------
    recipe : Recipe
        Defines names and shapes, including the two whitening constants.
    weights : mapping of str to ndarray
        Canonical name -> float32; kernels (out, in, y, x).

    Raises
    ------
    SettingsError
        A name is missing or unknown, or a shape or dtype differs from the recipe's.
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


def in_recipe_order(recipe: Recipe, recorded: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Return the activations of a network in the recipe's order, one for each node.

    The recipe has two nodes that append an axis to the real and the imaginary part before these are joined. Frameworks
    stack both in one step, so that these two values are added here.

    Parameters
    ----------
    recipe : Recipe
    recorded : mapping of str to ndarray
        Canonical name -> value, as the network's hook received them.
    """
    lasts = {f"{name}.last": recorded[name][..., np.newaxis] for name in ("real", "imaginary")}
    values = {**recorded, **lasts}
    return {node.name: values[node.name] for node in recipe.nodes()}
