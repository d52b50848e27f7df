"""Arrays inside the metadata: base64 of the bytes of a `.npy` file, read without NumPy's own reader.

NumPy's reader evaluates the header as Python text and allocates what the header asks for.
Here the header is matched against one pattern and its shape against the bytes that are there,
before anything is allocated; there is no way to an object array.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import BundleError

__all__ = ["LARGEST_ARRAY_BYTES", "decode_array", "encode_array"]

LARGEST_ARRAY_BYTES = 2**27
_MAGIC = b"\x93NUMPY\x01\x00"  # version 1.0
_HEADER = re.compile(rb"\{'descr': '(<[fc][0-9]{1,2})', 'fortran_order': False, 'shape': \(([0-9, ]{0,100})\), \} *\n")
_KIND = "the base64 of a plain .npy array (version 1.0, little-endian, C order)"


def encode_array(array: NDArray[Any]) -> str:
    """Encode an array as base64 of its `.npy` bytes.

    Parameters
    ----------
    array : ndarray
        Little-endian float32, float64 or complex64.
    """
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array, order="C"), version=(1, 0), allow_pickle=False)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def decode_array(
    text: str, file: str, key: str, dtype: str, shape: tuple[int | None, ...], *, most: int = LARGEST_ARRAY_BYTES
) -> NDArray[Any]:
    """Decode base64 of `.npy` bytes.

    Parameters
    ----------
    text : str
        From a stranger.
    file, key : str
        Named in errors.
    dtype : str
        The one that must stand in the header, such as ``"<c8"``.
    shape : tuple of int or None
        A None allows any size of that axis, but not 0.
    most : int
        Largest allowed number of bytes.

    Raises
    ------
    BundleError
        Not base64, not a plain `.npy`, another dtype or shape, NaN or infinity.
    """
    if len(text) > most * 4 // 3 + 1024:
        raise BundleError("the array is too large", file=file, key=key, expected=f"at most {most} bytes")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BundleError("not base64", file=file, key=key, expected=_KIND) from None
    start = len(_MAGIC) + 2
    end = start + int.from_bytes(content[len(_MAGIC) : start], "little")
    header = _HEADER.fullmatch(content[start:end])
    if not content.startswith(_MAGIC) or header is None:
        raise BundleError("not a plain .npy array", file=file, key=key, expected=_KIND)
    found = tuple(int(size) for size in header[2].replace(b",", b" ").split())
    if repr(found).encode() != b"(" + header[2] + b")":
        raise BundleError("not a plain .npy array", file=file, key=key, expected=_KIND)
    fits = len(found) == len(shape) and all(a == b or (b is None and a > 0) for a, b in zip(found, shape, strict=True))
    if header[1].decode() != dtype or not fits:
        raise BundleError(
            "wrong array", file=file, key=key,
            found=f"{header[1].decode()} {found}", expected=f"{dtype} {tuple('any' if n is None else n for n in shape)}",
        )  # fmt: skip
    if math.prod(found) * np.dtype(dtype).itemsize != len(content) - end:
        raise BundleError("shape and size of the array differ", file=file, key=key, found=f"{len(content) - end} bytes")
    array = np.frombuffer(content, dtype, offset=end).reshape(found).copy()
    if not np.isfinite(array).all():
        raise BundleError("NaN or infinity", file=file, key=key)
    return array
