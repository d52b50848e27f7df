"""Manifests and graphs of two bundles side by side: what is said differently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ptyonnx_bundles import Bundle, Manifest, OnnxFile

__all__ = ["GraphComparison", "ManifestDifference", "compare_graphs", "compare_manifests"]


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

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        return asdict(self)


def compare_manifests(a: Manifest, b: Manifest) -> tuple[ManifestDifference, ...]:
    """Entries that differ, in the order of the manifest."""
    left, right = (dict(_entries(manifest.model_dump(mode="json"))) for manifest in (a, b))
    return tuple(
        ManifestDifference(key, left.get(key), right.get(key))
        for key in {**left, **right}
        if left.get(key) != right.get(key)
    )


def compare_graphs(a: OnnxFile, b: OnnxFile) -> GraphComparison:
    """Compare two graphs node by node, by name."""
    left, right = ({node.name: node for node in graph.nodes} for graph in (a, b))
    return GraphComparison(
        nodes_a=len(a.nodes),
        nodes_b=len(b.nodes),
        only_a=tuple(name for name in left if name not in right),
        only_b=tuple(name for name in right if name not in left),
        changed=tuple(name for name, node in left.items() if name in right and node != right[name]),
    )


def same_function(a: Bundle, b: Bundle) -> bool:
    """Whether weights and graph are equal bit for bit, shown by their digests."""
    return a.manifest.digests == b.manifest.digests


def _entries(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _entries(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
