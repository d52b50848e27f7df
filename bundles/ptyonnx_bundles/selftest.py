"""The self-test of a bundle: patterns, the native network's object for them, and a tolerance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import BundleError
from ptyonnx_bundles.files.npy import decode_array, encode_array

__all__ = [
    "LARGEST_COARSE_TOLERANCE",
    "LARGEST_TOLERANCE",
    "SELFTEST_KEY",
    "SelfTest",
    "decode_selftest",
    "encode_selftest",
]

SELFTEST_KEY = "ptyonnx.selftest"
LARGEST_TOLERANCE = 1e-2  # |object| is at most 1.5; a larger tolerance would pass a wrong network
LARGEST_COARSE_TOLERANCE = 0.25  # of a graph in 8 bits: ten steps of a phase between -pi and pi
_SELFTEST_PARTS = ("diffraction", "object", "tolerance")


@dataclass(frozen=True, eq=False)
class SelfTest:
    """Patterns, the native network's object for them, and the tolerance of a comparison.

    Attributes
    ----------
    diffraction : (batch, channel, y, x) float32
        Amplitude, zero frequency in the centre.
    object : (batch, channel, y, x) complex64
        Output of the network in the framework that trained it.
    tolerance : float
        Largest allowed absolute difference of the complex object.
    """

    diffraction: NDArray[np.float32]
    object: NDArray[np.complex64]
    tolerance: float


def encode_selftest(selftest: SelfTest) -> str:
    """Write a self-test as text for the metadata."""
    parts = (
        np.asarray(selftest.diffraction, "<f4"),
        np.asarray(selftest.object, "<c8"),
        np.asarray(selftest.tolerance, "<f8"),
    )
    return "\n".join(encode_array(part) for part in parts)


def decode_selftest(text: str, file: str, shape: tuple[int, int, int], *, coarse: bool) -> SelfTest:
    """Read a self-test from the metadata.

    Parameters
    ----------
    text : str
        Untrusted.
    file : str
        Named in errors.
    shape : (int, int, int)
        Shape of one group of patterns: channel, y, x.
    coarse : bool
        Whether the graph computes in coarse number formats, which have a wider tolerance.

    Raises
    ------
    BundleError
        The arrays have another dtype or shape or are not finite, or the tolerance is too large.
    """
    largest = LARGEST_COARSE_TOLERANCE if coarse else LARGEST_TOLERANCE
    lines = text.split("\n")
    if len(lines) != len(_SELFTEST_PARTS):
        raise BundleError(
            "wrong number of arrays", file=file, key=SELFTEST_KEY, found=len(lines), expected=len(_SELFTEST_PARTS)
        )
    diffraction = decode_array(lines[0], file, SELFTEST_KEY, "<f4", (None, *shape))
    obj = decode_array(lines[1], file, SELFTEST_KEY, "<c8", diffraction.shape)
    tolerance = float(decode_array(lines[2], file, SELFTEST_KEY, "<f8", ()))
    if not 0 < tolerance <= largest:
        raise BundleError(
            "this tolerance is too large for a self-test", file=file, key=SELFTEST_KEY, found=tolerance,
            expected=f"above 0, at most {largest}",
        )  # fmt: skip
    return SelfTest(diffraction, obj, tolerance)
