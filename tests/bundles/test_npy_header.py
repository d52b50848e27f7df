"""Headers of NPY files: every form that writers use is read as NumPy reads it, and nothing else."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptyonnx_bundles.files.npy import NotPlainError, NpyHeader, read_header


def with_text(text: str, version: int = 1) -> bytes:
    length = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode("latin-1")


def parsed(text: str) -> NpyHeader:
    return read_header(io.BytesIO(with_text(text)))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (2, 3), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "<i8", ">f4", "f2", "f8", "c8", ">c16", "U5", "S3"])
def test_what_numpy_writes_is_read(version: tuple[int, int], shape: tuple[int, ...], dtype: str) -> None:
    array = np.asfortranarray(np.zeros(shape, dtype))
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=version)
    size = buffer.tell()
    buffer.seek(0)
    header = read_header(buffer)
    assert (header.shape, header.dtype) == (array.shape, array.dtype)
    assert header.fortran_order == (array.flags.f_contiguous and not array.flags.c_contiguous)
    assert buffer.tell() == header.size_bytes == size - header.data_bytes


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n",
        '{"shape":(2,3),"fortran_order":False,"descr":"<f4"}',
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L)}",
        "{ 'descr' : '<f4' , 'fortran_order' : False , 'shape' : ( 2, 3, ) }   \n",
    ],
)
def test_other_spellings_are_read(text: str) -> None:
    header = parsed(text)
    assert (header.shape, header.dtype, header.fortran_order) == ((2, 3), np.dtype("<f4"), False)


@pytest.mark.parametrize("dtype", ["'|O'", "[('a', '<f4')]", "'|V8'", "'<M8[ns]'", "'<m8[s]'"])
def test_what_is_no_plain_array_is_told_apart(dtype: str) -> None:
    with pytest.raises(NotPlainError):
        parsed(f"{{'descr': {dtype}, 'fortran_order': False, 'shape': (2,), }}")


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "{'descr': '<f4'}", "'shape'", "{'descr': '<f4', 'fortran_order': False, 'shape': (2**5,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", "{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2)}", "{'descr': '<f4', 'fortran_order': False, 'shape': (,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,,)}", "{'descr': '<f3', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'more': (3,)}",
        "{'descr': '<f4' 'fortran_order': False, 'shape': (2,)}", "{'descr': False, 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1," * 33 + ")}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 5000 + ",)}", "{" * 5000,
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} + __import__('os').system('true')",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its subclass means something else
        parsed(text)
    assert not isinstance(caught.value, NotPlainError)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["'descr'", "'shape'", "'fortran_order'", ": ", ", ", "{", "}", "'<f4'", "(2, 3)", "(2,)",
                                 "(", ")", "True", "False", "5L", " ", "'", "[", "\n"]), max_size=18).map("".join))  # fmt: skip
def test_what_is_accepted_numpy_understands_alike(text: str) -> None:
    try:
        header = parsed(text)
    except ValueError:
        return
    stream = io.BytesIO(with_text(text.replace("L", "")))
    np.lib.format.read_magic(stream)
    assert np.lib.format.read_array_header_1_0(stream) == (header.shape, header.fortran_order, header.dtype)


@pytest.mark.parametrize("length", range(0, 70, 3))
def test_truncated_headers_are_refused(length: int) -> None:
    content = with_text("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n")
    assert len(content) == 70
    with pytest.raises(ValueError, match=r"."):
        read_header(io.BytesIO(content[:length]))
