"""Frozen graphs (`.pb`) and TF 1 checkpoints, and any other graph cut at tensors the user names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgepack.errors import ModelError, first_line
from edgepack.intake.request import IntakeRequest
from edgepack.intake.tensorflow.ends import (
    asked_inputs,
    find_inputs,
    find_outputs,
    named_inputs,
    named_outputs,
)
from edgepack.intake.tensorflow.graph import Frozen, TensorFlowGraph
from edgepack.intake.tensorflow.session import SessionGraph, open_session, tensor
from edgepack.intake.vet.actions import vet_actions
from edgepack.intake.vet.graph import vet_graphdef
from edgepack.intake.vet.saved_model import vet_metagraph


def open_graph_def(path: Path, request: IntakeRequest) -> SessionGraph:
    """A frozen GraphDef, binary or text.

    Raises:
        ModelError: it cannot be parsed, or no beginning or end is found.
    """
    from google.protobuf import text_format
    from tensorflow.core.framework import graph_pb2

    graph_def = graph_pb2.GraphDef()
    data = path.read_bytes()
    try:
        if data[:1].isalpha():
            text_format.Parse(data, graph_def)
        else:
            graph_def.ParseFromString(data)
    except Exception as error:
        raise ModelError(
            f"{path.name} is not a valid GraphDef: {first_line(error)}", "freeze the model again"
        ) from error
    vet_graphdef(graph_def, path, trusted=request.trusted)
    seed(graph_def)
    graph = begin_and_end(open_session(graph_def), request, trained_with=False)
    if not request.trusted:
        vet_actions(graph_def, path, graph.fetches, fed=graph.feeds)
    return graph


def open_checkpoint(path: Path, request: IntakeRequest) -> SessionGraph:
    """A TF 1 checkpoint: `path`, the .meta file, holds the graph, .index and .data-* beside it the variables.

    Raises:
        ModelError: TensorFlow cannot restore it, or no beginning or end is found.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import meta_graph_pb2

    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph)
    try:
        meta = meta_graph_pb2.MetaGraphDef.FromString(path.read_bytes())
        vet_metagraph(meta, path, [], trusted=request.trusted)
        for node in meta.graph_def.node:
            # What TF 1 wrote here about training nodes, TF 2's shape functions contradict.
            node.attr.pop("_output_shapes", None)
        seed(meta.graph_def)
        with graph.as_default():
            saver = tf.compat.v1.train.import_meta_graph(meta, clear_devices=True)
            saver.restore(session, str(path).removesuffix(".meta"))
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"tensorflow {tf.__version__} cannot restore the checkpoint {path.name}: {first_line(error)}",
            "the files .meta, .index and .data-* of one checkpoint belong together; save it again",
        ) from error
    found = begin_and_end(session, request, trained_with=True)
    if not request.trusted:
        vet_actions(meta.graph_def, path, found.fetches, fed=found.feeds)
    return found


def seed(graph_def: Any) -> None:
    """Give random operators that have none a seed: TensorFlow runs deterministically here, and a dropout may be in the way."""
    for node in graph_def.node:
        seeds = [node.attr[name].i for name in ("seed", "seed2") if name in node.attr]
        if seeds == [0, 0]:
            node.attr["seed"].i = 1


def cut(whole: TensorFlowGraph, request: IntakeRequest) -> SessionGraph:
    """Part of a graph, between the `inputs` and `outputs` of the request, which name tensors of its frozen form.

    TensorFlow answers for the part, too.
    """
    frozen = whole.freeze()
    session = open_session(frozen.graph_def)
    names = dict(zip(frozen.inputs, whole.input_names, strict=True))
    return begin_and_end(
        session, request, trained_with=False, frozen=frozen, names=names, framework=whole.framework
    )


def begin_and_end(
    session: Any,
    request: IntakeRequest,
    *,
    trained_with: bool,
    frozen: Frozen | None = None,
    names: Mapping[str, str] | None = None,
    framework: str | None = None,
) -> SessionGraph:
    """The session's graph between what the request names, or what is found.

    Args:
        frozen: what the graph was, if it was frozen before; its inputs are known by `names`.
    """
    graph = session.graph
    weights: Mapping[str, Callable[[], NDArray[Any]]] = frozen.weights if frozen else {}
    known = {name: place for place, name in (names or {}).items()}
    begin, constants = asked_inputs(graph, [_known(text, known) for text in request.inputs])
    if request.outputs:
        ends = [tensor(graph, name) for name in request.outputs]
    elif frozen:
        ends = [tensor(graph, name) for name in frozen.outputs]
    else:
        ends = find_outputs(graph, trained_with=trained_with)
    stop = [t.name for t in begin] + list(constants) + list(weights)
    found = find_inputs(graph, ends, stop)
    if not begin:
        begin, found = found, []
    if not begin:
        raise ModelError("the graph has no placeholder to feed", "name its inputs with --inputs")
    if found:
        listed = ", ".join(f"{t.op.name} ({t.dtype.name})" for t in found)
        raise ModelError(
            f"the outputs need inputs that --inputs does not name: {listed}",
            f"add them, or fix them to a value: --inputs {found[0].op.name}=VALUE",
        )
    return SessionGraph(
        session,
        _renamed(named_inputs(begin), names or {}),
        named_outputs(ends),
        constants=constants,
        weights=weights,
        framework=framework,
        shapes=dict(request.shapes),
    )


def _known(text: str, known: Mapping[str, str]) -> str:
    """An input as the user knows it → as the graph does, its value kept."""
    name, separator, value = text.partition("=")
    return f"{known.get(name, name)}{separator}{value}"


def _renamed(tensors: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(t.name, name): t for name, t in tensors.items()}
