"""Reconstructions that can be saved, drawn, and shown in a notebook.

`ptyonnx_runtime.reconstruct` computes them.
"""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ptyonnx.opening import open_bundle, open_scan
from ptyonnx_bundles.arguments import check_type
from ptyonnx_bundles.confinement import DEFAULT_LIMIT_S
from ptyonnx_bundles.errors import SettingsError
from ptyonnx_bundles.terminal import escape_unprintable
from ptyonnx_runtime import reconstruct as runtime
from ptyonnx_runtime.flux import FluxChoice
from ptyonnx_runtime.inference.options import Options

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ptyonnx.opening import AnyBundle, AnyScan
    from ptyonnx_runtime.inference.engine import Engine
    from ptyonnx_runtime.inference.options import PhaseChoice, Progress, StageProgress

__all__ = ["Reconstruction", "reconstruct"]

_NOTEBOOK_DPI = 80  # CSS pixels per inch
_NOTEBOOK_PANEL_IN = 2.4
_NOTEBOOK_INK = "#797979"  # contrast 4.3 with #ffffff and with #111111


class Reconstruction(runtime.Reconstruction):
    """A stitched object with its residual and its provenance; it can be saved and drawn.

    Attributes
    ----------
    object : (y, x) complex64
        The transmission; 1 is vacuum. NaN where too few photons passed to determine it.
    mask : (y, x) bool
        True where `object` is NaN, as in NumPy's masked arrays.
    origin_px : (int, int)
        Object coordinate (y, x) of pixel (0, 0).
    residual : (pattern,) float64
        R-factor of every pattern; NaN for a dark pattern, which is not used.
    r_factor : float
        ``sqrt(sum (sqrt(I) - A)**2 / sum A**2)`` over all patterns that are not dark.
    vacuum_r_factor : float
        The same for an object of ones. A good reconstruction has a much lower R-factor.
    flux : Flux
        Mean photons of scan and bundle, and the factor that was applied to the amplitudes.
    provider : str
        The execution provider or device that ran the network.
    bundle : Bundle
        The bundle that was used.
    probe : (mode, N, N) complex64, sqrt(photons)
        The probe that weighted the patches and with which the residual was computed: that of the bundle, or of the
        scan if the bundle has none.
    positions_px : (pattern, 2) float64
        (y, x), in object pixels.
    object_pixel_size_m, photon_energy_eV, detector_distance_m : float or None
        Those of the scan.
    scan_name : str
        Usually the name of the scan's file.
    engine : str
        The engine that ran the network: onnxruntime, pytorch or tensorflow.
    dark : int
        Number of dark patterns, which have less than 1 % of the median photons, or none. They are not used.
    """

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a file, atomically: `.h5` as ptychodus product, or `.npz`.

        Parameters
        ----------
        path : path-like

        Raises
        ------
        OutputError
            The suffix is unknown, or the file cannot be written; an existing file stays as it was.
        """
        from ptyonnx.formats import write_result

        write_result(path, self)

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        panels: Sequence[str] | None = None,
        cmap: str | Mapping[str, str] | None = None,
        ranges: Mapping[str, Sequence[float]] | None = None,
        probe: bool = False,
        ramp: bool = True,
    ) -> Figure:
        """Draw the object where it is known, and how well it explains each pattern.

        Parameters
        ----------
        path : path-like, optional
            Also write the picture; the suffix chooses the format.
        panels : sequence of str, optional
            Some of ``"amplitude"``, ``"phase"``, ``"residual"`` and ``"probe"``, in the order in which they are drawn;
            by default the first three.
        cmap : str or mapping of str to str, optional
            A matplotlib colour map for amplitude and phase, or one for each panel that is named.
        ranges : mapping of str to (float, float), optional
            Values at the ends of the colour map, by panel: ``{"phase": (-0.5, 0.5)}``. By default the 1st and the 99th
            percentile.
        probe : bool
            Also draw the modes of the probe.
        ramp : bool
            Keep the linear phase ramp; False removes it, and the picture says so.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        SettingsError
            A panel or a colour map does not exist, or a range is not one.
        OutputError
            The picture could not be written.
        """
        from ptyonnx.results.picture import draw, save_figure
        from ptyonnx.results.picture_options import picture_options

        figure = draw(self, picture_options(panels, cmap, ranges, probe=probe, ramp=ramp))
        if path is not None:
            save_figure(figure, Path(path))
        return figure

    def __repr__(self) -> str:
        height, width = self.object.shape
        return escape_unprintable(
            f"<Reconstruction of {self.scan_name} with {self.bundle.name}: {height} x {width} px, "
            f"{len(self.residual)} patterns, R-factor {self.r_factor:.3f} (vacuum {self.vacuum_r_factor:.3f})>"
        )

    def _repr_html_(self) -> str:
        """A cell of a notebook: the text has the notebook's colour, the picture a transparent background.

        The picture's text is of a grey that contrasts equally with white and with JupyterLab's dark background. Style
        sheets and inline SVG could do better, but notebooks that are not trusted, and web viewers, remove them.
        """
        from ptyonnx.results.picture import draw

        figure = draw(self, ink=_NOTEBOOK_INK, title=False, panel_in=_NOTEBOOK_PANEL_IN)
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=2 * _NOTEBOOK_DPI)  # for screens of two pixels per CSS pixel
        encoded = base64.b64encode(image.getvalue()).decode("ascii")
        return (
            f"<div><p>{html.escape(repr(self)[1:-1])}<br>{html.escape(str(self.flux))}</p>"
            f'<img alt="amplitude, phase and residual of the object" width="{figure.get_figwidth() * _NOTEBOOK_DPI:.0f}" '
            f'style="max-width: 100%; height: auto" src="data:image/png;base64,{encoded}"></div>'
        )


def reconstruct(
    bundle: AnyBundle,
    scan: AnyScan,
    *,
    provider: str = "auto",
    threads: int = 0,
    batch_size: int | None = None,
    flux: FluxChoice = "match",
    phases: PhaseChoice = "auto",
    progress: Progress | None = None,
    stages: StageProgress | None = None,
    engine: Engine | str = "onnxruntime",
    limit_s: float = DEFAULT_LIMIT_S,
) -> Reconstruction:
    """Reconstruct the object of a scan with a bundle.

    Parameters
    ----------
    bundle : Bundle, Run or path-like
        An open bundle, or the path of a bundle or of a run directory containing one.
    scan : Scan or path-like
        From :func:`ptyonnx.load_scan`, or the path of a scan that needs no options.
    provider : str
        Where the engine computes; for onnxruntime ``auto``, ``cpu``, ``cuda``, ``tensorrt``, ``openvino`` …
    threads : int
        CPU threads; 0: as many as there are cores.
    batch_size : int, optional
        Groups of patterns in a batch; by default chosen from N and the engine. It does not change the result.
    flux : {"match", "as-is"}
        Whether amplitudes are scaled where scan and bundle differ by more than 10 % in photons.
    phases : {"auto", "overlap", "network"}
        How the global phase of each patch, which its pattern does not determine, is chosen: from the overlaps of the
        patches, which wait in a temporary file, or as the network predicts it. By default from the overlaps; for
        foreign bundles as predicted, as their own software does.
    progress : callable, optional
        Called with the number of groups that the network has computed, and the number of all groups.
    stages : callable, optional
        Called with the stage, ``"network"``, ``"stitching"`` or ``"residual"``, and how much of it is done, of how much.
    engine : Engine or str
        Computes the patches: ``"onnxruntime"``, ``"torch"``, ``"tensorflow"``, or an engine from
        :func:`ptyonnx.backends.engines.open_engine`, which has its own provider, threads and limit.
    limit_s : float
        Seconds that the graph of a foreign bundle may take for each batch.

    Returns
    -------
    Reconstruction

    Raises
    ------
    BundleError, RunError, ScanError
        A file cannot be opened, or the scan does not fit the bundle.
    SettingsError
        An argument has the wrong type or a value that is not allowed; the error's ``key`` names it.
    ProviderError, MissingDependencyError
        The provider or the engine is unknown, not installed, or does not work on this machine.
    NotFiniteError
        The network predicts NaN, infinity or values beyond 1e12 for a pattern.
    WorkerError
        A foreign graph ended its process, or took too long.

    Examples
    --------
    >>> result = reconstruct("run/bundle.onnx", "scan.npz")  # doctest: +SKIP
    >>> result.save("result.h5")  # doctest: +SKIP
    """
    opened, patterns = open_bundle(bundle, key="bundle"), open_scan(scan)
    check_type(provider, "provider", str, "a name such as auto, cpu or cuda")
    check_type(threads, "threads", int, "a number of threads")
    options = Options(
        threads=threads, batch_size=batch_size, flux=flux, phases=phases, progress=progress, stages=stages
    )
    with ExitStack() as closing:
        if isinstance(engine, str):
            from ptyonnx.backends.engines import open_engine

            engine = open_engine(opened, engine, provider=provider, threads=threads, limit_s=limit_s)
            closing.callback(engine.close)
            options = replace(options, abandon=engine.close)
        elif missing := [name for name in ("run", "concurrency", "batch_px") if not hasattr(engine, name)]:
            raise SettingsError(
                f"not an engine, it has no {missing[0]}", key="engine", found=type(engine).__name__,
                expected="the name of one, or what ptyonnx.backends.engines.open_engine returned",
            )  # fmt: skip
        result = runtime.reconstruct(opened, patterns, engine, options)
    return Reconstruction(**vars(result))
