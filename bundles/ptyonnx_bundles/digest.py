"""Digests that show whether two bundles are the same function.

The weight digest covers every initializer bit for bit; the graph digest covers topology, attributes and
interfaces without the weights. Bundles whose two digests are equal compute the same function, whatever
framework they come from. The text digest covers manifest, probe and self-test. The bundle digest covers
these three and so the whole meaning of the file. No digest is keyed: they detect damage, and authenticate
a bundle only if they are published elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.onnx_model.onnx_file import OnnxFile

__all__ = ["bundle_digest", "graph_digest", "text_digest", "weight_digest"]


def weight_digest(weights: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over name, dtype, shape and little-endian bytes of every array, sorted by name.

    Parameters
    ----------
    weights : mapping of str to ndarray
        All initializers of a graph.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        array = np.asarray(weights[name])
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        digest.update(_compact([name, array.dtype.name, array.shape]))
        digest.update(little.tobytes())
    return digest.hexdigest()


def graph_digest(model: OnnxFile) -> str:
    """SHA-256 over operators, attributes, names, inputs and outputs, without the weights.

    Parameters
    ----------
    model : OnnxFile
        The decoded model; its nodes are hashed in their order in the file.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    return hashlib.sha256(
        _compact(
            {
                "opset": model.opset,
                "nodes": [
                    [node.name, node.operator, node.inputs, node.outputs, sorted(node.attributes.items())]
                    for node in model.nodes
                ],
                "inputs": [[value.name, value.dtype, value.shape] for value in model.inputs],
                "outputs": [[value.name, value.dtype, value.shape] for value in model.outputs],
                "initializers": [
                    [name, array.dtype.name, array.shape] for name, array in sorted(model.initializers.items())
                ],
            }
        )
    ).hexdigest()


def text_digest(texts: Sequence[str]) -> str:
    """SHA-256 over texts in UTF-8, separated by line feeds.

    Parameters
    ----------
    texts : sequence of str
        Manifest, probe and self-test as stored in the metadata.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for index, text in enumerate(texts):
        digest.update(b"\n" if index else b"")
        digest.update(text.encode())
    return digest.hexdigest()


def bundle_digest(weights: str, graph: str, metadata: str) -> str:
    """SHA-256 over the other three digests, one number for the whole bundle.

    Parameters
    ----------
    weights, graph, metadata : str
        From :func:`weight_digest`, :func:`graph_digest` and :func:`text_digest`.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    return hashlib.sha256(_compact({"weights": weights, "graph": graph, "metadata": metadata})).hexdigest()


def _compact(value: object) -> bytes:
    """JSON without spaces, in ASCII."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")
