"""The start of a training from a bundle: its weights, scales and probe.

Weights are arrays with canonical names, so that either framework may have trained the bundle. A bundle does not contain
the state of an optimiser: the optimiser and its learning rate start anew.
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
    """The start of a training from a bundle, instead of the recipe's initial weights.

    Attributes
    ----------
    name : str
        Of the bundle, for messages.
    recipe : Recipe
    weights : dict of str to ndarray
        Canonical names, the two whitening constants included.
    probe : (mode, N, N) complex64, sqrt(photons)
    mean_photons : float
        Mean photons of the patterns that the whitening constants were computed from.
    """

    name: str
    recipe: Recipe
    weights: dict[str, NDArray[np.float32]]
    probe: NDArray[np.complex64]
    mean_photons: float

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> Start:
        """Start from a bundle.

        Raises
        ------
        BundleError
            The bundle is foreign.
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
        """Check that the patterns of a scan have the network's size.

        Raises
        ------
        ScanError
            The sizes differ.
        """
        if scan.N != self.recipe.N:
            raise ScanError(
                f"the patterns do not fit the bundle {self.name}", file=scan.name, key="diffraction",
                found=f"N = {scan.N}", expected=f"N = {self.recipe.N}",
                remedy="crop or pad the patterns, or train a network for them from the start",
            )  # fmt: skip


def continued_settings(bundle: Bundle, settings: Settings) -> Settings:
    """Settings of a training that starts from a bundle, with the bundle's network settings.

    Parameters
    ----------
    bundle : Bundle
    settings : Settings
        Network settings that are set explicitly must agree with the bundle.

    Raises
    ------
    SettingsError
        A setting contradicts the bundle's recipe.
    BundleError
        The bundle is foreign.
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
