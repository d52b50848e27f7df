"""The recipe as a `torch.nn.Module`; its state dict has the canonical names.

Twin of `backends/tensorflow/network.py`, with the same names in the same order. A `hook` receives every value with its
canonical name, to record it (`engine.py`). Under autocast, the whitening before the first convolution and all operations
after the last one stay in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from ptyonnx.backends.pytorch.output_convolution import OutputConvolution
from ptyonnx.backends.weights import checked_weights, starting_weights
from ptyonnx_bundles import Recipe
from ptyonnx_bundles.recipe import AMPLITUDE_MAX, HEADS, KERNEL

__all__ = ["Network"]

Hook = Callable[[str, torch.Tensor], torch.Tensor]


def _no_hook(_: str, value: torch.Tensor) -> torch.Tensor:
    return value


class Network(torch.nn.Module):
    """Encoder and two decoders, from measured amplitudes to the object.

    Parameters
    ----------
    recipe : Recipe
        N, channels, filters and depth. The initial weights are those of the recipe for seed 0.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.whitening = _Whitening(recipe.N)
        into = (recipe.channels, *recipe.encoder_filters)
        self.encoder = torch.nn.ModuleList(
            _Level(into[level], filters, recipe.leak) for level, filters in enumerate(recipe.encoder_filters)
        )
        self.decoder = torch.nn.ModuleDict({head: _decoder(recipe) for head in HEADS})
        self.set_weights_by_name(starting_weights(recipe))

    def set_weights_by_name(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Set all weights, bit for bit.

        Parameters
        ----------
        weights : mapping of str to ndarray
            Canonical name -> float32, kernels (out, in, y, x), `whitening.mean` and
            `whitening.scale` included.

        Raises
        ------
        SettingsError
            They are not exactly the weights of the recipe; the network is not changed.
        """
        checked = checked_weights(self.recipe, weights)
        self.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in checked.items()})

    def weights_by_name(self) -> dict[str, NDArray[np.float32]]:
        """Copy all weights: canonical name -> float32, kernels (out, in, y, x)."""
        return {name: tensor.detach().cpu().numpy().copy(order="C") for name, tensor in self.state_dict().items()}

    def amplitude_and_phase(
        self, diffraction: torch.Tensor, hook: Hook = _no_hook
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Both heads, (B, C, N, N) float32 each: amplitude in (0, 1.5), phase in (-π, π) rad."""
        value = self.whitening(diffraction, hook)
        for index, level in enumerate(self.encoder):
            name = f"encoder.{index}"
            value = hook(f"{name}.pool", torch.nn.functional.max_pool2d(level(value, name, hook), 2))
        amplitude = hook("amplitude.squashed", torch.sigmoid(self._decode("amplitude", value, hook)))
        amplitude = hook("amplitude", AMPLITUDE_MAX * amplitude)
        phase = hook("phase.squashed", torch.tanh(self._decode("phase", value, hook)))
        phase = hook("phase", math.pi * phase)
        return amplitude, phase

    def real_and_imag(self, diffraction: torch.Tensor, hook: Hook = _no_hook) -> tuple[torch.Tensor, torch.Tensor]:
        """Real and imaginary part of the object, (B, C, N, N) float32 each."""
        amplitude, phase = self.amplitude_and_phase(diffraction, hook)
        real = hook("real", amplitude * hook("phase.cos", torch.cos(phase)))
        imag = hook("imaginary", amplitude * hook("phase.sin", torch.sin(phase)))
        return real, imag

    def forward(self, diffraction: torch.Tensor, hook: Hook = _no_hook) -> torch.Tensor:
        """Predict the object.

        Parameters
        ----------
        diffraction : (B, C, N, N) float32
            Measured amplitude, sqrt(photons), zero frequency at (N//2, N//2).
        hook : callable
            Called with the canonical name and the value of every node, in order of computation; returns the value.

        Returns
        -------
        (B, C, N, N, 2) float32
            Real and imaginary part last.
        """
        return hook("object", torch.stack(self.real_and_imag(diffraction, hook), dim=-1))

    def _decode(self, head: str, value: torch.Tensor, hook: Hook) -> torch.Tensor:
        *levels, output = self.decoder[head].values()  # type: ignore[operator]
        for index, level in enumerate(levels):
            name = f"decoder.{head}.{index}"
            value = level(value, name, hook)
            value = hook(f"{name}.upsample", torch.nn.functional.interpolate(value, scale_factor=2.0, mode="nearest"))
        logits: torch.Tensor = output(value)
        return hook(f"decoder.{head}.output", logits if logits.dtype == torch.float32 else logits.float())


class _Whitening(torch.nn.Module):
    """(diffraction - mean) · scale, with constants of the training patterns, which are not trained."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, N: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(N, N))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, diffraction: torch.Tensor, hook: Hook) -> torch.Tensor:
        centred = hook("whitening.centred", diffraction - self.mean)
        return hook("whitening.scaled", centred * self.scale)


class _Level(torch.nn.Module):
    """Convolution, rectifier, convolution, rectifier."""

    def __init__(self, channels: int, filters: int, leak: float) -> None:
        super().__init__()
        self.leak = leak
        self.conv = torch.nn.ModuleList([_convolution(channels, filters), _convolution(filters, filters)])

    def forward(self, value: torch.Tensor, name: str, hook: Hook) -> torch.Tensor:
        for index, convolution in enumerate(self.conv):
            value = hook(f"{name}.conv.{index}", convolution(value))
            value = hook(f"{name}.relu.{index}", _rectify(value, self.leak))
        return value


def _rectify(value: torch.Tensor, leak: float) -> torch.Tensor:
    return torch.nn.functional.leaky_relu(value, leak) if leak else torch.relu(value)


def _decoder(recipe: Recipe) -> torch.nn.ModuleDict:
    into = (recipe.encoder_filters[-1], *recipe.decoder_filters)
    levels = {
        str(level): _Level(into[level], filters, recipe.leak) for level, filters in enumerate(recipe.decoder_filters)
    }
    return torch.nn.ModuleDict({**levels, "output": OutputConvolution(into[-1], recipe.channels)})


def _convolution(channels: int, filters: int) -> torch.nn.Conv2d:
    return torch.nn.Conv2d(channels, filters, KERNEL, padding=KERNEL // 2)
