"""State a TFLite model keeps between runs is refused by name; variables that are set once are no state."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorflow.lite.python import schema_py_generated as schema

from edgepack.errors import ModelError
from edgepack.intake.tflite.flatbuffer import Graph
from edgepack.intake.tflite.model import TFLiteModel
from edgepack.intake.tflite.state import refuse_state
from tests.intake.tflite.build import empty, save


def handle(graph: Graph, variable: str) -> int:
    """The tensor of a VAR_HANDLE."""
    index = graph.add_tensor(f"{variable}/handle", (), "int32")
    graph.tensors[index].type = schema.TensorType.RESOURCE
    options = schema.VarHandleOptionsT(container=b"", sharedName=variable.encode())
    graph.operators.append(graph.operator("VAR_HANDLE", [], [index], options))
    return index


def assign(graph: Graph, variable: str, value: int) -> None:
    """An operator that writes a tensor into a variable."""
    options = schema.AssignVariableOptionsT()
    inputs = [handle(graph, variable), value]
    graph.operators.append(graph.operator("ASSIGN_VARIABLE", inputs, [], options))


def summed(variable: str) -> tuple[Graph, int, int]:
    """x + variable, with the input and the output."""
    graph = empty()
    x, was, y = (graph.add_tensor(n, (1, 4)) for n in ("x", "was", "y"))
    read = handle(graph, variable)
    options = schema.ReadVariableOptionsT()
    graph.operators.append(graph.operator("READ_VARIABLE", [read], [was], options))
    graph.operators.append(graph.operator("ADD", [x, was], [y], schema.AddOptionsT()))
    return graph, x, y


def test_a_model_that_assigns_to_a_variable_is_refused_by_its_name(tmp_path: Path) -> None:
    graph, x, y = summed("stream/states")
    assign(graph, "stream/states", y)
    path = save(graph, [x], [y], tmp_path / "m.tflite")
    with pytest.raises(ModelError, match=r"keeps state between runs.*\(stream/states\)"):
        TFLiteModel.open(path)


def test_a_variable_that_call_once_sets_is_no_state() -> None:
    graph, x, y = summed("scale")
    first = schema.SubGraphT(tensors=[], inputs=[], outputs=[], operators=[])
    graph.model.subgraphs.append(first)
    assign(Graph(model=graph.model, subgraph=first), "scale", 0)
    options = schema.CallOnceOptionsT(initSubgraphIndex=1)
    graph.operators.insert(0, graph.operator("CALL_ONCE", [], [], options))
    graph.subgraph.inputs, graph.subgraph.outputs = [x], [y]
    refuse_state(graph.model, "m.tflite")


def test_an_assignment_in_a_loop_body_is_state() -> None:
    graph, _, _ = summed("counter")
    for name in ("cond", "body"):
        part = schema.SubGraphT(tensors=[], inputs=[], outputs=[], operators=[], name=name.encode())
        graph.model.subgraphs.append(part)
    body = Graph(model=graph.model, subgraph=graph.model.subgraphs[2])
    assign(body, "counter", body.add_tensor("more", (1, 4)))
    options = schema.WhileOptionsT(condSubgraphIndex=1, bodySubgraphIndex=2)
    graph.operators.append(graph.operator("WHILE", [], [], options))
    with pytest.raises(ModelError, match=r"\(counter\)"):
        refuse_state(graph.model, "m.tflite")
