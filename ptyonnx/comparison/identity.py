"""Level 1, identity: whether two bundles are the same function, and which manifest entries differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ptyonnx.comparison.implementation import Implementation
from ptyonnx_bundles import AnyManifest, Bundle, OnnxFile
from ptyonnx_bundles.digest import graph_digest, weight_digest
from ptyonnx_bundles.terminal import escape_unprintable

__all__ = [
    "GraphComparison",
    "Identity",
    "ManifestDifference",
    "compare_graphs",
    "compare_identity",
    "compare_manifests",
]


@dataclass(frozen=True)
class ManifestDifference:
    """One entry that differs.

    Attributes
    ----------
    key : str
        Path of names, such as ``"settings.rate"``.
    a, b : object
        JSON values; None where the entry is absent.
    """

    key: str
    a: object
    b: object

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class GraphComparison:
    """Nodes of two graphs.

    Attributes
    ----------
    nodes_a, nodes_b : int
        Number of nodes.
    only_a, only_b : tuple of str
        Names of nodes that the other graph does not have.
    changed : tuple of str
        Names of nodes that differ in operator, inputs or attributes.
    """

    nodes_a: int
    nodes_b: int
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    changed: tuple[str, ...]

    def __repr__(self) -> str:
        return (
            f"<GraphComparison of {self.nodes_a} and {self.nodes_b} operators: {len(self.only_a)} only in A, "
            f"{len(self.only_b)} only in B, {len(self.changed)} changed>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Identity:
    """Whether two bundles are the same function.

    Attributes
    ----------
    passed : bool
        Weights and graph are equal bit for bit.
    sentence : str
    weights_a, weights_b, graph_a, graph_b : str
        SHA-256 of the arrays and operators as they were read.
    manifest : tuple of ManifestDifference
    graph : GraphComparison
    """

    passed: bool
    sentence: str
    weights_a: str
    weights_b: str
    graph_a: str
    graph_b: str
    manifest: tuple[ManifestDifference, ...]
    graph: GraphComparison

    def __repr__(self) -> str:
        return f"<Identity: {escape_unprintable(self.sentence)}>"

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        return {
            **vars(self),
            "manifest": [entry.to_dict() for entry in self.manifest],
            "graph": self.graph.to_dict(),
        }


def compare_identity(a: Implementation, b: Implementation) -> Identity:
    """Compare digests, graphs and manifests.

    The digests (`bundles/README.md`) are computed from the arrays and operators that were read, not copied from the
    manifest.
    """
    first, second = a.bundle, b.bundle
    (weights_a, graph_a), (weights_b, graph_b) = _digests(first), _digests(second)
    graph = compare_graphs(first.graph, second.graph)
    if (weights_a, graph_a) == (weights_b, graph_b):
        sentence = (
            f"same function: all {len(first.weights)} arrays (SHA-256 {weights_a[:12]}…) and "
            f"{graph.nodes_a} operators (SHA-256 {graph_a[:12]}…) are equal bit for bit"
        )
        if a.engine_label != b.engine_label:
            sentence += f", computed by {a.engine_label} and {b.engine_label}"
    elif graph_a == graph_b:
        sentence = "different functions: same graph, different weights"
    else:
        sentence = (
            f"different functions: different graphs ({graph.nodes_a} and {graph.nodes_b} operators, "
            f"{len(graph.only_a)} only in A, {len(graph.only_b)} only in B, {len(graph.changed)} changed"
            f"{'' if graph.only_a or graph.only_b or graph.changed else ', different sizes'})"
        )
    same = (weights_a, graph_a) == (weights_b, graph_b)
    manifest = compare_manifests(first.manifest, second.manifest)
    return Identity(same, sentence, weights_a, weights_b, graph_a, graph_b, manifest, graph)


def compare_manifests(a: AnyManifest, b: AnyManifest) -> tuple[ManifestDifference, ...]:
    """Entries that differ, in the order of the manifest."""
    left, right = (dict(_entries(manifest.model_dump(mode="json"))) for manifest in (a, b))
    return tuple(
        ManifestDifference(key, left.get(key), right.get(key))
        for key in {**left, **right}
        if left.get(key) != right.get(key)
    )


def compare_graphs(a: OnnxFile, b: OnnxFile) -> GraphComparison:
    """Compare two graphs node by node, by name."""
    left, right = ({node.name or node.outputs[0]: node for node in graph.nodes} for graph in (a, b))
    return GraphComparison(
        nodes_a=len(a.nodes),
        nodes_b=len(b.nodes),
        only_a=tuple(name for name in left if name not in right),
        only_b=tuple(name for name in right if name not in left),
        changed=tuple(name for name, node in left.items() if name in right and node != right[name]),
    )


def _digests(bundle: Bundle) -> tuple[str, str]:
    return weight_digest(bundle.weights), graph_digest(bundle.graph)


def _entries(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _entries(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
