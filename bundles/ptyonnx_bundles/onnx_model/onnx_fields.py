"""The part of `onnx.proto` (IR version 10) that the format supports, and the limits of a file.

Each message has a table: field number -> name and largest number of occurrences; 0 marks a field that is
refused by name. `onnx_file.py` decodes messages with these tables. Graphs of other systems are larger and
have more types than those of recipes, so there are two sets of limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ptyonnx_bundles.onnx_model.wire import Field

__all__ = [
    "DIMENSION",
    "ENTRY",
    "FOREIGN",
    "METADATA",
    "MODEL",
    "MOST_AXES",
    "NATIVE",
    "OPSETS",
    "SHAPE",
    "TENSOR",
    "TENSOR_TYPE",
    "TYPE",
    "VALUE",
    "Limits",
    "attribute_table",
    "graph_table",
    "node_table",
]

METADATA = 14
MOST_AXES = 8


class Limits(NamedTuple):
    """Limits of a file, which bound the memory of decoding.

    Attributes
    ----------
    nodes : int
        Largest number of nodes, and of initializers.
    values : int
        Largest number of inputs, outputs or attributes of one node.
    numbers : int
        Largest number of numbers or texts in one attribute.
    dtypes : mapping of int to dtype
        TensorProto.DataType -> dtype that an initializer may have.
    empty : bool
        Whether an initializer may be empty.
    """

    nodes: int
    values: int
    numbers: int
    dtypes: Mapping[int, np.dtype[Any]]
    empty: bool


NATIVE = Limits(
    nodes=1024,  # the deepest recipe has about 100
    values=16,
    numbers=64,  # the recipe needs 4
    dtypes={1: np.dtype("<f4"), 7: np.dtype("<i8")},
    empty=False,
)
FOREIGN = Limits(
    nodes=16384,  # an exported vision transformer has about 100 nodes per block and 12 to 48 blocks
    values=128,  # one Concat or Split over all heads or windows
    numbers=256,  # paddings, axes and Einsum equations; long shapes are initializers
    dtypes={
        **NATIVE.dtypes,
        2: np.dtype("u1"),
        3: np.dtype("i1"),
        6: np.dtype("<i4"),
        9: np.dtype("?"),
        10: np.dtype("<f2"),
        11: np.dtype("<f8"),
    },
    empty=True,  # an empty shape, with which Reshape makes a scalar
)

MODEL = {
    1: Field("ir_version"),
    2: Field("producer_name"),
    3: Field("producer_version"),
    4: Field("domain"),
    5: Field("model_version"),
    6: Field("doc_string"),
    7: Field("graph"),
    8: Field("opset_import", 8),
    METADATA: Field("metadata_props", 64),
    20: Field("training information", 0),
    25: Field("functions", 0),
    26: Field("device configurations", 0),
}
TENSOR = {
    1: Field("dims", MOST_AXES),
    2: Field("data_type"),
    3: Field("tensor segments", 0),
    4: Field("tensors that are not raw data", 0),
    5: Field("tensors that are not raw data", 0),
    6: Field("tensors that are not raw data", 0),
    7: Field("tensors that are not raw data", 0),
    8: Field("name"),
    9: Field("raw_data"),
    10: Field("tensors that are not raw data", 0),
    11: Field("tensors that are not raw data", 0),
    12: Field("doc_string"),
    13: Field("external data: weights in another file", 0),
    14: Field("data_location"),
    16: Field("metadata_props", 64),
}
VALUE = {1: Field("name"), 2: Field("type"), 3: Field("doc_string"), 4: Field("metadata_props", 64)}
TYPE = {
    1: Field("tensor_type"),
    4: Field("sequences", 0),
    5: Field("maps", 0),
    6: Field("denotation"),
    7: Field("opaque types", 0),
    8: Field("sparse tensors", 0),
    9: Field("optional values", 0),
}
TENSOR_TYPE = {1: Field("elem_type"), 2: Field("shape")}
SHAPE = {1: Field("dim", MOST_AXES)}
DIMENSION = {1: Field("dim_value"), 2: Field("dim_param"), 3: Field("denotation")}
OPSETS = {1: Field("domain"), 2: Field("version")}
ENTRY = {1: Field("key"), 2: Field("value")}


def graph_table(limits: Limits) -> dict[int, Field]:
    """Return the fields of a GraphProto."""
    return {
        1: Field("node", limits.nodes),
        2: Field("name"),
        5: Field("initializer", limits.nodes),
        10: Field("doc_string"),
        11: Field("input", 16),
        12: Field("output", 16),
        13: Field("value_info", 2 * limits.nodes),
        14: Field("quantization annotations", 0),
        15: Field("sparse initializers", 0),
        16: Field("metadata_props", 64),
    }


def node_table(limits: Limits) -> dict[int, Field]:
    """Return the fields of a NodeProto."""
    return {
        1: Field("input", limits.values),
        2: Field("output", limits.values),
        3: Field("name"),
        4: Field("op_type"),
        5: Field("attribute", limits.values),
        6: Field("doc_string"),
        7: Field("domain"),
        8: Field("overloads", 0),
        9: Field("metadata_props", 64),
        10: Field("device configurations", 0),
    }


def attribute_table(limits: Limits) -> dict[int, Field]:
    """Return the fields of an AttributeProto."""
    return {
        1: Field("name"),
        2: Field("f"),
        3: Field("i"),
        4: Field("s"),
        5: Field("a tensor as an attribute", 0),
        6: Field("a graph as an attribute (control flow)", 0),
        7: Field("floats", limits.numbers),
        8: Field("ints", limits.numbers),
        9: Field("strings", limits.numbers),
        10: Field("tensors as an attribute", 0),
        11: Field("graphs as an attribute (control flow)", 0),
        13: Field("doc_string"),
        14: Field("a type as an attribute", 0),
        15: Field("types as an attribute", 0),
        20: Field("type"),
        21: Field("a reference to a function's attribute", 0),
        22: Field("a sparse tensor as an attribute", 0),
        23: Field("sparse tensors as an attribute", 0),
    }
