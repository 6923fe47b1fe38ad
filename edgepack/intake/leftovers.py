"""No silent leftovers: what a conversion left that no edge runtime knows is an error that lists all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import onnx

from edgepack import onnxfile
from edgepack.errors import ModelError
from edgepack.topology import all_nodes

#: Nodes named for each operator; the count says how many there are.
_NAMED = 4


def refuse_leftovers(model: onnx.ModelProto, layers: Sequence[str] = ()) -> None:
    """Raises ModelError: operators outside ONNX and com.microsoft, each with its count, nodes and layers.

    Args:
        layers: names of the source's layers, to say in which one a node stands.
    """
    foreign: dict[str, list[str]] = {}
    for node in foreignnodes(model):
        foreign.setdefault(f"{node.domain}.{node.op_type}".lstrip("."), []).append(node.name)
    if foreign:
        refuse(foreign, layers)


def refuse(foreign: dict[str, list[str]], layers: Sequence[str] = ()) -> None:
    """Raises ModelError: lists the nodes in `foreign` by operator, with the ways out."""
    lines = []
    for operator in sorted(foreign):
        places = foreign[operator]
        named = ", ".join(_place(n, layers) for n in places[:_NAMED])
        more = ", …" if len(places) > _NAMED else ""
        lines.append(f"{operator} ×{len(places)} ({named}{more})")
    first = sorted(foreign)[0]
    texts = [o for o in foreign if "String" in o or o in _TEXT]
    ways = "rewrite those layers with standard operations"
    if texts:
        ways = (
            "text has no place on edge runtimes: do this part in the app and give the model numbers"
        )
    raise ModelError(
        f"operators that ONNX does not have are left after conversion: {'; '.join(lines)}",
        f"{ways}; or register a handler: --op-handler {first}=module:function; or end the model before them: --outputs NAME",
    )


#: Operators on strings whose names do not say so.
_TEXT = ("LookupTableFindV2", "StaticRegexReplace", "RegexReplace", "DecodeRaw", "ParseExampleV2")


def foreignnodes(model: onnx.ModelProto) -> Iterator[Any]:
    """The nodes, in subgraphs too, of operators that neither ONNX nor com.microsoft nor the model itself defines."""
    versions = {o.domain: o.version for o in model.opset_import}
    local = {(f.domain, f.name) for f in model.functions}
    for node in all_nodes(model.graph):
        if node.domain in onnxfile.ONNX_DOMAINS:
            known = onnx.defs.has(node.op_type, versions.get(node.domain, 1), "")
        else:
            known = node.domain in onnxfile.KNOWN_DOMAINS
        if not known and (node.domain, node.op_type) not in local:
            yield node


def _place(node: str, layers: Sequence[str]) -> str:
    # Keras' scopes are the layers' names with `_1` behind: it enters each once when it builds the model.
    parts = [q for p in reversed(node.split("/")) for q in (p.removesuffix("_1"), p)]
    layer = next((p for p in parts if p in layers), None)
    return f"{node or 'unnamed'} in layer {layer}" if layer else node or "unnamed"
