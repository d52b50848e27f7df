"""The probe of a reconstruction, at the photon scale of the patterns that enter the network.

A native bundle contains the probe that it was trained with, in sqrt(photons). A foreign bundle may contain none, or one
in unknown units, as other systems do not store probes in photons.
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
        Its probe is used if a foreign bundle has none.
    flux : Flux
        How the scan's amplitudes are scaled.

    Returns
    -------
    (mode, N, N) complex64, sqrt(photons)
        The probe of a native bundle, unchanged. The probe of a foreign bundle or of the scan is scaled to the mean photons
        of the scaled patterns, as for a sample that absorbs little.

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
    """Factor on an object for which the number of expected photons equals the measured one.

    The amplitudes of other systems have an arbitrary scale, as their probes do. The residual of their networks is
    therefore computed with this factor on the object. The returned object is not scaled.

    Parameters
    ----------
    model : ForwardModel
        Of the object.
    scan : Scan
    flux : Flux
        How the scan's amplitudes are scaled.
    """
    positions_px = scan.positions_px[scan.lit]
    parts = chunks(len(positions_px), max(1, _CHUNK_PX // scan.N**2))
    expected = sum(float(model.photons(positions_px[part]).sum()) for part in parts)
    measured = len(positions_px) * scan.mean_photons * flux.scale**2
    return np.float32(np.sqrt(measured / expected) if expected > 0 else 1)
