"""Libraries name parameters, `probe=…`; the command line alone spells flags, and translates."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLAG = re.compile(r"(?<![\w-])--(?![\s-])|(?<=[ (])-[a-z](?=[);, ]|$)")
OTHER_PROGRAMS = re.compile(r"pip (un)?install -[-\w]+|h5repack -f|mkdir -p")


def _texts(source: str) -> Iterator[str]:
    """All strings that are not docstrings."""
    tree = ast.parse(source)
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    first = [node.body[0] for node in ast.walk(tree) if isinstance(node, documented) and node.body]
    docstrings = {id(statement.value) for statement in first if isinstance(statement, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def _flags(source: str) -> list[str]:
    texts = (OTHER_PROGRAMS.sub("", text) for text in _texts(source))
    return [text for text in texts if FLAG.search(text)]


def test_no_library_spells_a_flag() -> None:
    floors = (ROOT / name for name in ("ptyonnx", "converters", "bundles", "runtime"))
    sources = [path for floor in floors for path in floor.rglob("*.py") if "cli" not in path.parts]
    assert len(sources) > 150
    found = {str(path.relative_to(ROOT)): _flags(path.read_text()) for path in sources}
    assert {path: texts for path, texts in found.items() if texts} == {}


def test_a_flag_is_seen() -> None:
    assert _flags("raise E('x', remedy=f'resume with --backend {b}')")
    assert _flags("E(f'--{name}')")
    assert _flags("E('name another directory (-o)')")
    assert not _flags("E('pip install --upgrade x', 'a -- b', 'a-b', '1 -2')")
