"""Probes and self-tests that are not the arrays they should be."""

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from hostile.cases import PROBE, SELFTEST, edit, entry


def npy(array: Any, **settings: Any) -> str:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), **settings)
    return base64.b64encode(buffer.getvalue()).decode()


def npy_with_header(header: str, content: bytes = b"") -> str:
    padded = (header + " " * (-(len(header) + 11) % 64) + "\n").encode()
    return base64.b64encode(b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + content).decode()


def array_case(name: str, expected: str, key: str, change: Callable[[str], str]) -> None:
    """Register a change of the text of an array."""

    def damage(model: onnx.ModelProto) -> None:
        item = entry(model, key)
        item.value = change(item.value)

    edit(name, f"'{key}': {expected}", damage, seal=False)


PLAIN = np.ones((1, 32, 32), np.complex64)
NO_NPY = "not a plain .npy array"
array_case("probe_is_not_base64", "not base64", PROBE, lambda _: "?" * 100)
array_case("probe_is_not_ascii", "not base64", PROBE, lambda _: "ü" * 100)
array_case("probe_is_empty", NO_NPY, PROBE, lambda _: "")
array_case("probe_is_pickled", NO_NPY, PROBE, lambda _: npy(np.array([print], object), allow_pickle=True))
array_case("probe_is_a_record", NO_NPY, PROBE, lambda _: npy(np.zeros(2, [("a", "f4")])))
array_case("probe_is_version_2", NO_NPY, PROBE, lambda _: npy(PLAIN, version=(2, 0)))
array_case("probe_is_big_endian", NO_NPY, PROBE, lambda _: npy(PLAIN.astype(">c8")))
array_case("probe_is_in_fortran_order", NO_NPY, PROBE, lambda _: npy(np.ones((3, 32, 32), np.complex64).T))
array_case(
    "probe_header_is_code", NO_NPY, PROBE,
    lambda _: npy_with_header("{'descr': '<c8', 'fortran_order': False, 'shape': (1, 32, 2**5), }"),
)  # fmt: skip
array_case(
    "probe_header_promises_too_much", "wrong array", PROBE,
    lambda _: npy_with_header("{'descr': '<c8', 'fortran_order': False, 'shape': (1099511627776, 32, 32), }"),
)  # fmt: skip
array_case(
    "probe_is_shorter_than_its_header", "shape and size of the array differ", PROBE,
    lambda _: npy_with_header("{'descr': '<c8', 'fortran_order': False, 'shape': (1, 32, 32), }", bytes(8)),
)  # fmt: skip
array_case(
    "probe_is_longer_than_its_header",
    "shape and size of the array differ",
    PROBE,
    lambda t: t.rstrip("=")[: len(t) // 4 * 4 - 4] + "A" * 8,
)
array_case("probe_of_another_dtype", "wrong array, found <c16", PROBE, lambda _: npy(PLAIN.astype(np.complex128)))
array_case(
    "probe_of_two_modes",
    "wrong array, found <c8 (2, 32, 32), expected <c8 (1, 32, 32)",
    PROBE,
    lambda _: npy(np.ones((2, 32, 32), np.complex64)),
)
array_case("probe_with_nan", "NaN or infinity", PROBE, lambda _: npy(PLAIN * np.nan))
array_case("probe_is_dark", "the probe is zero everywhere", PROBE, lambda _: npy(PLAIN * 0))
array_case(
    "selftest_of_two_arrays", "wrong number of arrays, found 2, expected 3", SELFTEST, lambda t: t.rsplit("\n", 1)[0]
)
array_case(
    "selftest_without_patterns",
    "wrong array",
    SELFTEST,
    lambda t: "\n".join([npy(np.ones((0, 1, 32, 32), np.float32)), *t.split("\n")[1:]]),
)
array_case(
    "selftest_of_unequal_length",
    "wrong array",
    SELFTEST,
    lambda t: "\n".join([npy(np.ones((3, 1, 32, 32), np.float32)), *t.split("\n")[1:]]),
)
array_case(
    "selftest_without_tolerance",
    "this tolerance is too large for a self-test",
    SELFTEST,
    lambda t: "\n".join([*t.split("\n")[:2], npy(np.float64(0))]),
)
array_case(
    "selftest_that_passes_anything",
    "this tolerance is too large for a self-test",
    SELFTEST,
    lambda t: "\n".join([*t.split("\n")[:2], npy(np.float64(10))]),
)
array_case(
    "selftest_with_nan_tolerance",
    "NaN or infinity",
    SELFTEST,
    lambda t: "\n".join([*t.split("\n")[:2], npy(np.float64("nan"))]),
)
edit(
    "edited_probe", "'digest of the metadata': the metadata changed",
    lambda m: setattr(entry(m, PROBE), "value", npy(PLAIN)), seal=False,
)  # fmt: skip
