"""From a traced function to a graph without variables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from edgepack.errors import ModelError
from edgepack.intake.tensorflow.graph import Frozen

#: Variables this large stay out of the GraphDef, if all that reads them takes any tensor for a weight: TensorFlow, protobuf and
#: tf2onnx would each copy them many times (Xception, 92 MB of weights: 14 s and 6.3 GB with plain tf2onnx, 8 s and 1.3 GB so, the
#: proof included).
ASIDE_BYTES = 1 << 16
#: Operators whose tf2onnx handlers do not look at the values of their weights.
_TAKE_WEIGHTS = frozenset(
    [
        "BatchMatMul",
        "BatchMatMulV2",
        "BatchMatMulV3",
        "Conv2D",
        "Conv2DBackpropInput",
        "Conv3D",
        "Conv3DBackpropInputV2",
        "DepthwiseConv2dNative",
        "Einsum",
        "Gather",
        "GatherV2",
        "MatMul",
        "ResourceGather",
    ]
)

_ASSIGNMENTS = (
    "AssignVariableOp",
    "AssignAddVariableOp",
    "AssignSubVariableOp",
    "Assign",
    "AssignAdd",
    "AssignSub",
)


@dataclass(frozen=True, kw_only=True)
class Variable:
    """A variable of a graph: its dtype and shape, and its value when asked."""

    dtype: Any
    shape: Any
    read: Callable[[], NDArray[Any]]

    @property
    def size_bytes(self) -> int:
        """Its value's size."""
        return int((self.shape.num_elements() or 0) * self.dtype.size)


def freeze_function(function: Any, count: int) -> Frozen:
    """The frozen graph of a ConcreteFunction.

    Args:
        function: flat inputs to flat outputs.
        count: how many of its inputs are the model's (captured tensors come after them).

    Raises:
        ModelError: the function assigns to variables.
    """
    # The public convert_variables_to_constants_v2 cannot leave variables out, and copies the graph once more.
    from tensorflow.python.framework import convert_to_constants

    def without_variables(aside: Collection[str]) -> Any:
        data = convert_to_constants._FunctionConverterDataInEager(
            func=function,
            lower_control_flow=False,
            aggressive_inlining=True,
            variable_names_denylist=set(aside),
        )
        return convert_to_constants._replace_variables_by_constants(data)[0]

    handles = {id(v.handle): v for v in function.graph.variables}
    variables = {
        inner.op.name: Variable(dtype=v.dtype, shape=v.shape, read=v.numpy)
        for outer, inner in function.graph.captures
        if (v := handles.get(id(outer))) is not None
    }
    return freeze(
        without_variables,
        variables,
        inputs=tuple(t.name for t in function.inputs[:count]),
        outputs=tuple(t.name for t in function.outputs),
    )


def freeze(
    without_variables: Callable[[Collection[str]], Any],
    variables: Mapping[str, Variable],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> Frozen:
    """The frozen graph; large variables that are plain weights stay out of it.

    Args:
        without_variables: the GraphDef with all variables made constants but those named, which stay resources.
        variables: by the name of the node that stands for each.

    Raises:
        ModelError: the graph assigns to variables.
    """
    aside = {name: v for name, v in variables.items() if v.size_bytes >= ASIDE_BYTES}

    def made(aside: Collection[str]) -> Any:
        graph_def = without_variables(aside)
        # Before anything is folded: constants have no one to assign to, and TensorFlow's optimizers stop at such a graph.
        _drop_assignments(graph_def, outputs)
        return inlined(graph_def, inputs, outputs)

    graph_def = made(aside)
    plain = _plain_weights(graph_def, aside)
    if plain != set(aside):
        aside = {name: aside[name] for name in sorted(plain)}
        graph_def = made(aside)
    _read_from_placeholders(graph_def, aside)
    _refuse_state([*graph_def.node, *(n for f in graph_def.library.function for n in f.node_def)])
    return Frozen(
        graph_def=graph_def,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        weights={f"{name}:0": v.read for name, v in aside.items()},
    )


def inlined(graph_def: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """The graph with constants folded and function calls inlined, those too that were marked to be compiled as a whole.

    Keras compiles some convolutions with XLA (`_XlaMustCompile`); TensorFlow's inliner leaves such calls alone, and tf2onnx has
    no operator for a call. The optimizers are those that tf2onnx asks for ("dependency" for its LSTM patterns; "pruning" and
    "arithmetic" break them).
    """
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, rewriter_config_pb2
    from tensorflow.python.grappler import tf_optimizer

    for function in graph_def.library.function:
        _unmark(function)
    for node in (*graph_def.node, *(n for f in graph_def.library.function for n in f.node_def)):
        _unmark(node)
        # Loops stay loops: tf2onnx knows them better than their lowered form.
        if "_lower_using_switch_merge" in node.attr:
            node.attr["_lower_using_switch_merge"].b = False
    config = config_pb2.ConfigProto()
    config.graph_options.infer_shapes = True
    rewrite = config.graph_options.rewrite_options
    rewrite.min_graph_nodes = -1
    rewrite.optimizers.extend(["constfold", "function", "dependency"])
    rewrite.function_optimization = rewriter_config_pb2.RewriterConfig.AGGRESSIVE
    # Quantize–dequantize pairs around constants are what quantization-aware training leaves: they stay.
    rewrite.experimental_disable_folding_quantization_emulation = True
    meta_graph = meta_graph_pb2.MetaGraphDef()
    meta_graph.graph_def.CopyFrom(graph_def)
    meta_graph.collection_def["train_op"].node_list.value.extend([*inputs, *outputs])
    return tf_optimizer.OptimizeGraph(config, meta_graph)


def _drop_assignments(graph_def: Any, outputs: Sequence[str]) -> None:
    """Drop assignments to what the outputs do not read, such as the seeds of a dropout that inference leaves out.

    Those that are the model's state stay, to be refused when it is known which functions are part of the model.
    """
    _drop_from(graph_def.node, outputs)
    for function in graph_def.library.function:
        gone = _drop_from(function.node_def, list(function.ret.values()))
        for name in [n for n, text in function.control_ret.items() if text in gone]:
            del function.control_ret[name]
        kept = [n for n in function.signature.control_output if n in function.control_ret]
        function.signature.control_output[:] = kept


def _drop_from(nodes: Any, outputs: Sequence[str]) -> set[str]:
    """Names of the assignments that were dropped from `nodes`, the repeated field of a graph or function."""
    by_name = {n.name: n for n in nodes}
    read: set[str] = set()
    todo = [_node(name) for name in outputs]
    while todo:
        name = todo.pop()
        if name not in read:
            read.add(name)
            texts = by_name[name].input if name in by_name else ()
            todo.extend(_node(text) for text in texts if not text.startswith("^"))
    gone = {
        n.name
        for n in nodes
        if n.op in _ASSIGNMENTS and n.name not in read and _node(n.input[0]) not in read
    }
    for place in reversed(range(len(nodes))):
        node = nodes[place]
        if node.name in gone:
            del nodes[place]
        elif any(text.startswith("^") and text[1:] in gone for text in node.input):
            kept = [t for t in node.input if not (t.startswith("^") and t[1:] in gone)]
            node.input[:] = kept
    return gone


def _refuse_state(nodes: Sequence[Any]) -> None:
    state = sorted(n.name for n in nodes if n.op in _ASSIGNMENTS)
    if state:
        raise ModelError(
            f"the model keeps state between runs: {len(state)} assignments to variables ({', '.join(state[:5])})",
            "make the state an input and an output of the model (a recurrent layer: stateful=False, return_state=True)",
        )


def _unmark(node: Any) -> None:
    for mark in ("_XlaMustCompile", "_noinline"):
        if mark in node.attr:
            del node.attr[mark]


def _plain_weights(graph_def: Any, names: Collection[str]) -> set[str]:
    """Those of the resources `names` whose values go into operators that take any tensor for a weight, and nowhere else."""
    reads = _reads(graph_def, names)
    plain = {n.name for n in graph_def.node} & set(names)
    for node in graph_def.node:
        if node.name in reads:
            continue
        for place, text in enumerate(node.input):
            name = reads.get(_node(text))
            if name is None:
                continue
            fits = node.op in _TAKE_WEIGHTS and place < 2
            if node.op == "ResourceGather":
                fits = node.attr["batch_dims"].i == 0
            if not fits or text.startswith("^"):
                plain.discard(name)
    return plain


def _reads(graph_def: Any, names: Collection[str]) -> dict[str, str]:
    """By the node that passes it on, or reads it: which of the resources `names`; the resources themselves among them."""
    passing = [n for n in graph_def.node if n.op in ("Identity", "ReadVariableOp")]
    reads = {name: name for name in names}
    count = 0
    while count != len(reads):
        count = len(reads)
        for node in passing:
            source = reads.get(_node(node.input[0]))
            if source is not None:
                reads[node.name] = source
    return reads


def _read_from_placeholders(graph_def: Any, variables: Mapping[str, Variable]) -> None:
    """Make each resource in `variables` a placeholder of its value, and its reads reads of that."""
    reads = _reads(graph_def, variables)
    for node in graph_def.node:
        if node.name in variables:
            variable = variables[node.name]
            node.op = "Placeholder"
            node.attr.clear()
            node.attr["dtype"].type = variable.dtype.as_datatype_enum
            node.attr["shape"].shape.CopyFrom(variable.shape.as_proto())
        elif node.name in reads:
            node.op = "Identity"
            node.attr.clear()
            node.attr["T"].type = variables[reads[node.name]].dtype.as_datatype_enum
        elif node.op == "ResourceGather" and _node(node.input[0]) in reads:
            dtype, indices = node.attr["dtype"].type, node.attr["Tindices"].type
            node.op = "Gather"
            node.attr.clear()
            node.attr["Tparams"].type = dtype
            node.attr["Tindices"].type = indices


def _node(text: str) -> str:
    """The node that an input names."""
    return text.lstrip("^").split(":")[0]
