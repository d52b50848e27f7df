"""The network followed by the forward model, in PyTorch, without training. Twin of the TensorFlow file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from ptyonnx.backends.pytorch.network import Network
from ptyonnx.backends.pytorch.training import OPERATORS, constants_as_tensors
from ptyonnx.training.objective import expected_intensity, objective_constants
from ptyonnx_bundles import Recipe
from ptyonnx_runtime.physics import Pair, intensity, pair_from_complex

__all__ = ["predict"]


def predict(
    recipe: Recipe,
    weights: Mapping[str, NDArray[np.float32]],
    probe: NDArray[np.complex64],
    diffraction: NDArray[np.float32],
    *,
    offset_px: NDArray[np.float32] | None,
    canvas: int,
) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """Predict the object of groups of patterns, and the patterns expected for it.

    Parameters
    ----------
    recipe, weights
        Of the network.
    probe : (mode, N, N) complex64, sqrt(photons)
    diffraction : (group, channel, N, N) float32, amplitude
    offset_px : (group, channel, 2) float32, optional
        (y, x) of each patch's first pixel on its group's canvas; without it, overlapping patches are not averaged.
    canvas : int
        Pixels along one side.

    Returns
    -------
    object : (group, channel, N, N) complex64
    amplitude : (group, channel, N, N) float32, sqrt(photons)
    """
    network = Network(recipe)
    network.set_weights_by_name(weights)
    with torch.inference_mode():
        patch = Pair(*network.real_and_imag(torch.from_numpy(diffraction)))
        illumination = Pair(*map(torch.from_numpy, pair_from_complex(probe)))
        constants = constants_as_tensors(objective_constants(probe, canvas))
        if offset_px is None:
            expected = intensity(patch, illumination, constants.dft)
        else:
            expected = expected_intensity(patch, torch.from_numpy(offset_px), illumination, constants, **OPERATORS)
        real, imag, amplitude = (part.numpy() for part in (*patch, torch.sqrt(expected)))
    return np.asarray(real + 1j * imag, np.complex64), amplitude
