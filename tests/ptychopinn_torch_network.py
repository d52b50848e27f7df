"""PtychoPINN's PyTorch network, written anew for tests: modules with its names, nothing else of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from itertools import pairwise

import torch
from ptychopinn_variant import DECODER, ENCODER, Variant
from torch import nn
from torch.nn import functional

__all__ = ["make_network"]

Activation = Callable[[torch.Tensor], torch.Tensor]


class ChannelGate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 16
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = self.mlp(x.mean((2, 3), keepdim=True)) + self.mlp(x.amax((2, 3), keepdim=True))
        return x * both.sigmoid()[:, :, None, None]


class SpatialGate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.compress = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = torch.stack([x.amax(1), x.mean(1)], 1)
        return x * self.compress(both).sigmoid()


class Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ChannelGate, self.SpatialGate = ChannelGate(channels), SpatialGate()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.SpatialGate(self.ChannelGate(x))


class Block(nn.Module):
    def __init__(self, first: int, last: int, norm: bool, attention: bool = False) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(first, last, 3, padding=1), nn.Conv2d(last, last, 3, padding=1)
        if norm:
            self.bn1, self.bn2 = nn.BatchNorm2d(last), nn.BatchNorm2d(last)
        self.norm = norm
        self.attention = Attention(last) if attention else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, norm in (("conv1", "bn1"), ("conv2", "bn2")):
            x = getattr(self, conv)(x)
            x = functional.relu(getattr(self, norm)(x) if self.norm else x)
        return self.attention(x)


class Encoder(nn.Module):
    def __init__(self, variant: Variant) -> None:
        super().__init__()
        widths = [variant.channels, *variant.filters(ENCODER[variant.N])]
        self.blocks = nn.ModuleList(
            Block(first, last, variant.batch_norm, variant.cbam) for first, last in pairwise(widths)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = functional.max_pool2d(block(x), 2)
        return x


class Head(nn.Module):
    def __init__(self, variant: Variant, width: int, activation: Activation, norm: bool) -> None:
        super().__init__()
        heads = self.heads = variant.channels
        self.conv1 = nn.Conv2d(width - heads, heads, 3, padding=1)
        self.conv_up_block = Block(heads, width, norm)
        self.conv2 = nn.Conv2d(width, heads, 3, padding=1)
        if norm:
            self.bn1, self.bn2 = nn.BatchNorm2d(heads), nn.BatchNorm2d(heads)
        self.norm, self.activation, self.variant = norm, activation, variant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        N = self.variant.N
        inside = self.conv1(x[:, : -self.heads])
        inside = self.activation(self.bn1(inside) if self.norm else inside)
        result = torch.zeros(len(x), self.heads, N, N)
        if self.variant.probe_big:
            outside = self.conv2(functional.interpolate(self.conv_up_block(x[:, -self.heads :]), scale_factor=2))
            result = functional.silu(self.bn2(outside) if self.norm else outside)
        result[:, :, N // 4 : N - N // 4, N // 4 : N - N // 4] = inside
        return result


class Decoder(nn.Module):
    def __init__(self, variant: Variant, name: str, activation: Activation, norm: bool) -> None:
        super().__init__()
        widths = [variant.filters(ENCODER[variant.N])[-1], *variant.filters(DECODER[variant.N])]
        self.blocks = nn.ModuleList(Block(first, last, norm) for first, last in pairwise(widths))
        self.add_module(name, Head(variant, widths[-1], activation, norm))
        self.head = name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = functional.interpolate(block(x), scale_factor=2)
        return getattr(self, self.head)(x)


class Autoencoder(nn.Module):
    def __init__(self, variant: Variant) -> None:
        super().__init__()
        bottom = variant.filters(ENCODER[variant.N])[-1]
        activation = torch.sigmoid if variant.amp_activation == "sigmoid" else functional.silu
        self.encoder = Encoder(variant)
        self.bottleneck_cbam = Attention(bottom) if variant.bottleneck_cbam else nn.Identity()
        self.decoder_amp = Decoder(variant, "amp", activation, norm=False)
        self.decoder_phase = Decoder(variant, "phase", lambda x: math.pi * x.tanh(), variant.batch_norm)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.bottleneck_cbam(self.encoder(x))
        return self.decoder_amp(x), self.decoder_phase(x)


def make_network(variant: Variant) -> Autoencoder:
    """A network with weights as after a training."""
    torch.manual_seed(11)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a gate of fewer than 16 channels has an empty layer
        network = Autoencoder(variant).eval()
    with torch.no_grad():
        for name, tensor in network.named_buffers():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif name.endswith("running_mean"):
                tensor.normal_(0, 0.1)
        for head in (network.decoder_amp.amp, network.decoder_phase.phase):  # away from the middle of the activation
            for conv in (head.conv1, head.conv2):
                conv.weight.mul_(8)
    return network
