"""The graph that a recipe prescribes, and whether a file holds exactly that.

A bundle cannot compute anything else than its recipe says: operators, names, attributes,
order, interface and the shapes of all weights are compared, only the weights are free.
"""

from __future__ import annotations

import numpy as np

from ptyonnx_bundles.errors import BundleError
from ptyonnx_bundles.onnx_model.onnx_file import OnnxFile, OnnxNode, OnnxValue
from ptyonnx_bundles.recipe import Recipe

__all__ = ["check_graph", "check_interface"]

_PARTS = ("name", "operator", "inputs", "outputs", "attributes")
_REMEDY = "a bundle holds exactly what its recipe prescribes; one that was edited has to be exported anew"


def check_graph(graph: OnnxFile, recipe: Recipe, file: str | None = None) -> None:
    """Check that a file holds the recipe's graph and nothing else.

    Parameters
    ----------
    graph : OnnxFile
        The decoded file.
    recipe : Recipe
        What it claims to be.
    file : str, optional
        Named in errors.

    Raises
    ------
    BundleError
        Another interface, a missing, additional or different operator, a missing, additional
        or wrongly shaped initializer, another value of a constant, NaN among the weights.
    """
    check_interface(graph, recipe.channels, recipe.N, file)
    _check_nodes(graph.nodes, recipe, file)
    _check_initializers(graph, recipe, file)


def check_interface(graph: OnnxFile, channels: int, N: int, file: str | None = None) -> None:
    """Check that a graph has the one input and the one output that every bundle has.

    In comes the measured amplitude with the zero frequency in the centre, out goes the complex
    object, real and imaginary part last.

    Raises
    ------
    BundleError
        More, fewer, or others.
    """
    shape = ("batch", channels, N, N)
    for found, wanted, side in (
        (graph.inputs, OnnxValue("diffraction", "float32", shape), "input"),
        (graph.outputs, OnnxValue("object", "float32", (*shape, 2)), "output"),
    ):
        if found != (wanted,):
            raise BundleError(
                f"wrong {side} of the graph", file=file, key=wanted.name,
                found=[(value.name, value.dtype, value.shape) for value in found],
                expected=(wanted.name, wanted.dtype, wanted.shape),
            )  # fmt: skip


def _check_nodes(nodes: tuple[OnnxNode, ...], recipe: Recipe, file: str | None) -> None:
    wanted = [
        OnnxNode(node.name, node.operator, node.inputs, (node.name,), dict(node.attributes)) for node in recipe.nodes()
    ]
    if len(nodes) != len(wanted):
        raise BundleError(
            "not the graph of the recipe", file=file, found=f"{len(nodes)} operators", expected=len(wanted),
            remedy=_REMEDY,
        )  # fmt: skip
    for found, node in zip(nodes, wanted, strict=True):
        for part, has, prescribed in zip(_PARTS, _spell(found), _spell(node), strict=True):
            if has != prescribed:
                raise BundleError(
                    f"not the graph of the recipe: other {part}", file=file, key=node.name,
                    found=has, expected=prescribed, remedy=_REMEDY,
                )  # fmt: skip


def _spell(node: OnnxNode) -> tuple[str, ...]:
    """Write the parts of a node out; 1 and 1.0 are equal in Python but not in ONNX."""
    attributes = ", ".join(f"{name}={value!r}" for name, value in sorted(node.attributes.items()))
    return node.name, node.operator, ", ".join(node.inputs), ", ".join(node.outputs), attributes


def _check_initializers(graph: OnnxFile, recipe: Recipe, file: str | None) -> None:
    constants = recipe.graph_constants()
    shapes = {**recipe.weight_shapes(), **recipe.constant_shapes()}
    different = set(graph.initializers) ^ {*shapes, *constants}
    if different:
        name = min(different)
        problem = "not an initializer of the recipe" if name in graph.initializers else "the initializer is missing"
        raise BundleError(problem, file=file, key=name, remedy=_REMEDY)
    for name, array in graph.initializers.items():
        constant = constants.get(name)
        if constant is not None:
            dtype, shape = constant.dtype, constant.shape
        else:
            dtype, shape = np.dtype(np.float32), shapes[name]
        if (array.dtype, array.shape) != (dtype, shape):
            raise BundleError(
                "wrong initializer", file=file, key=name,
                found=f"{array.dtype} {array.shape}", expected=f"{dtype} {shape}", remedy=_REMEDY,
            )  # fmt: skip
        if constant is not None and not np.array_equal(array, constant):
            raise BundleError(
                "the constant has another value", file=file, key=name, found=array, expected=constant, remedy=_REMEDY
            )
        finite = np.isfinite(array)
        if not finite.all():
            raise BundleError(
                "NaN or infinity among the weights", file=file, key=name,
                found=f"{np.count_nonzero(~finite)} of {array.size} numbers", remedy="train the network again",
            )  # fmt: skip
