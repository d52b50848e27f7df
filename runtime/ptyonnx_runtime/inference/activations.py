"""Turn the value of every operator of a graph into an output.

onnxruntime returns the values that the graph lists as outputs. Protobuf merges a message that occurs twice in a file, and
concatenates its repeated fields. So a second graph message with nothing but outputs, appended to the file, adds them to
the graph, without the `onnx` package.
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
    """Return the model with every value among its outputs.

    Parameters
    ----------
    model : bytes
    graph : OnnxFile
        The decoded graph of the model.
    """
    outputs = {value.name for value in graph.outputs}
    added = b"".join(
        encode_bytes(_GRAPH_OUTPUT, encode_bytes(_VALUE_NAME, name.encode()))  # its type follows from the graph
        for name in value_names(graph)
        if name not in outputs
    )
    return model + encode_bytes(_MODEL_GRAPH, added)
