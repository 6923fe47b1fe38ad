"""Where a graph without signature begins and ends, and what its ends are called."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import ModelError, UsageError
from edgepack.intake.tensorflow.graph import unique
from edgepack.intake.tensorflow.session import tensor

_PLACEHOLDERS = ("Placeholder", "PlaceholderV2")
#: Operators that are no end of a model though nothing reads them.
_NO_ENDS = frozenset(
    [
        "Assert",
        "Assign",
        "AssignVariableOp",
        "Const",
        "ControlTrigger",
        "Enter",
        "Exit",
        "HistogramSummary",
        "IsVariableInitialized",
        "LoopCond",
        "Merge",
        "MergeSummary",
        "MergeV2Checkpoints",
        "NextIteration",
        "NoOp",
        "Placeholder",
        "PlaceholderV2",
        "PlaceholderWithDefault",
        "Print",
        "PrintV2",
        "ReadVariableOp",
        "RestoreV2",
        "SaveV2",
        "ScalarSummary",
        "Switch",
        "VarHandleOp",
        "VarIsInitializedOp",
        "Variable",
        "VariableV2",
    ]
)
#: Parts of a graph that train or save.
_TRAINING = re.compile(r"(^|/)(gradients|save|report_uninitialized_variables)(_\d+)?/")
#: What exporters call an end that had no name.
_NAMELESS = re.compile(r"(Identity|(Stateful)?PartitionedCall|output|keras_tensor)(_\d+)?")
#: More ends than a model has: the graph holds more than the model.
_MOST_ENDS = 16


def find_outputs(graph: Any, *, trained_with: bool) -> list[Any]:
    """The tensors nothing reads.

    Args:
        trained_with: the graph may hold losses and optimizers: only one end is believed.

    Raises:
        ModelError: there is none, or too many to choose from; they are listed.
    """
    ends = []
    # What others wait for, such as the two sides of TF 1's cond, is read in its way.
    awaited = {c.name for op in graph.get_operations() for c in op.control_inputs}
    for op in graph.get_operations():
        if op.type in _NO_ENDS or _TRAINING.search(op.name) or not op.outputs:
            continue
        if op.name in awaited:
            continue
        if all(not t.consumers() for t in op.outputs) and not _is_handle(op.outputs[0]):
            ends.extend(op.outputs)
    if not ends:
        raise ModelError("no end of the graph was found", "name its outputs with --outputs")
    if len(ends) > (1 if trained_with else _MOST_ENDS):
        listed = ", ".join(t.op.name for t in ends[:_MOST_ENDS])
        more = f" … ({len(ends)} in all)" if len(ends) > _MOST_ENDS else ""
        raise ModelError(
            f"the graph has {len(ends)} ends, and not all may be the model's: {listed}{more}",
            f"name those you want, for example: --outputs {ends[-1].op.name}",
        )
    return ends


def find_inputs(graph: Any, outputs: Sequence[Any], stop: Sequence[str]) -> list[Any]:
    """The placeholders that `outputs` depend on, in the graph's order.

    Args:
        stop: names of tensors behind which nothing is looked for.
    """
    stops = {name.split(":")[0] for name in stop}
    found: set[str] = set()
    seen: set[str] = set()
    todo = [t.op for t in outputs]
    while todo:
        op = todo.pop()
        if op.name in seen:
            continue
        seen.add(op.name)
        if op.name in stops:
            continue
        if op.type in _PLACEHOLDERS:
            found.add(op.name)
        todo.extend(t.op for t in op.inputs)
    return [op.outputs[0] for op in graph.get_operations() if op.name in found]


def asked_inputs(graph: Any, asked: Sequence[str]) -> tuple[list[Any], dict[str, NDArray[Any]]]:
    """The tensors of `--inputs`, and by tensor name the values of those written `name=value`.

    Raises:
        UsageError: no such tensor, or the value is none of its type.
    """
    feeds, constants = [], {}
    for text in asked:
        name, separator, value = text.partition("=")
        place = tensor(graph, name)
        if not separator:
            feeds.append(place)
            continue
        try:
            constants[place.name] = np.asarray(
                json.loads(value.lower() if value in ("True", "False") else value),
                dtype=place.dtype.as_numpy_dtype,
            )
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"--inputs {text}: {value!r} is no {place.dtype.name}",
                f"write a number, true, false or a JSON array: {name}=0",
            ) from error
    return feeds, constants


def named_inputs(tensors: Sequence[Any]) -> dict[str, Any]:
    """Tensors by the name a user knows them by."""
    return dict(zip(unique([_plain(t) for t in tensors]), tensors, strict=True))


def named_outputs(tensors: Sequence[Any]) -> dict[str, Any]:
    """Tensors by the name a user knows them by: of a nameless `Identity`, what it passes on."""
    names = []
    for end in tensors:
        place = end
        while _NAMELESS.fullmatch(place.op.name) and place.op.type == "Identity":
            place = place.op.inputs[0]
        name = _plain(place)
        names.append("output" if _NAMELESS.fullmatch(name) else name)
    return dict(zip(unique(names), tensors, strict=True))


def clean_key(name: str, fallback: str) -> str:
    """A signature's key as it is, unless an exporter made it up."""
    return fallback if re.fullmatch(r"keras_tensor(_\d+)?|Identity(_\d+)?", name) else name


def _plain(place: Any) -> str:
    index = place.value_index
    return f"{place.op.name}_{index}" if index else str(place.op.name)


def _is_handle(place: Any) -> bool:
    return place.dtype.name in ("resource", "variant") or place.dtype.name.endswith("_ref")
