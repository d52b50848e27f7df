"""Good and nearly good files of every kind that is read, small enough for thousands of readings per second."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
from PIL import Image

from hostile.cases import FOREIGN_SAMPLE, SAMPLE
from hostile.hdf5 import changed_heap, product
from ptyonnx_bundles import read_bundle

__all__ = ["SEEDS"]

N = 32
_SHAPES = (
    (0,), (1,), (2,), (4,), (4, 2), (2, 4), (1, 8, 8), (8, 8), (2, 8, 8), (2, 1, 8, 8), (1, 2, 8, 8), (2, 2, 8, 8),
    (12, 32, 32), (32, 32, 32), (2**13, 2**13), (2**20, 2), (64, 2**10, 2**10), (2**16, 2**16), (2**62, 2**62), (),
)  # fmt: skip
_DTYPES = ("<c8", "<c16", ">c8", "<f4", "<f8", "<f2", "|u1", "<u2", "<i8", "|b1", "<U4", "|S3", "|O", "<M8[ns]", "<f3")


def _npz(arrays: dict[str, np.ndarray], *, compress: bool = False) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(buffer, **arrays)  # type: ignore[operator]
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _scan() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    y, x = np.indices((N, N)) - N // 2
    spot = np.exp(-(x**2 + y**2) / 40)
    return {
        "diffraction": np.sqrt(generator.poisson(spot * 1000, (12, N, N))).astype(np.float32),
        "xcoords": np.arange(12.0) % 4 * 3 + 20,
        "ycoords": np.arange(12.0) // 4 * 3 + 20,
        "probeGuess": (spot * 30).astype(np.complex64),
        "objectGuess": np.ones((60, 60), np.complex64),
    }


def _complex(*shape: int) -> np.ndarray:
    return np.arange(1, np.prod(shape) + 1).reshape(shape).astype(np.complex64)


def _header(draw: random.Random) -> bytes:
    """A header of NPY, right or wrong, and some bytes, as many as it says where these are few."""
    dtype, shape = draw.choice(_DTYPES), draw.choice(_SHAPES)
    text = f"{{'descr': '{dtype}', 'fortran_order': {draw.choice(('True', 'False'))}, 'shape': {shape}, }}\n".encode()
    try:
        size = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
    except TypeError:
        size = 12
    content = bytes(size) if size < 2**16 else bytes(draw.choice((0, 100)))
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def _packed(keys: tuple[str, ...]) -> Callable[[random.Random], bytes]:
    """NPZ files whose arrays have any header."""

    def make(draw: random.Random) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            for key in keys:
                archive.writestr(f"{key}.npy", _header(draw))
        return buffer.getvalue()

    return make


def _hdf5(keys: tuple[str, ...]) -> Callable[[random.Random], bytes]:
    """HDF5 files whose arrays have any shape and dtype, packed or not, mostly never written."""

    def make(draw: random.Random) -> bytes:
        buffer = io.BytesIO()
        with h5py.File(
            buffer, "w", track_order=draw.random() < 0.3, libver=draw.choice(("earliest", "latest"))
        ) as file:
            for key in keys:
                shape = draw.choice(_SHAPES[:-2])
                packing: dict[str, Any] = draw.choice(
                    ({}, {"compression": "gzip"}, {"compression": "lzf", "shuffle": True})
                )
                if shape and packing and 0 not in shape:
                    packing["chunks"] = tuple(min(length, draw.choice((1, 8, 512))) for length in shape)
                array = file.create_dataset(key, shape, draw.choice(("c8", "c16", "f4", "i4", "?")), **packing)
                if array.size and array.size < 2**12:
                    array[...] = np.ones(shape, array.dtype)
                array.attrs["pixel_width_m"] = array.attrs["pixel_height_m"] = draw.choice((1.0, 0.0, "m", [1.0, 2.0]))
                array.attrs["center_y_m"] = array.attrs["center_x_m"] = draw.choice((0.0, 1e300, "text"))
            file.attrs["name"] = draw.choice(("scan", 3, ["a", "b"]))
        return buffer.getvalue()

    return make


def _chunked() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("probe", data=_complex(2, 8, 8), chunks=(1, 8, 8), compression="gzip", shuffle=True)
        file.create_dataset("object", data=_complex(40, 40), chunks=(16, 16), compression="lzf", fletcher32=True)
        file["link"] = h5py.SoftLink("/probe")
    return buffer.getvalue()


def _image(kind: str, mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    values = np.random.default_rng(1).integers(0, 255, (24, 20, 3), np.uint8)
    picture = Image.fromarray(values).convert(mode)
    picture.save(buffer, kind, **({"compression": "tiff_lzw"} if kind == "TIFF" and mode == "L" else {}))
    return buffer.getvalue()


_PICKLE = (  # {"weight": torch.zeros(2, 3)} as torch.save writes it
    b"\x80\x02}q\x00X\x06\x00\x00\x00weightq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00storageq\x03"
    b"ctorch\nFloatStorage\nq\x04X\x01\x00\x00\x000q\x05X\x03\x00\x00\x00cpuq\x06K\x06tq\x07QK\x00K\x02K\x03\x86q\x08"
    b"K\x03K\x01\x86q\t\x89ccollections\nOrderedDict\nq\n)Rq\x0btq\x0cRq\rs."
)


def _archive(members: dict[str, bytes], *, compress: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _torch() -> bytes:
    return _archive({"a/data.pkl": _PICKLE, "a/byteorder": b"little", "a/data/0": bytes(24), "a/version": b"3\n"})


def _keras() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name in ("conv2d", "conv2d_1"):
            group = file.create_group(f"layers/{name}/vars")
            group["0"], group["1"] = np.ones((3, 3, 1, 2), np.float32), np.ones(2, np.float32)
            group.attrs["name"] = name
    members = {"metadata.json": b'{"keras_version": "3.5.0"}', "config.json": b'{"config": {"layers": []}}'}
    return _archive({**members, "model.weights.h5": buffer.getvalue()}, compress=True)


def _record() -> bytes:
    manifest = read_bundle(SAMPLE).native_manifest("a test")
    record = {
        "backend": manifest.producer.framework,
        "producer": manifest.producer.model_dump(mode="json"),
        "recipe": manifest.recipe.model_dump(mode="json"),
        "physics": manifest.physics.model_dump(mode="json"),
        "training_data": manifest.training_data.model_dump(mode="json"),
        "state": "complete",
    }
    return json.dumps(record).encode()


def _weights() -> bytes:
    from safetensors.numpy import save

    parts = {f"probe.{part}": np.ones((1, 8, 8), np.float32) for part in ("real", "imag")}
    return save({**parts, "a.weight": np.ones((2, 3), np.float32)})


_YAML = b"""# settings
epochs: 3
rate: 1.0e-3
gridsize: &size 2
data: scan.npz
output: run
seed: *size
"""
_HISTORY = b"""epoch,loss,r_factor,val_loss,val_r_factor,rate,amplitude_spread,phase_spread,seconds
1,-4.0,0.2,-4.1,0.19,0.001,0.1,0.2,3.1
2,-4.1,0.18,-4.2,0.17,0.001,0.1,0.2,3.0
"""

# Per kind of file: suffix, files to change, makers of further ones.
Seeds = tuple[str, list[bytes], list[Callable[[random.Random], bytes]]]
_RESULT_KEYS = ("object", "mask", "origin_px", "positions_px", "probe", "residual", "r_factor", "vacuum_r_factor",
                "object_pixel_size_m", "scan")  # fmt: skip


def _result() -> bytes:
    one = np.array(0.2)
    values: tuple[Any, ...] = (
        _complex(12, 12), np.zeros((12, 12), bool), np.array((0, 0)), np.ones((4, 2)), _complex(1, 8, 8), np.ones(4), one, one,
        one, np.array("scan"),
    )  # fmt: skip
    return _npz(dict(zip(_RESULT_KEYS, values, strict=True)))


SEEDS: dict[str, Callable[[], Seeds]] = {
    "scan": lambda: (
        ".npz", [_npz(_scan()), _npz(_scan(), compress=True)],
        [_packed(("diffraction", "xcoords", "ycoords", "probeGuess", "objectGuess"))],
    ),
    "probe.npz": lambda: (
        ".npz", [_npz({"probe": _complex(2, 8, 8)}), _npz({"probe": _complex(8, 8)}, compress=True)], [_packed(("probe",))],
    ),
    "probe.npy": lambda: (".npy", [_npy(_complex(2, 8, 8))], [_header]),
    "probe.h5": lambda: (".h5", [_chunked(), product()], [_hdf5(("probe", "opr_weights")), _hdf5(("probe",))]),
    "object.npz": lambda: (".npz", [_npz({"object": _complex(40, 40)})], [_packed(("object",))]),
    "object.h5": lambda: (".h5", [_chunked(), product()], [_hdf5(("object",))]),
    "positions.npz": lambda: (".npz", [_npz(_scan())], [_packed(("ycoords", "xcoords"))]),
    "positions.npy": lambda: (".npy", [_npy(np.ones((4, 2)))], [_header]),
    "positions.txt": lambda: (".txt", [b"1 2\n3 4.5\n", b"# y, x\n1e3, -2\n3, 4\n"], []),
    "result.h5": lambda: (
        ".h5", [product(), changed_heap(product())],
        [_hdf5(("object", "probe", "probe_position_y_m", "probe_position_x_m"))],
    ),
    "result.npz": lambda: (".npz", [_result()], [_packed(_RESULT_KEYS)]),
    "image": lambda: (
        ".png",
        [_image("PNG"), _image("PNG", "RGB"), _image("TIFF"), _image("TIFF", "RGB"), _image("JPEG"), _image("BMP"),
         _image("GIF"), _image("WEBP", "RGB"), _image("PPM")], [],
    ),
    "yaml": lambda: (".yaml", [_YAML], []),
    "run": lambda: (".json", [_record()], []),
    "settings": lambda: (".yaml", [b"epochs: 3\nrate: 1.0e-3\ngridsize: 2\nseed: 7\n"], []),
    "history": lambda: (".csv", [_HISTORY], []),
    "weights": lambda: (".safetensors", [_weights()], []),
    "torch archive": lambda: (".pt", [_torch()], []),
    "keras archive": lambda: (".keras", [_keras()], []),
    "ptychopinn": lambda: (".zip", [_torch(), _keras(), _archive({"diffraction_to_obj.keras": _keras(), "a.dill": b"x"})], []),
    "bundle": lambda: (".onnx", [SAMPLE.read_bytes(), FOREIGN_SAMPLE.read_bytes()], []),
    "foreign ONNX": lambda: (".onnx", [FOREIGN_SAMPLE.read_bytes()], []),
}  # fmt: skip
