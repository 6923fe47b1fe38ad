"""SavedModel folders: Keras 3 exports, TF 2.x with or without optimizers, TF 1."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepack.errors import ModelError, UsageError, first_line
from edgepack.intake.request import IntakeRequest
from edgepack.intake.tensorflow.ends import clean_key
from edgepack.intake.tensorflow.function import FunctionGraph
from edgepack.intake.tensorflow.graph import TensorFlowGraph, unique
from edgepack.intake.tensorflow.session import SessionGraph
from edgepack.intake.vet.actions import reached
from edgepack.intake.vet.saved_model import vet_savedmodel

#: What TensorFlow itself adds to a model's signatures.
_INIT = "__saved_model_init_op"
_DEFAULT = "serving_default"


def open_saved_model(path: Path, request: IntakeRequest) -> TensorFlowGraph:
    """A signature of a SavedModel.

    TF 1's loader reads nearly all: it takes graph and variables, and not the objects around them, which need the Keras that wrote
    them (`'_UserObject' object has no attribute 'add_slot'`). Variables that only those objects lead to stay empty with it: then
    TF 2's loader has its turn.

    Raises:
        ModelError: TensorFlow cannot read it, or it has no signature.
        UsageError: no such signature, or several and none chosen.
    """
    import tensorflow as tf
    from tensorflow.python.saved_model import loader_impl

    vet_savedmodel(path, trusted=request.trusted)
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph)
    try:
        tags = _tags(loader_impl.parse_saved_model(str(path)))
        with graph.as_default():
            meta = tf.compat.v1.saved_model.loader.load(session, tags, str(path))
    except Exception as error:
        raise ModelError(
            f"tensorflow {tf.__version__} cannot load the SavedModel {path.name}: {first_line(error)}",
            "the folder needs saved_model.pb and variables/ as they were written; export the model again",
        ) from error
    name, chosen = _choose(path, dict(meta.signature_def), request.signature)
    feeds = _tensors(path, graph, name, chosen.inputs, "input")
    fetches = _tensors(path, graph, name, chosen.outputs, "output")
    if not feeds or not fetches:
        missing = "outputs" if feeds else "inputs"
        raise ModelError(
            f"the signature {name} of {path.name} has no {missing}", "choose another: --signature"
        )
    found = SessionGraph(session, feeds, fetches, shapes=dict(request.shapes))
    needed = reached(graph.as_graph_def(), found.fetches)
    if needed & {("", node) for node in found.empty_variables()}:
        return _open_objects(path, name, found)
    return found


def _open_objects(path: Path, signature: str, ends: SessionGraph) -> FunctionGraph:
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:
        raise ModelError(
            f"tensorflow {tf.__version__} cannot restore the variables of the SavedModel {path.name}: {first_line(error)}",
            "export the model again",
        ) from error
    function = loaded.signatures[signature]
    keys = sorted(function.structured_input_signature[1])
    outputs = sorted(function.structured_outputs)

    def call(*flat: Any) -> list[Any]:
        answers = function(**dict(zip(keys, flat, strict=True)))
        return [answers[key] for key in outputs]

    names = [s.name for s in ends.outputs]
    return FunctionGraph(call, ends.inputs, names, framework=ends.framework, keep=loaded)


def _tags(saved_model: Any) -> list[str]:
    """The tags of the graph to serve, else of the first."""
    sets = [list(m.meta_info_def.tags) for m in saved_model.meta_graphs]
    serving = [tags for tags in sets if "serve" in tags]
    return min(serving or sets, key=len)


def _choose(path: Path, signatures: Mapping[str, Any], asked: str | None) -> tuple[str, Any]:
    legal = {n: s for n, s in signatures.items() if n != _INIT}
    listed = ", ".join(sorted(legal))
    if asked is not None:
        if asked not in legal:
            raise UsageError(
                f"{path.name} has no signature {asked!r}", f"its signatures: {listed or 'none'}"
            )
        return asked, legal[asked]
    # An export with several endpoints may have a default that takes nothing.
    full = {n: s for n, s in legal.items() if s.outputs}
    if _DEFAULT in full:
        return _DEFAULT, full[_DEFAULT]
    if len(full) == 1:
        return next(iter(full.items()))
    if not full:
        raise ModelError(
            f"the SavedModel {path.name} has no signature", "export it with model.export(folder)"
        )
    raise UsageError(
        f"the SavedModel {path.name} has the signatures {listed}",
        f"choose one: --signature {sorted(full)[0]}",
    )


def _tensors(
    path: Path, graph: Any, signature: str, infos: Mapping[str, Any], kind: str
) -> dict[str, Any]:
    """Tensors of a signature by its keys, sorted."""
    found = {}
    for key in sorted(infos):
        if infos[key].WhichOneof("encoding") != "name":
            raise ModelError(
                f"{kind} {key} of the signature {signature} of {path.name} is a sparse or composite tensor",
                "give a signature of dense tensors",
            )
        found[key] = graph.get_tensor_by_name(infos[key].name)
    names = unique([clean_key(key, kind) for key in found])
    return dict(zip(names, found.values(), strict=True))
