"""If a graph has taken over its child process, the parent reports malformed messages in one line and ends the child."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
from typing import Any

import pytest

from ptyonnx_bundles.confinement import ConfinedGraph, Confinement, confined_graph
from ptyonnx_bundles.confinement.channel import Deadline, Message, receive, send
from ptyonnx_bundles.errors import PtyonnxError, WorkerError

REFUSED = {
    "type": "BundleError",
    "problem": "p",
    "file": None,
    "key": None,
    "found": None,
    "expected": None,
    "remedy": None,
}
HONEST = {"about": {"provider": "cpu"}, "notes": []}


def message(words: object, described: object = ()) -> str:
    return json.dumps([words, described])


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Open a graph whose child sends these lines, one per request; a thread plays the child, which is faster."""

    def answer(line: socket.socket, lines: tuple[str, ...]) -> None:
        with line:
            send(line, Message({"started": True}), Deadline())
            for text in lines:
                receive(line, 2**20, Deadline())
                line.sendall(struct.pack("<I", len(text)) + text.encode())

    def opened(*lines: str) -> ConfinedGraph:
        def start(_: str, theirs: list[socket.socket]) -> subprocess.Popen[bytes]:
            threading.Thread(target=answer, args=(theirs[0].dup(), lines)).start()
            return subprocess.Popen(
                [sys.executable, "-c", ""], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )

        monkeypatch.setattr(confined_graph, "_start", start)
        return ConfinedGraph(
            "module", b"", {}, name="a.onnx", confinement=Confinement(30, 2**24),
            read_about=lambda said: {"provider": str(said["provider"])},
        )  # fmt: skip

    return opened


LIES = {
    "nothing": message({}),
    "no notes": message({"about": {"provider": "cpu"}}),
    "a note of three": message({**HONEST, "notes": [["a", "b", "c"]]}),
    "a number of notes": message({**HONEST, "notes": 3}),
    "nothing about it": message({"notes": []}),
    "something else about it": message({"notes": [], "about": ["provider"]}),
    "words for an error": message({"refused": "no"}),
    "an error without a problem": message({"refused": {"type": "BundleError"}}),
    "an error of no name": message({"refused": {**REFUSED, "type": ["BundleError"], "remedy": {}}}),
    "no mapping": message("refused"),
    "no words": message(None),
    "one part": json.dumps([HONEST]),
    "no message": "true",
    "no JSON": "{",
    "deep": "[" * 100_000,
    "a long number": "9" * 5000,
    "an infinite shape": message(HONEST, [["<f4", [float("inf")]]]),
    "a shape that is none": message(HONEST, [["<f4", "12"]]),
    "a negative shape": message(HONEST, [["<f4", [-1, -1]]]),
    "a type that is a list": message(HONEST, [["i4, (f4", [1]]]),
    "a type that is a mapping": message(HONEST, [[{"names": ["a"], "formats": ["O"]}, [1]]]),
    "objects": message(HONEST, [["|O8", [1]]]),
    "too large": message(HONEST, [["<f8", [2**30, 2**30]]]),
    "no array": message(HONEST, 3),
    "an array of three parts": message(HONEST, [["<f4", [1], 2]]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_child_that_lies_when_it_opens_is_one_error(opened: Any, lie: str) -> None:
    with pytest.raises(PtyonnxError) as caught:
        opened(LIES[lie])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "lie", [message([]), message({}), message({"x": 1}, [["<f4", []]] * 2), message("failed"), "[" * 100_000]
)
def test_a_child_that_lies_when_it_computes_is_one_error(opened: Any, lie: str) -> None:
    with opened(message(HONEST), lie) as graph:
        with pytest.raises(WorkerError):
            graph.run(["object"], {})
        with pytest.raises(WorkerError):
            graph.run(["object"], {})


def test_an_honest_child_is_accepted(opened: Any) -> None:
    with opened(message(HONEST), message({"failed": "it does not fit"})) as graph:
        assert graph.about == {"provider": "cpu"}
        with pytest.raises(RuntimeError, match="it does not fit"):
            graph.run(["object"], {})
