"""Where TensorFlow computes. Twin of the PyTorch file."""

from __future__ import annotations

import tensorflow as tf

from ptyonnx_bundles.errors import ProviderError

__all__ = ["set_threads", "use_gpu"]


def set_threads(threads: int) -> None:
    """Set the threads of TensorFlow in this process; 0 leaves them as they are.

    Possible only before TensorFlow has run anything; later its pools stay as they are.
    """
    if not threads:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError:
        return


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
            remedy="install tensorflow[and-cuda], or choose the CPU: --device cpu",
        )  # fmt: skip
    return available and device != "cpu"
