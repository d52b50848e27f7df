"""Run tests as another processor would compute: ``python tests/another_processor.py narrow -m numerical``.

Libraries choose their kernels by the processor: how many numbers they take at a time, whether they fuse products and
sums, in which order they add. Environment variables that they read when they are loaded restrict or widen that
choice. What follows the name of the environment goes to pytest.

- `narrow`: as an AVX2 processor computes, TensorFlow with its own kernels, one thread;
- `wide`: the widest vectors that this processor has, TensorFlow with oneDNN, two threads.

onnxruntime has no such switch: it always takes the widest. Its tolerances have to be derived, as all others.
"""

from __future__ import annotations

import os
import platform
import sys

from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__  # NumPy has no public name for them

X86 = platform.machine().lower() in {"x86_64", "amd64"}
WIDE = __cpu_features__.get("AVX512F", False)


def _threads(count: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    return dict.fromkeys(names, str(count))


def narrow() -> dict[str, str]:
    """Variables of an AVX2 processor; of any other kind of machine, what it can do without."""
    found = {**_threads(1), "TF_ENABLE_ONEDNN_OPTS": "0"}
    if X86:
        found |= {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "OPENBLAS_CORETYPE": "Haswell"}
    # NumPy warns of a feature that this processor lacks or that this NumPy has no kernels for.
    widest = [name for name in __cpu_dispatch__ if "AVX512" in name or name == "X86_V4"]
    if present := [name for name in widest if __cpu_features__.get(name, False)]:
        found["NPY_DISABLE_CPU_FEATURES"] = " ".join(present)
    return found


def wide() -> dict[str, str]:
    """Variables that widen the choice as far as this processor goes."""
    found = {**_threads(2), "TF_ENABLE_ONEDNN_OPTS": "1"}
    if WIDE:
        found |= {"ONEDNN_MAX_CPU_ISA": "DEFAULT", "ATEN_CPU_CAPABILITY": "avx512", "OPENBLAS_CORETYPE": "SkylakeX"}
    return found


ENVIRONMENTS = {"narrow": narrow, "wide": wide}
_READ = ("NPY_DISABLE_CPU_FEATURES", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "OPENBLAS_CORETYPE")


def main(words: list[str]) -> None:
    """Replace this process by pytest in the environment."""
    if not words or words[0] not in ENVIRONMENTS:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(ENVIRONMENTS)} [pytest's arguments]")
    inherited = {name: value for name, value in os.environ.items() if name not in _READ}
    os.execve(  # noqa: S606 - our own pytest
        sys.executable,
        [sys.executable, "-m", "pytest", *words[1:]],
        {**inherited, **ENVIRONMENTS[words[0]]()},
    )


if __name__ == "__main__":
    main(sys.argv[1:])
