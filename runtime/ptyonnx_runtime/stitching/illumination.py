"""The probe that a reconstruction uses, at the photon scale of the patterns as the network gets them.

A bundle of this project's own brings the probe that it was trained with, in photons. A foreign one
may bring none, and what it brings has no photon scale of its own: the systems in the field write
probes in units of their own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles import Bundle
from ptyonnx_bundles.errors import ScanError
from ptyonnx_runtime.flux import Flux
from ptyonnx_runtime.scan import Scan, chunks
from ptyonnx_runtime.stitching.residual import ForwardModel

__all__ = ["amplitude_factor", "illumination"]

_CHUNK_PX = 16 * 64 * 64  # as for the residual


def illumination(bundle: Bundle, scan: Scan, flux: Flux) -> NDArray[np.complex64]:
    """Choose the probe.

    Parameters
    ----------
    bundle : Bundle
    scan : Scan
        Its probe serves where a foreign bundle has none.
    flux : Flux
        What is done to the scan's amplitudes.

    Returns
    -------
    (mode, N, N) complex64, sqrt(photons)
        The bundle's own as it is; that of a foreign bundle, or of the scan, brought to the mean
        photons of the scaled patterns: what a sample that absorbs little lets through.

    Raises
    ------
    ScanError
        Neither bundle nor scan has a probe.
    """
    if not bundle.is_foreign:
        return bundle.probe
    probe = bundle.probe if len(bundle.probe) else scan.probe
    if probe is None:
        raise ScanError(
            f"neither the scan nor the bundle {bundle.name} has a probe", file=scan.name, key="probeGuess",
            remedy="give the scan one, or adopt the network with a probe=…",
        )  # fmt: skip
    photons = float(np.sum(np.abs(probe.astype(np.complex128)) ** 2))
    wanted = flux.scan_photons * flux.scale**2
    return np.asarray(probe * np.sqrt(wanted / photons), np.complex64)


def amplitude_factor(model: ForwardModel, scan: Scan, flux: Flux) -> np.float32:
    """Factor on an object with which as many photons are expected as were measured.

    Other systems leave the scale of their amplitudes free, as they do that of their probes: the
    residual of their networks is computed up to this one factor. Their objects stay as they are.

    Parameters
    ----------
    model : ForwardModel
        Of the object.
    scan : Scan
    flux : Flux
        What is done to the scan's amplitudes.
    """
    positions_px = scan.positions_px[scan.lit]
    parts = chunks(len(positions_px), max(1, _CHUNK_PX // scan.N**2))
    expected = sum(float(model.photons(positions_px[part]).sum()) for part in parts)
    measured = len(positions_px) * scan.mean_photons * flux.scale**2
    return np.float32(np.sqrt(measured / expected) if expected > 0 else 1)
