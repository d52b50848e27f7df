"""Probes and objects in files: every mode is used, what cannot be used is refused, nothing is read before that is known."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from float32_bounds import of_functions, of_polar
from hostile.hdf5 import product
from PIL import Image

from ptyonnx.formats import load_result, load_scan
from ptyonnx.formats.objects import load_object
from ptyonnx.formats.positions import read_positions
from ptyonnx.formats.probes import load_probe
from ptyonnx.simulation import object_from_images
from ptyonnx_bundles.errors import ObjectError, PtyonnxError, ScanError
from ptyonnx_bundles.foreign_recipe import LARGEST_FOREIGN_N
from ptyonnx_runtime.scan.checks import check_pattern_size

N = 32
SUFFIXES = [".h5", ".npz", ".npy"]


def modes(count: int) -> np.ndarray:
    generator = np.random.default_rng(count)
    return (generator.normal(size=(count, N, N)) + 1j * generator.normal(size=(count, N, N))).astype(np.complex64)


def stored(path: Path, key: str, array: np.ndarray) -> Path:
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file[key] = array
    elif path.suffix == ".npz":
        np.savez(path, **{key: array})
    else:
        np.save(path, array)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "shape", [(N, N), (1, N, N), (3, N, N), (3, 1, N, N), (1, 3, N, N), (1, 1, N, N)], ids=lambda shape: str(len(shape))
)
def test_every_mode_is_read(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    probe = modes(int(np.prod(shape[:-2])))
    path = stored(tmp_path / f"probe{suffix}", "probe", probe.reshape(shape))
    np.testing.assert_array_equal(load_probe(path), probe)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shape", [(2, 2, N, N), (2, 1, 1, N, N), (N,), (N, N + 2), (0, N, N), (1, 31, 31)])
def test_probes_of_other_shapes_are_refused(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    path = stored(tmp_path / f"probe{suffix}", "probe", np.ones(shape, np.complex64))
    with pytest.raises(ObjectError) as caught:
        load_probe(path)
    assert (caught.value.file, caught.value.key) == (str(path), "probe")


def test_probes_that_a_file_mixes_for_every_pattern_are_no_modes(tmp_path: Path) -> None:
    """Orthogonal probe relaxation: ptychodus stores (3, 1, y, x) and how much of each is in each pattern."""
    path = stored(tmp_path / "probe.h5", "probe", modes(3)[:, np.newaxis])
    with h5py.File(path, "a") as file:
        file["opr_weights"] = np.ones((20, 3))
    with pytest.raises(ObjectError) as caught:
        load_probe(path)
    assert caught.value.key == "probe"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shape", [(2, 40, 50), (1, 1, 40, 50), (40,)])
def test_layers_of_objects_are_not_dropped(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    path = stored(tmp_path / f"object{suffix}", "object", np.ones(shape, np.complex64))
    with pytest.raises(ObjectError) as caught:
        load_object(path)
    assert (caught.value.file, caught.value.key) == (str(path), "object")
    single = stored(tmp_path / f"single{suffix}", "object", np.full((1, 40, 50), 1j, np.complex64))
    np.testing.assert_array_equal(load_object(single), np.full((40, 50), 1j))


@pytest.mark.parametrize("change", ["layers", "opr", "mask", "positions", "pixel", "origin", "bomb"])
def test_a_product_that_is_not_one_object_is_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "product.h5"
    path.write_bytes(product())
    load_result(path)
    with h5py.File(path, "a") as file:
        if change == "layers":
            replace(file, "object", np.ones((2, 12, 12), np.complex64))
        elif change == "opr":
            replace(file, "probe", np.ones((2, 2, 8, 8), np.complex64))
        elif change == "mask":
            replace(file, "ptyonnx/mask", np.zeros((11, 12), bool))
        elif change == "positions":
            replace(file, "probe_position_y_m", np.zeros(5))
        elif change == "pixel":
            file["object"].attrs["pixel_width_m"] = 0.0
        elif change == "origin":
            file["ptyonnx"].attrs["origin_px"] = np.array([np.nan, 0])
        else:
            del file["object"]
            file.create_dataset("object", (1, 2**15, 2**15), "c8", chunks=(1, 512, 512), compression="gzip")
    with pytest.raises(ObjectError) as caught:
        load_result(path)
    assert caught.value.file == str(path)
    assert caught.value.key is not None


def replace(file: h5py.File, key: str, array: np.ndarray) -> None:
    attributes = dict(file[key].attrs)
    del file[key]
    file[key] = array
    file[key].attrs.update(attributes)


def packed_zeros(path: Path, key: str, shape: tuple[int, ...]) -> Path:
    """An NPZ whose array is zeros: as large as it says, and a thousandth of it packed."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<c8", "fortran_order": False, "shape": shape})
    left = int(np.prod(shape)) * 8
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(f"{key}.npy", "w") as member:
        member.write(header.getvalue())
        while left:
            member.write(bytes(min(left, 2**22)))
            left -= min(left, 2**22)
    return path


def png(path: Path, width: int, height: int) -> Path:
    """A PNG of black pixels, written by hand: Pillow would need as much memory as it."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")

    packer, row = zlib.compressobj(9), bytes(width + 1)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x00\x00\x00\x00"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return path


MEASURED = """
import sys
from pathlib import Path
from ptyonnx.simulation import object_from_images
from ptyonnx.formats.objects import load_object
from ptyonnx.formats.probes import load_probe
from ptyonnx_bundles.errors import ObjectError

def peak():  # not from getrusage, which begins with that of the process that started this one
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

before = peak()
try:
    {read}(Path(sys.argv[1]))
except ObjectError:
    print(peak() - before)
"""


@pytest.mark.parametrize(
    "make, read",
    [
        (lambda folder: packed_zeros(folder / "a.npz", "probe", (64, 1024, 1024)), "load_probe"),
        (lambda folder: packed_zeros(folder / "a.npz", "probe", (16, 1024, 1024)), "load_probe"),
        (lambda folder: packed_zeros(folder / "a.npz", "object", (5000, 5000)), "load_object"),
        (lambda folder: png(folder / "a.png", 12_000, 6_000), "object_from_images"),
    ],
    ids=["more modes than a probe has", "zeros as a probe", "zeros as an object", "a PNG"],
)
def test_what_unpacks_to_many_times_the_file_is_not_unpacked(
    tmp_path: Path, make: Callable[[Path], Path], read: str
) -> None:
    """Each would take 128 MB or more."""
    path = make(tmp_path)
    assert path.stat().st_size < 2**20
    program = MEASURED.format(read=read)
    found = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 40_000  # kB


def test_an_image_and_an_array_of_ordinary_compression_are_read(tmp_path: Path) -> None:
    grey = np.add.outer(np.arange(300), np.arange(200)) % 256
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "a.png")
    np.testing.assert_allclose(
        np.angle(object_from_images(tmp_path / "a.png")), grey / 255, atol=of_polar(1, 1) + of_functions()
    )  # complex64, and its angle
    np.savez_compressed(tmp_path / "a.npz", object=np.ones((1500, 1500), np.complex64))  # 18 MB of 20 kB
    assert load_object(tmp_path / "a.npz").shape == (1500, 1500)


def test_several_images_in_one_file_are_refused(tmp_path: Path) -> None:
    first, second = (Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20) + k) for k in range(2))
    for name in ("a.tiff", "a.gif"):
        first.save(tmp_path / name, save_all=True, append_images=[second])
        with pytest.raises(ObjectError) as caught:
            object_from_images(tmp_path / name)
        assert caught.value.file == str(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "tiff", "jpg", "bmp", "webp"])
def test_truncated_images_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(path)
    content = path.read_bytes()
    for length in (0, 3, 20, len(content) // 2, len(content) - 40):
        path.write_bytes(content[:length])
        with pytest.raises(ObjectError):
            object_from_images(path)


def test_postscript_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "a.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", encoding="ascii")
    with pytest.raises(ObjectError):
        object_from_images(tmp_path / "a.eps")


@pytest.mark.parametrize("reader", [load_probe, load_object, object_from_images, read_positions, load_result])
@pytest.mark.parametrize("suffix", ["h5", "npz", "npy", "txt", "png"])
@pytest.mark.parametrize("kind", ["pipe", "zero", "folder"])
def test_what_is_no_file_is_refused_at_once(
    tmp_path: Path, reader: Callable[[Path], object], suffix: str, kind: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "zero":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(PtyonnxError) as caught:
        reader(path)
    assert caught.value.file == str(path)


@pytest.mark.parametrize(
    "content", ["", "# no numbers\n", "1 2\n3\n", "1 2 3\n4 5 6\n7 8 9\n", "inf 1\n", "1e400 2\n", "\x00"]
)
def test_text_without_positions_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.txt").write_text(content, encoding="utf-8")
    with pytest.raises(ScanError):
        read_positions(tmp_path / "a.txt")


def test_patterns_that_no_network_takes_are_not_unpacked(tmp_path: Path) -> None:
    path = packed_zeros(tmp_path / "a.npz", "diffraction", (1, 5000, 5000))  # complex: refused anyway, if read
    with zipfile.ZipFile(path, "a") as archive:
        for key in ("xcoords", "ycoords"):
            buffer = io.BytesIO()
            np.save(buffer, np.zeros(1))
            archive.writestr(f"{key}.npy", buffer.getvalue())
    with pytest.raises(ScanError) as caught:
        load_scan(path)
    assert caught.value.key == "diffraction"
    with pytest.raises(ScanError) as caught:
        check_pattern_size(LARGEST_FOREIGN_N + 2, "a.npz")
    assert caught.value.key == "diffraction"
