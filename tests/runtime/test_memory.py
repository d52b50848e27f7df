"""A stranger's graph gets a bounded amount of memory; a native one is prescribed by its recipe."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from float32_bounds import of_bundle
from foreign_factory import make_foreign_bundle
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ptyonnx_bundles import FOREIGN, Bundle, digests, write_bundle
from ptyonnx_bundles.errors import ProviderError
from ptyonnx_runtime.inference import session as sessions
from ptyonnx_runtime.inference.session import Session

pytestmark = pytest.mark.numerical

N = 64
LIMIT = 2**26  # bytes
PLANE_BYTES = 4 * N * N


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "LARGEST_FOREIGN_BYTES", LIMIT)


def swollen(folder: Path, size_bytes: int, source: str, copies: int = 1) -> Bundle:
    """A bundle whose graph repeats something that often that it takes as many bytes, and as many again times the input.

    What comes of it is added to the input, and is nothing in float32.
    """
    plain = make_foreign_bundle(folder / "plain.onnx", N)
    model = onnx.load_model_from_string(plain.model)
    graph = model.graph
    arrays: dict[str, NDArray[Any]] = {
        "first": np.array([0], np.int64),
        "tiny": np.full((1, 1, N, N), 1e-30, np.float32),
    }
    nodes, value = [], "diffraction"
    for index in range(copies):
        arrays[f"shape{index}"] = np.array([size_bytes // PLANE_BYTES + index, 1, N, N], np.int64)
        nodes += [
            helper.make_node("Expand", [source, f"shape{index}"], [f"big{index}"], name=f"expand{index}"),
            helper.make_node("Mul", [f"big{index}", "diffraction"], [f"product{index}"], name=f"product{index}"),
            helper.make_node(
                "ReduceMax", [f"product{index}", "first"], [f"top{index}"], name=f"top{index}", keepdims=1
            ),
            helper.make_node("Min", [f"top{index}", "tiny"], [f"low{index}"], name=f"low{index}"),
            helper.make_node("Add", [value, f"low{index}"], [f"sum{index}"], name=f"sum{index}"),
        ]
        value = f"sum{index}"
    graph.node[0].input[0] = value
    kept = [*nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items() if name in used)
    content = model.SerializeToString()
    manifest = plain.manifest.model_copy(update={"digests": digests(content, FOREIGN)})
    return write_bundle(folder / "swollen.onnx", content, manifest, plain.probe, plain.selftest)


def patterns(bundle: Bundle) -> NDArray[np.float32]:
    return bundle.selftest.diffraction[:1]


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.parametrize("source", ["diffraction", "tiny"])
def test_a_graph_that_swells_beyond_the_limit_is_stopped(tmp_path: Path, source: str) -> None:
    bundle = swollen(tmp_path, 2 * LIMIT, source)
    with pytest.raises(ProviderError, match=r"\(Expand 'expand0': Available memory of \d+ is smaller than"):
        Session(bundle, "cpu", threads=1).run(patterns(bundle))


def test_nothing_large_is_computed_while_a_graph_is_opened(tmp_path: Path) -> None:
    """Twelve constants of a quarter of the limit each, of which the graph needs one at a time."""
    bundle = swollen(tmp_path, LIMIT // 4, "tiny", copies=12)
    before = resident_bytes()
    session = Session(bundle, "cpu", threads=1)
    assert resident_bytes() - before < LIMIT // 2
    found = session.run(patterns(bundle))
    np.testing.assert_allclose(
        found, bundle.selftest.object[:1], rtol=0, atol=of_bundle(bundle.model, patterns(bundle))
    )


@pytest.mark.parametrize("source", ["diffraction", "tiny"])
def test_a_graph_within_the_limit_computes_what_it_did(tmp_path: Path, source: str) -> None:
    bundle = swollen(tmp_path, LIMIT // 4, source)
    found = Session(bundle, "cpu", threads=1).run(patterns(bundle))
    np.testing.assert_allclose(
        found, bundle.selftest.object[:1], rtol=0, atol=of_bundle(bundle.model, patterns(bundle))
    )


def test_sessions_are_bounded_one_by_one(tmp_path: Path) -> None:
    """Each has the whole limit, however many there are."""
    bundle = swollen(tmp_path, LIMIT // 3, "diffraction")
    results = [session.run(patterns(bundle)) for session in [Session(bundle, "cpu", threads=1) for _ in range(4)]]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_a_native_graph_is_not_bounded(bundles: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "LARGEST_FOREIGN_BYTES", 2**12)
    bundle = bundles()
    assert np.isfinite(Session(bundle, "cpu").run(np.ones((8, 1, N, N), np.float32))).all()
