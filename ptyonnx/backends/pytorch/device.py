"""Where PyTorch computes. Twin of the TensorFlow file."""

from __future__ import annotations

import os

import torch

from ptyonnx_bundles.cores import cores
from ptyonnx_bundles.errors import ProviderError

__all__ = ["gpu_name", "set_threads", "use_gpu"]


def set_threads(threads: int) -> None:
    """Set the threads of PyTorch in this process.

    Parameters
    ----------
    threads : int
        0: no more than there are cores (PyTorch itself knows of no quota), unless the user has decided.
    """
    if threads:
        torch.set_num_threads(threads)
    elif "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > cores():
        torch.set_num_threads(cores())


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
    available = torch.cuda.is_available() or torch.backends.mps.is_available()
    if device == "gpu" and not available:
        raise ProviderError(
            "PyTorch sees no GPU", key="device", found=f"torch {torch.__version__}",
            remedy='install a CUDA build of torch, or choose the CPU: device="cpu"',
        )  # fmt: skip
    return available and device != "cpu"


def gpu_name() -> str:
    """Name the GPU as PyTorch does: cuda or mps."""
    return "cuda" if torch.cuda.is_available() else "mps"
