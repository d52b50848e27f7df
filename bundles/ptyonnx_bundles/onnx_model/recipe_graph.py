"""Check that a file contains exactly the graph that its recipe prescribes.

A bundle can only compute what its recipe describes: operators, names, attributes, order, interface and the
shapes of all weights are compared; only the values of the weights are free.
"""

from __future__ import annotations

import numpy as np

from ptyonnx_bundles.errors import BundleError
from ptyonnx_bundles.onnx_model.onnx_file import OnnxFile, OnnxNode, OnnxValue
from ptyonnx_bundles.recipe import Recipe

__all__ = ["check_graph", "check_interface"]

_PARTS = ("name", "operator", "inputs", "outputs", "attributes")
_REMEDY = "a bundle contains exactly the graph of its recipe; export an edited one again"


def check_graph(graph: OnnxFile, recipe: Recipe, file: str | None = None) -> None:
    """Check that a file contains the recipe's graph and nothing else.

    Parameters
    ----------
    graph : OnnxFile
        The decoded file.
    recipe : Recipe
        The recipe that the manifest states.
    file : str, optional
        Named in errors.

    Raises
    ------
    BundleError
        Another interface, a missing, additional or different operator, a missing, additional or wrongly
        shaped initializer, another value of a constant, or NaN or infinity among the weights.
    """
    check_interface(graph, recipe.channels, recipe.N, file)
    _check_nodes(graph.nodes, recipe, file)
    _check_initializers(graph, recipe, file)


def check_interface(graph: OnnxFile, channels: int, N: int, file: str | None = None) -> None:
    """Check that a graph has the one input and the one output that every bundle has.

    The input is the measured amplitude with the zero frequency in the centre, the output the complex object
    with real and imaginary part along the last axis.

    Raises
    ------
    BundleError
        The inputs or outputs differ.
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
        for part, has, prescribed in zip(_PARTS, _format_parts(found), _format_parts(node), strict=True):
            if has != prescribed:
                raise BundleError(
                    f"not the graph of the recipe: different {part}", file=file, key=node.name,
                    found=has, expected=prescribed, remedy=_REMEDY,
                )  # fmt: skip


def _format_parts(node: OnnxNode) -> tuple[str, ...]:
    """Format the parts of a node; 1 and 1.0 are equal in Python but not in ONNX."""
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
