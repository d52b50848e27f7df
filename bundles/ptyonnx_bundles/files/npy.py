"""Read and write arrays in the `.npy` format without NumPy's own reader.

NumPy's reader evaluates the header as Python text and allocates memory for the stated shape. Here the header
is matched against a grammar, and its shape is compared with the number of bytes, before memory is allocated;
object arrays are not possible.

The metadata of a bundle (:func:`decode_array`) allow one form of the header only; files (:func:`read_header`) may have
every form that NPY writers use.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import re
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import BundleError

__all__ = ["LARGEST_ARRAY_BYTES", "NotPlainError", "NpyHeader", "decode_array", "encode_array", "read_header"]

LARGEST_ARRAY_BYTES = 2**27
_MAGIC = b"\x93NUMPY\x01\x00"  # version 1.0
_HEADER = re.compile(rb"\{'descr': '(<[fc][0-9]{1,2})', 'fortran_order': False, 'shape': \(([0-9, ]{0,100})\), \} *\n")
_LARGEST_HEADER_BYTES = 10_000  # NumPy's own limit
_MOST_AXES = 32
_ENTRY = re.compile(
    r"""\s*(?:'(\w{1,20})'|"(\w{1,20})")\s*:\s*  # key
    (?:'([^'\\]{1,20})'|"([^"\\]{1,20})"|(True|False)|\(([0-9L,\ ]{0,700})\)|(\[))""",  # dtype, order, shape; a record
    re.VERBOSE,
)
_DTYPE = re.compile(r"[<>|=]?(?:\?|b1|[iu][1248]|f(?:2|4|8|16)|c(?:8|16|32)|[US][0-9]{1,4})")
_LENGTH = re.compile(r" *([0-9]{1,19})L? *")
_KIND = "the base64 of a plain .npy array (version 1.0, little-endian, C order)"


class NotPlainError(ValueError):
    """A valid header of an array of Python objects, records or times."""


class NpyHeader(NamedTuple):
    """The header of a `.npy` file."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    size_bytes: int  # of the header itself

    @property
    def data_bytes(self) -> int:
        """Size of the array in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: IO[bytes]) -> NpyHeader:
    """Read the header of a `.npy` file, of any version.

    Parameters
    ----------
    stream : binary stream
        At the beginning of the file; afterwards at the beginning of the array.

    Raises
    ------
    NotPlainError
        An array of Python objects, records, or times.
    ValueError
        There is no valid header.
    """
    start = stream.read(8)
    width = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}.get(start[6:])
    if start[:6] != _MAGIC[:6] or width is None:
        raise ValueError("not a .npy file")
    counted = stream.read(width)
    length = int.from_bytes(counted, "little")
    if len(counted) < width or length > _LARGEST_HEADER_BYTES:
        raise ValueError("a header of unusual length")
    text = stream.read(length)
    if len(text) < length:
        raise ValueError("truncated")
    shape, fortran_order, dtype = _parse_header(text.decode("latin-1"))
    return NpyHeader(shape, fortran_order, dtype, len(start) + width + length)


def _parse_header(text: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Parse the three entries of the dictionary, in any order."""
    text = text.strip()
    if text[:1] != "{" or text[-1:] != "}":
        raise ValueError("not a dictionary")
    inner, found = text[1:-1], dict[str, Any]()
    while inner.strip():
        entry = _ENTRY.match(inner)
        if entry is None:
            raise ValueError("not an entry")
        key, kind, order, shape, record = entry[1] or entry[2], entry[3] or entry[4], entry[5], entry[6], entry[7]
        if key == "descr" and record:
            raise NotPlainError("records")
        values = {"descr": kind, "fortran_order": order, "shape": shape}
        if key in found or values.get(key) is None:
            raise ValueError("an entry that is duplicate, unknown or of the wrong type")
        found[key] = values[key]
        inner = inner[entry.end() :].lstrip()
        if inner.startswith(","):
            inner = inner[1:]
        elif inner:
            raise ValueError("entries that are not separated")
    if len(found) != 3:
        raise ValueError("an entry is missing")
    return _parse_shape(found["shape"]), found["fortran_order"] == "True", _parse_dtype(found["descr"])


def _parse_shape(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not parts[-1].strip():
        parts.pop()
        if not parts and "," in text:
            raise ValueError("a shape without lengths")
    elif len(parts) == 1:
        raise ValueError("a number, not a shape")
    lengths = [_LENGTH.fullmatch(part) for part in parts]
    if len(parts) > _MOST_AXES or not all(lengths):
        raise ValueError("not a shape")
    return tuple(int(length[1]) for length in lengths if length)


def _parse_dtype(text: str) -> np.dtype[Any]:
    if _DTYPE.fullmatch(text):
        try:
            return np.dtype(text)
        except TypeError:  # not every machine has numbers of 16 bytes
            raise NotPlainError(text) from None
    if re.fullmatch(r"[<>|=]?[OVMm].{0,18}", text):
        raise NotPlainError(text)
    raise ValueError("not a dtype")


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
        Untrusted.
    file, key : str
        Named in errors.
    dtype : str
        The dtype that the header must state, such as ``"<c8"``.
    shape : tuple of int or None
        None allows any size of that axis except 0.
    most : int
        Largest allowed number of bytes.

    Raises
    ------
    BundleError
        The text is not base64 of a plain `.npy`, or the array has another dtype or shape, NaN or infinity.
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
