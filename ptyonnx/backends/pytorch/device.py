"""Threads, devices and arithmetic of PyTorch. Twin of the TensorFlow file."""

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

# Messages of PyTorch's RuntimeErrors when a device fails or has no more memory.
_FAILURE = re.compile(r"CUDA|cuDNN|CUDNN|cuBLAS|CUBLAS|MPS backend|can't allocate memory")
_DETAILS = re.compile(r"^\[enforce fail[^]]*\] (err == 0\. )?|\s+GPU \d+ has a total.*|\s+Error code.*")


def set_threads(threads: int) -> None:
    """Set the threads of PyTorch in this process.

    Parameters
    ----------
    threads : int
        0: at most as many as there are cores, unless OMP_NUM_THREADS is set. PyTorch itself ignores CPU quotas.
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
        A GPU was requested and there is none.
    """
    available = torch.cuda.is_available() or torch.backends.mps.is_available()
    if device == "gpu" and not available:
        raise ProviderError(
            "PyTorch sees no GPU", key="device", found=f"torch {torch.__version__}",
            remedy='install a CUDA build of torch, or choose the CPU: device="cpu"',
        )  # fmt: skip
    return available and device != "cpu"


def gpu_name() -> str:
    """PyTorch's name of the GPU: cuda or mps."""
    return "cuda" if torch.cuda.is_available() else "mps"


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute in full float32 on a GPU, with deterministic kernels.

    On NVIDIA Ampere and later, PyTorch convolves in TF32 by default, with 10 bits of mantissa instead of 23; an object is
    then wrong by about 1e-3. The previous settings are restored afterwards.
    """
    switches = _switches()
    before = [getattr(owner, name) for owner, name, _ in switches]
    precision = _matmul_precision()
    torch.set_float32_matmul_precision("highest")  # the setting that Lightning reads
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
    except RuntimeError as error:
        if not _FAILURE.search(str(error)):
            raise
        reason = _DETAILS.sub("", str(error).splitlines()[0])
        raise ProviderError(f"{problem} ({reason})", key="device", remedy=remedy) from error


def _switches() -> list[tuple[Any, str, Any]]:
    """Process-wide settings of PyTorch: owner, name and required value."""
    backends: Any = torch.backends  # the stubs lack some of them
    cudnn, matmul = backends.cudnn, backends.cuda.matmul
    repeatable = [(cudnn, "deterministic", True), (cudnn, "benchmark", False)]
    if hasattr(matmul, "fp32_precision"):  # since 2.9; the setting of an operator takes precedence over the general one
        operators = (cudnn.conv, matmul, backends.mkldnn.conv, backends.mkldnn.matmul)
        return [*((operator, "fp32_precision", "ieee") for operator in operators), *repeatable]
    return [(cudnn, "allow_tf32", False), (matmul, "allow_tf32", False), *repeatable]


def _matmul_precision() -> str | None:
    """The matmul precision as of PyTorch before 2.9; None if only the newer settings were used."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None
