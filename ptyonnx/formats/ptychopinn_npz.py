"""PtychoPINN's NPZ: the scan format that ptyonnx's users have, and the one it writes.

Keys: `diffraction` (or its old name `diff3d`), `xcoords`, `ycoords` in object pixels (x is the
column), `probeGuess`, and optionally `objectGuess`. Anything else in the file is never read,
least of all `_metadata`, which is a pickle.
"""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ptyonnx.formats.axes import AXES, in_pattern_order
from ptyonnx.formats.file_patterns import FilePatterns, Stored, Values
from ptyonnx.formats.npz_archive import ArrayHeader, NpzArchive
from ptyonnx.formats.zero_frequency import ZeroFrequency
from ptyonnx_bundles import atomic_write
from ptyonnx_bundles.errors import ScanError
from ptyonnx_runtime.scan import CHUNK, Scan, check_pattern_size, chunks
from ptyonnx_runtime.stitching import frame_of

__all__ = ["read_ptychopinn_npz", "write_ptychopinn_npz"]

DIFFRACTION_KEYS = ("diffraction", "diff3d")
_REAL_KINDS = "fiu"
_MOST_MODES = 64


def read_ptychopinn_npz(
    path: Path,
    *,
    values: Values | None = None,
    axes: str | None = None,
    zero_frequency: ZeroFrequency | None = None,
    probe: NDArray[np.complex64] | None = None,
    limit: int | None = None,
) -> Scan:
    """Read a scan; patterns stay in the file.

    Parameters
    ----------
    path : Path
    values : {"amplitude", "intensity"} or None
        What the patterns are, where the user declares it. Intensities are square-rooted.
    axes : str or None
        Order of the patterns' axes in the file, slowest first; ``"nyx"`` unless declared.
    zero_frequency : {"centre", "corner"} or None
        Where it lies in the file, where the user declares it.
    probe : (mode, y, x) complex64 or None
        Instead of the file's own, which is then not looked at.
    limit : int or None
        Only the first so many patterns.

    Raises
    ------
    ScanError
        Whatever is wrong with the file; the message names the key.
    """
    with NpzArchive(path) as archive:
        stored, key = _patterns(archive, path, axes, limit)
        diffraction = FilePatterns(stored, values, zero_frequency, str(path), key)
        positions_px = _positions(archive, path, diffraction.shape[0], limit)
        if probe is None and "probeGuess" in archive.keys:
            probe = _probe(archive, path, diffraction.shape[1])
        obj = _object(archive, path, positions_px, diffraction.shape[1]) if "objectGuess" in archive.keys else None
    scan = Scan(diffraction, positions_px, probe, obj, name=path.name)
    frame_of(scan)  # refuses positions that no canvas can hold
    diffraction.refuse_intensities(probe)
    return scan


def write_ptychopinn_npz(path: Path, scan: Scan) -> None:
    """Write a scan that PtychoPINN and ptyonnx read, uncompressed: it is then read in place.

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


def _patterns(archive: NpzArchive, path: Path, axes: str | None, limit: int | None) -> tuple[Stored, str]:
    """Where the patterns lie in the file, and their key."""
    key = next((key for key in DIFFRACTION_KEYS if key in archive.keys), None)
    if key is None:
        raise _missing("diffraction", archive, path)
    header = archive.header(key)
    _expect(header, path, key, rank=3, kinds=_REAL_KINDS, what="real numbers, (pattern, y, x)")
    order = axes or "nyx"
    if order.startswith("n"):
        rows, columns = header.shape[1:]
    else:
        rows, columns = header.shape[:2]
    if rows != columns:
        legacy = axes is None and header.shape[0] == header.shape[1]
        raise ScanError(
            "patterns are not square", file=path, key=key, found=header.shape, expected=f"axes {order}, N x N pixels",
            remedy="the file looks like (y, x, pattern): declare it with --axes yxn" if legacy
            else f"crop the patterns, or declare the order of axes (--axes {', '.join(AXES)})",
        )  # fmt: skip
    check_pattern_size(rows, str(path), key)
    shape, order = (header.shape[::-1], order[::-1]) if header.fortran_order else (header.shape, order)
    count = shape[order.index("n")]
    if count == 0:
        raise ScanError("no patterns", file=path, key=key, found=header.shape)
    if order[0] == "n" and limit is not None:
        shape = (min(limit, count), *shape[1:])
    stream, offset = archive.large(key, math.prod(shape) * header.dtype.itemsize)
    stored = in_pattern_order(stream, offset, (shape[0], shape[1], shape[2]), header.dtype, order)
    if limit is not None:
        stored = stored._replace(shape=(min(limit, count), *stored.shape[1:]))
    return stored, key


def _positions(archive: NpzArchive, path: Path, count: int, limit: int | None) -> NDArray[np.float64]:
    columns = []
    for key in ("ycoords", "xcoords"):
        if key not in archive.keys:
            raise _missing(key, archive, path)
        header = archive.header(key)
        _expect(header, path, key, rank=1, kinds=_REAL_KINDS, what="one number per pattern")
        if header.shape[0] != count and not (limit is not None and header.shape[0] > count):
            raise ScanError(
                "positions and patterns differ in number", file=path, key=key, found=f"{header.shape[0]} positions",
                expected=f"{count}, as there are patterns", remedy="check the file, or the order of axes (--axes)",
            )  # fmt: skip
        columns.append(archive.small(key).astype(np.float64)[:count])
        if not np.isfinite(columns[-1]).all():
            raise ScanError(
                "NaN or infinity", file=path, key=key,
                found=f"pattern {int(np.flatnonzero(~np.isfinite(columns[-1]))[0])}",
            )  # fmt: skip
    positions_px = np.stack(columns, axis=1)
    extent = float(np.ptp(positions_px, axis=0).max())
    if count > 1 and extent < 1:
        raise ScanError(
            "all positions are equal" if extent == 0 else "all positions lie within one pixel",
            file=path, key="xcoords, ycoords", found=f"extent {extent:.3g}", expected="object pixels",
            remedy="ptychography needs a scan; positions in metres must be divided by the object pixel size",
        )  # fmt: skip
    return positions_px


def _probe(archive: NpzArchive, path: Path, N: int) -> NDArray[np.complex64]:
    key = "probeGuess"
    header = archive.header(key)
    if header.dtype.kind != "c" or len(header.shape) not in (2, 3) or header.shape[-2:] != (N, N):
        raise ScanError(
            "wrong array", file=path, key=key, found=f"{header.dtype} {header.shape}",
            expected=f"complex numbers, ({N}, {N}) or (mode, {N}, {N})",
        )  # fmt: skip
    if len(header.shape) == 3 and not 1 <= header.shape[0] <= _MOST_MODES:
        raise ScanError(
            "unusable number of modes", file=path, key=key, found=header.shape, expected=f"1 to {_MOST_MODES}"
        )
    probe = archive.small(key).reshape(-1, N, N).astype(np.complex64)
    if not np.isfinite(probe).all():
        raise ScanError("NaN or infinity", file=path, key=key)
    if not probe.any():
        raise ScanError("the probe is zero everywhere", file=path, key=key)
    return probe


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
    obj = archive.small(key).reshape(header.shape[-2:]).astype(np.complex64)
    if not np.isfinite(obj).all():
        raise ScanError("NaN or infinity", file=path, key=key)
    outside = ((positions_px <= -N // 2) | (positions_px >= np.add(obj.shape, N // 2))).any(axis=1)
    if outside.any():
        worst = int(np.flatnonzero(outside)[0])
        raise ScanError(
            f"{int(outside.sum())} positions lie wholly outside of objectGuess", file=path, key="xcoords, ycoords",
            found=f"pattern {worst} at (y, x) = ({positions_px[worst, 0]:.6g}, {positions_px[worst, 1]:.6g})",
            expected=f"patches that touch an object of {obj.shape}",
            remedy="check unit (object pixels), order and sign, or leave objectGuess out of the file",
        )  # fmt: skip
    return obj


def _expect(header: ArrayHeader, path: Path, key: str, *, rank: int, kinds: str, what: str) -> None:
    if len(header.shape) != rank or header.dtype.kind not in kinds:
        raise ScanError("wrong array", file=path, key=key, found=f"{header.dtype} {header.shape}", expected=what)


def _missing(key: str, archive: NpzArchive, path: Path) -> ScanError:
    return ScanError(
        "missing", file=path, key=key, found=", ".join(archive.keys[:12]) or "an empty file",
        remedy="a PtychoPINN NPZ has diffraction, xcoords, ycoords and probeGuess: rename the arrays, see docs/formats.md",
    )  # fmt: skip
