"""Where TensorFlow computes. Twin of the PyTorch file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import tensorflow as tf

from ptyonnx_bundles.cores import cores
from ptyonnx_bundles.errors import ProviderError

__all__ = ["full_float32", "set_threads", "translate_device_errors", "use_gpu"]

# What TensorFlow raises where a device fails or its memory is used up.
_FAILURES = (tf.errors.ResourceExhaustedError, tf.errors.InternalError, tf.errors.UnknownError)


def set_threads(threads: int) -> None:
    """Set the threads of TensorFlow in this process, those of an operator and of operators beside each other.

    Possible only before TensorFlow has run anything; later its pools stay as they are.

    Parameters
    ----------
    threads : int
        0: as many as there are cores (TensorFlow itself knows of no quota), unless the user has decided.
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
        A GPU was asked for and there is none.
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
    """Compute float32 with all of its bits on a GPU.

    By default TensorFlow convolves and multiplies in TF32 on NVIDIA's GPUs since Ampere, with 10 bits of mantissa
    instead of 23: an object is then off by about 1e-3. Everything is as it was afterwards.
    """
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(enabled=False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


@contextmanager
def translate_device_errors(problem: str, remedy: str) -> Iterator[None]:
    """Say in one line that a device failed, or that its memory is used up.

    Parameters
    ----------
    problem, remedy : str
        What could not be done, and what can be done about it.

    Raises
    ------
    ProviderError
        For such an error; others pass.
    """
    try:
        yield
    except _FAILURES as error:
        raise ProviderError(f"{problem} ({_reason(error)})", key="device", remedy=remedy) from error


def _reason(error: tf.errors.OpError) -> str:
    """The line that says what is wrong: of a graph the last before its node, else the first."""
    said, node, _ = error.message.partition("[[")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return (lines[-1] if node else lines[0]) if lines else type(error).__name__
