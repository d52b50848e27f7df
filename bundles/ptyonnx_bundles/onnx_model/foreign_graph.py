"""Check that a graph is one that a foreign recipe allows: allowed operators only, and the bundle's interface.

No recipe prescribes what it computes. The checks do not run the graph: interface, operators, weights, and
that every value is computed once and before its use.
"""

from __future__ import annotations

import math

import numpy as np

from ptyonnx_bundles.errors import BundleError
from ptyonnx_bundles.foreign_recipe import ForeignRecipe
from ptyonnx_bundles.onnx_model.onnx_file import OnnxFile, OnnxNode
from ptyonnx_bundles.onnx_model.operators import COARSE_OPERATORS, FOREIGN_OPERATORS
from ptyonnx_bundles.onnx_model.recipe_graph import check_interface

__all__ = ["check_coarse", "check_foreign_graph"]

INPUT, OUTPUT = "diffraction", "object"
_BFLOAT16 = 16  # TensorProto.DataType


def check_foreign_graph(graph: OnnxFile, recipe: ForeignRecipe, file: str | None = None) -> None:
    """Check that a file contains a graph that a foreign recipe allows.

    Parameters
    ----------
    graph : OnnxFile
        The decoded file.
    recipe : ForeignRecipe
    file : str, optional
        Named in errors.

    Raises
    ------
    BundleError
        Another interface, an unknown or forbidden operator, a duplicate name, a value that is used before it
        is computed, an unused node or weight, or NaN or infinity among weights and attributes.
    """
    check_interface(graph, recipe.channels, recipe.N, file)
    _check_weights(graph, file)
    known = {INPUT, *graph.initializers}
    if INPUT in graph.initializers:
        raise BundleError("a weight has the name of the input", file=file, key=INPUT)
    names: set[str] = set()
    for node in graph.nodes:
        _check_node(node, file)
        if node.name in names:
            raise BundleError("two nodes of one name", file=file, key=node.name)
        names.add(node.name)
        for value in node.inputs:
            if value and value not in known:
                raise BundleError(
                    f"'{value}' is used before it is computed, or never computed", file=file, key=node.name,
                    expected="nodes in order of computation",
                )  # fmt: skip
        for value in node.outputs:
            if value in known:
                raise BundleError("two values of one name", file=file, key=value)
            if value:
                known.add(value)
    if OUTPUT not in known or OUTPUT in graph.initializers:
        raise BundleError("nothing computes the output", file=file, key=OUTPUT)
    _check_all_used(graph, file)


def _check_node(node: OnnxNode, file: str | None) -> None:
    if not node.name:
        raise BundleError("a node without a name", file=file, found=node.operator)
    if node.operator not in FOREIGN_OPERATORS:
        raise BundleError(
            f"the operator '{node.operator}' is unknown, or not allowed in a bundle", file=file, key=node.name,
            expected="standard ONNX operators on arrays, without control flow or random numbers",
        )  # fmt: skip
    for key, value in node.attributes.items():
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise BundleError(f"NaN or infinity in the attribute '{key}'", file=file, key=node.name)


def _check_weights(graph: OnnxFile, file: str | None) -> None:
    for name, array in graph.initializers.items():
        if not name:
            raise BundleError("a weight without a name", file=file)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BundleError("NaN or infinity among the weights", file=file, key=name)


def _check_all_used(graph: OnnxFile, file: str | None) -> None:
    """Check that the output depends on every node, every weight and the input."""
    needed = {OUTPUT}
    for node in reversed(graph.nodes):
        if needed.isdisjoint(value for value in node.outputs if value):
            raise BundleError("an unused node", file=file, key=node.name)
        needed.update(node.inputs)
    unused = [name for name in graph.initializers if name not in needed]
    if unused:
        raise BundleError("an unused weight", file=file, key=unused[0])
    if INPUT not in needed:
        raise BundleError("the output does not depend on the input", file=file, key=INPUT)


def check_coarse(graph: OnnxFile, file: str) -> None:
    """Refuse the wide tolerance of coarse number formats for a graph that does not use them.

    Raises
    ------
    BundleError
        The graph has neither an 8-bit integer operator nor a Cast to bfloat16.
    """
    for node in graph.nodes:
        if node.operator in COARSE_OPERATORS or (node.operator == "Cast" and node.attributes.get("to") == _BFLOAT16):
            return
    raise BundleError(
        "a tolerance for coarse number formats without an operator that uses them", file=file, key="protocol", found=4,
        expected="protocol 3, or a graph with 8-bit integers or bfloat16",
    )  # fmt: skip
