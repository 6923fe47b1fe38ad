"""Versions of ONNX's default operator set: a model in another one."""

from __future__ import annotations

import re
from collections.abc import Sequence

import onnx
import onnx.inliner
import onnx.version_converter
from onnx import helper

from edgepack import onnxfile, weights
from edgepack.errors import StepError

#: What onnx's converter says of an operator it cannot take further (version_converter/BaseConverter.h, adapters/).
_STUCK = re.compile(
    r"No Adapter (?:From|To) Version \S+ for (\w+)|No Previous Version of (\w+) exists"
)
_NAMED = 4
#: From here on operators broadcast as numpy does.
_BROADCAST = 7


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
    lifted = weights.lift(model)
    given, written_out = model, list[str]()
    while True:
        try:
            converted = onnx.version_converter.convert_version(model, version)
            break
        except RuntimeError as error:
            found = _STUCK.search(str(error))
            operator = (found[1] or found[2]) if found else ""
            if operator in written_out or not _is_function(operator, onnxfile.opset(model)):
                # What stands in the way now may stem from an operator that was written out.
                blamed = [operator, *reversed(written_out)]
                raise _stuck(given, [b for b in blamed if b], version, error) from error
            written_out.append(operator)
            model = _written_out(model, operator)
    weights.lower(converted, lifted)
    return converted


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


def _written_out(model: onnx.ModelProto, operator: str) -> onnx.ModelProto:
    """The model with the nodes of one operator replaced by what ONNX defines it by."""
    model = onnx.shape_inference.infer_shapes(model)
    known = {v.name for v in model.graph.value_info}
    for tensor in model.graph.initializer:
        # The inliner wants to know the type of everything a node reads, and does not look at initializers.
        if tensor.name not in known:
            model.graph.value_info.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return onnx.inliner.inline_selected_functions(
        model, [("", operator)], exclude=False, inline_schema_functions=True
    )


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
            for graph in weights.graphs(model)
            for node in graph.node
            if node.op_type == operator and node.domain in onnxfile.ONNX_DOMAINS
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
