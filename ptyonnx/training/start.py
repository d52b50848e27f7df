"""What a training goes on from: the weights, scales and probe of a bundle.

Whichever framework trained the bundle: weights are arrays with canonical names. The state of an
optimiser does not travel; a new one begins, and so does its rate.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptyonnx.settings import Settings
from ptyonnx_bundles import Bundle, Recipe
from ptyonnx_bundles.errors import ScanError, SettingsError
from ptyonnx_runtime.scan import Scan

__all__ = ["NETWORK_SETTINGS", "Start", "continued_settings"]

NETWORK_SETTINGS = ("gridsize", "filters_scale", "depth")


class Start(NamedTuple):
    """Where a training begins, if not at the recipe's initial weights.

    Attributes
    ----------
    name : str
        Of the bundle, for what is said aloud.
    recipe : Recipe
    weights : dict of str to ndarray
        Canonical names, the two whitening constants included.
    probe : (mode, N, N) complex64, sqrt(photons)
    mean_photons : float
        The scale at which the whitening constants were measured.
    """

    name: str
    recipe: Recipe
    weights: dict[str, NDArray[np.float32]]
    probe: NDArray[np.complex64]
    mean_photons: float

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> Start:
        """Take over a bundle.

        Raises
        ------
        BundleError
            Its network is that of another system.
        """
        manifest = bundle.native_manifest("training")
        return cls(
            bundle.name,
            bundle.native_recipe("a framework"),
            bundle.native_weights(),
            bundle.probe,
            manifest.physics.mean_photons,
        )

    def check_fit(self, scan: Scan) -> None:
        """Compare the size of a scan's patterns with the network's.

        Raises
        ------
        ScanError
            They differ.
        """
        if scan.N != self.recipe.N:
            raise ScanError(
                f"the patterns do not fit the bundle {self.name}", file=scan.name, key="diffraction",
                found=f"N = {scan.N}", expected=f"N = {self.recipe.N}",
                remedy="crop or pad the patterns, or train a network for them from the start",
            )  # fmt: skip


def continued_settings(bundle: Bundle, settings: Settings) -> Settings:
    """Settings of a training that goes on from a bundle: the network's are the bundle's.

    Parameters
    ----------
    bundle : Bundle
    settings : Settings
        What was said about the network must agree with the bundle; what was not said does.

    Raises
    ------
    SettingsError
        A setting contradicts the bundle's recipe.
    BundleError
        The bundle's network is that of another system.
    """
    recipe = bundle.native_recipe("a framework")
    for name in NETWORK_SETTINGS:
        wanted, found = getattr(settings, name), getattr(recipe, name)
        if name in settings.model_fields_set and wanted not in (None, found):
            raise SettingsError(
                f"contradicts the bundle {bundle.name}", key=name, found=wanted, expected=found,
                remedy="leave it out, or train a network from the start (without initial=…)",
            )  # fmt: skip
    return settings.model_copy(update={name: getattr(recipe, name) for name in NETWORK_SETTINGS})
