"""A graph that runs in a TensorFlow session: frozen graphs, checkpoints and SavedModels of any age."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.artifact import Dim, TensorSpec
from edgepack.errors import ModelError, UsageError, first_line
from edgepack.intake.tensorflow.freeze import Variable, freeze
from edgepack.intake.tensorflow.graph import Frozen, spec

#: What makes a variable, and the tensor that reads it (`{}` is the node's name).
_VARIABLES = {
    "VarHandleOp": "{}/Read/ReadVariableOp:0",
    "VariableV2": "{}:0",
    "Variable": "{}:0",
}


class SessionGraph:
    """Tensors of a session's graph, by the names they are known under.

    Attributes:
        feeds, fetches: names of the tensors that are the inputs and outputs.
    """

    layers: tuple[str, ...] = ()

    def __init__(
        self,
        session: Any,
        feeds: Mapping[str, Any],
        fetches: Mapping[str, Any],
        *,
        constants: Mapping[str, NDArray[Any]] | None = None,
        weights: Mapping[str, Callable[[], NDArray[Any]]] | None = None,
        framework: str | None = None,
        shapes: Mapping[str, Sequence[Dim]] | None = None,
    ) -> None:
        """Args:
        feeds, fetches: tensors by the name the user knows them by.
        constants: by tensor name, what is fed the same in each run.
        weights: as `Frozen.weights`, where the graph is such a one.
        shapes: sizes of inputs by name, for those whose rank the graph does not know.
        """
        import tensorflow as tf

        self.framework = framework or f"tensorflow {tf.__version__}"
        self._session = session
        self.feeds = [t.name for t in feeds.values()]
        self.fetches = [t.name for t in fetches.values()]
        self._constants = dict(constants or {})
        self._weights = dict(weights or {})
        sizes = shapes or {}
        for name, place in feeds.items():
            if place.shape.rank is None and name in sizes:
                place.set_shape([d if isinstance(d, int) else None for d in sizes[name]])
        self._inputs, self._outputs = dict(feeds), dict(fetches)

    @cached_property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Raises ModelError: a dtype or rank that no bundle can carry; a part of the graph may do without that input."""
        alone = len(self._inputs) == 1
        return tuple(spec(n, t.shape, t.dtype, alone=alone) for n, t in self._inputs.items())

    @cached_property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Raises ModelError: as for `inputs`."""
        alone = len(self._inputs) == 1
        return tuple(
            spec(n, self._shape_of(t), t.dtype, alone=alone) for n, t in self._outputs.items()
        )

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(self._inputs)

    def run(self, feeds: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        return self._run(self.fetches, feeds)

    def _run(self, fetches: Sequence[str], feeds: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        values = dict(zip(self.feeds, feeds, strict=True)) | self._constants
        values |= {name: read() for name, read in self._weights.items()}
        return [np.asarray(o) for o in self._session.run(list(fetches), feed_dict=values)]

    def _shape_of(self, fetch: Any) -> Any:
        """The graph's shape; where not even the rank is known, as after TF 1's loops, that of an answer to zeros, its sizes free."""
        if fetch.shape.rank is not None:
            return fetch.shape
        feeds = [
            np.zeros([1 if isinstance(d, str) else d for d in s.shape], s.dtype)
            for s in self.inputs
        ]
        try:
            (answer,) = self._run([fetch.name], feeds)
        except Exception:
            return fetch.shape
        return tuple(None for _ in answer.shape)

    def freeze(self) -> Frozen:
        from tensorflow.python.framework import convert_to_constants

        graph_def = self._session.graph.as_graph_def(add_shapes=True)
        for node in graph_def.node:
            node.device = ""
        _begin_at(graph_def, self._session.graph, self.feeds, self._constants)
        ends = sorted({n.split(":")[0] for n in (*self.fetches, *self.feeds, *self._weights)})

        variables, empty = self._variables()

        def without_variables(aside: Collection[str]) -> Any:
            return convert_to_constants.convert_variables_to_constants_from_session_graph(
                self._session, graph_def, ends, variable_names_denylist={*aside, *empty}
            )

        frozen = freeze(without_variables, variables, inputs=self.feeds, outputs=self.fetches)
        return Frozen(
            graph_def=frozen.graph_def,
            inputs=frozen.inputs,
            outputs=frozen.outputs,
            weights={**frozen.weights, **self._weights},
        )

    def _variables(self) -> tuple[dict[str, Variable], list[str]]:
        """The variables by the node that makes each, and the nodes of those without a value.

        A SavedModel may hand a function variables that no checkpoint has and that the function does not read.
        """
        import tensorflow as tf

        found = {}
        graph = self._session.graph
        for op in graph.get_operations():
            if op.type in _VARIABLES:
                place = _VARIABLES[op.type].format(op.name)
                found[op.name] = Variable(
                    dtype=tf.as_dtype(op.get_attr("dtype")),
                    shape=tf.TensorShape(op.get_attr("shape")),
                    read=partial(self._session.run, place),
                )
        empty = self.empty_variables()
        return {n: v for n, v in found.items() if n not in empty}, empty

    def empty_variables(self) -> list[str]:
        """Nodes of the variables that hold no value."""
        import tensorflow as tf

        graph = self._session.graph
        with graph.as_default():
            checks = {
                op.name: tf.raw_ops.VarIsInitializedOp(resource=op.outputs[0])
                for op in graph.get_operations()
                if op.type == "VarHandleOp"
            }
        return [name for name, filled in self._session.run(checks).items() if not filled]


def open_session(graph_def: Any) -> Any:
    """A session on a graph of its own.

    Raises:
        ModelError: TensorFlow refuses the graph; its own words are in the error.
    """
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default():
        try:
            tf.import_graph_def(graph_def, name="")
        except Exception as error:
            raise ModelError(
                f"tensorflow {tf.__version__} refuses the graph: {first_line(error)}",
                "freeze the model again; custom operators: --op-handler with a module that loads their library",
            ) from error
    return tf.compat.v1.Session(graph=graph)


def tensor(graph: Any, name: str) -> Any:
    """The tensor called `name`, with or without `:0`.

    Raises:
        UsageError: there is none; the nearest names are given.
    """
    import difflib

    try:
        return graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
    except (KeyError, ValueError) as error:
        names = [op.name for op in graph.get_operations()]
        near = difflib.get_close_matches(name.split(":")[0], names, n=3, cutoff=0.5)
        hint = (
            f"near it: {', '.join(near)}" if near else f"the graph's last: {', '.join(names[-3:])}"
        )
        raise UsageError(f"the graph has no tensor {name!r}", hint) from error


def _begin_at(
    graph_def: Any, graph: Any, feeds: Sequence[str], constants: Mapping[str, NDArray[Any]]
) -> None:
    """Make fed nodes placeholders, so that nothing before them is part of the model, and constants of what is always the same.

    Raises:
        UsageError: a feed is one of several outputs of a node.
    """
    import tensorflow as tf

    nodes = {node.name: node for node in graph_def.node}
    for name in (*feeds, *constants):
        place = graph.get_tensor_by_name(name)
        node = nodes[place.op.name]
        if node.op == "Placeholder" and name in feeds:
            continue
        if len(place.op.outputs) > 1:
            raise UsageError(
                f"{name} is one of {len(place.op.outputs)} outputs of a {node.op}: the model cannot begin there",
                "begin at what it feeds",
            )
        del node.input[:]
        node.attr.clear()
        node.attr["dtype"].type = place.dtype.as_datatype_enum
        if name in constants:
            node.op = "Const"
            node.attr["value"].tensor.CopyFrom(
                tf.make_tensor_proto(constants[name], dtype=place.dtype)
            )
        else:
            node.op = "Placeholder"
            node.attr["shape"].shape.CopyFrom(place.shape.as_proto())
