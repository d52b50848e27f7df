"""Let a bundle's graph give the value of every operator, not only the last one.

onnxruntime returns what the graph lists as outputs. A protobuf message that stands twice in a
file is merged, its repeated fields one after the other: a second graph message that holds
outputs and nothing else, written behind the first, adds them, and no `onnx` package is needed.
Opening the model is the business of `session`.
"""

from __future__ import annotations

from ptyonnx_bundles import OnnxFile
from ptyonnx_bundles.onnx_model.wire import encode_bytes

__all__ = ["value_names", "with_every_value"]

# Field numbers of onnx.proto.
_MODEL_GRAPH, _GRAPH_OUTPUT, _VALUE_NAME = 7, 12, 1


def value_names(graph: OnnxFile) -> tuple[str, ...]:
    """Names of the values that a graph computes, in order of computation.

    In a canonical graph every operator writes one value that has its own name.

    Parameters
    ----------
    graph : OnnxFile
    """
    return tuple(name for node in graph.nodes for name in node.outputs if name)


def with_every_value(model: bytes, graph: OnnxFile) -> bytes:
    """The same model with every value among its outputs.

    Parameters
    ----------
    model : bytes
    graph : OnnxFile
        The same, decoded.
    """
    outputs = {value.name for value in graph.outputs}
    added = b"".join(
        encode_bytes(_GRAPH_OUTPUT, encode_bytes(_VALUE_NAME, name.encode()))  # its type follows from the graph
        for name in value_names(graph)
        if name not in outputs
    )
    return model + encode_bytes(_MODEL_GRAPH, added)
