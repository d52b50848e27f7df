"""Read YAML with limits on size and depth, which are checked before any object is built.

Scalars, mappings and lists are read; merge keys and anchors work as in YAML 1.1. Keys are kept as text, duplicate
keys are refused, and dates stay text. Values that are paths or names are kept as text: a folder may be called 2026.
`configuration` interprets the keys.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from ptyonnx_bundles.errors import PtyonnxError, SettingsError
from ptyonnx_bundles.files.input_files import read_text

__all__ = ["Document", "parse_yaml", "read_yaml"]

LARGEST_BYTES = 2**16  # of a file; the settings of a run take one or two thousand
MOST_NODES = 4096  # keys and values; the target of an alias counts at each use
DEEPEST = 16  # nested mappings and lists
_CORE = "tag:yaml.org,2002:"
_MERGE, _TEXT, _NULL = f"{_CORE}merge", f"{_CORE}str", f"{_CORE}null"
_TAGS = {f"{_CORE}{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq", "merge")}


@dataclass(frozen=True)
class Document:
    """The contents of a YAML text.

    Attributes
    ----------
    content : object
        Built of dict, list, str, int, float, bool and None.
    templates : frozenset of str
        Top-level keys whose values are merged into other mappings (``<<: *name``).
    """

    content: Any
    templates: frozenset[str] = frozenset()


def read_yaml(
    path: Path,
    *,
    texts: Collection[str] = (),
    error: type[PtyonnxError] = SettingsError,
    remedy: str = "check the path",
) -> Document:
    """Read a YAML file.

    Parameters
    ----------
    path : Path
    texts : collection of str
        Keys whose values are kept as text.
    error : type of PtyonnxError
        Raised if the file is unreadable, too large, nested too deeply, not YAML, or uses other features of YAML.
    remedy : str
        For a file that cannot be opened.
    """
    text = read_text(path, error, LARGEST_BYTES, expected="YAML", remedy=remedy)
    try:
        return parse_yaml(text, texts)
    except yaml.YAMLError as failure:
        mark = getattr(failure, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark else ""
        kind = "unusable YAML" if isinstance(failure, yaml.constructor.ConstructorError) else "not YAML"
        raise error(f"{kind}{place}: {getattr(failure, 'problem', failure)}", file=path) from None


def parse_yaml(text: str, texts: Collection[str] = ()) -> Document:
    """Parse a YAML text whose length has been checked; see :func:`read_yaml`.

    Raises
    ------
    yaml.YAMLError
    """
    loader = _Loader(text, frozenset(texts))
    try:
        node = loader.get_single_node()
        if node is None:
            return Document(None)
        content = loader.construct_document(node)
        pairs = loader.own_pairs.get(id(node), ())
        return Document(content, frozenset(key.value for key, value in pairs if id(value) in loader.merged))
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Counts nodes and depth during composition, and refuses features that settings do not need."""

    # dates stay text: a folder may be called 2026-11-28
    yaml_implicit_resolvers = {  # noqa: RUF012 - as PyYAML has it
        first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_CORE}timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str, texts: frozenset[str]) -> None:
        super().__init__(text)
        self.merged: set[int] = set()  # nodes that were merged into others
        self.own_pairs: dict[int, list[tuple[ScalarNode, Node]]] = {}
        self._texts = texts
        self._sizes: dict[str, int] = {}  # anchor -> nodes in what it names, itself included
        self._nodes = 0
        self._depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self._sizes:
                raise _problem("an anchor refers to itself", event)
            self._count(self._sizes.get(event.anchor, 0), event)
            return super().compose_node(parent, index)
        if getattr(event, "tag", None) not in {None, "!", *_TAGS}:
            raise _problem(f"the tag '{event.tag}' is not allowed in settings", event)
        before = self._nodes
        self._count(1, event)
        self._depth += 1
        if self._depth > DEEPEST:
            raise _problem(f"nested more than {DEEPEST} levels deep", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if event.anchor is not None:
            self._sizes[event.anchor] = self._nodes - before
        return node

    def compose_scalar_node(self, anchor: Any) -> ScalarNode:
        node = super().compose_scalar_node(anchor)
        if not node.value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in node.value):
            raise _problem("half a surrogate pair, which is not a character", node)
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """Compose a mapping; its own keys must be text and unique."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        pairs = []
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise _problem("a key is a mapping or a list", key)
            if key.value in seen:
                raise _problem(f"the key '{key.value}' occurs twice", key)
            seen.add(key.value)
            pairs.append((key if key.tag == _MERGE else _as_text(key), self._written(key.value, value)))
        node.value = pairs
        self.own_pairs[id(node)] = list(pairs)
        return node

    def flatten_mapping(self, node: MappingNode) -> None:
        """Merge other mappings into a mapping, and record which."""
        for key, value in node.value:
            if key.tag == _MERGE:
                parts = value.value if isinstance(value, SequenceNode) else [value]
                self.merged.update(id(part) for part in parts)
        super().flatten_mapping(node)

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        """Build a value; a malformed number or boolean is an error of the file."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, OverflowError):
            raise _problem(f"'{str(node.value)[:40]}' is not of type {node.tag.removeprefix(_CORE)}", node) from None

    def _written(self, key: str, value: Node) -> Node:
        """The value of a key, as text if the key requires it."""
        if key in self._texts and isinstance(value, ScalarNode) and value.tag != _NULL:
            return _as_text(value)
        return value

    def _count(self, nodes: int, event: Any) -> None:
        self._nodes += nodes
        if self._nodes > MOST_NODES:
            raise _problem(f"more than {MOST_NODES} keys and values, including those repeated by aliases", event)


def _as_text(node: ScalarNode) -> ScalarNode:
    """A text node with the same value. It is a copy: an alias elsewhere may need the number."""
    return ScalarNode(_TEXT, node.value, node.start_mark, node.end_mark, style=node.style)


def _problem(text: str, where: Any) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, text, where.start_mark)
