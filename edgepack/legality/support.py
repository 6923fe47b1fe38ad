"""Does a provider take a node, and if not, why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from edgepack.legality.graph import GraphView, Node, is_static
from edgepack.legality.pairs import DEQUANTIZE, PAIR, dequantizes, in_pairs
from edgepack.legality.tables import Conditions, ProviderTable


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a provider does not take a node; the tensor and value it is about, where there is one."""

    why: str
    tensor: str = ""
    value: str = ""


@dataclass(frozen=True, kw_only=True)
class Left:
    """Nodes of one operator that a provider leaves for one reason."""

    operator: str
    why: str
    nodes: tuple[Node, ...]
    tensor: str
    value: str


def left_by(table: ProviderTable, graph: GraphView) -> tuple[Left, ...]:
    """What a provider leaves, by operator and reason, in the graph's order."""
    found: dict[tuple[str, str], list[tuple[Node, Refusal]]] = {}
    for node in graph.nodes:
        refusal = refused(table, node, graph)
        if refusal is not None:
            found.setdefault((node.operator, refusal.why), []).append((node, refusal))
    return tuple(
        Left(
            operator=operator,
            why=why,
            nodes=tuple(n for n, _ in all_of),
            tensor=all_of[0][1].tensor,
            value=all_of[0][1].value,
        )
        for (operator, why), all_of in found.items()
    )


def refused(table: ProviderTable, node: Node, graph: GraphView) -> Refusal | None:
    """Why a provider does not take a node; None if it does."""
    if table.everything:
        return None
    if (
        table.pairs == "groups"
        and node.operator in PAIR
        and _goes_with_its_group(table, node, graph)
    ):
        return None
    conditions = table.conditions(node.operator)
    if conditions is None:
        return Refusal(why="it has no such operator", value=node.operator)
    inner = (refused(table, n, graph) for n in graph.bodies(node))
    refusal = next((r for r in inner if r is not None), None)
    if refusal is not None:
        return Refusal(
            why=f"in its body: {refusal.why}", tensor=refusal.tensor, value=refusal.value
        )
    if table.pairs == "groups" and in_pairs(node, graph):
        return next(_wrong_form(conditions, node, graph), None)
    return next(_unmet(table, conditions, node, graph), None)


def _goes_with_its_group(table: ProviderTable, node: Node, graph: GraphView) -> bool:
    """Whether a pair's half belongs to operators that the provider takes in a quantized form."""
    near: list[Node] = []
    if node.operator in DEQUANTIZE:
        near = list(graph.takers(node.outputs[0]))
    elif graph.is_constant(node.inputs[0]):
        return all(_goes_with_its_group(table, t, graph) for t in graph.takers(node.outputs[0]))
    else:
        maker = graph.maker(node.inputs[0])
        near = [] if maker is None else [maker]
    return bool(near) and all(
        n.operator not in PAIR and in_pairs(n, graph) and refused(table, n, graph) is None
        for n in near
    )


def _wrong_form(conditions: Conditions, node: Node, graph: GraphView) -> Iterator[Refusal]:
    """A refusal if a node between pairs has none of the forms the provider takes."""
    if not conditions.quantized:
        yield Refusal(why="not between Q/DQ pairs", value="quantized")
        return
    behind = [graph.maker(n) for n in node.inputs if n and dequantizes(n, graph)]
    pairs = [m for m in behind if m is not None]
    kinds = [graph.dtype(m.inputs[0]) for m in pairs]
    weighted = len(kinds) > 1 and _is_weight(pairs[1], graph)
    per_channel = weighted and graph.shape(pairs[1].inputs[1]) not in ((), (1,))
    for form in conditions.quantized:
        weights = form.weights if weighted else None
        if kinds[0] != form.activations or (weighted and kinds[1] != weights):
            continue
        if per_channel and not form.per_channel:
            continue
        break
    else:
        said = " with ".join(str(k) for k in kinds[: 2 if weighted else 1])
        said += ", a scale for each channel" if per_channel else ""
        yield Refusal(why=f"not in {said}", tensor=pairs[0].inputs[0], value=said)
    yield from _shape_refusals(conditions, node, graph)


def _is_weight(pair: Node, graph: GraphView) -> bool:
    maker = graph.maker(pair.inputs[0])
    return graph.is_constant(pair.inputs[0] if maker is None else maker.inputs[0])


def _unmet(
    table: ProviderTable, conditions: Conditions, node: Node, graph: GraphView
) -> Iterator[Refusal]:
    """The conditions that a node does not meet."""
    data = _data(conditions, node)
    types = table.types if conditions.types is None else conditions.types
    dtype = graph.dtype(data)
    read = table.read_as.get(dtype or "", dtype)
    if types and dtype is None:
        yield Refusal(why="its type is not known", tensor=data, value="unknown")
    elif types and read not in types:
        yield Refusal(why=f"not in {dtype}", tensor=data, value=str(dtype))
    yield from _version_refusals(conditions, node, graph)
    static = table.static if conditions.static is None else conditions.static
    yield from _shape_refusals(conditions, node, graph)
    yield from _dynamic(static, data, node, graph)
    for at in (*conditions.constants, *conditions.zeros):
        name = node.inputs[at] if at < len(node.inputs) else ""
        if name and not graph.is_constant(name):
            yield Refusal(why=f"its input {at} is no constant", tensor=name, value="computed")
        values = graph.constant(name) if at in conditions.zeros else None
        if values is not None and np.any(values):
            yield Refusal(
                why=f"its input {at} is not 0", tensor=name, value=str(values.reshape(-1)[0])
            )
    yield from _attribute_refusals(conditions, node)
    if conditions.outputs is not None and len(node.outputs) > conditions.outputs:
        extra = node.outputs[conditions.outputs]
        yield Refusal(why=f"not with {len(node.outputs)} outputs", tensor=extra, value=extra)
    if conditions.after:
        maker = graph.maker(data)
        if (
            maker is None
            or maker.operator not in conditions.after
            or len(graph.takers(data)) > 1
            or refused(table, maker, graph) is not None
        ):
            yield Refusal(why=f"only right after {' or '.join(conditions.after)}", tensor=data)


def _version_refusals(conditions: Conditions, node: Node, graph: GraphView) -> Iterator[Refusal]:
    if conditions.minimum is None and conditions.maximum is None:
        return
    if not onnx.defs.has(node.proto.op_type, graph.opset, ""):
        return
    version = onnx.defs.get_schema(node.proto.op_type, graph.opset, "").since_version
    low, high = conditions.minimum or version, conditions.maximum or version
    if not low <= version <= high:
        takes = f"{conditions.minimum or 1} to {conditions.maximum or 'the newest'}"
        yield Refusal(
            why=f"not in its version of operator set {version}, but of {takes}", value=str(version)
        )


def _shape_refusals(conditions: Conditions, node: Node, graph: GraphView) -> Iterator[Refusal]:
    data = _data(conditions, node)
    shape = graph.shape(data)
    if conditions.ranks and shape is None:
        yield Refusal(why="its rank is not known", tensor=data, value="unknown")
    elif conditions.ranks and shape is not None and len(shape) not in conditions.ranks:
        yield Refusal(why=f"not with {len(shape)} dimensions", tensor=data, value=str(list(shape)))
    if conditions.last_axis and shape is not None:
        axis = node.attribute("axis", -1 if graph.opset >= 13 else 1)
        if axis not in (-1, len(shape) - 1):
            yield Refusal(why="only along the last axis", tensor=data, value=f"axis {axis}")


def _dynamic(static: str, data: str, node: Node, graph: GraphView) -> Iterator[Refusal]:
    if static == "none":
        return
    for name in node.takes if static == "all" else (data,):
        shape = graph.shape(name)
        if static == "inner" and shape:
            shape = shape[1:]
        if name and not is_static(shape):
            said = "unknown" if shape is None else str(list(shape))
            yield Refusal(why="not with free dimensions", tensor=name, value=said)


def _attribute_refusals(conditions: Conditions, node: Node) -> Iterator[Refusal]:
    for name in conditions.absent:
        if node.attribute(name) is not None:
            yield Refusal(
                why=f"not with the attribute {name}", value=str(_plain(node.attribute(name)))
            )
    for name, legal in conditions.attributes.items():
        value = _plain(node.attribute(name))
        if value is not None and value not in legal:
            yield Refusal(why=f"not with {name} {value}", value=str(value))


def _data(conditions: Conditions, node: Node) -> str:
    """The value that types and ranks speak of; the first output of a node without inputs."""
    if 0 <= conditions.data < len(node.inputs) and node.inputs[conditions.data]:
        return node.inputs[conditions.data]
    return node.outputs[0] if node.outputs else ""


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) or hasattr(value, "extend") else value
