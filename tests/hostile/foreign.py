"""Foreign bundles (protocol 3) that a reader must refuse: no recipe says what their graph is, so the rules must."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from hostile.cases import FOREIGN_CASES, MANIFEST, PROBE, edit, entry

foreign = partial(edit, cases=FOREIGN_CASES)


def _node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(item for item in model.graph.node if item.name == name)


def _put(name: str, array: Any) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        tensor = next(item for item in model.graph.initializer if item.name == name)
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(array), name))

    return change


def _renamed(node: str, operator: str) -> Callable[[onnx.ModelProto], None]:
    return lambda model: setattr(_node(model, node), "op_type", operator)


def _control_flow(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "then", [], [])
    node = helper.make_node("If", ["diffraction"], ["x"], name="if", then_branch=body, else_branch=body)
    model.graph.node.insert(0, node)


def _constant_node(model: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["x"], name="constant", value_float=1.0)
    model.graph.node.insert(0, node)


def _too_many_nodes(model: onnx.ModelProto) -> None:
    model.graph.node.extend(helper.make_node("Relu", ["c1"], [f"x{i}"], name=f"x{i}") for i in range(17_000))


def _too_many_numbers(model: onnx.ModelProto) -> None:
    _node(model, "n1").attribute.append(helper.make_attribute("many", [1] * 300))


def _disconnected(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "pattern"
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 1, 32, 32), np.float32), "pattern"))


def _truth_of_two(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.ones(2, bool), "truth")
    tensor.raw_data = b"\x02\x01"
    model.graph.initializer.append(tensor)


def _swap_nodes(model: onnx.ModelProto) -> None:
    first, second = (onnx.NodeProto.FromString(model.graph.node[i].SerializeToString()) for i in (1, 2))
    model.graph.node[1].CopyFrom(second)
    model.graph.node[2].CopyFrom(first)


def _manifest(old: str, new: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        text = entry(model, MANIFEST)
        if old not in text.value:
            raise ValueError(f"{old} does not stand in the manifest")
        text.value = text.value.replace(old, new, 1)

    return change


foreign("unknown_operator", "'n2': the operator 'Evil' is unknown, or not allowed in a bundle", _renamed("n2", "Evil"))
foreign("random_numbers", "'n2': the operator 'RandomNormalLike' is unknown", _renamed("n2", "RandomNormalLike"))
foreign("sequence", "'n10': the operator 'SequenceConstruct' is unknown", _renamed("n10", "SequenceConstruct"))
foreign("constant_node", "'constant': the operator 'Constant' is unknown, or not allowed", _constant_node)
foreign("control_flow", "the model contains a graph as an attribute (control flow)", _control_flow)
foreign(
    "foreign_domain", "'n2': operator 'com.evil::Relu'", lambda m: setattr(_node(m, "n2"), "domain", "com.evil"),
)  # fmt: skip
foreign("opset_12", "wrong operator set, found 12, expected 18", lambda m: setattr(m.opset_import[0], "version", 12))
foreign(
    "two_inputs", "'diffraction': wrong input of the graph",
    lambda m: m.graph.input.append(helper.make_tensor_value_info("positions", 1, ["batch", 2])),
)  # fmt: skip
foreign("input_renamed", "'diffraction': wrong input", lambda m: setattr(m.graph.input[0], "name", "input.1"))
foreign(
    "integer_input", "'diffraction': wrong input",
    lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 6),
)  # fmt: skip
foreign(
    "static_batch", "'diffraction': wrong input",
    lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 8),
)  # fmt: skip
foreign(
    "output_without_imaginary_part", "'object': wrong output",
    lambda m: m.graph.output[0].type.tensor_type.shape.dim.__delitem__(4),
)  # fmt: skip
foreign("nan_weight", "'pi': NaN or infinity among the weights", _put("pi", np.float32(np.nan)))
foreign("infinite_double", "'pi': NaN or infinity among the weights", _put("pi", np.float64(np.inf)))
foreign("complex_weight", "'pi': unusual initializer", _put("pi", np.complex64(1)))
foreign("truth_that_is_two", "bytes other than 0 and 1", _truth_of_two)
foreign("nodes_of_one_name", "'n0': two nodes of one name", lambda m: setattr(_node(m, "n1"), "name", "n0"))
foreign("node_without_name", "a node without a name, found Conv", lambda m: _node(m, "n1").ClearField("name"))
foreign("values_of_one_name", "'c1': two values of one name", lambda m: _node(m, "n2").output.__setitem__(0, "c1"))
foreign("value_hides_a_weight", "'pi': two values of one name", lambda m: _node(m, "n2").output.__setitem__(0, "pi"))
foreign("nodes_out_of_order", "'n2': 'c1' is used before it is computed", _swap_nodes)
foreign("undefined_value", "'n2': 'nothing' is used before", lambda m: _node(m, "n2").input.__setitem__(0, "nothing"))
foreign(
    "node_that_leads_nowhere", "'extra': an unused node",
    lambda m: m.graph.node.append(helper.make_node("Relu", ["c1"], ["x"], name="extra")),
)  # fmt: skip
foreign(
    "weight_that_nothing_uses", "'extra': an unused weight",
    lambda m: m.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "extra")),
)  # fmt: skip
foreign(
    "weight_named_as_the_input", "'diffraction': a weight has the name of the input",
    lambda m: m.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "diffraction")),
)  # fmt: skip
foreign("output_is_not_computed", "'object': nothing computes the output", lambda m: m.graph.node.pop())
foreign("input_is_ignored", "'diffraction': the output does not depend on the input", _disconnected)
foreign("too_many_nodes", "more than 16384 'node' in the graph", _too_many_nodes)
foreign("too_many_numbers", "more than 256 'ints' in an attribute", _too_many_numbers)
foreign(
    "infinite_attribute", "'n2': NaN or infinity in the attribute 'alpha'",
    lambda m: _node(m, "n2").attribute.append(helper.make_attribute("alpha", float("inf"))),
)  # fmt: skip
foreign("claims_protocol_2", "'recipe.name': ", _manifest('"protocol":3', '"protocol":2'), seal=False)
foreign(
    "claims_protocol_4",
    "'protocol': a tolerance for coarse number formats",
    _manifest('"protocol":3', '"protocol":4'),
    seal=False,
)
foreign(
    "unknown_place_of_patches", "'recipe.conventions': 'patch_position' is none of pattern, group",
    _manifest('{"input":"amplitude"}', '{"patch_position":"corner"}'), seal=False,
)  # fmt: skip
foreign(
    "patches_known_somewhere", "'recipe.conventions': 'known' is none of everywhere, central half",
    _manifest('{"input":"amplitude"}', '{"known":["central half"]}'), seal=False,
)  # fmt: skip
foreign("no_system", "'recipe.system': ", _manifest('"system":"a test"', '"system":""'), seal=False)
foreign("odd_size", "'recipe.N': ", _manifest('"N":32', '"N":33'), seal=False)
foreign("enormous_size", "'recipe.N': ", _manifest('"N":32', '"N":1000000'), seal=False)
foreign("photons_are_left_out", "'physics.mean_photons': missing", _manifest(',"mean_photons":null', ""), seal=False)
foreign(
    "negative_photons", "'physics.mean_photons': ", _manifest('"mean_photons":null', '"mean_photons":-1'), seal=False
)
foreign(
    "framework_of_ours", "'producer.framework': ", _manifest('"foreign","versions"', '"pytorch","versions"'), seal=False
)
foreign("probe_that_is_not_there", "wrong array", _manifest('"probe_modes":1', '"probe_modes":0'), seal=False)
foreign("edited_weight", "the weights changed after the bundle was written", _put("pi", np.float32(3)), seal=False)
foreign("edited_graph", "the graph changed after the bundle was written", _renamed("n2", "Elu"), seal=False)
foreign(
    "edited_conventions", "'digest of the metadata': the metadata changed",
    _manifest('{"input":"amplitude"}', '{"input":"intensity"}'), seal=False,
)  # fmt: skip
foreign("no_probe_entry", f"'{PROBE}': missing", lambda m: m.metadata_props.remove(entry(m, PROBE)))
