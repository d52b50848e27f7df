"""Data parallelism on the CPU: each thread runs the network, forward and backward, on a share of the batch.

PyTorch's own threads divide every operator, and synchronise a thousand times per step. When another process occupies the
core of one thread, all others wait for it. The network treats patterns independently, so that threads with a share of the
patterns synchronise only twice per step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from ptyonnx.backends.pytorch.network import Network

__all__ = ["DataParallelNetwork", "Parts", "data_parallel"]

Parts = tuple[torch.Tensor, torch.Tensor]  # real and imaginary part of the object, (B, C, N, N) float32 each
Result = TypeVar("Result")

# Between operators the interpreter runs one thread at a time: with more shares than this, threads wait for it.
_MOST_SHARES = 8


class DataParallelNetwork:
    """A network's `real_and_imag`, computed in shares of the batch.

    Parameters
    ----------
    network : Network
        On the CPU.
    executor : ThreadPoolExecutor
        Runs all shares except one, which the calling thread computes.
    count : int
        Number of shares. Gradients are summed in the order of shares, so that results depend only on this number.
    per_share : int
        Number of PyTorch's threads per operator, in every share.
    """

    def __init__(self, network: Network, executor: ThreadPoolExecutor, count: int, per_share: int = 1) -> None:
        self.network = network
        self._executor = executor
        self._count = count
        self._per_share = per_share
        self.parameters = tuple(network.parameters())

    def __call__(self, diffraction: torch.Tensor) -> Parts:
        """Real and imaginary part of the object, as :meth:`Network.real_and_imag`."""
        if not torch.is_grad_enabled():
            return joined(self.each(self.network.real_and_imag, self.split(diffraction)))
        real, imag = _Shared.apply(self, diffraction, *self.parameters)  # type: ignore[no-untyped-call]
        return real, imag

    def split(self, array: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Split an array into shares, along the batch."""
        return torch.tensor_split(array, min(self._count, len(array)))

    def each(self, function: Callable[..., Result], *arguments: tuple[Any, ...]) -> list[Result]:
        """Call a function for every share, and return the results in the order of shares."""
        mine, *others = zip(*arguments, strict=True)
        with _threads(self._per_share):
            waiting = [self._executor.submit(function, *other) for other in others]
            return [function(*mine), *(share.result() for share in waiting)]


class _Shared(torch.autograd.Function):
    """The network as one operator, whose value and gradient are computed in shares."""

    @staticmethod
    def forward(ctx: Any, shares: DataParallelNetwork, diffraction: torch.Tensor, *_: torch.Tensor) -> Parts:
        """Compute every share, and keep its autograd graph."""

        def compute(part: torch.Tensor) -> Parts:
            with torch.enable_grad():
                return shares.network.real_and_imag(part)

        ctx.shares = shares
        ctx.parts = shares.each(compute, shares.split(diffraction))
        with torch.no_grad():
            return joined(ctx.parts)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Differentiate every share, and sum the gradients."""
        shares: DataParallelNetwork = ctx.shares
        parts, ctx.parts = ctx.parts, None

        def go_back(part: Parts, real: torch.Tensor, imag: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return torch.autograd.grad(part, shares.parameters, (real, imag))

        first, *others = shares.each(go_back, tuple(parts), *map(shares.split, gradients))
        for other in others:
            for total, gradient in zip(first, other, strict=True):
                total.add_(gradient)
        return (None, None, *first)


def joined(parts: list[Parts]) -> Parts:
    """Concatenate shares along the batch."""
    real, imag = (torch.cat(shares) for shares in zip(*parts, strict=True))
    return real, imag


@contextmanager
def data_parallel(network: Network, threads: int) -> Iterator[Callable[[torch.Tensor], Parts]]:
    """Yield a network's `real_and_imag`, computed by some threads, which end with the context.

    In these threads an operator uses one thread, or a few if there are more threads than shares.

    Parameters
    ----------
    network : Network
        On the CPU.
    threads : int
        At least 1.
    """
    per_share = -(-threads // _MOST_SHARES)
    count = threads // per_share

    def prepare() -> None:
        """Set PyTorch's settings of the current thread."""
        torch.set_num_threads(per_share)
        torch.set_flush_denormal(True)

    if count == 1:
        yield network.real_and_imag
        return
    with ThreadPoolExecutor(count - 1, "ptyonnx-share", prepare) as executor:
        yield DataParallelNetwork(network, executor, count, per_share)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Set the number of threads per operator, for the calling thread and for threads that start meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
