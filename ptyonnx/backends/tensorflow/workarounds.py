"""What TensorFlow does of itself and should not. Twin of the PyTorch file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

__all__ = ["without_remapper"]


@contextmanager
def without_remapper() -> Iterator[None]:
    """Do not let TensorFlow 2.21 try to merge convolutions and leaky rectifiers: it fails, and says so on stderr."""
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"remapping": False})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"remapping": before.get("remapping", True)})
