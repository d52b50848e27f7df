"""Where TensorFlow computes. Twin of the PyTorch file."""

from __future__ import annotations

import os
from contextlib import suppress

import tensorflow as tf

from ptyonnx_bundles.cores import cores
from ptyonnx_bundles.errors import ProviderError

__all__ = ["set_threads", "use_gpu"]


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
