"""PtychoPINN's NPZ: the scan format that ptyonnx reads and writes.

Keys: `diffraction` (or its old name `diff3d`), `xcoords`, `ycoords` in object pixels (x is the
column), `probeGuess`, and optionally `objectGuess`. Other arrays are never read, in particular
`_metadata`, which is a pickle.
"""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ptyonnx.formats.axes import AXES, infer_cube_order, stored_in_order
from ptyonnx.formats.file_patterns import FilePatterns, StoredPatterns
from ptyonnx.formats.npz_archive import ArrayHeader, NpzArchive
from ptyonnx_bundles import atomic_write
from ptyonnx_bundles.errors import ScanError
from ptyonnx_runtime.scan import CHUNK, Scan, chunks
from ptyonnx_runtime.scan.amplitudes import Values
from ptyonnx_runtime.scan.checks import (
    MOST_MODES,
    check_pattern_size,
    checked_object,
    checked_positions,
    checked_probe,
    refuse_far_positions,
)
from ptyonnx_runtime.scan.zero_frequency import ZeroFrequency
from ptyonnx_runtime.stitching.stitching import frame_of

__all__ = ["read_ptychopinn_npz", "write_ptychopinn_npz"]

DIFFRACTION_KEYS = ("diffraction", "diff3d")
_REAL_KINDS = "fiu"


def read_ptychopinn_npz(
    path: Path,
    *,
    values: Values | None = None,
    axes: str | None = None,
    zero_frequency: ZeroFrequency | None = None,
    probe: NDArray[np.complex64] | None = None,
    limit: int | None = None,
    in_memory: bool = False,
) -> Scan:
    """Read a scan. Patterns stay in the file unless `in_memory` is set.

    Parameters
    ----------
    path : Path
    values : {"amplitude", "intensity"} or None
        What the patterns are, if the user declared it. Square roots of intensities are taken.
    axes : str or None
        Order of the patterns' axes in the file, slowest first. By default ``"nyx"``; if the shape also fits ``"yxn"``,
        the intensity of the patterns decides.
    zero_frequency : {"centre", "corner"} or None
        Where the zero frequency is in the file, if the user declared it.
    probe : (mode, y, x) complex64 or None
        Replaces the probe of the file, which is then not read.
    limit : int or None
        Number of patterns to read, from the first.
    in_memory : bool
        Keep the patterns in memory while they are checked.

    Raises
    ------
    ScanError
        The file cannot be used; the error names the key.
    """
    with NpzArchive(path) as archive:
        stored, key = _patterns(archive, path, axes, limit)
        diffraction = FilePatterns(stored, values, zero_frequency, str(path), key)
        count, N = diffraction.shape[:2]
        positions_px = _positions(archive, path, count, limit)
        if probe is None and "probeGuess" in archive.keys:
            probe = _probe(archive, path, N)
        elif probe is not None:
            probe = checked_probe(probe, N, path.name)
        obj = _object(archive, path, positions_px, N) if "objectGuess" in archive.keys else None
    kept = np.empty(diffraction.shape, np.float32) if in_memory else None
    photons = diffraction.inspect(probe, kept)
    patterns = diffraction if kept is None else kept
    scan = Scan.trusted(patterns, positions_px, probe, obj, photons=photons, name=path.name)
    frame_of(scan)  # refuses positions that no canvas can hold
    return scan


def write_ptychopinn_npz(path: Path, scan: Scan) -> None:
    """Write a scan for PtychoPINN and ptyonnx. It is not compressed, so that patterns can be read in place.

    Parameters
    ----------
    path : Path
        Replaced only when the new file is complete.
    scan : Scan

    Raises
    ------
    OutputError
        The file could not be written; an earlier one stays as it was.
    """
    arrays: dict[str, NDArray[Any]] = {"xcoords": scan.positions_px[:, 1], "ycoords": scan.positions_px[:, 0]}
    if scan.probe is not None:
        arrays["probeGuess"] = scan.probe[0] if len(scan.probe) == 1 else scan.probe
    if scan.object is not None:
        arrays["objectGuess"] = scan.object

    def write(stream: BinaryIO) -> None:
        with zipfile.ZipFile(stream, "w") as archive:
            with archive.open("diffraction.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(
                    member, {"descr": "<f4", "fortran_order": False, "shape": tuple(scan.diffraction.shape)}
                )
                for part in chunks(len(scan), CHUNK):
                    member.write(np.ascontiguousarray(scan.diffraction[part], "<f4").tobytes())
            for key, array in arrays.items():
                buffer = io.BytesIO()
                np.save(buffer, array, allow_pickle=False)
                archive.writestr(f"{key}.npy", buffer.getvalue())

    atomic_write(path, write)


def _patterns(archive: NpzArchive, path: Path, axes: str | None, limit: int | None) -> tuple[StoredPatterns, str]:
    """Locate the patterns in the file; also gives their key."""
    key = next((key for key in DIFFRACTION_KEYS if key in archive.keys), None)
    if key is None:
        raise _missing("diffraction", archive, path)
    header = archive.header(key)
    _expect(header, path, key, rank=3, kinds=_REAL_KINDS, what="real numbers, (pattern, y, x)")
    cube = axes is None and len(set(header.shape)) == 1
    order = axes or "nyx"
    if order.startswith("n"):
        rows, columns = header.shape[1:]
    else:
        rows, columns = header.shape[:2]
    if rows != columns:
        legacy = axes is None and header.shape[0] == header.shape[1]
        raise ScanError(
            "patterns are not square", file=path, key=key, found=header.shape, expected=f"axes {order}, N x N pixels",
            remedy='the file looks like (y, x, pattern): declare it with axes="yxn"' if legacy
            else f"crop the patterns, or declare the order of their axes ({', '.join(AXES)})",
        )  # fmt: skip
    check_pattern_size(rows, str(path), key)
    if cube:
        order = _infer_cube_order(archive, header, path, key)
    shape, order = (header.shape[::-1], order[::-1]) if header.fortran_order else (header.shape, order)
    count = shape[order.index("n")]
    if count == 0:
        raise ScanError("no patterns", file=path, key=key, found=header.shape)
    if order[0] == "n" and limit is not None:
        shape = (min(limit, count), *shape[1:])
    in_place = order[0] == "n" and shape[0] == count  # inspecting the patterns reads every byte
    stream, offset = archive.locate(key, math.prod(shape) * header.dtype.itemsize, unread=in_place)
    stored = stored_in_order(stream, offset, (shape[0], shape[1], shape[2]), header.dtype, order)
    if in_place:
        stored = stored._replace(checksum=archive.checksum(key))
    if limit is not None:
        stored = stored._replace(shape=(min(limit, count), *stored.shape[1:]))
    return stored, key


def _infer_cube_order(archive: NpzArchive, header: ArrayHeader, path: Path, key: str) -> str:
    """Infer the order of axes if all lengths are equal."""
    stream, offset = archive.locate(key, header.data_bytes, unread=True)
    with stream:
        return infer_cube_order(
            stream, offset, header.shape[0], header.dtype,
            reversed_order=header.fortran_order, file=str(path), key=key,
        )  # fmt: skip


def _positions(archive: NpzArchive, path: Path, count: int, limit: int | None) -> NDArray[np.float64]:
    columns = []
    for key in ("ycoords", "xcoords"):
        if key not in archive.keys:
            raise _missing(key, archive, path)
        header = archive.header(key)
        _expect(header, path, key, rank=1, kinds=_REAL_KINDS, what="one number for each pattern")
        if header.shape[0] != count and not (limit is not None and header.shape[0] > count):
            raise ScanError(
                "numbers of positions and patterns differ", file=path, key=key, found=f"{header.shape[0]} positions",
                expected=f"{count}, one for each pattern", remedy="check the file, or the order of axes (axes=…)",
            )  # fmt: skip
        columns.append(archive.read(key).astype(np.float64)[:count])
        if not np.isfinite(columns[-1]).all():
            raise ScanError(
                "non-finite positions", file=path, key=key,
                found=f"pattern {int(np.flatnonzero(~np.isfinite(columns[-1]))[0])}",
            )  # fmt: skip
    return checked_positions(np.stack(columns, axis=1), count, str(path), "xcoords, ycoords")


def _probe(archive: NpzArchive, path: Path, N: int) -> NDArray[np.complex64]:
    key = "probeGuess"
    header = archive.header(key)
    if header.dtype.kind != "c" or len(header.shape) not in (2, 3) or header.shape[-2:] != (N, N):
        raise ScanError(
            "wrong array", file=path, key=key, found=f"{header.dtype} {header.shape}",
            expected=f"complex numbers, ({N}, {N}) or (mode, {N}, {N})",
        )  # fmt: skip
    if len(header.shape) == 3 and not 1 <= header.shape[0] <= MOST_MODES:
        raise ScanError(
            "number of modes is not supported", file=path, key=key, found=header.shape, expected=f"1 to {MOST_MODES}"
        )
    return checked_probe(archive.read(key), N, str(path), key)


def _object(archive: NpzArchive, path: Path, positions_px: NDArray[np.float64], N: int) -> NDArray[np.complex64]:
    key = "objectGuess"
    header = archive.header(key)
    if header.dtype.kind != "c" or len(header.shape) < 2 or math.prod(header.shape[:-2]) != 1:
        raise ScanError(
            "wrong array",
            file=path,
            key=key,
            found=f"{header.dtype} {header.shape}",
            expected="complex numbers, (y, x)",
        )
    obj = checked_object(archive.read(key), str(path), key)
    refuse_far_positions(positions_px, obj.shape, N, str(path), "xcoords, ycoords")
    return obj


def _expect(header: ArrayHeader, path: Path, key: str, *, rank: int, kinds: str, what: str) -> None:
    if len(header.shape) != rank or header.dtype.kind not in kinds:
        raise ScanError("wrong array", file=path, key=key, found=f"{header.dtype} {header.shape}", expected=what)


def _missing(key: str, archive: NpzArchive, path: Path) -> ScanError:
    return ScanError(
        "missing", file=path, key=key, found=", ".join(archive.keys[:12]) or "an empty file",
        remedy="a PtychoPINN NPZ has diffraction, xcoords, ycoords and probeGuess: rename the arrays, see docs/formats.md",
    )  # fmt: skip
