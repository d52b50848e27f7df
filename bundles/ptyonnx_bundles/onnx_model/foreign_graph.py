"""Whether a file holds a graph that a foreign recipe allows: plain, closed, and with the bundle's interface.

No recipe prescribes what it computes. What can be checked without running it is checked: the
interface, the operators, that every value is made once and before it is used, and the weights.
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
    """Check that a file holds a graph that a foreign recipe allows.

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
        Another interface, an operator that does not exist or is not allowed, a name that stands
        twice, a value that is used before it is made, a node or a weight that leads nowhere, NaN
        or infinity among weights and attributes.
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
                    f"'{value}' is used before it is made, or never made", file=file, key=node.name,
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
    """Every node and every weight leads to the output: nothing rides along, nothing is computed in vain."""
    needed = {OUTPUT}
    for node in reversed(graph.nodes):
        if needed.isdisjoint(value for value in node.outputs if value):
            raise BundleError("a node that leads nowhere", file=file, key=node.name)
        needed.update(node.inputs)
    unused = [name for name in graph.initializers if name not in needed]
    if unused:
        raise BundleError("a weight that nothing uses", file=file, key=unused[0])
    if INPUT not in needed:
        raise BundleError("the output does not depend on the input", file=file, key=INPUT)


def check_coarse(graph: OnnxFile, file: str) -> None:
    """Refuse the wide tolerance of coarse numbers where a graph has none.

    Raises
    ------
    BundleError
        Neither an operator in 8-bit integers nor a Cast to bfloat16.
    """
    for node in graph.nodes:
        if node.operator in COARSE_OPERATORS or (node.operator == "Cast" and node.attributes.get("to") == _BFLOAT16):
            return
    raise BundleError(
        "a tolerance for coarse numbers, and no operator that computes in them", file=file, key="protocol", found=4,
        expected="protocol 3, or a graph with 8-bit integers or bfloat16",
    )  # fmt: skip
