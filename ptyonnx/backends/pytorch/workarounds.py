"""What PyTorch and Lightning do of themselves and should not. Twin of the TensorFlow file."""

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
    """Round what is nearly zero to zero: fading activations would otherwise slow a CPU down tenfold."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)  # holds for the whole thread, whose other numbers are not ours


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning's advice about data loaders and hardware does not concern our users."""
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
    """Lightning turns Ctrl-C into SystemExit and switches SIGINT off: undo both."""
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
