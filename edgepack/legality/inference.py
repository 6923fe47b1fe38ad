"""Element types and shapes of all values in a graph, its weights left where they lie."""

from __future__ import annotations

import contextlib
import logging
import warnings
from pathlib import Path

import onnx

from edgepack import onnxfile, weights


def typed(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """A copy of `model` with its functions written out and the type and shape of every value that can be inferred.

    onnx's own inference, and onnxruntime's symbolic one where operators of onnxruntime's domain stand, which onnx does not know.
    What neither knows stays unknown.

    Args:
        folder: what references among the weights are relative to.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if copy.functions:
        copy = onnx.inliner.inline_local_functions(copy)
    for tensor in weights.tensors(copy):
        # Shapes that a Reshape is to give are small, and inference must read them.
        if weights.is_reference(tensor) and weights.size_bytes(tensor) < weights.SMALL_BYTES:
            weights.take_in(tensor, folder)
    lifted = weights.lift(copy)
    # Where it gives up, what is known so far stays: rules say of each tensor they need that it is unknown.
    with contextlib.suppress(onnx.shape_inference.InferenceError):
        copy = onnx.shape_inference.infer_shapes(copy)
    if onnxfile.node_domains(copy) - set(onnxfile.ONNX_DOMAINS):
        _add_symbolic(copy)
    weights.lower(copy, lifted)
    return copy


def _add_symbolic(model: onnx.ModelProto) -> None:
    """Add what onnxruntime's symbolic inference finds besides; where it stumbles, nothing.

    `SymbolicShapeInference.infer_shapes` writes a file into the working directory where some shapes stay unknown; what it calls does not.
    """
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    logger = logging.getLogger("onnxruntime.tools.symbolic_shape_infer")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inference = SymbolicShapeInference(2**31 - 1, True, 0, 0)
            inference._preprocess(model)
            while inference.run_:
                inference._infer_impl()
            found = inference.out_mp_.graph.value_info
    except (
        Exception
    ):  # it raises whatever its handlers stumble over (KeyError, AssertionError, sympy's own)
        return
    finally:
        logger.setLevel(level)
    graph = model.graph
    known = {v.name for v in (*graph.value_info, *graph.input, *graph.output)}
    # It empties the types of what comes out of operators it does not know.
    new = [v for v in found if v.name not in known and v.type.tensor_type.elem_type]
    graph.value_info.extend(new)
