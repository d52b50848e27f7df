"""A network that was exported for a fixed batch reconstructs any number of patterns and computes the same as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from adopting import PLAIN
from attention_networks import NETWORKS, N, exported
from float32_bounds import of_bundle

from ptyonnx.exchange.adopting import adopt, example_patterns
from ptyonnx_converters.foreign.batch_axis import BatchAxis, propagate, propagate_reshape
from ptyonnx_converters.foreign.declaration import Declaration, Source
from ptyonnx_runtime.inference.session import Session

pytestmark = pytest.mark.numerical

DECLARED = {"values": "amplitude", "amplitude": Source("output", 0), "phase": Source("output", 1)}


def assert_adopted(name: str, folder: Path, batch: int, *, dynamo: bool, opset: int | None = None) -> None:
    """Compare bundle and PyTorch for numbers of patterns other than the file's batch."""
    network = exported(name, folder / "model.onnx", batch, dynamo=dynamo, opset=opset)
    bundle = adopt(folder / "model.onnx", folder / "bundle.onnx", Declaration(**{**vars(PLAIN), **DECLARED}))
    diffraction = example_patterns(N, 1, 1e4)
    with torch.no_grad():
        amplitude, phase = network(torch.from_numpy(diffraction)).numpy().swapaxes(0, 1)
    assert np.ptp(phase) > 0.5
    session, atol = Session(bundle, threads=1), of_bundle(bundle.model, diffraction)
    for count in (3, 1, 2):
        found = session.run(diffraction[:count])[:, 0]
        np.testing.assert_allclose(found, (amplitude * np.exp(1j * phase))[:count], rtol=0, atol=atol)


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", ["attention", "layer, sequence first"])
def test_attention_that_was_exported_for_five_patterns_takes_any_number(
    name: str, dynamo: bool, tmp_path: Path
) -> None:
    assert_adopted(name, tmp_path, 5, dynamo=dynamo)


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", [name for name in NETWORKS if not name.startswith("layer")])
@pytest.mark.slow
def test_attention_is_freed_of_any_batch_by_either_exporter(name: str, dynamo: bool, tmp_path: Path) -> None:
    """1 shows in no axis, 2 is the number of heads, 16 that of features, 64 the usual batch; layers: `test_adopt_attention.py`."""
    for batch in (1, 2, 5, 16, 64):
        assert_adopted(name, tmp_path, batch, dynamo=dynamo)


@pytest.mark.parametrize("opset", [20, 21, 23])
@pytest.mark.parametrize("name", ["convolutions", "layer"])
def test_operators_newer_than_the_bundles_opset_are_expanded(name: str, opset: int, tmp_path: Path) -> None:
    """Gelu is new in 20, GroupNormalization in 21, Attention in 23; ONNX defines each by a function."""
    assert_adopted(name, tmp_path, 2, dynamo=True, opset=opset)
    newer = {"convolutions": {20: "Gelu", 21: "GroupNormalization", 23: "GroupNormalization"}}
    expected = newer.get(name, {23: "Attention"}).get(opset, "Gelu")
    assert expected in {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}


@pytest.mark.parametrize(
    "shape, axis, target, batch, expected",
    [
        ((5, 16, 32), BatchAxis(0), (80, 32), 5, BatchAxis(0, 16)),  # all tokens in one row
        ((80, 32), BatchAxis(0), (16, 5, 32), 5, BatchAxis(1)),  # sequence first: tokens outside
        ((80, 32), BatchAxis(0, 16), (5, 16, 32), 5, BatchAxis(0)),  # batch first: tokens inside
        ((16, 5, 32), BatchAxis(1), (16, 20, 8), 5, BatchAxis(1, 4)),  # heads split off
        ((20, 16, 8), BatchAxis(0, 4), (5, 4, 16, 8), 5, BatchAxis(0)),
        ((16, 1, 32), BatchAxis(1), (16, 4, 8), 1, BatchAxis(1, 4)),
        ((16, 1, 32), BatchAxis(1), (16, 32), 1, BatchAxis(0)),
        ((5, 4, 8), BatchAxis(0), (5, 2, 2, 8), 5, BatchAxis(0)),
        ((8, 64), BatchAxis(0), (4, 2, 64), 8, None),  # cut in two
        ((5, 6), BatchAxis(0), (6, 5), 5, None),  # no axis keeps it whole
    ],
)  # fmt: skip
def test_the_batch_axis_after_a_reshape_contains_the_same_elements(
    shape: tuple[int, ...], axis: BatchAxis, target: tuple[int, ...], batch: int, expected: BatchAxis | None
) -> None:
    found = propagate_reshape(shape, axis, target, batch)
    assert found == expected
    if found is not None and batch > 1:  # the elements of one pattern, before and after, by NumPy
        numbers = np.zeros(shape, int)
        before, behind = axis.split(shape, batch)
        numbers.reshape(*before, batch, *behind)[...] = np.arange(batch).reshape(batch, *(1 for _ in behind))
        before, behind = found.split(target, batch)
        parts = np.moveaxis(numbers.reshape(*before, batch, *behind), len(before), 0)
        assert all((part == index).all() for index, part in enumerate(parts))


def test_an_operator_that_mixes_the_batch_with_other_axes_has_no_batch_axis() -> None:
    assert propagate((5, 7), (10, 7), [((5, 3), BatchAxis(0))], 5) == BatchAxis(0)
    assert propagate((7, 20), (7, 40), [((20, 3), BatchAxis(0, 4))], 5) == BatchAxis(1, 4)
    assert propagate((5, 5), (10, 10), [((5, 3), BatchAxis(0))], 5) is None
    assert propagate((6, 7), (11, 7), [((5, 7), BatchAxis(0))], 5) is None
