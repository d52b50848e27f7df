"""Make a bundle of a network that another system trained: convert, compare with the original, describe, write.

ONNX files go through `ptyonnx_converters.from_onnx`, PtychoPINN's through `from_ptychopinn`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.exchange.output_path import check_onnx_path
from ptyonnx_bundles import (
    FOREIGN,
    Bundle,
    ForeignManifest,
    ForeignPhysics,
    ForeignProducer,
    ForeignRecipe,
    SelfTest,
    check_apart,
    digests,
    read_bundle,
    write_bundle,
)
from ptyonnx_bundles.arguments import as_path, check_type
from ptyonnx_bundles.confinement import DEFAULT_LIMIT_S, Confinement
from ptyonnx_bundles.errors import BundleError, ConversionError, MissingDependencyError, ObjectError, SettingsError
from ptyonnx_bundles.files.input_files import check_regular_file
from ptyonnx_bundles.manifest import COARSE_PROTOCOL, FOREIGN_PROTOCOL
from ptyonnx_bundles.selftest import LARGEST_TOLERANCE
from ptyonnx_runtime.physics import dft_matrix, intensity, pair_from_complex

if TYPE_CHECKING:
    from ptyonnx_converters.foreign.declaration import Declaration
    from ptyonnx_converters.foreign.network import ForeignNetwork

__all__ = ["ORIGINAL", "SAME_GRAPH", "adopt", "example_patterns"]

ORIGINAL = "computed from the original file"
SAME_GRAPH = "computed from this graph, without optimisation; the original cannot be run here"
_GROUPS = 3  # batches of one and of three groups show whether the batch size is free
_ARCHIVE = b"PK"  # first bytes of a ZIP archive; no ONNX file begins with them
_UNKNOWN_PHOTONS = 1e5  # mean of the test patterns, if the network does not state it


def adopt(
    path: Path | str,
    output: Path | str,
    declaration: Declaration,
    *,
    probe: NDArray[np.complex64] | Path | str | None = None,
    probe_big: bool | None = None,
    amp_activation: str | None = None,
    licence: str | None = None,
    notes: str = "",
    limit_s: float = DEFAULT_LIMIT_S,
) -> Bundle:
    """Make a bundle of a network that another system trained.

    Parameters
    ----------
    path : path-like
        An ONNX file, or a PtychoPINN bundle.
    output : path-like
        The bundle; replaced only when the new one is complete.
    declaration : Declaration
        The conventions of an ONNX file; empty for a PtychoPINN bundle, whose conventions are known.
    probe : (mode, N, N) complex64 or path-like, optional
        Without it, the probe of each scan is used.
    probe_big, amp_activation : optional
        Settings that older PyTorch bundles of PtychoPINN do not contain.
    licence, notes : str, optional
        For the manifest.
    limit_s : float
        Time limit in seconds for opening the network, and for each of its test runs.

    Returns
    -------
    Bundle

    Raises
    ------
    OutputError
        The output is the input file, cannot be written, or has another suffix than .onnx.
    ConversionError
        The file has another format, or its network cannot become a bundle; nothing is written.
    SettingsError
        A convention is not declared, or contradicts the file.
    WorkerError
        The network crashed its test process, or exceeded the time limit.
    """
    _require("onnx", "pip install 'ptyonnx[adopt]'")
    _require("onnxruntime", "pip install 'ptyonnx[cpu]'")
    from ptyonnx_converters.foreign.declaration import Declaration

    file = as_path(path, "path", "the path of an ONNX file or of a PtychoPINN bundle")
    check_apart(as_path(output, "output", "the path of the bundle"), path)
    check_onnx_path(output)
    check_type(declaration, "declaration", Declaration, "a ptyonnx_converters.foreign.declaration.Declaration")
    probe = None if probe is None else _probe(probe, output)
    settings = {"probe_big": probe_big, "amp_activation": amp_activation}
    confinement = Confinement(limit_s)
    network = _convert(
        file, declaration, confinement, {key: value for key, value in settings.items() if value is not None}
    )
    modes = np.zeros((0, network.N, network.N), np.complex64) if probe is None else probe
    if modes.shape[1:] != (network.N, network.N):
        raise ObjectError(
            "the probe does not have the size of the network's patterns", key="probe", found=modes.shape,
            expected=f"(mode, {network.N}, {network.N})",
        )  # fmt: skip
    photons = network.mean_photons or _UNKNOWN_PHOTONS
    selftest = _verified_selftest(
        network, file, example_patterns(network.N, network.gridsize**2, photons, modes), confinement
    )
    return _write(network, Path(output), modes, selftest, {"licence": licence, "notes": notes or network.notes})


def _probe(given: NDArray[np.complex64] | Path | str, output: Path | str) -> NDArray[np.complex64]:
    """Return the probe as an array; read it if a path is given."""
    from ptyonnx.formats.probes import load_probe

    if isinstance(given, str | os.PathLike):
        check_apart(output, given)
        return load_probe(Path(given))
    check_type(given, "probe", np.ndarray, "an array (mode, N, N), or the path of a file")
    return given


def example_patterns(
    N: int, channels: int, photons: float, probe: NDArray[np.complex64] | None = None
) -> NDArray[np.float32]:
    """Simulate patterns for a self-test: Poisson counts of random phase objects illuminated by a probe.

    Parameters
    ----------
    N, channels : int
    photons : float
        Mean per pattern.
    probe : (mode, N, N) complex64, optional
        By default a Gaussian of standard deviation 0.15 N.

    Returns
    -------
    (3, channels, N, N) float32
        Amplitude, zero frequency in the centre.
    """
    generator = np.random.default_rng(0)
    y, x = (np.indices((N, N)) - N // 2) / N
    modes = np.exp(-(x**2 + y**2) / (2 * 0.15**2))[np.newaxis] if probe is None or not len(probe) else probe
    modes = modes.astype(np.complex128)
    low = np.exp(-(x**2 + y**2) / (2 * 0.06**2))
    noise = generator.standard_normal((_GROUPS, channels, N, N))
    smooth = np.fft.ifft2(np.fft.fft2(noise) * np.fft.ifftshift(low)).real
    patch, modes_pair = (pair_from_complex(wave, np.float64) for wave in (np.exp(2j * smooth / smooth.std()), modes))
    expected = intensity(patch, modes_pair, dft_matrix(N, np.float64))
    counts = generator.poisson(expected * (photons / expected.sum(axis=(-2, -1)).mean()))
    return np.asarray(np.sqrt(counts), np.float32)


def _verified_selftest(
    network: ForeignNetwork, file: Path, patterns: NDArray[np.float32], confinement: Confinement
) -> SelfTest:
    from ptyonnx_converters.foreign.equivalence import verify_equivalence

    try:
        return verify_equivalence(network, patterns, str(file), confinement)
    except ConversionError as error:
        raise ConversionError(
            error.problem, file=file, key=error.key, found=error.found, expected=error.expected, remedy=error.remedy
        ) from error


def _write(
    network: ForeignNetwork,
    output: Path,
    probe: NDArray[np.complex64],
    selftest: SelfTest,
    described: dict[str, str | None],
) -> Bundle:
    manifest = ForeignManifest(
        protocol=FOREIGN_PROTOCOL if selftest.tolerance <= LARGEST_TOLERANCE else COARSE_PROTOCOL,
        recipe=ForeignRecipe(
            system=network.system,
            N=network.N,
            gridsize=network.gridsize,
            conventions={**network.conventions, "selftest": ORIGINAL if network.native else SAME_GRAPH},
        ),
        producer=ForeignProducer(versions=_versions()),
        physics=ForeignPhysics(
            N=network.N, gridsize=network.gridsize, probe_modes=len(probe), mean_photons=network.mean_photons
        ),
        digests=digests(network.model, FOREIGN),
        licence=described["licence"],
        notes=described["notes"] or "",
    )
    return write_bundle(output, network.model, manifest, probe, selftest)


def _convert(
    path: Path, declaration: Declaration, confinement: Confinement, settings: Mapping[str, Any]
) -> ForeignNetwork:
    """Convert a ZIP archive as a PtychoPINN bundle, and any other file as ONNX."""
    from ptyonnx_converters import from_onnx, from_ptychopinn

    check_regular_file(path, ConversionError, "give an ONNX file or a PtychoPINN wts.h5.zip")
    if not _is_archive(path):
        _refuse_bundle(path)
        if settings:
            raise SettingsError(
                "these are settings of PtychoPINN bundles, and the file is none", file=path, key=", ".join(settings),
                remedy="leave these out",
            )  # fmt: skip
        return from_onnx.convert(path, declaration, confinement)
    from_ptychopinn.check_archive(path)
    declared = [
        each.name
        for each in fields(declaration)
        if each.name != "system" and getattr(declaration, each.name) is not None
    ]
    if declared:
        raise SettingsError(
            "the conventions of a PtychoPINN bundle are known", file=path, key=", ".join(declared),
            remedy="leave these out",
        )  # fmt: skip
    return from_ptychopinn.convert(path, **settings)


def _refuse_bundle(path: Path) -> None:
    with contextlib.suppress(BundleError):  # raised if it is not a bundle
        read_bundle(path)
        raise ConversionError(
            "is a bundle already", file=path, remedy="use it directly, for example: ptyonnx reconstruct"
        )


def _is_archive(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(_ARCHIVE)) == _ARCHIVE
    except OSError:
        return False  # the reader will report the error


def _require(package: str, remedy: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise MissingDependencyError(f"adopting needs {package}, which is not installed", remedy=remedy)


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    from ptyonnx_bundles.telemetry import disable_telemetry

    disable_telemetry()
    import onnx
    import onnxruntime

    return {"ptyonnx": version("ptyonnx"), "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
