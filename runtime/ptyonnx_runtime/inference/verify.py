"""Run a bundle's self-test, which compares its network here with the native network that it was exported from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ptyonnx_bundles import Bundle
from ptyonnx_bundles.confinement import DEFAULT_LIMIT_S
from ptyonnx_runtime.inference.session import Session

__all__ = ["Verification", "verify"]


@dataclass(frozen=True)
class Verification:
    """The result of a self-test.

    Attributes
    ----------
    provider : str
        Where it ran.
    difference : float
        Largest absolute difference between the complex object and that of the native network; infinite if any value is
        not finite.
    tolerance : float
        Largest difference that the bundle allows.
    """

    provider: str
    difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.difference <= self.tolerance


def verify(
    bundle: Bundle, provider: str = "auto", threads: int = 0, *, limit_s: float = DEFAULT_LIMIT_S
) -> Verification:
    """Run the self-test of a bundle.

    Parameters
    ----------
    bundle : Bundle
    provider, threads, limit_s
        See :class:`ptyonnx_runtime.inference.session.Session`.

    Raises
    ------
    ProviderError
        The provider is unknown or does not work on this machine.
    WorkerError
        A foreign graph killed its process, or took too long.
    """
    with Session(bundle, provider, threads, limit_s=limit_s) as session:
        computed = session.run(bundle.selftest.diffraction)
    difference = float(np.max(np.abs(computed - bundle.selftest.object)))
    return Verification(
        session.provider, difference if np.isfinite(difference) else float("inf"), bundle.selftest.tolerance
    )
