"""Read and write bundles: single `.onnx` files that contain their own description and self-test.

`bundles/README.md` is the specification. Reading checks everything that can be checked without running the
network; the runtime runs the self-test.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.digest import bundle_digest, graph_digest, text_digest, weight_digest
from ptyonnx_bundles.errors import BundleError, DigestError
from ptyonnx_bundles.files.atomic import atomic_write
from ptyonnx_bundles.files.input_files import check_regular_file
from ptyonnx_bundles.files.npy import decode_array, encode_array
from ptyonnx_bundles.manifest import (
    COARSE_PROTOCOL,
    FOREIGN_PROTOCOL,
    AnyManifest,
    Digests,
    ForeignManifest,
    Manifest,
    parse_manifest,
    stated_protocol,
)
from ptyonnx_bundles.onnx_model.foreign_graph import check_coarse, check_foreign_graph
from ptyonnx_bundles.onnx_model.onnx_fields import FOREIGN, NATIVE, Limits
from ptyonnx_bundles.onnx_model.onnx_file import OnnxFile, append_metadata, metadata_texts, read_onnx, strip_metadata
from ptyonnx_bundles.onnx_model.recipe_graph import check_graph
from ptyonnx_bundles.recipe import Recipe
from ptyonnx_bundles.selftest import SELFTEST_KEY, SelfTest, decode_selftest, encode_selftest
from ptyonnx_bundles.terminal import escape_unprintable

__all__ = ["Bundle", "digests", "read_bundle", "write_bundle"]

PREFIX = "ptyonnx."
MANIFEST_KEY, PROBE_KEY = "ptyonnx.manifest", "ptyonnx.probe"
DIGEST_KEY = "ptyonnx.digest"  # of the other three
LARGEST_FILE_BYTES = 2**30
LARGEST_MANIFEST_BYTES = 2**20
# Other formats that users give instead of a bundle, by their first bytes, with a remedy.
_OTHERS = {
    b"PK\3\4": (
        "a ZIP archive", "a scan is given beside a bundle; of a PtychoPINN wts.h5.zip 'ptyonnx adopt' makes a bundle",
    ),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file", "a result of 'reconstruct' is not a bundle; name the .onnx file"),
}  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Bundle:
    """An open bundle, checked but not run.

    Attributes
    ----------
    model : bytes
        The file's bytes, an ONNX model.
    manifest : Manifest or ForeignManifest
        Recipe, physics, origin and digests.
    probe : (mode, y, x) complex64, sqrt(photons)
        The probe of the training scan; without modes if a foreign bundle has none.
    selftest : SelfTest
        Patterns and the native network's output.
    graph : OnnxFile
        The decoded model.
    path : Path or None
        The file that it was read from.
    """

    model: bytes
    manifest: AnyManifest
    probe: NDArray[np.complex64]
    selftest: SelfTest
    graph: OnnxFile
    path: Path | None = None

    @property
    def weights(self) -> Mapping[str, NDArray[np.generic]]:
        """Every initializer of the graph by canonical name, read-only."""
        return self.graph.initializers

    @property
    def digest(self) -> str:
        """SHA-256 over graph, weights, manifest, probe and self-test, for publication; 64 hexadecimal digits.

        The encoding of the file does not matter; see *Digests* in the specification.
        """
        stated = self.manifest.digests
        return bundle_digest(stated.weights, stated.graph, self.graph.metadata[DIGEST_KEY])

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name if self.path else "bundle"

    @property
    def is_foreign(self) -> bool:
        """Whether the graph is from another system, so that no recipe describes its layers."""
        return isinstance(self.manifest, ForeignManifest)

    @property
    def trained_with(self) -> str:
        """The framework that trained the network, or for a foreign bundle its system."""
        manifest = self.manifest
        return manifest.recipe.system if isinstance(manifest, ForeignManifest) else manifest.producer.framework

    def native_recipe(self, purpose: str) -> Recipe:
        """Return the recipe from which a framework can build the network; see :meth:`native_manifest`."""
        return self.native_manifest(purpose).recipe

    def native_weights(self) -> dict[str, NDArray[np.float32]]:
        """Copy the weights for a network in a framework: trained arrays and whitening, bit for bit.

        Returns
        -------
        dict of str to ndarray
            Canonical name -> float32, as `Recipe.weight_shapes` and `Recipe.constant_shapes` list them.

        Raises
        ------
        BundleError
            Another system trained the network.
        """
        recipe = self.native_recipe("a framework")
        names = {**recipe.weight_shapes(), **recipe.constant_shapes()}
        return {name: np.array(self.weights[name], np.float32) for name in names}

    def native_manifest(self, purpose: str) -> Manifest:
        """Return the manifest of a native network.

        Parameters
        ----------
        purpose : str
            What needs it: the subject of the sentence in the error.

        Raises
        ------
        BundleError
            Another system trained the network.
        """
        if isinstance(self.manifest, Manifest):
            return self.manifest
        raise BundleError(
            f"{purpose} needs a network of ptyonnx's own recipe; this one is foreign",
            file=self.path or self.name, key="recipe", found=self.trained_with,
            remedy="no framework can build its layers; reconstruct, verify, inspect and diff with a scan work with it",
        )  # fmt: skip

    def __repr__(self) -> str:
        physics = self.manifest.physics
        photons = "unknown" if physics.mean_photons is None else f"{physics.mean_photons:.3g}"
        return escape_unprintable(
            f"<Bundle {self.name}: N={physics.N}, gridsize={physics.gridsize}, {physics.probe_modes} probe mode(s), "
            f"{photons} photons per pattern, trained with {self.trained_with}>"
        )


def read_bundle(source: str | os.PathLike[str] | bytes) -> Bundle:
    """Open a bundle and check everything except its self-test.

    Parameters
    ----------
    source : path-like or bytes
        A file or its content.

    Raises
    ------
    BundleError
        The file is missing, unreadable or not an ONNX model, or a part of the format is missing or wrong.
    ProtocolError
        The bundle follows another protocol.
    DigestError
        Weights, graph or metadata do not have the stated digests.
    """
    path = None if isinstance(source, bytes) else Path(source)
    file = str(path) if path else "bundle"
    model = source if isinstance(source, bytes) else _read_file(Path(source))
    _refuse_others(model, file)
    graph = read_onnx(model, file, _limits(model))
    manifest_text, probe_text, selftest_text, digest = _metadata(graph, file)
    manifest = parse_manifest(manifest_text, file)
    _check_agreement(manifest, file)
    if isinstance(manifest, Manifest):  # before the digests, which detect a change but not its place
        check_graph(graph, manifest.recipe, file)
    else:
        check_foreign_graph(graph, manifest.recipe, file)
        if manifest.protocol == COARSE_PROTOCOL:
            check_coarse(graph, file)
    _check_digest("weights", weight_digest(graph.initializers), manifest.digests.weights, file)
    _check_digest("graph", graph_digest(graph), manifest.digests.graph, file)
    N, modes = manifest.physics.N, manifest.physics.probe_modes
    probe = decode_array(probe_text, file, PROBE_KEY, "<c8", (modes, N, N))
    if modes and not np.any(probe):
        raise BundleError("the probe is zero everywhere", file=file, key=PROBE_KEY)
    coarse = manifest.protocol == COARSE_PROTOCOL
    selftest = decode_selftest(selftest_text, file, (manifest.recipe.channels, N, N), coarse=coarse)
    _check_digest("metadata", text_digest([manifest_text, probe_text, selftest_text]), digest, file)
    return Bundle(model, manifest, probe, selftest, graph, path)


def write_bundle(
    path: str | os.PathLike[str],
    model: bytes,
    manifest: AnyManifest,
    probe: NDArray[np.complex64],
    selftest: SelfTest,
) -> Bundle:
    """Write a bundle atomically and return it as a reader would read it.

    Parameters
    ----------
    path : path-like
        An existing file is replaced only when the new bundle is complete.
    model : bytes
        The canonical ONNX model; entries of an earlier bundle in it are replaced.
    manifest : Manifest or ForeignManifest
        Its digests must be those of `model` (see :func:`digests`).
    probe : (mode, y, x) complex64, sqrt(photons)
        The probe of the training scan.
    selftest : SelfTest
        Patterns and the native network's output.

    Raises
    ------
    BundleError
        The parts do not form a valid bundle; nothing is written.
    OutputError
        The file could not be written; an existing file is unchanged.
    """
    entries = {
        MANIFEST_KEY: manifest.to_json(),
        PROBE_KEY: encode_array(np.asarray(probe, "<c8")),
        SELFTEST_KEY: encode_selftest(selftest),
    }
    entries[DIGEST_KEY] = text_digest(list(entries.values()))
    read_onnx(model, limits=_limits_of(manifest))
    complete = append_metadata(strip_metadata(model, PREFIX), entries)
    checked = read_bundle(complete)
    atomic_write(path, complete)
    return Bundle(complete, checked.manifest, checked.probe, checked.selftest, checked.graph, Path(path))


def digests(model: bytes, limits: Limits = NATIVE) -> Digests:
    """Compute the two digests of an ONNX model.

    Parameters
    ----------
    model : bytes
        The ONNX model, with or without the metadata of a bundle.
    limits : Limits
        `FOREIGN` for the graph of another system.
    """
    graph = read_onnx(model, limits=limits)
    return Digests(weights=weight_digest(graph.initializers), graph=graph_digest(graph))


def _limits(model: bytes) -> Limits:
    """Choose the size limits by the protocol that the file states; faults are reported later."""
    try:
        texts = [text for text in metadata_texts(model, MANIFEST_KEY) if len(text) <= LARGEST_MANIFEST_BYTES]
        return (
            FOREIGN if len(texts) == 1 and stated_protocol(texts[0]) in {FOREIGN_PROTOCOL, COARSE_PROTOCOL} else NATIVE
        )
    except (BundleError, IndexError, ValueError, RecursionError):
        return NATIVE


def _limits_of(manifest: AnyManifest) -> Limits:
    return NATIVE if isinstance(manifest, Manifest) else FOREIGN


def _read_file(path: Path) -> bytes:
    check_regular_file(path, BundleError, "a bundle is one .onnx file")
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE_BYTES:
            raise BundleError("too large for a bundle", file=path, found=f"{size} bytes", expected="at most 1 GiB")
        with path.open("rb") as stream:
            content = stream.read(size)
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise BundleError(f"cannot be read ({reason})", file=path, remedy="check the path") from None
    return content


def _refuse_others(content: bytes, file: str) -> None:
    for start, (kind, remedy) in _OTHERS.items():
        if content.startswith(start):
            raise BundleError(f"{kind}, not a bundle", file=file, remedy=remedy)


def _metadata(graph: OnnxFile, file: str) -> list[str]:
    """Return the texts of manifest, probe and self-test, and their digest."""
    keys = (MANIFEST_KEY, PROBE_KEY, SELFTEST_KEY, DIGEST_KEY)
    for key in keys:
        if key not in graph.metadata:
            raise BundleError(
                "missing from the model's metadata", file=file, key=key,
                remedy="an ordinary ONNX model is not a bundle; make one of it with 'ptyonnx adopt'",
            )  # fmt: skip
    unknown = sorted(key for key in graph.metadata if key.startswith(PREFIX) and key not in keys)
    if unknown:
        raise BundleError("unknown entry in the model's metadata", file=file, key=unknown[0])
    if len(graph.metadata[MANIFEST_KEY].encode()) > LARGEST_MANIFEST_BYTES:
        raise BundleError("the manifest is larger than 1 MiB", file=file, key=MANIFEST_KEY)
    return [graph.metadata[key] for key in keys]


def _check_agreement(manifest: AnyManifest, file: str) -> None:
    recipe, physics = manifest.recipe, manifest.physics
    if (recipe.N, recipe.gridsize) != (physics.N, physics.gridsize):
        raise BundleError(
            "recipe and physics differ", file=file, key="physics",
            found=f"N = {physics.N}, gridsize {physics.gridsize}", expected=f"N = {recipe.N}, gridsize {recipe.gridsize}",
        )  # fmt: skip


def _check_digest(part: str, computed: str, stated: str, file: str) -> None:
    if computed != stated:
        raise DigestError(
            f"the {part} changed after the bundle was written", file=file, key=f"digest of the {part}",
            found=computed[:16] + "…", expected=stated[:16] + "…", remedy="fetch the bundle again, or export it again",
        )  # fmt: skip
