"""Write a bundle's network in the form that another system loads; see `ptyonnx_converters.to_ptychovit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ptyonnx.exchange.output_path import check_onnx_path
from ptyonnx.opening import open_bundle
from ptyonnx_bundles import atomic_write
from ptyonnx_bundles.confinement import DEFAULT_LIMIT_S, Confinement
from ptyonnx_bundles.errors import MissingDependencyError, SettingsError

if TYPE_CHECKING:
    from ptyonnx.opening import AnyBundle

__all__ = ["PROFILES", "export_profile"]

PROFILES = ("ptychovit",)


def export_profile(
    bundle: AnyBundle,
    path: Path | str,
    profile: str,
    *,
    batch: int,
    norm: float = 1e4,
    zero_frequency: str = "centre",
    limit_s: float = DEFAULT_LIMIT_S,
) -> None:
    """Write a file for another system, atomically.

    Parameters
    ----------
    bundle : Bundle, Run or path-like
    path : path-like
    profile : str
        One of :data:`PROFILES`.
    batch : int
        Patterns per call.
    norm : float
        Divisor that the other system applies to the counts.
    zero_frequency : {"centre", "corner"}
        Position of the zero frequency in the other system's patterns.
    limit_s : float
        Time limit in seconds for opening the graph of a foreign bundle, and for each of its test runs.

    Raises
    ------
    SettingsError
        No such profile.
    ConversionError
        The profile does not support the bundle, or the results of the file would differ; nothing is written.
    """
    from importlib.util import find_spec

    if profile not in PROFILES:
        raise SettingsError("no such profile", key="profile", found=profile, expected=", ".join(PROFILES))
    for package, remedy in (("onnx", "pip install 'ptyonnx[adopt]'"), ("onnxruntime", "pip install 'ptyonnx[cpu]'")):
        if find_spec(package) is None:
            raise MissingDependencyError(f"profiles need {package}, which is not installed", remedy=remedy)
    bundle = open_bundle(bundle, key="bundle")
    check_onnx_path(path, "path")
    from ptyonnx_converters import to_ptychovit

    confinement = Confinement(limit_s)
    content = to_ptychovit.convert(bundle, batch, norm=norm, zero_frequency=zero_frequency, confinement=confinement)
    atomic_write(path, content)
