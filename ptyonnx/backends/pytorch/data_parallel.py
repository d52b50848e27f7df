"""Share a batch out among threads: each runs the network over some of the patterns, forwards and back.

PyTorch's own threads share out every single operator, and meet a thousand times per step. Whoever waits there for a
thread that another process keeps from its core loses the time of both. Patterns do not depend on each other inside
the network, so threads that have some of them each need to meet twice per step only.
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

# The interpreter runs one thread at a time between operators: from about here on, more shares wait for it.
_MOST_SHARES = 8


class DataParallelNetwork:
    """A network's `real_and_imag`, computed in shares.

    Parameters
    ----------
    network : Network
        On the CPU.
    executor : ThreadPoolExecutor
        For all shares but one, which the calling thread takes.
    count : int
        Number of shares; gradients are summed in their order, so results depend on it and on nothing else.
    per_share : int
        PyTorch's threads for an operator, of every share.
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
        """One part per share, along the batch."""
        return torch.tensor_split(array, min(self._count, len(array)))

    def each(self, function: Callable[..., Result], *arguments: tuple[Any, ...]) -> list[Result]:
        """Call with the arguments of every share, in the order of shares."""
        mine, *others = zip(*arguments, strict=True)
        with _threads(self._per_share):
            waiting = [self._executor.submit(function, *other) for other in others]
            return [function(*mine), *(share.result() for share in waiting)]


class _Shared(torch.autograd.Function):
    """The network in shares, as one operator whose gradient is computed in shares, too."""

    @staticmethod
    def forward(ctx: Any, shares: DataParallelNetwork, diffraction: torch.Tensor, *_: torch.Tensor) -> Parts:
        """Compute every share, and keep its graph."""

        def compute(part: torch.Tensor) -> Parts:
            with torch.enable_grad():
                return shares.network.real_and_imag(part)

        ctx.shares = shares
        ctx.parts = shares.each(compute, shares.split(diffraction))
        with torch.no_grad():
            return joined(ctx.parts)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Go back through every share, and add up."""
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
    """Put shares together along the batch."""
    real, imag = (torch.cat(shares) for shares in zip(*parts, strict=True))
    return real, imag


@contextmanager
def data_parallel(network: Network, threads: int) -> Iterator[Callable[[torch.Tensor], Parts]]:
    """Give a network's `real_and_imag` as it is computed with some threads, which end with this.

    Inside it an operator has one thread, or a few where there are more threads than shares; elsewhere as many as before.

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
        """What PyTorch keeps for every thread."""
        torch.set_num_threads(per_share)
        torch.set_flush_denormal(True)

    if count == 1:
        yield network.real_and_imag
        return
    with ThreadPoolExecutor(count - 1, "ptyonnx-share", prepare) as executor:
        yield DataParallelNetwork(network, executor, count, per_share)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """So many threads for an operator, in the calling thread and in those that begin meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
