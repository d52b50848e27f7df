"""HDF5 files that a reader must refuse; each maker writes into an open file, or changes the bytes of one."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

__all__ = ["ELSEWHERE", "bomb", "changed_heap", "deflate_bomb", "product"]

Maker = Callable[[h5py.File, str, Path], None]


def product(side: int = 12, N: int = 8, patterns: int = 4) -> bytes:
    """A small product as `reconstruct -o` writes it."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs.update(name="scan", comments="made for a test", detector_object_distance_m=1.0)
        file["probe_position_indexes"] = np.arange(patterns)
        file["probe_position_y_m"] = file["probe_position_x_m"] = np.arange(float(patterns))
        probe = file.create_dataset("probe", data=np.ones((1, 1, N, N), np.complex64))
        obj = file.create_dataset("object", data=np.ones((1, side, side), np.complex64))
        for array in (probe, obj):
            array.attrs["pixel_width_m"] = array.attrs["pixel_height_m"] = 1.0
        obj.attrs["center_y_m"] = obj.attrs["center_x_m"] = 0.0
        group = file.create_group("ptyonnx")
        group["mask"], group["residual"] = np.zeros((side, side), bool), np.zeros(patterns)
        group.attrs.update(
            format=1, length_unit="m", origin_px=np.array((0, 0)), r_factor=0.1, vacuum_r_factor=0.2,
            flux_choice="auto", scan="a.npz", bundle="b.onnx", weights_digest="sha256:" + "0" * 64,
        )  # fmt: skip
    return buffer.getvalue()


def _external_link(file: h5py.File, key: str, other: Path) -> None:
    file[key] = h5py.ExternalLink(str(other), "secret")


def _soft_link_to_an_external_one(file: h5py.File, key: str, other: Path) -> None:
    file["elsewhere"] = h5py.ExternalLink(str(other), "/")
    file[key] = h5py.SoftLink("/elsewhere/secret")


def _external_storage(file: h5py.File, key: str, other: Path) -> None:
    file.create_dataset(key, (8, 8), "c8", external=[(str(other), 0, 512)])


def _virtual(file: h5py.File, key: str, other: Path) -> None:
    layout = h5py.VirtualLayout((8, 8), "c8")
    layout[:] = h5py.VirtualSource(str(other), "secret", (8, 8))
    file.create_virtual_dataset(key, layout)


def _circle(file: h5py.File, key: str, _: Path) -> None:
    file[key] = h5py.SoftLink("/round")
    file["round"] = h5py.SoftLink(f"/{key}")


# Where the numbers of `key` are not in the file itself; `other` is an HDF5 file with (8, 8) complex64 named secret.
ELSEWHERE: dict[str, Maker] = {
    "external_link": _external_link,
    "soft_link_to_an_external_one": _soft_link_to_an_external_one,
    "external_storage": _external_storage,
    "virtual": _virtual,
    "circle_of_links": _circle,
}


def bomb(file: h5py.File, key: str, shape: tuple[int, ...], *, written: bool = False) -> None:
    """Zeros without end: packed, or never written at all."""
    array = file.create_dataset(key, shape, "c8", chunks=(1,) * (len(shape) - 2) + (512, 512), compression="gzip")
    if written:
        array[...] = np.zeros(shape, np.complex64)


def deflate_bomb(file: h5py.File, key: str, size: int) -> None:
    """One chunk of 512 bytes whose packed stream gives `size`."""
    import zlib

    array = file.create_dataset(key, (8, 8), "c8", chunks=(8, 8), compression="gzip")
    packer = zlib.compressobj(9)
    stream = b"".join(packer.compress(bytes(2**20)) for _ in range(size // 2**20)) + packer.flush()
    array.id.write_direct_chunk((0, 0), stream)


def changed_heap(content: bytes, size: int = 0) -> bytes:
    """Change the size of the first text of variable length: libhdf5 1.14 then searches for ever."""
    place = content.index(b"GCOL") + 24
    return content[:place] + size.to_bytes(8, "little") + content[place + 8 :]
