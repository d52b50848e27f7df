"""Read and write bundles: one `.onnx` file that describes and tests itself.

`bundles/README.md` is the specification. Reading checks everything that can be checked
without running the network; running the self-test is the runtime's business.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.digest import graph_digest, weight_digest
from ptyonnx_bundles.errors import BundleError, DigestError, OutputError
from ptyonnx_bundles.manifest import Digests, Manifest, parse_manifest
from ptyonnx_bundles.onnx_file import OnnxFile, OnnxValue, append_metadata, read_onnx, strip_metadata

__all__ = ["Bundle", "SelfTest", "atomic_write", "digests", "read_bundle", "write_bundle"]

PREFIX = "ptyonnx."
MANIFEST_KEY, PROBE_KEY, SELFTEST_KEY = "ptyonnx.manifest", "ptyonnx.probe", "ptyonnx.selftest"
LARGEST_FILE_BYTES = 2**30
LARGEST_MANIFEST_BYTES = 2**20
LARGEST_ARRAY_BYTES = 2**27
_LARGEST_HEADER_BYTES = 1024
_SELFTEST_PARTS = ("diffraction", "object", "tolerance")


@dataclass(frozen=True)
class SelfTest:
    """A pattern, what the native network made of it, and how far one may be from that.

    Attributes
    ----------
    diffraction : (batch, channel, y, x) float32
        Amplitude, zero frequency in the centre.
    object : (batch, channel, y, x) complex64
        Output of the network in the framework that trained it.
    tolerance : float
        Largest allowed absolute difference of the complex object.
    """

    diffraction: NDArray[np.float32]
    object: NDArray[np.complex64]
    tolerance: float


@dataclass(frozen=True, repr=False)
class Bundle:
    """An opened bundle: checked, not yet run.

    Attributes
    ----------
    model : bytes
        The file's bytes, an ONNX model.
    manifest : Manifest
    probe : (mode, y, x) complex64, sqrt(photons)
    selftest : SelfTest
    weights : mapping of str to ndarray
        Every initializer of the graph by canonical name, read-only.
    graph : OnnxFile
    path : Path or None
    """

    model: bytes
    manifest: Manifest
    probe: NDArray[np.complex64]
    selftest: SelfTest
    graph: OnnxFile = field(compare=False)
    path: Path | None = None

    @property
    def weights(self) -> Mapping[str, NDArray[np.generic]]:
        return self.graph.initializers

    @property
    def name(self) -> str:
        return self.path.name if self.path else "bundle"

    def __repr__(self) -> str:
        physics, producer = self.manifest.physics, self.manifest.producer
        return (
            f"<Bundle {self.name}: N={physics.N}, gridsize={physics.gridsize}, {physics.probe_modes} probe mode(s), "
            f"{physics.mean_photons:.3g} photons per pattern, trained with {producer.framework}>"
        )


def read_bundle(source: str | os.PathLike[str] | bytes) -> Bundle:
    """Open a bundle and check all of it except what it computes.

    Parameters
    ----------
    source : path-like or bytes

    Raises
    ------
    BundleError
        Missing or unreadable file, not an ONNX model, a part of the format missing or wrong.
    ProtocolError
        The bundle follows another protocol.
    DigestError
        Weights or graph are not those of the manifest.
    """
    path = None if isinstance(source, bytes) else Path(source)
    file = str(path) if path else "bundle"
    model = source if isinstance(source, bytes) else _read_file(Path(source))
    graph = read_onnx(model, file)
    texts = {key: _metadata(graph, key, file) for key in (MANIFEST_KEY, PROBE_KEY, SELFTEST_KEY)}
    if len(texts[MANIFEST_KEY]) > LARGEST_MANIFEST_BYTES:
        raise BundleError("the manifest is larger than 1 MiB", file=file, key=MANIFEST_KEY)
    manifest = parse_manifest(texts[MANIFEST_KEY], file)
    _check_interface(graph, manifest, file)
    _check_digests(graph, manifest, file)
    N, channels = manifest.physics.N, manifest.physics.gridsize**2
    probe = _decode_array(texts[PROBE_KEY], file, PROBE_KEY, np.dtype("<c8"), (manifest.physics.probe_modes, N, N))
    selftest = _decode_selftest(texts[SELFTEST_KEY], file, channels, N)
    return Bundle(model, manifest, probe, selftest, graph, path)


def write_bundle(
    path: str | os.PathLike[str],
    model: bytes,
    manifest: Manifest,
    probe: NDArray[np.complex64],
    selftest: SelfTest,
) -> Bundle:
    """Write a bundle atomically and return it as a reader finds it.

    Parameters
    ----------
    path : path-like
        Replaced only when the new bundle is complete.
    model : bytes
        The canonical ONNX model; entries of an earlier bundle in it are replaced.
    manifest : Manifest
        Its digests must be those of `model` (see :func:`digests`).
    probe : (mode, y, x) complex64, sqrt(photons)
    selftest : SelfTest

    Raises
    ------
    BundleError
        What was to be written is not a bundle; nothing is written.
    OutputError
        The file could not be written; an earlier file stays as it was.
    """
    entries = {
        MANIFEST_KEY: manifest.to_json(),
        PROBE_KEY: _encode_array(np.asarray(probe, "<c8")),
        SELFTEST_KEY: _encode_selftest(selftest),
    }
    complete = append_metadata(strip_metadata(model, PREFIX), entries)
    checked = read_bundle(complete)
    atomic_write(path, complete)
    return Bundle(complete, checked.manifest, checked.probe, checked.selftest, checked.graph, Path(path))


def digests(model: bytes) -> Digests:
    """The two digests of an ONNX model."""
    graph = read_onnx(model)
    return Digests(weights=weight_digest(graph.initializers), graph=graph_digest(graph))


def atomic_write(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file completely or not at all: temporary file beside it, fsync, rename.

    Raises
    ------
    OutputError
        Nothing was changed.
    """
    target = Path(path)
    temporary: str | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise OutputError(
            f"cannot be written ({error.strerror})", file=target, remedy="nothing was changed; choose another place"
        ) from None


def _read_file(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE_BYTES:
            raise BundleError("too large for a bundle", file=path, found=f"{size} bytes", expected="at most 1 GiB")
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot be read ({error.strerror})", file=path, remedy="check the path") from None


def _metadata(graph: OnnxFile, key: str, file: str) -> str:
    try:
        return graph.metadata[key]
    except KeyError:
        raise BundleError(
            "missing from the model's metadata", file=file, key=key,
            remedy="an ordinary ONNX model is not a bundle; make one with 'ptyonnx export'",
        ) from None  # fmt: skip


def _check_interface(graph: OnnxFile, manifest: Manifest, file: str) -> None:
    physics = manifest.physics
    C, N = physics.gridsize**2, physics.N
    expected = (
        OnnxValue("diffraction", "float32", ("batch", C, N, N)),
        OnnxValue("object", "float32", ("batch", C, N, N, 2)),
    )
    for found, wanted, side in ((graph.inputs, expected[0], "input"), (graph.outputs, expected[1], "output")):
        if found != (wanted,):
            raise BundleError(
                f"wrong {side} of the graph", file=file, key=wanted.name,
                found=[(value.name, value.dtype, value.shape) for value in found],
                expected=(wanted.name, wanted.dtype, wanted.shape),
            )  # fmt: skip
    if (manifest.recipe.N, manifest.recipe.gridsize) != (N, physics.gridsize):
        raise BundleError("recipe and physics differ in N or gridsize", file=file, key="physics")


def _check_digests(graph: OnnxFile, manifest: Manifest, file: str) -> None:
    for key, computed, stated in (
        ("weights", weight_digest(graph.initializers), manifest.digests.weights),
        ("graph", graph_digest(graph), manifest.digests.graph),
    ):
        if computed != stated:
            raise DigestError(
                f"the {key} were changed after the bundle was made" if key == "weights" else
                "the graph was changed after the bundle was made",
                file=file, key=f"digests.{key}", found=computed[:16] + "…", expected=stated[:16] + "…",
                remedy="fetch the bundle again, or export it anew",
            )  # fmt: skip
    bad = [name for name, array in graph.initializers.items() if not np.isfinite(array).all()]
    if bad:
        raise BundleError("NaN or infinity among the weights", file=file, key=bad[0])


def _encode_array(array: NDArray[Any]) -> str:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array, order="C"), allow_pickle=False)  # ascontiguousarray would make a scalar 1-D
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _decode_array(
    text: str, file: str, key: str, dtype: np.dtype[Any], shape: tuple[int | None, ...]
) -> NDArray[Any]:
    """Decode base64 of `.npy` bytes; a None in `shape` allows any size of that axis."""
    try:
        content = base64.b64decode(text, validate=True)
        if len(content) > LARGEST_ARRAY_BYTES:
            raise BundleError("larger than 128 MiB", file=file, key=key)
        array = np.lib.format.read_array(
            io.BytesIO(content), allow_pickle=False, max_header_size=_LARGEST_HEADER_BYTES
        )
    except (binascii.Error, ValueError, EOFError, SyntaxError, MemoryError):
        raise BundleError("not the base64 of a plain .npy array", file=file, key=key) from None
    fits = len(array.shape) == len(shape) and all(b in (a, None) for a, b in zip(array.shape, shape, strict=True))
    if array.dtype != dtype or not fits:
        raise BundleError(
            "wrong array", file=file, key=key,
            found=f"{array.dtype} {array.shape}", expected=f"{dtype} {shape}",
        )  # fmt: skip
    if not np.isfinite(array).all():
        raise BundleError("NaN or infinity", file=file, key=key)
    return array


def _encode_selftest(selftest: SelfTest) -> str:
    parts = (
        np.asarray(selftest.diffraction, "<f4"),
        np.asarray(selftest.object, "<c8"),
        np.asarray(selftest.tolerance, "<f8"),
    )
    return "\n".join(_encode_array(part) for part in parts)


def _decode_selftest(text: str, file: str, channels: int, N: int) -> SelfTest:
    lines = text.split("\n")
    if len(lines) != len(_SELFTEST_PARTS):
        raise BundleError(
            "wrong number of arrays", file=file, key=SELFTEST_KEY, found=len(lines), expected=len(_SELFTEST_PARTS)
        )
    shape = (None, channels, N, N)
    diffraction = _decode_array(lines[0], file, SELFTEST_KEY, np.dtype("<f4"), shape)
    obj = _decode_array(lines[1], file, SELFTEST_KEY, np.dtype("<c8"), (len(diffraction), *shape[1:]))
    tolerance = float(_decode_array(lines[2], file, SELFTEST_KEY, np.dtype("<f8"), ()))
    if len(diffraction) == 0 or not tolerance > 0:
        raise BundleError("an empty self-test proves nothing", file=file, key=SELFTEST_KEY)
    return SelfTest(diffraction, obj, tolerance)
