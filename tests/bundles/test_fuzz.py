"""Arbitrary bytes cause no error but a BundleError, and every accepted change keeps the meaning of a bundle."""

from __future__ import annotations

import onnx
import pytest
from hostile import FOREIGN_SAMPLE, SAMPLE
from hostile.cases import block, varint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptyonnx_bundles import read_bundle
from ptyonnx_bundles.errors import BundleError
from ptyonnx_bundles.files.npy import decode_array

GOOD = SAMPLE.read_bytes()
GRAPH_STRUCTURE = 9_000  # operators and attributes stand before the weights, in about this many bytes
FOREIGN = FOREIGN_SAMPLE.read_bytes()
FOREIGN_STRUCTURE = 1_500
SEEN = {content: (read_bundle(content), onnx.load_model_from_string(content)) for content in (GOOD, FOREIGN)}
quick = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read_or_refuse(content: bytes, good: bytes = GOOD) -> None:
    """Read; where the file is accepted, another ONNX reader must see the same function in it."""
    try:
        bundle = read_bundle(content)
    except BundleError as error:
        assert str(error).isprintable()  # noqa: PT017 - both outcomes are checked
        return
    seen = onnx.load_model_from_string(content)
    original, model = SEEN[good]
    for part in ("node", "initializer", "input", "output"):
        assert list(getattr(seen.graph, part)) == list(getattr(model.graph, part))
    assert seen.opset_import == model.opset_import
    assert {item.key: item.value for item in seen.metadata_props} == bundle.graph.metadata
    assert bundle.manifest == original.manifest
    for found, expected in (
        (bundle.probe, original.probe),
        (bundle.selftest.diffraction, original.selftest.diffraction),
        (bundle.selftest.object, original.selftest.object),
    ):
        assert found.tobytes() == expected.tobytes()


@quick
@given(st.binary(max_size=400))
def test_random_bytes(content: bytes) -> None:
    read_or_refuse(content)


@quick
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 7))
def test_one_flipped_bit_anywhere(position: int, bit: int) -> None:
    read_or_refuse(GOOD[:position] + bytes([GOOD[position] ^ 1 << bit]) + GOOD[position + 1 :])


@settings(quick, max_examples=400)
@given(st.integers(0, GRAPH_STRUCTURE), st.integers(0, 255))
def test_one_changed_byte_in_the_structure(position: int, byte: int) -> None:
    read_or_refuse(GOOD[:position] + bytes([byte]) + GOOD[position + 1 :])


@settings(quick, max_examples=400)
@given(st.integers(0, FOREIGN_STRUCTURE), st.integers(0, 255))
def test_one_changed_byte_in_the_structure_of_a_foreign_bundle(position: int, byte: int) -> None:
    read_or_refuse(FOREIGN[:position] + bytes([byte]) + FOREIGN[position + 1 :], FOREIGN)


@quick
@given(st.integers(0, len(FOREIGN) - 1), st.integers(0, 7))
def test_one_flipped_bit_anywhere_in_a_foreign_bundle(position: int, bit: int) -> None:
    read_or_refuse(FOREIGN[:position] + bytes([FOREIGN[position] ^ 1 << bit]) + FOREIGN[position + 1 :], FOREIGN)


@quick
@given(st.integers(0, FOREIGN_STRUCTURE), st.integers(0, 40), st.binary(max_size=40))
def test_a_piece_of_a_foreign_bundle_replaced(position: int, length: int, piece: bytes) -> None:
    read_or_refuse(FOREIGN[:position] + piece + FOREIGN[position + length :], FOREIGN)


@quick
@given(st.integers(0, len(GOOD) - 1))
def test_truncation_anywhere(length: int) -> None:
    with pytest.raises(BundleError):
        read_bundle(GOOD[:length])


@quick
@given(st.integers(0, GRAPH_STRUCTURE), st.integers(0, 40), st.binary(max_size=40))
def test_a_piece_replaced(position: int, length: int, piece: bytes) -> None:
    read_or_refuse(GOOD[:position] + piece + GOOD[position + length :])


@quick
@given(st.binary(max_size=60))
def test_anything_appended(content: bytes) -> None:
    read_or_refuse(GOOD + content)


def as_message(parts: list[tuple[int, int | bytes]]) -> bytes:
    """Encode fields by number: numbers as varints, bytes as bytes."""
    return b"".join(
        varint(number << 3) + varint(value) if isinstance(value, int) else block(number, value)
        for number, value in parts
    )


NUMBERS = st.integers(1, 26)
MESSAGES = st.recursive(
    st.one_of(st.binary(max_size=8), st.sampled_from([b"Conv", b"pads", b"x"])),
    lambda inner: st.lists(st.tuples(NUMBERS, st.one_of(st.integers(0, 2**64 - 1), inner)), max_size=6).map(as_message),
    max_leaves=40,
)


@quick
@given(MESSAGES)
def test_messages_within_messages(graph: bytes) -> None:
    """Well-formed protobuf of any content in the place of the graph."""
    model = b"\x08\x0a" + block(8, b"\x10\x12") + block(7, graph)
    with pytest.raises(BundleError):
        read_bundle(model)


@quick
@given(st.text(max_size=200))
def test_arbitrary_text_as_an_array(text: str) -> None:
    with pytest.raises(BundleError):
        decode_array(text, "file", "key", "<c8", (1, 2, 2))
