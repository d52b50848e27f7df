"""The bundle format: recipe, manifest, digests, reading and writing; all other packages build on this one."""

from ptyonnx_bundles.bundle import Bundle, digests, read_bundle, write_bundle
from ptyonnx_bundles.digest import bundle_digest, graph_digest, weight_digest
from ptyonnx_bundles.files.atomic import atomic_write, check_apart, check_directory, check_writable, remove_abandoned
from ptyonnx_bundles.files.locks import try_lock
from ptyonnx_bundles.files.output_paths import check_name, make_folder
from ptyonnx_bundles.files.temporary_folder import temporary_folder
from ptyonnx_bundles.foreign_recipe import ForeignRecipe
from ptyonnx_bundles.manifest import (
    PROTOCOL,
    AnyManifest,
    Digests,
    ForeignManifest,
    ForeignPhysics,
    ForeignProducer,
    Manifest,
    Physics,
    Producer,
    TrainingData,
    parse_manifest,
    protocol_of,
    schema,
)
from ptyonnx_bundles.onnx_model.foreign_graph import check_foreign_graph
from ptyonnx_bundles.onnx_model.onnx_fields import FOREIGN, NATIVE, Limits
from ptyonnx_bundles.onnx_model.onnx_file import IR_VERSION, OPSET, OnnxFile, OnnxNode, OnnxValue, read_onnx
from ptyonnx_bundles.onnx_model.operators import FOREIGN_OPERATORS
from ptyonnx_bundles.onnx_model.recipe_graph import check_graph
from ptyonnx_bundles.recipe import Convolution, Node, Recipe
from ptyonnx_bundles.selftest import SelfTest

__all__ = [
    "FOREIGN",
    "FOREIGN_OPERATORS",
    "IR_VERSION",
    "NATIVE",
    "OPSET",
    "PROTOCOL",
    "AnyManifest",
    "Bundle",
    "Convolution",
    "Digests",
    "ForeignManifest",
    "ForeignPhysics",
    "ForeignProducer",
    "ForeignRecipe",
    "Limits",
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
    "bundle_digest",
    "check_apart",
    "check_directory",
    "check_foreign_graph",
    "check_graph",
    "check_name",
    "check_writable",
    "digests",
    "graph_digest",
    "make_folder",
    "parse_manifest",
    "protocol_of",
    "read_bundle",
    "read_onnx",
    "remove_abandoned",
    "schema",
    "temporary_folder",
    "try_lock",
    "weight_digest",
    "write_bundle",
]
