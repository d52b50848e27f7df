"""The training step as one writes it in PyTorch, without anything around it. Twin of the TensorFlow file.

What `benchmarks/training.py` compares `ptyonnx.train` with: layers in `torch.nn.Sequential`,
complex numbers and `torch.fft`, channels last, the same objective, weights, batches and rates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ptyonnx.training.objective import LOG_FLOOR
from ptyonnx.training.task import Task
from ptyonnx_bundles.recipe import AMPLITUDE_MAX, HEADS
from ptyonnx_runtime.physics import WEIGHT_FLOOR

__all__ = ["make_step"]


def make_step(task: Task) -> Callable[[NDArray[np.float32], NDArray[np.float32], float], float]:
    """Network, objective and optimiser; returns what trains on one batch at a rate, and gives the loss."""
    torch.set_num_threads(task.settings.threads)
    torch.set_flush_denormal(True)
    network = _network(task)
    optimizer = torch.optim.Adam(network.parameters(), eps=1e-10)
    mean, scale = (torch.from_numpy(task.initial_weights[f"whitening.{name}"]) for name in ("mean", "scale"))
    weight, probe = torch.from_numpy(task.overlap_weight), torch.from_numpy(task.probe)
    lattice = torch.arange(task.training.canvas)[:, None] - torch.arange(task.recipe.N)

    def predict(diffraction: torch.Tensor) -> torch.Tensor:
        code = network["encoder"]((diffraction - mean) * scale)
        amplitude = AMPLITUDE_MAX * torch.sigmoid(network["amplitude"](code))
        return torch.polar(amplitude, math.pi * torch.tanh(network["phase"](code)))

    def expect(patch: torch.Tensor, offset_px: torch.Tensor) -> torch.Tensor:
        shift = (1 - (lattice - offset_px[..., None, None]).abs()).clamp(min=0)
        y, x = shift[:, :, 0], shift[:, :, 1].mT
        planes = torch.stack([patch.real * weight, patch.imag * weight, weight.expand(patch.shape)], dim=2)
        real, imag, total = (y[:, :, None] @ planes @ x[:, :, None]).sum(dim=1).unbind(dim=1)
        agreed = torch.stack([real, imag], dim=1) / (total + WEIGHT_FLOOR**2)[:, None]
        agreed = y.mT[:, :, None] @ agreed[:, None] @ x.mT[:, :, None]
        wave = probe * torch.complex(agreed[:, :, 0], agreed[:, :, 1])[:, :, None]
        field = torch.fft.fftshift(torch.fft.fft2(wave, norm="ortho"), dim=(-2, -1))
        expected: torch.Tensor = (field.real**2 + field.imag**2).sum(dim=2)
        return expected

    def step(diffraction: NDArray[np.float32], offset_px: NDArray[np.float32], rate: float) -> float:
        measured, offset = torch.from_numpy(diffraction), torch.from_numpy(offset_px)
        patch = predict(measured).reshape(*offset.shape[:2], *measured.shape[-2:])
        expected = expect(patch, offset)
        counts = measured.reshape(patch.shape) ** 2
        loss = (expected - counts * torch.log(expected + LOG_FLOOR)).mean() / task.mean_counts
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), task.settings.clip)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        return float(loss.detach())

    return step


def _network(task: Task) -> nn.ModuleDict:
    recipe = task.recipe
    encoder, into = [], recipe.channels
    for filters in recipe.encoder_filters:
        encoder += [*_level(into, filters, recipe.leak), nn.MaxPool2d(2)]
        into = filters
    network = nn.ModuleDict({"encoder": nn.Sequential(*encoder)})
    for head in HEADS:
        network[head] = _decoder(into, recipe.decoder_filters, recipe.channels, recipe.leak)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for layer, convolution in zip(recipe.convolutions(), convolutions, strict=True):
        for name in ("weight", "bias"):
            getattr(convolution, name).data.copy_(torch.from_numpy(task.initial_weights[f"{layer.name}.{name}"]))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _decoder(into: int, filters: Sequence[int], channels: int, leak: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for out in filters:
        layers += [*_level(into, out, leak), nn.Upsample(scale_factor=2, mode="nearest")]
        into = out
    return nn.Sequential(*layers, nn.Conv2d(into, channels, 3, padding=1))


def _level(into: int, out: int, leak: float) -> list[nn.Module]:
    first, second = (nn.Conv2d(channels, out, 3, padding=1) for channels in (into, out))
    return [first, nn.LeakyReLU(leak), second, nn.LeakyReLU(leak)]
