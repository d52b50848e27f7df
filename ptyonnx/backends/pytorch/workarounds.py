"""Workarounds for unwanted behaviour of PyTorch and Lightning. Twin of the TensorFlow file."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

__all__ = ["interruptible", "quiet", "without_denormals"]


@contextmanager
def without_denormals() -> Iterator[None]:
    """Flush denormal numbers to zero: vanishing activations would otherwise slow a CPU down tenfold."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)  # it applies to the whole thread, which belongs to the caller


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress Lightning's advice about data loaders and hardware, which does not concern our users."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)  # lightning 2.6, torch 2.13
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def interruptible(was_interrupted: Callable[[], bool]) -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C: Lightning turns it into SystemExit and disables SIGINT."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        if was_interrupted():
            raise KeyboardInterrupt from None
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is not handler:
            signal.signal(signal.SIGINT, handler)
