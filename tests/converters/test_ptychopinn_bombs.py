"""A ZIP bomb is refused before it takes memory, even if the sizes in its headers are false."""

from __future__ import annotations

import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ptychopinn_bundles import KERAS, TORCH, refused, repack

from ptyonnx_converters.from_ptychopinn import convert

BOMB = "; do not trust this file"  # the remedy tells a bomb from a damaged archive


@pytest.mark.parametrize("member", [KERAS, TORCH])
def test_a_bomb_is_not_unpacked(member: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(member, "w") as stream:
        for _ in range(128):
            stream.write(bytes(2**20))
    line = refused(path)
    assert f"'{member}': " in line
    assert line.endswith(BOMB)


def zeros(path: Path, **sizes: int) -> Path:
    """Append members of zeros, sizes in MiB."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, size in sizes.items():
            with archive.open(name, "w", force_zip64=True) as stream:
                for _ in range(size):
                    stream.write(bytes(2**20))
    return path


@pytest.mark.parametrize(
    "backend, size", [("keras", 65), ("torch", 65), pytest.param("torch", 3 * 2**10, marks=pytest.mark.slow)]
)
def test_a_bomb_that_nobody_would_read_is_refused(
    backend: str, size: int, keras_path: Path, torch_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bomb.zip"
    path.write_bytes((keras_path if backend == "keras" else torch_path).read_bytes())
    line = refused(zeros(path, notes=size))
    assert "'notes': " in line
    assert f"found {size * 2**20} bytes, expected at most " in line
    assert line.endswith(BOMB)


def test_members_that_nobody_would_read_are_a_bomb_together(torch_path: Path, tmp_path: Path) -> None:
    """Each is small; together they decompress to more than 64 MiB and a hundred times the size of the file."""
    path = tmp_path / "bomb.zip"
    path.write_bytes(torch_path.read_bytes())
    line = refused(zeros(path, **{f"notes{index}": 48 for index in range(6)}))
    assert "'notes0': " in line
    assert line.endswith(BOMB)


def test_a_bomb_inside_of_the_inner_archive_that_nobody_would_read(
    torch_path: Path, keras_path: Path, tmp_path: Path
) -> None:
    inner = tmp_path / "inner.zip"
    for source, member in ((torch_path, TORCH), (keras_path, KERAS)):
        with zipfile.ZipFile(source) as archive:
            inner.write_bytes(archive.read(member))
        path = repack(source, tmp_path / "bomb.zip", {member: zeros(inner, notes=65).read_bytes()})
        line = refused(path)
        assert "'notes': " in line
        assert line.endswith(BOMB)


def test_members_that_nobody_reads_do_no_harm(torch_path: Path, keras_path: Path, tmp_path: Path) -> None:
    """A training state of three times the network's size, as PtychoPINN keeps it; and zeros below the bound."""
    for source, member in ((torch_path, TORCH), (keras_path, KERAS)):
        with zipfile.ZipFile(source) as archive:
            size = archive.getinfo(member).file_size
        state = np.random.default_rng(0).bytes(3 * size)
        path = repack(source, tmp_path / "large.zip", {"autoencoder/model": state, "params": bytes(2**25)})
        assert convert(path).model == convert(source).model


def test_a_member_that_is_larger_than_it_says(torch_path: Path, tmp_path: Path) -> None:
    """The sizes in the directory are lowered; the stream itself goes on."""
    with zipfile.ZipFile(torch_path) as archive:
        size = archive.getinfo(TORCH).file_size
    path = tmp_path / "lying.zip"
    path.write_bytes(torch_path.read_bytes())
    lying(path, TORCH, size // 2)
    assert f"'{TORCH}': " in refused(path)


def lying(path: Path, member: str, size: int) -> Path:
    """State a false size of a member in the archive."""
    raw = bytearray(path.read_bytes())
    entry = raw.find(b"PK\x01\x02")
    while raw[entry + 46 : entry + 46 + len(member)] != member.encode():
        entry = raw.find(b"PK\x01\x02", entry + 1)
    raw[entry + 24 : entry + 28] = struct.pack("<I", size)
    path.write_bytes(raw)
    return path


def grown(path: Path) -> tuple[int, str]:
    """Memory growth of a separate process while it refuses a file, in bytes, and its error line."""
    code = """
import re, sys
from pathlib import Path
from ptyonnx_bundles.errors import ConversionError
import ptyonnx_converters.ptychopinn.torch_archive, ptyonnx_converters.ptychopinn.torch_network
from ptyonnx_converters.from_ptychopinn import convert
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
before = peak()
try:
    convert(Path(sys.argv[1]))
except ConversionError as error:
    print(peak() - before, error)
"""
    outcome = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, timeout=120
    )
    size, line = outcome.stdout.split(" ", 1)
    assert line.count("\n") == 1
    return int(size) * 1024, line


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_whose_header_lies_takes_no_memory(packing: int, tmp_path: Path) -> None:
    """It states 100 bytes and decompresses to 256 MB."""
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", packing) as archive:
        archive.writestr(TORCH, bytes(2**28))
    size, line = grown(lying(tmp_path / "bomb.zip", TORCH, 100))
    assert f"'{TORCH}': " in line
    assert size < 2**24


def test_a_bomb_whose_header_lies_inside_of_another_archive_takes_no_memory(torch_path: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "inner.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**28))
    inner = lying(tmp_path / "inner.zip", "archive/data.pkl", 100).read_bytes()
    size, line = grown(repack(torch_path, tmp_path / "bomb.zip", {TORCH: inner}))
    assert "'archive/data.pkl': " in line
    assert size < 2**24


def test_many_members_below_the_bound_are_a_bomb_together(torch_path: Path, tmp_path: Path) -> None:
    """A state dict of 20 numbers, each in its own storage of 48 MB, compressed twice."""
    count, length = 20, 3 * 2**22
    with zipfile.ZipFile(tmp_path / "inner.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", state_of_ones(count, length))
        for index in range(count):
            archive.writestr(f"archive/data/{index}", bytes(4 * length))
    path = repack(torch_path, tmp_path / "bomb.zip", {TORCH: (tmp_path / "inner.zip").read_bytes()})
    assert path.stat().st_size < 2**20
    size, line = grown(path)
    assert "'archive/data/0': " in line
    assert line.rstrip().endswith(BOMB)
    assert size < 2**27


def test_what_was_unpacked_before_counts(torch_path: Path, tmp_path: Path) -> None:
    """A compressed archive of 40 MiB with a member of 40 MiB: each is below the limit of 64 MiB."""
    length = 10 * 2**20
    with zipfile.ZipFile(tmp_path / "inner.zip", "w") as archive:
        archive.writestr("archive/data.pkl", state_of_ones(1, length))
        archive.writestr("archive/data/0", bytes(4 * length))
    path = repack(torch_path, tmp_path / "bomb.zip", {TORCH: (tmp_path / "inner.zip").read_bytes()})
    line = refused(path)
    assert "'archive/data/0': " in line
    assert "found 41943040 bytes, expected at most" in line


def state_of_ones(count: int, length: int) -> bytes:
    """Pickle a state dict of tensors of one element, in storages of many."""
    program = b"\x80\x02}("
    for index in range(count):
        name, key = f"w{index}".encode(), str(index).encode()
        program += b"X" + struct.pack("<I", len(name)) + name + b"ctorch._utils\n_rebuild_tensor_v2\n(("
        program += b"X\x07\x00\x00\x00storagectorch\nFloatStorage\nX" + struct.pack("<I", len(key)) + key
        program += b"X\x03\x00\x00\x00cpuJ" + struct.pack("<i", length) + b"tQK\x00K\x01\x85K\x01\x85tR"
    return program + b"u."


def test_a_directory_without_end_is_not_read(torch_path: Path, tmp_path: Path) -> None:
    """A million entries of 46 bytes and a name; each would become an object of a kilobyte."""
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<H", 1) + bytes(16) + b"a"
    entries = entry * 1_000_000
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 2, 2, len(entries), 0, 0)
    size, line = grown(repack(torch_path, tmp_path / "bomb.zip", {TORCH: entries + end}))
    assert f"'{TORCH}': " in line
    assert size < 2**28
