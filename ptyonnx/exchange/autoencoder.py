"""Export the network inside its forward model: object and predicted patterns from one ONNX file.

The graph is built in `ptyonnx_converters.autoencoder`, with the constants of the runtime's physics.
Before it is written, its results are compared with another implementation: for a run, the native network and
forward pass of its framework; for a bundle, its self-test and the forward model in NumPy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptyonnx import backends
from ptyonnx.exchange.exporting import check_exportable, selftest_patterns
from ptyonnx.exchange.output_path import check_onnx_path
from ptyonnx.opening import AnyBundle, open_bundle, open_run
from ptyonnx.runs.run import Checkpoint, Run
from ptyonnx.training.objective import expected_intensity, objective_constants, overlap_weight
from ptyonnx_bundles import Bundle, Recipe, atomic_write
from ptyonnx_bundles.arguments import as_path
from ptyonnx_bundles.errors import ConversionError, MissingDependencyError
from ptyonnx_converters.selftest import TOLERANCE as OBJECT_TOLERANCE
from ptyonnx_runtime.physics import WEIGHT_FLOOR, dft_matrix, intensity, pair_from_complex

__all__ = ["AMPLITUDE_TOLERANCE", "OBJECT_TOLERANCE", "Autoencoder", "export_autoencoder", "largest_amplitude"]

# Of the largest amplitude that the probe gives through vacuum. An error e of every object pixel changes a
# detector pixel by at most e times that amplitude, since the DFT is unitary; two products with a matrix of
# N <= 256 add at most 2 N 6e-8 of it. Together below 1e-4.
AMPLITUDE_TOLERANCE = 1e-4
_GROUPS = 2
_SPREAD_PX = 0.2  # of N: largest distance between patches of a group when the graph is tested


@dataclass(frozen=True)
class Autoencoder:
    """The file that was written, and the outcome of its check.

    Attributes
    ----------
    path : Path
    reference : str
        The implementation that it was compared with.
    object_difference : float
        Largest absolute difference of the complex object.
    amplitude_difference : float
        Largest difference of the predicted amplitude, relative to :func:`largest_amplitude`.
    """

    path: Path
    reference: str
    object_difference: float
    amplitude_difference: float


def export_autoencoder(source: AnyBundle, path: Path | str, *, which: Checkpoint = "last") -> Autoencoder:
    """Write the autoencoder of a run or a bundle.

    Parameters
    ----------
    source : Run, Bundle or path-like
        A run needs its framework, a bundle does not. A directory is read as a run.
    path : path-like
        Of the `.onnx` file; replaced only when the new one is complete.
    which : {"last", "best"}
        Checkpoint of a run.

    Raises
    ------
    RunError
        The run failed, or has no weights yet.
    BundleError
        The bundle holds a network of another system.
    ConversionError
        The graph does not compute what the reference does; nothing is written.
    MissingDependencyError
        onnx, onnxruntime or the run's framework is not installed.
    """
    check_onnx_path(as_path(path, "path", "the path of the file"), "path")
    if not isinstance(source, Run | Bundle):
        place = as_path(source, "source", "a run, a bundle, or the path of one")
        source = open_run(place) if place.is_dir() else open_bundle(place, key="source")
    if isinstance(source, Run):
        check_exportable(source)
        recipe, weights, probe = source.recipe, source.weights(which), source.probe(which)
        reference = source.backend
    else:
        recipe, weights, probe = source.native_recipe("a framework"), source.native_weights(), source.probe
        reference = "self-test and NumPy"
    model = _build(recipe, weights, probe)
    diffraction = selftest_patterns(weights) if isinstance(source, Run) else source.selftest.diffraction
    offset_px = _offsets(len(diffraction), recipe) if recipe.gridsize > 1 else None
    if isinstance(source, Run):
        canvas = recipe.N if offset_px is None else _canvas(offset_px, recipe.N)
        forward = backends.load_part(source.backend, "autoencoder").predict
        obj, amplitude = forward(recipe, weights, probe, diffraction, offset_px=offset_px, canvas=canvas)
    else:
        obj = source.selftest.object
        amplitude = _amplitude(obj, probe, offset_px)
    found = _run(model, diffraction, offset_px)
    checked = Autoencoder(
        Path(path), reference, _largest(found[0] - obj), _largest(found[1] - amplitude) / largest_amplitude(probe)
    )
    _check(checked)
    atomic_write(path, model)
    return checked


def largest_amplitude(probe: NDArray[np.complex64]) -> float:
    """Largest detector amplitude behind vacuum, sqrt(photons), if all light of each mode met in one pixel."""
    sums = np.sum(np.abs(probe.astype(np.complex128)), axis=(1, 2)) / probe.shape[-1]
    return float(np.sqrt(np.sum(sums**2)))


def _build(recipe: Recipe, weights: dict[str, NDArray[np.float32]], probe: NDArray[np.complex64]) -> bytes:
    try:
        from ptyonnx_converters.autoencoder import Optics, build_autoencoder
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise MissingDependencyError(
            "exporting needs onnx, which is not installed",
            remedy="pip install 'ptyonnx[adopt]'",
        ) from None
    from ptyonnx_bundles.digest import weight_digest

    optics = Optics(
        *pair_from_complex(probe), *dft_matrix(recipe.N), overlap_weight(probe), float(WEIGHT_FLOOR * WEIGHT_FLOOR)
    )
    constants = recipe.graph_constants()
    metadata = {
        "made by": f"ptyonnx {version('ptyonnx')}",
        "weights": weight_digest({**weights, **constants}),
        "diffraction": "measured amplitude, sqrt(photons), zero frequency at (N//2, N//2)",
        **(
            {"positions": "(y, x) in object pixels; only differences within a group count"}
            if recipe.gridsize > 1
            else {}
        ),
        "object": "complex transmission, real and imaginary part last; 1 is vacuum",
        "amplitude": "predicted amplitude on the detector, sqrt(photons)",
    }
    return build_autoencoder(recipe, weights, optics, metadata)


def _offsets(groups: int, recipe: Recipe) -> NDArray[np.float32]:
    """Offsets of the patches of each test group, in pixels, not whole numbers."""
    reach = _SPREAD_PX * recipe.N
    offset = np.random.default_rng(0).uniform(0, reach, (groups, recipe.channels, 2))
    return np.asarray(offset - offset.min(axis=1, keepdims=True), np.float32)


def _canvas(offset_px: NDArray[np.float32], N: int) -> int:
    return N + math.ceil(float(offset_px.max())) + 1


def _amplitude(
    obj: NDArray[np.complex64], probe: NDArray[np.complex64], offset_px: NDArray[np.float32] | None
) -> NDArray[np.float64]:
    """The forward model in float64 NumPy."""
    N = probe.shape[-1]
    patch, illumination = pair_from_complex(obj, np.float64), pair_from_complex(probe, np.float64)
    if offset_px is None:
        return np.asarray(np.sqrt(intensity(patch, illumination, dft_matrix(N, np.float64))))
    constants = objective_constants(probe, _canvas(offset_px, N))._replace(dft=dft_matrix(N, np.float64))
    return np.asarray(np.sqrt(expected_intensity(patch, offset_px.astype(np.float64), illumination, constants)))


def _run(
    model: bytes, diffraction: NDArray[np.float32], offset_px: NDArray[np.float32] | None
) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    from ptyonnx_converters.onnxruntime_session import run_once

    feeds = {"diffraction": diffraction} | ({} if offset_px is None else {"positions": offset_px})
    obj, amplitude = run_once(model, ["object", "amplitude"], feeds)
    return obj.view(np.complex64)[..., 0], amplitude


def _largest(difference: NDArray[np.generic]) -> float:
    largest = float(np.max(np.abs(difference)))
    return largest if np.isfinite(largest) else float("inf")


def _check(checked: Autoencoder) -> None:
    for output, difference, tolerance in (
        ("object", checked.object_difference, OBJECT_TOLERANCE),
        ("amplitude", checked.amplitude_difference, AMPLITUDE_TOLERANCE),
    ):
        if not difference <= tolerance:
            raise ConversionError(
                f"the output of the exported graph differs from {checked.reference}", file=checked.path, key=output,
                found=f"a difference of {difference:.2g}", expected=f"at most {tolerance:g}",
                remedy="nothing was written; report this with the versions in use",
            )  # fmt: skip
