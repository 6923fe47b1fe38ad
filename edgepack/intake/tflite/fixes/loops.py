"""WHILE over tensors that another operator makes beside others."""

from __future__ import annotations

from typing import Any


def single_producers(ctx: Any, node: Any) -> None:
    """Put an Identity between WHILE and a producer of several outputs.

    tf2onnx 1.17 gives each of the body's inputs the shape of its producer's first output (tflite_handlers/tfl_controlflow.py,
    wire_tfl_while_body): behind another loop or a SPLIT that is another tensor's, and onnxruntime refuses the body.
    """
    inputs = list(node.input)
    for place, name in enumerate(inputs):
        producer = node.inputs[place]
        if producer is None or len(producer.output) < 2:
            continue
        same = ctx.make_node(
            "Identity",
            [name],
            shapes=[ctx.get_shape(name)],
            dtypes=[ctx.get_dtype(name)],
            skip_conversion=True,
        )
        inputs[place] = same.output[0]
    if inputs != list(node.input):
        ctx.replace_inputs(node, inputs)
