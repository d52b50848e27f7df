"""Threads, devices and arithmetic of TensorFlow. Twin of the PyTorch file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import tensorflow as tf

from ptyonnx_bundles.cores import cores
from ptyonnx_bundles.errors import ProviderError

__all__ = ["full_float32", "set_threads", "translate_device_errors", "use_gpu"]

# Errors of TensorFlow when a device fails or has no more memory.
_FAILURES = (tf.errors.ResourceExhaustedError, tf.errors.InternalError, tf.errors.UnknownError)


def set_threads(threads: int) -> None:
    """Set the threads of TensorFlow in this process, within an operator and between operators.

    This has an effect only before TensorFlow has run an operator, as its thread pools are fixed afterwards.

    Parameters
    ----------
    threads : int
        0: as many as there are cores, unless TensorFlow's variables are set. TensorFlow itself ignores CPU quotas.
    """
    for name, setting in (("TF_NUM_INTRAOP_THREADS", "intra_op"), ("TF_NUM_INTEROP_THREADS", "inter_op")):
        decided = getattr(tf.config.threading, f"get_{setting}_parallelism_threads")() or name in os.environ
        if threads or not decided:
            with suppress(RuntimeError):
                getattr(tf.config.threading, f"set_{setting}_parallelism_threads")(threads or cores())


def use_gpu(device: str) -> bool:
    """Decide whether to compute on a GPU.

    Parameters
    ----------
    device : {"auto", "cpu", "gpu"}

    Raises
    ------
    ProviderError
        A GPU was requested and there is none.
    """
    available = bool(tf.config.list_physical_devices("GPU"))
    if device == "gpu" and not available:
        raise ProviderError(
            "TensorFlow sees no GPU", key="device", found=f"tensorflow {tf.__version__}",
            remedy='install tensorflow[and-cuda], or choose the CPU: device="cpu"',
        )  # fmt: skip
    return available and device != "cpu"


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute in full float32 on a GPU.

    On NVIDIA Ampere and later, TensorFlow uses TF32 by default, with 10 bits of mantissa instead of 23; an object is then
    wrong by about 1e-3. The previous setting is restored afterwards.
    """
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(enabled=False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


@contextmanager
def translate_device_errors(problem: str, remedy: str) -> Iterator[None]:
    """Raise a ProviderError of one line when a device fails or has no more memory.

    Parameters
    ----------
    problem, remedy : str
        Of the ProviderError.

    Raises
    ------
    ProviderError
        In place of such an error. Other errors are not changed.
    """
    try:
        yield
    except _FAILURES as error:
        raise ProviderError(f"{problem} ({_reason(error)})", key="device", remedy=remedy) from error


def _reason(error: tf.errors.OpError) -> str:
    """The line of a message that states the cause: for an error in a graph the last one before its node, else the first."""
    text, node, _ = error.message.partition("[[")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1] if node else lines[0]) if lines else type(error).__name__
