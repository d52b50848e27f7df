"""The bundle format: recipe, manifest, digests, reading and writing. The ground floor."""

from ptyonnx_bundles.atomic import atomic_write, check_writable
from ptyonnx_bundles.bundle import Bundle, SelfTest, digests, read_bundle, write_bundle
from ptyonnx_bundles.digest import graph_digest, weight_digest
from ptyonnx_bundles.graph import check_graph
from ptyonnx_bundles.manifest import (
    PROTOCOL,
    Digests,
    Manifest,
    Physics,
    Producer,
    TrainingData,
    parse_manifest,
    protocol_of,
    schema,
)
from ptyonnx_bundles.onnx_file import IR_VERSION, OPSET, OnnxFile, OnnxNode, OnnxValue, read_onnx
from ptyonnx_bundles.recipe import Convolution, Node, Recipe

__all__ = [
    "IR_VERSION",
    "OPSET",
    "PROTOCOL",
    "Bundle",
    "Convolution",
    "Digests",
    "Manifest",
    "Node",
    "OnnxFile",
    "OnnxNode",
    "OnnxValue",
    "Physics",
    "Producer",
    "Recipe",
    "SelfTest",
    "TrainingData",
    "atomic_write",
    "check_graph",
    "check_writable",
    "digests",
    "graph_digest",
    "parse_manifest",
    "protocol_of",
    "read_bundle",
    "read_onnx",
    "schema",
    "weight_digest",
    "write_bundle",
]
