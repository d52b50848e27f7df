"""Simulate diffraction patterns from an object, a probe and positions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.simulation.ranges import checked_number, checked_seed
from ptyonnx_bundles.errors import ObjectError, ScanError, SettingsError
from ptyonnx_runtime.physics import Pair, dft_matrix, intensity, pair_from_complex, shift_matrices, take
from ptyonnx_runtime.scan import Scan, chunks

__all__ = ["simulate"]

_PATTERNS_AT_A_TIME = 64
_ROUNDING = 1e-9  # px
_FEWEST_PHOTONS = 1e-20  # in a pattern; far from the smallest square that float32 represents
_MOST_PHOTONS = 9e18  # in a pattern; NumPy draws Poisson counts as int64, up to 9.2e18


def simulate(
    obj: NDArray[np.complexfloating[Any, Any]] | Path | str,
    probe: NDArray[np.complexfloating[Any, Any]] | Path | str,
    positions_px: NDArray[np.floating[Any]] | Path | str,
    *,
    photons: float | None = None,
    noise: bool = True,
    seed: int = 0,
    name: str = "simulated",
) -> Scan:
    """Simulate the diffraction pattern at every position.

    Parameters
    ----------
    obj : (y, x) complex, or path-like
        Transmission; pixel (i, j) has the coordinate (i, j).
    probe : (mode, y, x) complex, or path-like
        sqrt(photons).
    positions_px : (pattern, 2) float, or path-like
        (y, x) of the object pixel at patch index ``(N//2, N//2)``. Between pixels the object is interpolated linearly.
    photons : float, optional
        Photons per pattern through vacuum, to which the probe is scaled; from 1e-20 to 9e18, the latter also after
        multiplication by the object's largest squared amplitude.
    noise : bool
        Draw Poisson counts; otherwise the patterns are the square roots of the expected counts.
    seed : int
        Of the noise; 0 or more.
    name : str

    Returns
    -------
    Scan
        It contains the scaled probe, and the object as reference.

    Raises
    ------
    ObjectError
        The object is not an image of finite complex numbers.
    ScanError
        A patch reaches beyond the object.
    SettingsError
        An argument is neither an array nor a path, or a number is out of range.
    """
    return _simulated(*_opened(obj, probe, positions_px), photons, noise=noise, seed=seed, name=name)


def _simulated(
    obj: NDArray[np.complexfloating[Any, Any]],
    probe: NDArray[np.complexfloating[Any, Any]],
    positions_px: NDArray[np.floating[Any]],
    photons: float | None,
    *,
    noise: bool,
    seed: int,
    name: str,
) -> Scan:
    _check(obj, probe, positions_px, name)
    probe = _scaled(obj, probe, photons)
    N = probe.shape[-1]
    generator = np.random.default_rng(checked_seed(seed))
    padded = pair_from_complex(np.pad(obj, ((0, 1), (0, 1))), np.float64)
    modes, dft = pair_from_complex(probe, np.float64), dft_matrix(N, np.float64)
    diffraction: NDArray[np.float32] = np.empty((len(positions_px), N, N), np.float32)
    for part in chunks(len(positions_px), _PATTERNS_AT_A_TIME):
        expected = intensity(_patches(padded, positions_px[part], N), modes, dft)
        diffraction[part] = np.sqrt(generator.poisson(expected) if noise else expected)
    if not diffraction.any():
        raise SettingsError(
            "no photon in any pattern", key="photons" if photons is not None else "probe", remedy="use more photons"
        )
    return Scan.trusted(
        diffraction=diffraction,
        positions_px=np.asarray(positions_px, np.float64),
        probe=np.asarray(probe, np.complex64),
        object=np.asarray(obj, np.complex64),
        name=name,
    )


def _scaled(
    obj: NDArray[np.complexfloating[Any, Any]], probe: NDArray[np.complexfloating[Any, Any]], photons: float | None
) -> NDArray[np.complexfloating[Any, Any]]:
    """Scale the probe to the photons, and refuse photons that patterns or a float32 probe cannot represent."""
    largest = float(np.abs(obj).max())
    most = _MOST_PHOTONS / max(1.0, largest) ** 2
    amplitude = np.abs(probe).astype(np.float64)
    norm = float(amplitude.max())
    relative = probe.astype(np.complex128) / norm  # squares of its values cannot overflow
    own = float(np.sum(np.abs(relative) ** 2))
    if photons is None:
        checked_number(own * norm * norm, "probe", low=0, high=most, expected=f"photons up to {most:.2g}")
        return probe
    scaled: NDArray[np.complex128] = relative * np.sqrt(
        checked_number(photons, "photons", low=_FEWEST_PHOTONS, high=most) / own
    )
    return scaled


def _opened(obj: Any, probe: Any, positions_px: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Replace paths by the arrays that they contain."""
    from ptyonnx.formats.objects import load_object
    from ptyonnx.formats.positions import read_positions
    from ptyonnx.formats.probes import load_probe
    from ptyonnx_bundles.arguments import check_type

    found = []
    for given, key, read in (
        (obj, "obj", load_object),
        (probe, "probe", load_probe),
        (positions_px, "positions_px", read_positions),
    ):
        if isinstance(given, str | os.PathLike):
            found.append(read(Path(given)))
        else:
            check_type(given, key, np.ndarray, "an array, or the path of a file")
            found.append(given)
    return found[0], found[1], found[2]


def _patches(padded: Pair, positions_px: NDArray[np.floating[Any]], N: int) -> Pair:
    """Extract patches from an object that is padded by one pixel at the end of each axis."""
    corner = np.asarray(positions_px, np.float64) - N // 2
    whole = np.floor(corner + _ROUNDING).astype(int)
    rows, columns = (shift_matrices(corner[:, axis] - whole[:, axis], N + 1, N, np.float64) for axis in (0, 1))
    windows = (np.stack([part[y : y + N + 1, x : x + N + 1] for y, x in whole]) for part in (padded.real, padded.imag))
    return Pair(*(take(window, rows.swapaxes(-1, -2), columns) for window in windows))


def _check(
    obj: NDArray[np.complexfloating[Any, Any]],
    probe: NDArray[np.complexfloating[Any, Any]],
    positions_px: NDArray[np.floating[Any]],
    name: str,
) -> None:
    if obj.ndim != 2 or not np.iscomplexobj(obj):
        raise ObjectError("not a complex image", key="object", found=f"{obj.dtype} {obj.shape}", expected="(y, x)")
    if not np.isfinite(obj).all():
        raise ObjectError("non-finite pixels", key="object")
    if probe.ndim != 3 or probe.shape[1] != probe.shape[2]:
        raise ObjectError("wrong shape", key="probe", found=probe.shape, expected="(mode, N, N)")
    if not np.isfinite(probe).all() or not np.any(probe):
        raise ObjectError("zero everywhere, or non-finite pixels", key="probe")
    half = probe.shape[-1] // 2
    low = positions_px.min(axis=0)
    high = positions_px.max(axis=0)
    if not ((low >= half - _ROUNDING).all() and (high <= np.array(obj.shape) - half + _ROUNDING).all()):
        raise ScanError(
            "patches reach beyond the object", file=name, key="positions",
            found=f"y {low[0]:.1f} to {high[0]:.1f}, x {low[1]:.1f} to {high[1]:.1f}",
            expected=f"y {half} to {obj.shape[0] - half}, x {half} to {obj.shape[1] - half}",
        )  # fmt: skip
