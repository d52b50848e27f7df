"""Bytes that are no model at all, and models that two readers could understand differently."""

from hostile.cases import MANIFEST, block, case, varint

NO_MODEL = "not a readable ONNX model"


@case(NO_MODEL)
def empty(_: bytes) -> bytes:
    return b""


@case(NO_MODEL)
def text(_: bytes) -> bytes:
    return b"This is a text file.\n"


@case("a ZIP archive, not a bundle")
def zip_archive(_: bytes) -> bytes:
    return b"PK\x03\x04" + bytes(100)


@case("an HDF5 file, not a bundle")
def hdf5_file(_: bytes) -> bytes:
    return b"\x89HDF\r\n\x1a\n" + bytes(100)


@case(NO_MODEL)
def truncated(good: bytes) -> bytes:
    return good[: len(good) // 2]


@case(NO_MODEL)
def one_byte_short(good: bytes) -> bytes:
    return good[:-1]


@case(NO_MODEL)
def one_byte_more(good: bytes) -> bytes:
    return good + b"\x08"


@case(NO_MODEL)
def endless_varint(good: bytes) -> bytes:
    return good + b"\x08" + b"\xff" * 1000


@case(NO_MODEL)
def varint_beyond_64_bits(good: bytes) -> bytes:
    return b"\x08" + b"\xff" * 9 + b"\x7f" + good


@case(NO_MODEL)
def length_beyond_the_file(good: bytes) -> bytes:
    return good + varint(7 << 3 | 2) + varint(2**62)


@case(NO_MODEL)
def field_number_zero(good: bytes) -> bytes:
    return good + b"\x02\x00"


@case(NO_MODEL)
def protobuf_group(good: bytes) -> bytes:
    return good + b"\x0b\x0c"


@case(NO_MODEL)
def graph_written_as_a_number(_: bytes) -> bytes:
    return b"\x08\x0a" + block(8, b"\x10\x12") + b"\x38\x01"


@case("more than 1 'graph' in the model")
def two_graphs(good: bytes) -> bytes:
    return good + block(7, b"")


@case("more than 1 'ir_version' in the model")
def two_ir_versions(good: bytes) -> bytes:
    return good + b"\x08\x0a"


@case("unknown field 99 in the model")
def unknown_field(good: bytes) -> bytes:
    return good + block(99, b"future")


@case("'ptyonnx.manifest': duplicate key in the metadata")
def manifest_twice(good: bytes) -> bytes:
    return good + block(14, block(1, MANIFEST.encode()) + block(2, b"{}"))


@case("'note': duplicate key in the metadata")
def other_key_twice(good: bytes) -> bytes:
    return good + 2 * block(14, block(1, b"note") + block(2, b""))


@case("more than 1024 'node' in the graph")
def very_many_nodes(_: bytes) -> bytes:
    return b"\x08\x0a" + block(8, b"\x10\x12") + block(7, block(1, b"") * 100_000)


@case("more than 64 numbers in 'ints'")
def very_many_numbers(_: bytes) -> bytes:
    attribute = block(1, b"pads") + block(8, bytes(1_000_000)) + b"\xa0\x01\x07"
    return b"\x08\x0a" + block(8, b"\x10\x12") + block(7, block(1, block(5, attribute)))


@case("more than 8 'dims' in a tensor")
def very_many_axes(_: bytes) -> bytes:
    return b"\x08\x0a" + block(8, b"\x10\x12") + block(7, block(5, b"\x08\x01" * 1000))
