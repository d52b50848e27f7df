"""The reference for an adopted network: run the original file, with its input and output handled in NumPy, in float64.

It is independent of `io_adapters.py`, which does the same with ONNX operators; the two must agree. The
file is run unchanged, with its own operator set and its own batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.confinement import Confinement
from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.foreign.declaration import Declaration, Limit, Scale
from ptyonnx_converters.foreign.io_adapters import FIRST_PARTS, LAST, LAST_PARTS, PLANES, Layout
from ptyonnx_converters.onnxruntime_session import first_line, onnxruntime_errors, open_confined

__all__ = ["OriginalNetwork", "combine_outputs", "prepare_input"]


class OriginalNetwork:
    """The unchanged file, open in onnxruntime in a separate process.

    Parameters
    ----------
    content : bytes
    file : str
        Named in errors.
    name : str
        The input that takes patterns; the outputs depend on no other input, so the others get zeros.
    outputs : sequence of str
    batch : int
        The fixed number of patterns per run; 0: any number.
    confinement : Confinement
    """

    def __init__(
        self, content: bytes, file: str, name: str, outputs: list[str], batch: int, *, confinement: Confinement
    ) -> None:
        self.file, self._name, self._outputs, self._batch = file, name, outputs, batch
        try:
            self._graph = open_confined(content, file, confinement)
        except onnxruntime_errors() as error:
            raise self._failure("cannot be opened by onnxruntime", error) from None

    def run(self, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run the network on any number of patterns; a last, incomplete batch is padded.

        Parameters
        ----------
        values : ndarray
            From :func:`prepare_input`.

        Returns
        -------
        dict of str to ndarray
            The outputs by name, one entry per pattern along the first axis.
        """
        parts = []
        step = self._batch or len(values)
        for start in range(0, len(values), step):
            part = values[start : start + step]
            short = step - len(part)
            padded = np.concatenate([part, np.repeat(part[-1:], short, axis=0)]) if short else part
            parts.append([array[: len(part)] for array in self._run(padded)])
        return {name: np.concatenate([part[index] for part in parts]) for index, name in enumerate(self._outputs)}

    def _run(self, values: NDArray[Any]) -> list[NDArray[Any]]:
        feeds = {
            name: np.zeros(
                [size if isinstance(size, int) and size >= 0 else len(values) for size in shape], _dtype(kind)
            )
            for name, kind, shape in self._graph.about["inputs"]
            if name != self._name
        }
        try:
            found = self._graph.run(self._outputs, {**feeds, self._name: values})
        except onnxruntime_errors() as error:
            raise self._failure(f"cannot be run by onnxruntime on {values.dtype} {values.shape}", error) from None
        if any(array.ndim == 0 or len(array) != len(values) for array in found):
            raise ConversionError(
                "not one result for each pattern", file=self.file,
                found=f"{[array.shape for array in found]} for {len(values)} patterns",
            )  # fmt: skip
        return found

    def _failure(self, problem: str, error: Exception) -> ConversionError:
        return ConversionError(f"{problem} ({first_line(error)})", file=self.file)


def prepare_input(
    diffraction: NDArray[np.float32], declaration: Declaration, layout: Layout, dtype: Any
) -> NDArray[Any]:
    """Turn amplitudes, zero frequency in the centre, into the network's input.

    Parameters
    ----------
    diffraction : (B, C, N, N) float32
    declaration : Declaration
    layout : Layout
    dtype
        Of the network's input.

    Returns
    -------
    ndarray
        In the order of axes that `layout` states.
    """
    values = _scaled(_limited_counts(diffraction, declaration), declaration)
    if declaration.transform == "log1p":
        values = np.log1p(values)
    elif declaration.transform == "log10p":
        values = np.log10(values + 1)
    if declaration.zero_frequency == "corner":
        values = np.fft.ifftshift(values, axes=(-2, -1))
    if layout.axes == PLANES:
        values = values[:, 0]
    elif layout.axes == LAST:
        values = np.moveaxis(values, 1, -1)
    return np.ascontiguousarray(values, dtype)


def _limited_counts(diffraction: NDArray[np.float32], declaration: Declaration) -> NDArray[np.float64]:
    """Apply the declared limit, comparing float32 amplitudes, and return counts."""
    limit = declaration.limit or Limit("none")
    largest = np.float32(np.sqrt(limit.counts))
    if limit.kind == "zero-above":
        diffraction = np.where(diffraction > largest, np.float32(0), diffraction)
    elif limit.kind == "clip":
        diffraction = diffraction.clip(max=largest)
    return np.asarray(diffraction.astype(np.float64) ** 2)


def _scaled(counts: NDArray[np.float64], declaration: Declaration) -> NDArray[np.float64]:
    scale = declaration.scale or Scale("factor")
    if scale.kind == "norm":
        counts = counts / scale.number * scale.times
    values: NDArray[np.float64] = np.sqrt(counts) if declaration.values == "amplitude" else counts
    if scale.kind == "factor":
        return values * scale.number
    if scale.kind == "maximum":
        largest = values.max(axis=(-2, -1), keepdims=True)
        return np.asarray(np.divide(values, largest, out=np.zeros_like(values), where=largest > 0))
    return values


def combine_outputs(
    found: Mapping[str, NDArray[Any]], declaration: Declaration, outputs: Mapping[str, Layout], channels: int
) -> NDArray[np.complex64]:
    """Combine the network's outputs into the complex object.

    Returns
    -------
    (B, C, N, N) complex64
    """
    parts: dict[str, NDArray[np.float64]] = {}
    for part, source in declaration.sources().items():
        array = found[source.tensor].astype(np.float64)
        axes = outputs[source.tensor].axes
        if axes in {FIRST_PARTS, LAST_PARTS}:
            array = array[..., source.channel or 0]
            parts[part] = array if axes == FIRST_PARTS else np.moveaxis(array, -1, 1)
            continue
        array = array[:, np.newaxis] if axes == PLANES else np.moveaxis(array, -1, 1) if axes == LAST else array
        if source.channel is not None:
            array = array[:, source.channel * channels : (source.channel + 1) * channels]
        parts[part] = array
    if "phase" not in parts and "amplitude" in parts:
        return parts["amplitude"].astype(np.complex64)
    if "phase" in parts:
        return np.asarray(parts.get("amplitude", 1.0) * np.exp(1j * parts["phase"]), np.complex64)
    return np.asarray(parts["real"] + 1j * parts["imaginary"], np.complex64)


def _dtype(name: str) -> Any:
    """Translate onnxruntime's ``tensor(float)`` to a NumPy dtype."""
    kind = name.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(kind, kind))
