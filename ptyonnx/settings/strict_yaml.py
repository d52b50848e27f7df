"""YAML of settings: scalars, mappings and lists, bounded before anything is built of them.

Merge keys and anchors work as in YAML 1.1. Keys are text as written, a key that stands twice is refused, and
dates stay text. Where values are paths or names, a number is text as well: a folder may be called 2026.
What the keys mean is the business of `configuration`.
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
MOST_NODES = 4096  # keys and values, what aliases stand for counted every time
DEEPEST = 16  # mappings and lists in each other
_CORE = "tag:yaml.org,2002:"
_MERGE, _TEXT, _NULL = f"{_CORE}merge", f"{_CORE}str", f"{_CORE}null"
_TAGS = {f"{_CORE}{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq", "merge")}


@dataclass(frozen=True)
class Document:
    """What a YAML text holds.

    Attributes
    ----------
    content : object
        Of dict, list, str, int, float, bool and None.
    templates : frozenset of str
        Keys of the outermost mapping whose values are merged into other mappings (``<<: *name``).
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
        Keys whose values are taken as they are written.
    error : type of PtyonnxError
        What is raised: unreadable, too large or too deep, not YAML, or what these settings do not need of it.
    remedy : str
        What to do about a file that cannot be opened.
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
    """Read a YAML text of bounded length; see :func:`read_yaml`.

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
    """Counts nodes and depth as they are composed, and refuses what settings do not need."""

    # dates stay text: nothing here is a date, and a folder may be called 2026-11-28
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
                raise _problem("an anchor that refers to itself", event)
            self._count(self._sizes.get(event.anchor, 0), event)
            return super().compose_node(parent, index)
        if getattr(event, "tag", None) not in {None, "!", *_TAGS}:
            raise _problem(f"the tag '{event.tag}', of which settings have no need", event)
        before = self._nodes
        self._count(1, event)
        self._depth += 1
        if self._depth > DEEPEST:
            raise _problem(f"nested more than {DEEPEST} deep", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if event.anchor is not None:
            self._sizes[event.anchor] = self._nodes - before
        return node

    def compose_scalar_node(self, anchor: Any) -> ScalarNode:
        node = super().compose_scalar_node(anchor)
        if not node.value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in node.value):
            raise _problem("half a character, which no file can hold", node)
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """Compose a mapping whose keys are text, each once, before anything is merged into it."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        pairs = []
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise _problem("a key that is a mapping or a list", key)
            if key.value in seen:
                raise _problem(f"'{key.value}' stands twice", key)
            seen.add(key.value)
            pairs.append((key if key.tag == _MERGE else _as_text(key), self._written(key.value, value)))
        node.value = pairs
        self.own_pairs[id(node)] = list(pairs)
        return node

    def flatten_mapping(self, node: MappingNode) -> None:
        """Note what is merged into a mapping, and merge it."""
        for key, value in node.value:
            if key.tag == _MERGE:
                parts = value.value if isinstance(value, SequenceNode) else [value]
                self.merged.update(id(part) for part in parts)
        super().flatten_mapping(node)

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        """Build a value; what is no number or no boolean after all is an error of the file."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, OverflowError):
            raise _problem(f"'{str(node.value)[:40]}' is no {node.tag.removeprefix(_CORE)}", node) from None

    def _written(self, key: str, value: Node) -> Node:
        """The value of a key, as it was written where it is to be text."""
        if key in self._texts and isinstance(value, ScalarNode) and value.tag != _NULL:
            return _as_text(value)
        return value

    def _count(self, nodes: int, event: Any) -> None:
        self._nodes += nodes
        if self._nodes > MOST_NODES:
            raise _problem(f"more than {MOST_NODES} keys and values, counting those that aliases repeat", event)


def _as_text(node: ScalarNode) -> ScalarNode:
    """A node of its own: an alias may want the number."""
    return ScalarNode(_TEXT, node.value, node.start_mark, node.end_mark, style=node.style)


def _problem(text: str, where: Any) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, text, where.start_mark)
