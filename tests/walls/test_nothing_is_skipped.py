"""No test is skipped or expected to fail: what cannot be tested somewhere is not tested anywhere."""

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
WAYS = {"skip", "skipif", "xfail", "importorskip", "SkipTest", "skipTest", "skipUnless", "expectedFailure"}


def _ways_out(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in WAYS:
            yield node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from (name.name for name in node.names if name.name in WAYS)


def test_no_test_is_skipped() -> None:
    found = {path.name: list(_ways_out(path.read_text())) for path in TESTS.rglob("*.py")}
    assert len(found) > 100
    assert {name: ways for name, ways in found.items() if ways} == {}


def test_the_ways_out_are_seen() -> None:
    assert list(_ways_out("import pytest\n@pytest.mark.skipif(True)\ndef test(): pytest.skip('no')")) != []
