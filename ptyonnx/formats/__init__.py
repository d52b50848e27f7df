"""Scans and results in files. One module per format; the content decides which one reads.

Only the readers know the axis orders, signs and units of other tools; what they return follows this project's
conventions.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ptyonnx_bundles import check_writable
from ptyonnx_bundles.errors import ObjectError, OutputError, PtyonnxError, ScanError, SettingsError
from ptyonnx_bundles.files.input_files import check_regular_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ptyonnx.formats.result import Result
    from ptyonnx_runtime.reconstruct import Reconstruction
    from ptyonnx_runtime.scan import Scan

__all__ = ["check_result_path", "check_scan_path", "load_result", "load_scan", "write_result", "write_scan"]

_ZIP, _HDF5 = b"PK", b"\x89HDF\r\n\x1a\n"
_SCAN_SUFFIXES = (".npz",)
_HDF5_SUFFIXES = (".h5", ".hdf5")
_RESULT_SUFFIXES = (*_HDF5_SUFFIXES, ".npz")


def load_scan(
    path: str | os.PathLike[str],
    *,
    values: str | None = None,
    axes: str | None = None,
    zero_frequency: str | None = None,
    probe: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    in_memory: bool = False,
) -> Scan:
    """Open a scan. Its patterns are checked and stay in the file.

    Parameters
    ----------
    path : path-like
        A PtychoPINN NPZ.
    values : {"amplitude", "intensity"}, optional
        What the patterns are. By default they are read as amplitudes, and it is an error if they look like
        intensities. Square roots of declared intensities are taken.
    axes : {"nyx", "nxy", "yxn", "xyn"}, optional
        Order of the patterns' axes in the file; n is the pattern. By default ``"nyx"``. The shape of N patterns of
        N x N pixels also fits ``"yxn"``; the distribution of their intensity decides, and it is an error if it cannot.
    zero_frequency : {"centre", "corner"}, optional
        Where the zero frequency is in the file. By default it is in the centre, and it is an error if the patterns
        look otherwise. If it is in the corner, [0, 0], patterns are shifted when they are read.
    probe : path-like, optional
        A file with a probe, which replaces that of the scan.
    limit : int, optional
        Number of patterns to read, from the first; all by default.
    in_memory : bool
        Keep the patterns in memory while they are checked, for training, which needs all of them at once.

    Returns
    -------
    Scan

    Raises
    ------
    ScanError
        The file cannot be used; the error names file and key.
    SettingsError
        An argument has a value that is not allowed.
    """
    from ptyonnx.formats.axes import AXES
    from ptyonnx.formats.ptychopinn_npz import read_ptychopinn_npz
    from ptyonnx_bundles.arguments import as_path
    from ptyonnx_runtime.scan.inspection import check_declared
    from ptyonnx_runtime.scan.zero_frequency import PLACES

    check_declared(values, zero_frequency)
    if axes is not None and axes not in AXES:
        raise SettingsError("unknown order of axes", key="axes", found=axes, expected=", ".join(AXES))
    if limit is not None and limit < 1:
        raise SettingsError("must be positive", key="limit", found=limit)
    file = as_path(path, "path", "the path of a scan")
    start = _first_bytes(file, ScanError)
    if not start.startswith(_ZIP):
        raise ScanError(
            "not a scan in a known format", file=file, found="an HDF5 file" if start == _HDF5 else "another format",
            expected="a PtychoPINN NPZ (diffraction, xcoords, ycoords, probeGuess)",
            remedy="convert it with h5py and numpy.savez, see docs/formats.md" if start == _HDF5
            else "check the path; the file may be truncated or empty",
        )  # fmt: skip
    modes = None if probe is None else _probe_modes(Path(probe))
    try:
        return read_ptychopinn_npz(
            file,
            values="intensity" if values == "intensity" else "amplitude" if values else None,
            axes=axes,
            zero_frequency=None if zero_frequency is None else PLACES[zero_frequency],
            probe=modes,
            limit=limit,
            in_memory=in_memory,
        )
    except ScanError as error:
        if probe is not None and error.key == "probe":
            error.file = os.fspath(probe)  # the file to mend, rather than the scan
        raise


def _probe_modes(path: Path) -> NDArray[np.complex64]:
    """Read a probe that is not in the scan's file."""
    from ptyonnx.formats.probes import load_probe

    return load_probe(path)


def check_scan_path(path: str | os.PathLike[str]) -> None:
    """Refuse, before anything is computed, a path that :func:`write_scan` would refuse.

    Raises
    ------
    OutputError
    """
    _check_path(Path(path), _SCAN_SUFFIXES)


def check_result_path(path: str | os.PathLike[str]) -> None:
    """Refuse, before anything is computed, a path that :func:`write_result` would refuse.

    Raises
    ------
    OutputError
    """
    _check_path(Path(path), _RESULT_SUFFIXES)


def write_scan(path: str | os.PathLike[str], scan: Scan) -> None:
    """Write a scan as PtychoPINN NPZ, atomically.

    Raises
    ------
    OutputError
        Not named `.npz`, or not writable; nothing was changed.
    """
    from ptyonnx.formats.ptychopinn_npz import write_ptychopinn_npz

    check_scan_path(path)
    write_ptychopinn_npz(Path(path), scan)


def write_result(path: str | os.PathLike[str], result: Reconstruction) -> None:
    """Write a reconstruction, atomically: `.h5` or `.hdf5` as ptychodus product, or `.npz`.

    Raises
    ------
    OutputError
        Another suffix, or not writable; nothing was changed.
    """
    from ptyonnx.formats.product_hdf5 import write_product
    from ptyonnx.formats.result_npz import write_result_npz

    check_result_path(path)
    file = Path(path)
    write = write_product if file.suffix.lower() in _HDF5_SUFFIXES else write_result_npz
    write(file, result)


def load_result(path: str | os.PathLike[str]) -> Result:
    """Read a reconstruction that :func:`write_result` or ptychodus wrote.

    Raises
    ------
    ObjectError
        The file cannot be read as a result.
    """
    from ptyonnx.formats.product_hdf5 import read_product
    from ptyonnx.formats.result_npz import read_result_npz

    file = Path(path)
    return read_result_npz(file) if _first_bytes(file, ObjectError).startswith(_ZIP) else read_product(file)


def _check_path(path: Path, suffixes: Sequence[str]) -> None:
    if os.path.isdir(path):  # noqa: PTH112 - pathlib raises for a name that is too long
        raise OutputError(
            "a folder", file=path, expected="a file", remedy=f"name a file in it: {path / 'name'}{suffixes[0]}"
        )
    if path.suffix.lower() not in suffixes:
        raise OutputError("unknown format", file=path, found=f"'{path.suffix}'", expected=", ".join(suffixes))
    check_writable(path)


def _first_bytes(path: Path, error: type[PtyonnxError]) -> bytes:
    check_regular_file(path, error, "give the path of a file")
    try:
        with path.open("rb") as stream:
            return stream.read(len(_HDF5))
    except OSError as failure:
        raise error(f"cannot be read ({failure.strerror})", file=path, remedy="check the path") from None
