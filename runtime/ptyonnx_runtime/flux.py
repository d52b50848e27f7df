"""Bring a scan to the photon scale that a bundle was trained at, and say so.

A network has been trained on patterns with a certain mean number of photons. Another exposure multiplies all amplitudes
by a constant. Here they are divided by it once; a log message says so, and the result records it. Networks of this
project tolerate a small difference. The input of foreign networks is scaled exactly, or left unchanged where their photon
scale is unknown.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Literal

from ptyonnx_bundles import Bundle
from ptyonnx_bundles.errors import ScanError, SettingsError
from ptyonnx_runtime.scan import Scan

__all__ = ["FLUX_CHOICES", "TOLERANCE", "Flux", "FluxChoice", "match_flux", "photons_differ"]

FluxChoice = Literal["match", "as-is"]
FLUX_CHOICES: tuple[FluxChoice, ...] = ("match", "as-is")
TOLERANCE = 0.10  # relative difference of photons that a network tolerates

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Flux:
    """How the photons of a scan compare with those of a bundle.

    Attributes
    ----------
    scan_photons, bundle_photons : float
        Mean photons per pattern, without dark patterns; NaN for a foreign bundle whose photon scale is unknown.
    scale : float
        Factor that was applied to the measured amplitudes; 1 if they were left unchanged.
    choice : {"match", "as-is"}
        As the caller chose.
    """

    scan_photons: float
    bundle_photons: float
    scale: float
    choice: FluxChoice

    @property
    def differs(self) -> bool:
        """Whether scan and bundle are known to differ by more than :data:`TOLERANCE`."""
        return photons_differ(self.scan_photons, self.bundle_photons)

    def __str__(self) -> str:
        if math.isnan(self.bundle_photons):
            return f"{self.scan_photons:.3g} photons per pattern, trained at an unknown number: left as they are"
        photons = f"{self.scan_photons:.3g} photons per pattern, trained at {self.bundle_photons:.3g}"
        if self.scale != 1:
            return f"{photons}: amplitudes multiplied by {self.scale:.4g}"
        return f"{photons}: left as they are" if self.differs else photons


def photons_differ(photons: float, trained_at: float) -> bool:
    """Whether two mean numbers of photons differ by more than :data:`TOLERANCE`; False where one is NaN."""
    return abs(photons / trained_at - 1) > TOLERANCE


def match_flux(bundle: Bundle, scan: Scan, choice: FluxChoice = "match") -> Flux:
    """Decide on the factor for the amplitudes of a scan.

    Parameters
    ----------
    bundle : Bundle
    scan : Scan
    choice : {"match", "as-is"}

    Raises
    ------
    ScanError
        All patterns are zero.
    SettingsError
        Another `choice`.
    """
    if choice not in FLUX_CHOICES:
        raise SettingsError("unknown choice", key="flux", found=choice, expected=" or ".join(FLUX_CHOICES))
    found, known = scan.mean_photons, bundle.manifest.physics.mean_photons
    wanted = math.nan if known is None else known
    if not (math.isfinite(found) and found > 0):
        raise ScanError(
            "the patterns are zero everywhere" if found == 0 else "NaN or infinity",
            file=scan.name, key="diffraction",
        )  # fmt: skip
    as_measured = Flux(found, wanted, 1.0, choice)
    if bundle.is_foreign and known is not None and choice == "match":
        return Flux(found, wanted, math.sqrt(wanted / found), choice)
    if not as_measured.differs:
        return as_measured
    flux = Flux(found, wanted, math.sqrt(wanted / found), choice) if choice == "match" else as_measured
    _logger.warning("%s: %s", scan.name, flux)
    return flux
