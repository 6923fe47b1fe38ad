"""Versions of ONNX's default operator set: a model in another one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import onnx
import onnx.inliner
import onnx.version_converter
from onnx import helper

from edgepack import onnxfile, weights
from edgepack.errors import StepError

#: What onnx's converter says of an operator it cannot take further (version_converter/BaseConverter.h, adapters/).
_STUCK = re.compile(
    r"No Adapter (?:From|To) Version \S+ for (\w+)|No Previous Version of (\w+) exists|(\w+) being converted from"
)
_NAMED = 4
#: Where nodes wait that need no conversion.
_ASIDE = "edgepack.aside"
#: From here on operators broadcast as numpy does.
_BROADCAST = 7
#: From here on a Split of equal parts names their number.
_SPLIT_NUM = 18


def at_opset(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """The model in another version of the default operator set.

    Raises:
        StepError: the newest set onnx knows is older, or an operator cannot be taken there; names the operator and its nodes.
    """
    newest = onnx.defs.onnx_opset_version()
    if version > newest:
        raise StepError(
            f"operator set {version} is newer than onnx {onnx.__version__} knows ({newest})",
            f"use {newest} or less, or upgrade onnx",
        )
    if onnxfile.opset(model) < _BROADCAST <= version:
        _spread_slopes(model)
    if version < _SPLIT_NUM <= onnxfile.opset(model):
        _split_by_outputs(model)
    lifted = weights.lift(model)
    given, written_out, kept = model, list[str](), list[str]()
    while True:
        try:
            converted = onnx.version_converter.convert_version(model, version)
            break
        except RuntimeError as error:
            found = _STUCK.search(str(error))
            operator = next(filter(None, found.groups())) if found else ""
            # What stands in the way now may stem from an operator that was written out.
            blamed = [o for o in (operator, *reversed(written_out)) if o]
            stuck = _stuck(given, blamed, version, error)
            if operator not in kept and _is_the_same(model, operator, version):
                kept.append(operator)
                _change_domain(model, operator, "", _ASIDE)
            elif operator not in written_out and _is_function(operator, onnxfile.opset(model)):
                written_out.append(operator)
                model = _written_out(model, operator, stuck)
            else:
                raise stuck from error
    for operator in kept:
        _change_domain(converted, operator, _ASIDE, "")
    weights.lower(converted, lifted)
    return converted


def _is_the_same(model: onnx.ModelProto, operator: str, wanted: int) -> bool:
    """Whether the nodes of an operator mean in another set what they mean in this one, as far as its two definitions tell.

    Inputs and attributes that both have must be alike, and those that only one has must not be used. onnx's converter has no word
    for many such (Pad from 18 to 17, GlobalMaxPool from 22 to 21, Mul from 14 to 13); what stays wrong, parity finds.
    """
    now = onnxfile.opset(model)
    if not all(operator and onnx.defs.has(operator, v, "") for v in (now, wanted)):
        return False
    here, there = (onnx.defs.get_schema(operator, v, "") for v in (now, wanted))
    if any(
        (a.name, a.option) != (b.name, b.option)
        for mine, theirs in ((here.inputs, there.inputs), (here.outputs, there.outputs))
        for a, b in zip(mine, theirs, strict=False)
    ):
        return False
    shared = here.attributes.keys() & there.attributes.keys()
    if any(_form(here.attributes[name]) != _form(there.attributes[name]) for name in shared):
        return False
    needed = {name for name, a in there.attributes.items() if a.required}
    return all(
        len(node.input) <= there.max_input
        and len(node.output) <= there.max_output
        and needed <= {a.name for a in node.attribute} <= there.attributes.keys()
        for node in _nodes_of(model, operator)
    )


def _form(attribute: Any) -> tuple[Any, bytes]:
    return attribute.type, attribute.default_value.SerializeToString()


def _nodes_of(model: onnx.ModelProto, operator: str) -> list[onnx.NodeProto]:
    """The nodes of an ONNX operator, in subgraphs too."""
    return [
        node
        for graph in weights.graphs(model)
        for node in graph.node
        if node.op_type == operator and node.domain in onnxfile.ONNX_DOMAINS
    ]


def _split_by_outputs(model: onnx.ModelProto) -> None:
    """Let the number of a Split's outputs say what `num_outputs` says, as it did before operator set 18."""
    for node in _nodes_of(model, "Split"):
        others = [a for a in node.attribute if a.name != "num_outputs"]
        del node.attribute[:]
        node.attribute.extend(others)


def _change_domain(model: onnx.ModelProto, operator: str, old: str, new: str) -> None:
    """Move the nodes of one operator from a domain to another; the converter leaves other domains than ONNX's alone."""
    for graph in weights.graphs(model):
        for node in graph.node:
            if node.op_type == operator and node.domain == old:
                node.domain = new
    others = [o for o in model.opset_import if o.domain != _ASIDE]
    del model.opset_import[:]
    model.opset_import.extend(others)
    if new == _ASIDE or any(n.domain == _ASIDE for g in weights.graphs(model) for n in g.node):
        model.opset_import.append(helper.make_opsetid(_ASIDE, 1))


def _spread_slopes(model: onnx.ModelProto) -> None:
    """Give PRelu's slopes, one a channel, the shape that says so; onnx's converter forgets it.

    Source: onnx, docs/Changelog.md, PRelu-6 (channels are axis 1) and PRelu-7 (broadcast as numpy does).
    """
    constants = {i.name: i for i in model.graph.initializer}
    graph = onnx.shape_inference.infer_shapes(model).graph
    ranks = {
        v.name: len(v.type.tensor_type.shape.dim)
        for v in (*graph.input, *graph.value_info, *graph.output)
    }
    for node in model.graph.node:
        slope = constants.get(node.input[1]) if node.op_type == "PRelu" else None
        if slope is not None and len(slope.dims) == 1 and slope.dims[0] > 1:
            channels, rank = slope.dims[0], ranks.get(node.input[0], 0)
            slope.dims[:] = [channels, *[1] * max(0, rank - 2)]
            for value in model.graph.input:
                if value.name == slope.name:
                    del value.type.tensor_type.shape.dim[:]
                    for size in slope.dims:
                        value.type.tensor_type.shape.dim.add().dim_value = size


def _written_out(model: onnx.ModelProto, operator: str, stuck: StepError) -> onnx.ModelProto:
    """The model with the nodes of one operator replaced by what ONNX defines it by; raises `stuck` where onnx cannot do it."""
    model = onnx.shape_inference.infer_shapes(model)
    _say_defaults(model, operator)
    known = {v.name for v in model.graph.value_info}
    for tensor in model.graph.initializer:
        # The inliner wants to know the type of everything a node reads, and does not look at initializers.
        if tensor.name not in known:
            model.graph.value_info.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    try:
        return onnx.inliner.inline_selected_functions(
            model, [("", operator)], exclude=False, inline_schema_functions=True
        )
    except RuntimeError as error:
        raise stuck from error


def _say_defaults(model: onnx.ModelProto, operator: str) -> None:
    """Give the nodes of an operator the attributes that they leave at their defaults: onnx's inliner leaves those out of what it writes
    (Swish's alpha)."""
    schema = onnx.defs.get_schema(operator, onnxfile.opset(model), "")
    defaults = {n: a.default_value for n, a in schema.attributes.items() if a.default_value.type}
    for node in _nodes_of(model, operator):
        said = {a.name for a in node.attribute}
        node.attribute.extend(value for name, value in defaults.items() if name not in said)


def _is_function(operator: str, version: int) -> bool:
    """Whether ONNX defines an operator by others."""
    if not operator or not onnx.defs.has(operator, version, ""):
        return False
    schema = onnx.defs.get_schema(operator, version, "")
    kinds = ("has_function", "has_context_dependent_function")
    return any(getattr(schema, kind, False) for kind in kinds)


def _stuck(
    model: onnx.ModelProto, operators: Sequence[str], version: int, error: Exception
) -> StepError:
    now = onnxfile.opset(model)
    for operator in operators:
        nodes = [
            node.name or f"unnamed, of {', '.join(node.output)}"
            for node in _nodes_of(model, operator)
        ]
        if nodes:
            more = ", …" if len(nodes) > _NAMED else ""
            return StepError(
                f"{operator} ×{len(nodes)} ({', '.join(nodes[:_NAMED])}{more}) cannot be taken from operator set {now} to {version}",
                f"export the model with operator set {version}, or without {operator}",
            )
    return StepError(
        f"onnx cannot convert operator set {now} to {version}: {error}",
        f"export the model with operator set {version}",
    )


def format_of(version: int) -> int:
    """The version of the file format (IR) that came with a version of the operator set."""
    newest = min(version, onnx.defs.onnx_opset_version())
    return int(helper.find_min_ir_version_for([helper.make_opsetid("", newest)]))
