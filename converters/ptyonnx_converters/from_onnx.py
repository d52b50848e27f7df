"""Convert any ONNX network that turns diffraction patterns into images.

The file is read as untrusted (`safe_load.py`), the user declares its conventions (`declaration.py`), its
batch is freed (`free_batch.py`), and adapters give it the bundle's interface (`io_adapters.py`). Finally
`equivalence.py` checks that the result computes the same as the original file, for any number of patterns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from ptyonnx_bundles.confinement import Confinement
from ptyonnx_bundles.errors import ConversionError, SettingsError
from ptyonnx_bundles.foreign_recipe import LARGEST_FOREIGN_N
from ptyonnx_bundles.recipe import SMALLEST_N
from ptyonnx_converters.foreign.declaration import ONE, PARTS, UNKNOWN, ZERO, Declaration, Source
from ptyonnx_converters.foreign.free_batch import free_batch
from ptyonnx_converters.foreign.io_adapters import (
    FIRST,
    FIRST_PARTS,
    LAST,
    LAST_PARTS,
    PLANES,
    Layout,
    add_io_adapters,
)
from ptyonnx_converters.foreign.memory import check_memory
from ptyonnx_converters.foreign.network import ForeignNetwork
from ptyonnx_converters.foreign.opset import convert_opset, expand_functions
from ptyonnx_converters.foreign.presets import preset
from ptyonnx_converters.foreign.reference_run import OriginalNetwork, combine_outputs, prepare_input
from ptyonnx_converters.foreign.safe_load import load_untrusted, read_bounded
from ptyonnx_converters.foreign.simplify import required_inputs, simplify

__all__ = ["convert"]

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
_MOST_GRIDSIZE = 4
_CONFINEMENT = Confinement()


class _Input(NamedTuple):
    """The input that takes the patterns: name, layout, size and batch; batch 0 stands for a free batch."""

    name: str
    layout: Layout
    N: int
    channels: int
    batch: int


def convert(path: Path, declaration: Declaration, confinement: Confinement = _CONFINEMENT) -> ForeignNetwork:
    """Convert a network.

    Parameters
    ----------
    path : Path
        An ONNX file.
    declaration : Declaration
        Its conventions.
    confinement : Confinement
        Limits on the time and memory of the file's graph.

    Returns
    -------
    ForeignNetwork
        Its `native` runs the original in onnxruntime.

    Raises
    ------
    ConversionError
        The network cannot become a bundle; the message says why.
    SettingsError
        A convention is not declared or does not fit the file.
    WorkerError
        The graph crashed its process or exceeded the time limit.
    """
    file = str(path)
    content = read_bounded(path)
    model = load_untrusted(content, file)
    declared = _complete(declaration, model, file)
    names = sorted({source.tensor for source in declared.sources().values()})
    given = _input(model, declared, required_inputs(model, names), file)
    standard = expand_functions(model, file)
    check_memory(standard, _input_shapes(model, given, file), given.N, given.batch or 1, file)
    original = OriginalNetwork(content, file, given.name, names, given.batch, confinement=confinement)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(given.layout.dtype)
    outputs = _outputs(original, model, declared, given)

    def native(diffraction: NDArray[np.float32]) -> NDArray[np.complex64]:
        found = original.run(prepare_input(diffraction, declared, given.layout, dtype))
        return combine_outputs(found, declared, outputs, given.channels)

    simple = simplify(convert_opset(standard, file), names, file)
    freed = free_batch(simple, given.batch or 1, file) if given.batch else simple
    graph = add_io_adapters(freed, declared, (given.N, given.channels), given.layout, outputs)
    photons = declared.mean_photons
    return ForeignNetwork(
        model=graph,
        system=declared.system or "",
        N=given.N,
        gridsize=math.isqrt(given.channels),
        notes=f"Adopted from {path.name}.",
        conventions=_conventions(declared, given, model, content, path.name),
        mean_photons=None if photons is None or isinstance(photons, str) else photons,
        native=native,
    )


def _complete(declaration: Declaration, model: onnx.ModelProto, file: str) -> Declaration:
    """Fill in the known conventions of the system; an error lists all that remain to be declared."""
    found = [value for value in model.graph.output if required_inputs(model, [value.name])]  # without probes
    channels = {value.name: _channels(value) for value in found or model.graph.output}
    filled = _name_tensors(declaration, tuple(channels), file)
    if filled.system is not None:
        filled = preset(filled.system, channels).fill(filled)
    if isinstance(filled.phase, Source) and filled.amplitude is None and _is_only_part(filled, filled.phase, channels):
        filled = replace(filled, amplitude=ONE)
    elif (
        isinstance(filled.amplitude, Source)
        and filled.phase is None
        and _is_only_part(filled, filled.amplitude, channels)
    ):
        filled = replace(filled, phase=ZERO)
    missing = filled.missing()
    if missing:
        raise SettingsError(
            "conventions that the file does not state must be declared", file=file,
            expected=", ".join(missing), remedy="docs/adopting.md explains each",
        )  # fmt: skip
    return filled


def _name_tensors(declaration: Declaration, outputs: tuple[str, ...], file: str) -> Declaration:
    """Complete every source with the name of its tensor."""
    changes: dict[str, Any] = {}
    for part in (*PARTS, "object"):
        source = getattr(declaration, part)
        if not isinstance(source, Source):
            continue
        name = source.tensor or (outputs[0] if len(outputs) == 1 else "")
        if name not in outputs:
            raise SettingsError(
                "no such output", file=file, key=part, found=name or "no name", expected=" or ".join(outputs)
            )
        changes[part] = Source(name, source.channel)
    return replace(declaration, **changes)


def _is_only_part(declared: Declaration, source: Source, channels: Mapping[str, int | None]) -> bool:
    """Whether the file outputs only this part of the object, so that the other part is a constant."""
    count = channels[source.tensor]
    whole = source.channel is None if count is None else count in {1, (declared.gridsize or 1) ** 2}
    return len(channels) == 1 and whole


def _channels(value: onnx.ValueInfoProto) -> int | None:
    """Number of channels of an output, None if its shape does not state it; an image without channels counts as one."""
    shape = _shape(value)
    if len(shape) == 3:
        return 1
    if len(shape) != 4:
        return None
    size = shape[3] if isinstance(shape[1], int) and shape[1] == shape[2] != shape[3] else shape[1]
    return size if isinstance(size, int) else None


def _input(model: onnx.ModelProto, declared: Declaration, needed: tuple[str, ...], file: str) -> _Input:
    """Find the input that takes the patterns, and read its shape."""
    weights = {tensor.name for tensor in model.graph.initializer}
    values = {value.name: value for value in model.graph.input if value.name not in weights}
    name = declared.input
    if name is None and len(needed) == 1:
        name = needed[0]
    if name is None:
        raise SettingsError(
            "several inputs: declare which one takes the patterns", file=file, key="input",
            found=", ".join(values) or "none", expected="input=NAME",
        ) if needed else ConversionError("no input on which the declared outputs depend", file=file)  # fmt: skip
    if name not in values:
        raise SettingsError("no such input", file=file, key="input", found=name, expected=" or ".join(values))
    others = [other for other in needed if other != name]
    if others or name not in needed:
        raise ConversionError(
            "the declared outputs depend on other inputs" if others else "the declared outputs do not depend on this input",
            file=file, key=others[0] if others else name, expected=f"{name} alone: a bundle has one input",
            remedy="export the network with the others as constants, or declare other outputs",
        )  # fmt: skip
    dtype, shape = values[name].type.tensor_type.elem_type, _shape(values[name])
    if dtype not in _FLOATS:
        found = onnx.TensorProto.DataType.Name(dtype).lower()
        raise ConversionError(
            "the input is not an array of real numbers", file=file, key=name, found=found, expected="float",
            remedy="export the network with a float32 input",
        )  # fmt: skip
    axes, N, channels = _axes(shape, declared, file, name)
    batch = shape[0] if isinstance(shape[0], int) else 0
    return _Input(name, Layout(axes, dtype), N, channels, batch)


def _axes(shape: tuple[int | str, ...], declared: Declaration, file: str, name: str) -> tuple[str, int, int]:
    """Find the order of the axes, the size of the patterns and the number of channels."""
    squares = [size**2 for size in range(1, _MOST_GRIDSIZE + 1)]
    if len(shape) == 3:
        axes, channels, pixels = PLANES, 1, shape[1:]
    elif len(shape) == 4 and shape[1] in squares:
        axes, channels, pixels = FIRST, int(shape[1]), shape[2:]
    elif len(shape) == 4 and shape[3] in squares:
        axes, channels, pixels = LAST, int(shape[3]), shape[1:3]
    else:
        raise ConversionError(
            "the input is not a stack of patterns", file=file, key=name, found=shape,
            expected="(batch, C, N, N), (batch, N, N, C) or (batch, N, N), C = 1, 4, 9 or 16",
        )  # fmt: skip
    if channels > 1 and declared.gridsize is None:
        raise SettingsError(
            f"{channels} channels: declare whether they are neighbouring patterns of a grid", file=file, key="gridsize",
            expected=f"gridsize={math.isqrt(channels)}",
        )  # fmt: skip
    if declared.gridsize is not None and declared.gridsize**2 != channels:
        raise SettingsError(
            "wrong number of channels", file=file, key="gridsize", found=channels, expected=declared.gridsize**2
        )
    sizes = {size for size in pixels if isinstance(size, int)}
    if not sizes and declared.N is None:
        raise SettingsError("the file does not state the size of a pattern", file=file, key="N", expected="N=…")
    N = declared.N if declared.N is not None else next(iter(sizes))
    if sizes - {N} or N % 2 or not SMALLEST_N <= N <= LARGEST_FOREIGN_N:
        raise ConversionError(
            "unusable pattern size", file=file, key=name, found=shape,
            expected=f"N x N pixels{f' with N = {declared.N}' if declared.N else ''}, N even, {SMALLEST_N} to {LARGEST_FOREIGN_N}",
        )  # fmt: skip
    return axes, N, channels


def _input_shapes(model: onnx.ModelProto, given: _Input, file: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the original's inputs for one pattern, or for its fixed batch."""
    batch, N, C = given.batch or 1, given.N, given.channels
    weights = {tensor.name for tensor in model.graph.initializer}
    shapes: dict[str, tuple[int, ...]] = {}
    for value in model.graph.input:
        if value.name in weights:
            continue
        shape = tuple(size if isinstance(size, int) else batch for size in _shape(value))
        kind = value.type.tensor_type.elem_type
        if kind in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING) or any(size < 0 for size in shape):
            raise ConversionError(
                "an input that is not an array of numbers", file=file, key=value.name, found=shape,
                remedy="export the network without it",
            )  # fmt: skip
        shapes[value.name] = shape
    shapes[given.name] = {FIRST: (batch, C, N, N), LAST: (batch, N, N, C), PLANES: (batch, N, N)}[given.layout.axes]
    return shapes


def _outputs(
    original: OriginalNetwork, model: onnx.ModelProto, declared: Declaration, given: _Input
) -> dict[str, Layout]:
    """Run the original once to find the layout of its outputs."""
    example = np.ones((given.batch or 2, given.channels, given.N, given.N), np.float32)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(given.layout.dtype)
    found, file = original.run(prepare_input(example, declared, given.layout, dtype)), original.file
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.output}
    layouts: dict[str, Layout] = {}
    for part, source in declared.sources().items():
        shape = found[source.tensor].shape
        if kinds[source.tensor] not in _FLOATS:
            raise ConversionError("the output is not an array of real numbers", file=file, key=source.tensor)
        axes, count = _output_axes(shape, given.N, given.channels)
        if axes is None:
            raise ConversionError(
                "the output is not an image of the size of a pattern", file=file, key=source.tensor, found=shape,
                expected=f"({len(example)}, channels, {given.N}, {given.N}), with or without a last axis of 2",
            )  # fmt: skip
        if declared.object is not None and (shape[-1] != 2 or axes == FIRST):
            raise SettingsError(
                "not a complex object", file=file, key="object", found=shape,
                expected="the real and the imaginary part in a last axis of 2",
                remedy="declare real and imaginary, or amplitude and phase",
            )  # fmt: skip
        wanted = given.channels if source.channel is None else (source.channel + 1) * given.channels
        if count < wanted or (source.channel is None and count != wanted):
            raise SettingsError(
                f"declare which channels hold the {part}", file=file, key=part, found=f"{count} channel(s)",
                expected=f"{source.tensor}@0 … {source.tensor}@{max(count // given.channels - 1, 0)}",
            )  # fmt: skip
        layouts[source.tensor] = Layout(axes, kinds[source.tensor])
    return layouts


def _output_axes(shape: tuple[int, ...], N: int, channels: int) -> tuple[str | None, int]:
    """Find axis order and number of channels of an output; None if it does not hold images."""
    if len(shape) == 3 and shape[1:] == (N, N):
        return PLANES, 1
    if len(shape) == 4 and shape[2:] == (N, N):
        return FIRST, shape[1]
    if len(shape) == 4 and shape[1:3] == (N, N):
        return LAST, shape[3]
    if len(shape) == 5 and shape[1:4] == (channels, N, N):
        return FIRST_PARTS, channels * shape[4]
    if len(shape) == 5 and shape[1:4] == (N, N, channels):
        return LAST_PARTS, channels * shape[4]
    return None, 0


def _conventions(
    declared: Declaration, given: _Input, model: onnx.ModelProto, content: bytes, name: str
) -> dict[str, Any]:
    """Conventions of the original, for the manifest."""
    if declared.scale is None or declared.limit is None:
        raise TypeError("an incomplete declaration")
    parts: dict[str, Any] = {part: source.to_json() for part, source in declared.sources().items()}
    parts |= {part: value for part in PARTS if isinstance(value := getattr(declared, part), str)}
    if declared.object is not None:
        parts = {"object": declared.object.tensor, "last_axis": "real, imaginary"}
    photons = declared.mean_photons
    return {
        "input": {
            "tensor": given.name, "axes": given.layout.axes, "values": declared.values,
            "zero_frequency": declared.zero_frequency, "limit": declared.limit.to_json(),
            "scale": declared.scale.to_json(), "transform": declared.transform,
            "mean_photons": UNKNOWN if isinstance(photons, str) else photons,
        },
        "output": {**parts, "phase_unit": "rad"} if "phase" in parts else parts,
        "original": {
            "file": name, "sha256": sha256(content).hexdigest(), "producer": f"{model.producer_name} {model.producer_version}".strip(),
            "opset": next(opset.version for opset in model.opset_import), "ir_version": model.ir_version,
            "batch": given.batch or "free",
        },
    }  # fmt: skip


def _shape(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    return tuple(
        axis.dim_value if axis.HasField("dim_value") else axis.dim_param for axis in value.type.tensor_type.shape.dim
    )
