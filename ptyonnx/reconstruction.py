"""Reconstructions as users meet them: to save, to look at, to find in a notebook's cell.

The computation is `ptyonnx_runtime.reconstruct`; here its result learns to write and draw itself.
"""

from __future__ import annotations

import base64
import html
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ptyonnx_bundles.confinement import DEFAULT_LIMIT_S
from ptyonnx_bundles.terminal import visible
from ptyonnx_runtime import reconstruct as runtime
from ptyonnx_runtime.flux import FluxChoice
from ptyonnx_runtime.reconstruct import PhaseChoice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ptyonnx_bundles import Bundle
    from ptyonnx_runtime.engine import Engine
    from ptyonnx_runtime.reconstruct import Progress
    from ptyonnx_runtime.scan import Scan

__all__ = ["Reconstruction", "reconstruct"]

_NOTEBOOK_DPI = 60


class Reconstruction(runtime.Reconstruction):
    """A stitched object, what supports it, and where it comes from.

    See :class:`ptyonnx_runtime.reconstruct.Reconstruction` for its attributes: ``object``,
    ``mask``, ``origin_px``, ``residual``, ``r_factor``, ``vacuum_r_factor``, ``flux`` …
    """

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a file, atomically: `.h5` as ptychodus product, or `.npz`.

        Parameters
        ----------
        path : path-like

        Raises
        ------
        OutputError
            Another suffix, or not writable; what stood there is unchanged.
        """
        from ptyonnx.formats import write_result

        write_result(path, self)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw amplitude, phase, and the residual of every pattern.

        Parameters
        ----------
        path : path-like, optional
            Also write the picture; the suffix chooses the format.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        OutputError
            The picture could not be written.
        """
        from ptyonnx.picture import draw, save_figure

        figure = draw(self)
        if path is not None:
            save_figure(figure, Path(path))
        return figure

    def __repr__(self) -> str:
        height, width = self.object.shape
        return visible(
            f"<Reconstruction of {self.scan_name} with {self.bundle.name}: {height} x {width} px, "
            f"{len(self.residual)} patterns, R-factor {self.r_factor:.3f} (vacuum {self.vacuum_r_factor:.3f})>"
        )

    def _repr_html_(self) -> str:
        from ptyonnx.picture import draw

        image = io.BytesIO()
        draw(self).savefig(image, format="png", dpi=_NOTEBOOK_DPI)
        encoded = base64.b64encode(image.getvalue()).decode("ascii")
        return (
            f"<div><p>{html.escape(repr(self)[1:-1])}<br>{html.escape(str(self.flux))}</p>"
            f'<img alt="amplitude, phase, residual" src="data:image/png;base64,{encoded}"></div>'
        )


def reconstruct(
    bundle: Bundle,
    scan: Scan,
    *,
    provider: str = "auto",
    threads: int = 0,
    batch_size: int | None = None,
    flux: FluxChoice = "match",
    phases: PhaseChoice = "auto",
    progress: Progress | None = None,
    engine: Engine | None = None,
    limit_s: float = DEFAULT_LIMIT_S,
) -> Reconstruction:
    """Reconstruct the object of a scan; parameters of :func:`ptyonnx_runtime.reconstruct.reconstruct`."""
    found = runtime.reconstruct(
        bundle,
        scan,
        provider=provider,
        threads=threads,
        batch_size=batch_size,
        flux=flux,
        phases=phases,
        progress=progress,
        engine=engine,
        limit_s=limit_s,
    )
    return Reconstruction(**vars(found))
