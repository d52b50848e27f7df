"""Whatever is wrong with a scan is one line that names file and key."""

import errno
import io
import os
import re
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptyonnx.formats import load_scan, write_scan
from ptyonnx_bundles.errors import ObjectError, OutputError, ScanError, SettingsError

COUNT, N = 12, 32


def good() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {
        "diffraction": generator.uniform(0, 9, (COUNT, N, N)).astype(np.float32),
        "xcoords": generator.uniform(20, 70, COUNT),
        "ycoords": generator.uniform(20, 50, COUNT),
        "probeGuess": np.ones((N, N), np.complex64),
        "objectGuess": np.ones((80, 100), np.complex64),
    }


def refused(path: Path, **options: Any) -> ScanError:
    with pytest.raises(ScanError) as caught:
        load_scan(path, **options)
    assert "\n" not in str(caught.value)
    assert caught.value.file == str(path)
    return caught.value


def with_value(array: Any, value: float) -> Any:
    changed = array.copy()
    changed[(1,) * array.ndim] = value
    return changed


a = good()
# Array, its value, and facts that the error must state beside the array's name.
BAD = {
    "no patterns key": ("diffraction", None, "found xcoords, ycoords"),
    "no x": ("xcoords", None, "found diffraction"),
    "no y": ("ycoords", None, "found diffraction"),
    "patterns of rank 2": ("diffraction", np.ones((N, N), np.float32), r"found float32 \(32, 32\)"),
    "patterns of rank 4": ("diffraction", np.ones((2, 1, N, N), np.float32), r"found float32 \(2, 1, 32, 32\)"),
    "complex patterns": ("diffraction", np.ones((COUNT, N, N), np.complex64), "found complex64"),
    "patterns of text": ("diffraction", np.full((COUNT, N, N), "1"), "found <U1"),
    "patterns of booleans": ("diffraction", np.ones((COUNT, N, N), bool), "found bool"),
    "patterns of objects": ("diffraction", np.full((COUNT, N, N), None), r"found \|O, .*asarray"),
    "oblong patterns": ("diffraction", np.ones((COUNT, N, N + 2), np.float32), "crop the patterns"),
    "pattern last": ("diffraction", np.ones((N, N, COUNT), np.float32), "axes=.yxn"),
    "odd N": ("diffraction", 0.5 * np.ones((COUNT, 33, 33)), "even number"),
    "small N": ("diffraction", 0.5 * np.ones((COUNT, 16, 16)), "N = 16"),
    "no pattern": ("diffraction", np.ones((0, N, N)), r"found \(0, 32, 32\)"),
    "NaN": ("diffraction", with_value(a["diffraction"], np.nan), r"found nan in pattern 1 at .*\(1, 1\)"),
    "inf": ("diffraction", with_value(a["diffraction"], np.inf), "found inf in pattern 1"),
    "negative": ("diffraction", with_value(a["diffraction"], -1), "found -1.0 in pattern 1"),
    "negative counts": ("diffraction", with_value(np.ones((COUNT, N, N), np.int32), -3), "found -3"),
    "dark": ("diffraction", np.zeros((COUNT, N, N), np.float32), "; check which array"),
    "counts": ("diffraction", np.rint(a["diffraction"] ** 2), "whole number.*values=.intensity"),
    "counts of integers": ("diffraction", np.full((COUNT, N, N), 7, np.uint16), "values=.intensity"),
    "scaled counts": ("diffraction", 1.5e6 * a["diffraction"], "values=.intensity"),
    "x of rank 2": ("xcoords", a["xcoords"][:, np.newaxis], r"found float64 \(12, 1\)"),
    "x of text": ("xcoords", a["xcoords"].astype(str), "found <U"),
    "fewer positions": ("xcoords", a["xcoords"][:-1], "found 11 positions, expected 12"),
    "more positions": ("ycoords", np.arange(COUNT + 1.0), "found 13 positions"),
    "NaN position": ("xcoords", with_value(a["xcoords"], np.nan), "found pattern 1"),
    "positions outside": ("xcoords", a["xcoords"] + 500, r"\b12 positions.*found pattern 0 at .*\(80, 100\)"),
    "one position outside": ("ycoords", with_value(a["ycoords"], -40), r"\b1 positions.*found pattern 1 at"),
    "probe of another N": ("probeGuess", np.ones((64, 64), np.complex64), r"expected .*\(32, 32\)"),
    "probe without phase": ("probeGuess", np.ones((N, N), np.float32), "expected complex"),
    "dark probe": ("probeGuess", np.zeros((N, N), np.complex64), "; check which array"),
    "NaN probe": ("probeGuess", with_value(a["probeGuess"], np.nan), "found 1 non-finite pixels of 1,024"),
    "no mode": ("probeGuess", np.ones((0, N, N), np.complex64), r"found \(0, 32, 32\)"),
    "probe of objects": ("probeGuess", np.full((N, N), None), "asarray"),
    "object of rank 1": ("objectGuess", np.ones(100, np.complex64), r"found complex64 \(100,\)"),
    "NaN object": ("objectGuess", with_value(a["objectGuess"], np.nan), "found 1 non-finite pixels of 8,000"),
}  # fmt: skip


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "compressed"])
@pytest.mark.parametrize("case", BAD)
def test_a_bad_array_is_refused_by_name(tmp_path: Path, case: str, save: Any) -> None:
    key, value, facts = BAD[case]
    arrays = {**good(), key: value}
    save(tmp_path / "a.npz", **{name: array for name, array in arrays.items() if array is not None})
    error = refused(tmp_path / "a.npz")
    assert error.key in {key, "xcoords, ycoords"}
    assert re.search(facts, str(error))


@pytest.mark.parametrize("offset, extent", [(0, "extent 0"), (1e-6, "extent 1.1e-05")])
def test_a_scan_that_stands_still_is_refused(tmp_path: Path, offset: float, extent: str) -> None:
    places = 40 + offset * np.arange(COUNT)
    np.savez(tmp_path / "a.npz", **{**good(), "xcoords": places, "ycoords": places})
    error = refused(tmp_path / "a.npz")
    assert error.key == "xcoords, ycoords"
    assert (error.found, error.expected) == (extent, "object pixels")
    assert "metres" in str(error.remedy)


def test_negative_counts_stay_an_error_when_declared(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{**good(), "diffraction": with_value(good()["diffraction"], -2)})
    error = refused(tmp_path / "a.npz", values="intensity")
    assert error.key == "diffraction"
    assert "-2" in str(error.found)


@pytest.mark.parametrize("key, value", [("values", "counts"), ("axes", "yx"), ("limit", 0)])
def test_an_unknown_declaration_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    np.savez(tmp_path / "a.npz", **good())
    with pytest.raises(SettingsError) as caught:
        load_scan(tmp_path / "a.npz", **{key: value})
    assert (caught.value.key, caught.value.found) == (key, value)


@pytest.mark.parametrize(
    "content, found, remedy",
    [
        (b"", "another format", "check the path"),
        (b"PK", None, "the file is truncated"),
        (b"PK\3\4 but no archive", None, "the file is truncated"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "convert it"),
        (b"x,y\n1,2\n", "another format", "check the path"),
    ],
)
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes, found: str | None, remedy: str) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    error = refused(tmp_path / "a.npz")
    assert (error.key, error.found) == (None, found)
    assert str(error.remedy).startswith(remedy)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    missing, folder = refused(tmp_path / "a.npz"), refused(tmp_path)
    assert (missing.key, folder.key) == (None, None)
    assert os.strerror(errno.ENOENT) in missing.problem
    assert "path of a file" in str(folder.remedy)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "compressed"])
def test_a_truncated_or_damaged_file_is_refused(tmp_path: Path, save: Any) -> None:
    path = tmp_path / "a.npz"
    save(path, **good())
    content = path.read_bytes()
    for length in (1, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        error = refused(path)
        assert (error.key, error.found) == (None, "another format" if length == 1 else None)
        assert "truncated" in str(error.remedy)
    damaged = bytearray(content)
    damaged[20_000] ^= 1
    path.write_bytes(damaged)
    error = refused(path)
    assert error.key == "diffraction"
    assert "damaged" in str(error.remedy)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "exploded"),))

    for key in ("_metadata", "diffraction", "xcoords", "probeGuess", "objectGuess"):
        np.savez(tmp_path / "a.npz", **{**good(), key: np.array([Bomb()], object)})
        if key == "_metadata":
            assert len(load_scan(tmp_path / "a.npz")) == COUNT
        else:
            error = refused(tmp_path / "a.npz")
            assert (error.key, str(error.found)) == (key, "|O")
    assert not (tmp_path / "exploded").exists()


def npy(shape: str, data: bytes = b"", descr: str = "'<f4'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize(
    "member",
    [
        npy("(1000000000, 32, 32)"),
        npy("(12, 32, 32)", bytes(4 * 12 * 32 * 32 - 1)),
        npy("(12, 32, 32)", bytes(4 * 12 * 32 * 32 + 1)),
        npy("(-12, 32, -32)", bytes(4 * 12 * 32 * 32)),
        npy("__import__('os').system('x')"),
        npy("(12, 32, 32)", descr="'<f4' * 10**9"),
        b"\x93NUMPY\x09\x00",
        b"no array",
        b"",
    ],
)
def test_a_forged_member_is_refused_before_anything_is_allocated(tmp_path: Path, member: bytes) -> None:
    np.savez(tmp_path / "a.npz", **{key: value for key, value in good().items() if key != "diffraction"})
    with zipfile.ZipFile(tmp_path / "a.npz", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("diffraction.npy", member)
    error = refused(tmp_path / "a.npz")
    assert error.key == "diffraction"
    assert "damaged" in str(error.remedy)


def test_a_bomb_is_stopped_by_the_size_it_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 MB of zeros in 64 KB: unpacked only where there is room, never in memory."""
    np.savez_compressed(tmp_path / "a.npz", **{**good(), "diffraction": np.zeros((16_384, N, N), np.float32)})
    assert (tmp_path / "a.npz").stat().st_size < 200_000
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    error = refused(tmp_path / "a.npz")
    assert error.key == "diffraction"
    assert "67108992 bytes" in str(error.expected)
    assert "TMPDIR" in str(error.remedy)


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **good())
    content = bytearray(buffer.getvalue())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + flags] |= 1
    (tmp_path / "a.npz").write_bytes(content)
    assert refused(tmp_path / "a.npz").key in good()


def test_a_file_that_shrinks_after_opening_is_an_error_and_not_garbage(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **good())
    scan = load_scan(tmp_path / "a.npz")
    os.truncate(tmp_path / "a.npz", 5000)
    with pytest.raises(ScanError) as caught:
        scan.diffraction[:]
    assert (caught.value.file, caught.value.key) == (str(tmp_path / "a.npz"), "diffraction")


def test_a_probe_file_that_is_none_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **good())
    with pytest.raises(ObjectError):
        load_scan(tmp_path / "a.npz", probe=tmp_path / "missing.npy")


def test_a_scan_is_written_to_npz_only(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **good())
    with pytest.raises(OutputError) as caught:
        write_scan(tmp_path / "b.h5", load_scan(tmp_path / "a.npz"))
    assert caught.value.expected == ".npz"
