"""Where PyTorch computes. Twin of the TensorFlow file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ptyonnx_bundles.cores import cores
from ptyonnx_bundles.errors import ProviderError

__all__ = ["full_float32", "gpu_name", "set_threads", "translate_device_errors", "use_gpu"]

# What PyTorch says, in plain RuntimeErrors for the most part, where a device fails or its memory is used up.
_FAILURE = re.compile(r"CUDA|cuDNN|CUDNN|cuBLAS|CUBLAS|MPS backend|can't allocate memory")
_DETAILS = re.compile(r"^\[enforce fail[^]]*\] (err == 0\. )?|\s+GPU \d+ has a total.*|\s+Error code.*")


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


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute float32 with all of its bits on a GPU, and sum in the same order every time.

    By default PyTorch convolves in TF32 on NVIDIA's GPUs since Ampere, with 10 bits of mantissa instead of 23: an
    object is then off by about 1e-3. It also takes kernels whose sums come in any order. Everything is as it was afterwards.
    """
    switches = _switches()
    before = [getattr(owner, name) for owner, name, _ in switches]
    precision = _matmul_precision()
    torch.set_float32_matmul_precision("highest")  # Lightning asks for it in this way
    for owner, name, value in switches:
        setattr(owner, name, value)
    try:
        yield
    finally:
        if precision is not None:
            torch.set_float32_matmul_precision(precision)
        for (owner, name, _), value in zip(switches, before, strict=True):
            setattr(owner, name, value)


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
    except RuntimeError as error:
        if not _FAILURE.search(str(error)):
            raise
        reason = _DETAILS.sub("", str(error).splitlines()[0])
        raise ProviderError(f"{problem} ({reason})", key="device", remedy=remedy) from error


def _switches() -> list[tuple[Any, str, Any]]:
    """Owner, name and wanted value of what PyTorch decides for the whole process."""
    backends: Any = torch.backends  # whose stubs lack some
    cudnn, matmul = backends.cudnn, backends.cuda.matmul
    repeatable = [(cudnn, "deterministic", True), (cudnn, "benchmark", False)]
    if hasattr(matmul, "fp32_precision"):  # since 2.9; what is said per operator goes before what is said for all
        operators = (cudnn.conv, matmul, backends.mkldnn.conv, backends.mkldnn.matmul)
        return [*((operator, "fp32_precision", "ieee") for operator in operators), *repeatable]
    return [(cudnn, "allow_tf32", False), (matmul, "allow_tf32", False), *repeatable]


def _matmul_precision() -> str | None:
    """The precision of products as PyTorch before 2.9 has it; None where it was said in the newer way only."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None
