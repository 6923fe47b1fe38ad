"""State that a TFLite model keeps from one run to the next, which no bundle carries."""

from __future__ import annotations

from typing import Any

from edgepack.errors import ModelError
from edgepack.intake.tflite.bounds import references
from edgepack.intake.tflite.flatbuffer import Graph, graphs, ints, text


def refuse_state(model: Any, name: str) -> None:
    """Raises ModelError: what runs each time assigns to variables; names them.

    What CALL_ONCE calls runs before the first answer only: it gives variables their first values, and is no state by itself.
    Source: schema.fbs (CallOnceOptions.init_subgraph_index, VarHandleOptions.shared_name), of TensorFlow 2.21.
    """
    every = graphs(model)
    variables = {v for number in _each_run(every) for v in _assigned(every[number])}
    if variables:
        shown = ", ".join(sorted(variables)[:5]) + (", …" if len(variables) > 5 else "")
        raise ModelError(
            f"{name} keeps state between runs: ASSIGN_VARIABLE writes {len(variables)} variables ({shown})",
            "make the state an input and an output of the model (a recurrent layer: stateful=False, return_state=True)",
        )


def _each_run(every: list[Graph]) -> list[int]:
    """Numbers of the subgraphs that a run of subgraph 0 goes through."""
    reached = [0]
    for number in reached:
        for op in every[number].operators:
            if every[number].name(op) != "CALL_ONCE":
                reached += [n for n in references(op) if n not in reached]
    return reached


def _assigned(graph: Graph) -> set[str]:
    """Variables a subgraph assigns to: their shared names, or the tensor's own where the handle comes from outside."""
    found = set()
    for op in graph.operators:
        if graph.name(op) == "ASSIGN_VARIABLE":
            handle = ints(op.inputs)[0]
            maker = graph.producer(handle)
            shared = getattr(maker.builtinOptions, "sharedName", None) if maker else None
            found.add(text(shared) or text(graph.tensors[handle].name) or f"tensor {handle}")
    return found
