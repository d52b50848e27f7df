"""Workarounds for unwanted behaviour of TensorFlow. Twin of the PyTorch file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

__all__ = ["without_remapper"]


@contextmanager
def without_remapper() -> Iterator[None]:
    """Disable the remapper: TensorFlow 2.21 fails to merge convolutions and leaky rectifiers, and prints errors."""
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"remapping": False})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"remapping": before.get("remapping", True)})
