"""Choosing between two tensors.

tf2onnx 1.17 writes condition·x + (1 − condition)·y wherever it sees no infinity, so what was not chosen still spoils the answer when it is
infinite or NaN: where(x > 0, log(x), 0) is NaN at 0. ONNX's Where chooses.

Source: TensorFlow 2.21, documentation of Select in tf.raw_ops (its condition may be a vector).
"""

from __future__ import annotations

from typing import Any

import onnx

from edgepack.intake.tensorflow.handlers.formula import Formula

_T = onnx.TensorProto
#: Types written as wider ones that hold their numbers: onnxruntime 1.32 has no Where for bool (measured), and those few that
#: every runtime has are the safe ones for the rest.
_WIDER = {
    _T.BFLOAT16: _T.FLOAT,
    _T.BOOL: _T.INT32,
    _T.FLOAT16: _T.FLOAT,
    _T.INT8: _T.INT32,
    _T.INT16: _T.INT32,
    _T.UINT16: _T.INT32,
    _T.UINT32: _T.INT64,
    _T.UINT64: _T.INT64,
}


def select(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write Select or SelectV2 as Where; Select's condition may be a vector, one flag for each row."""
    f = Formula(ctx, node)
    condition, yes, no = f.inputs
    if node.type == "Select" and f.rank(condition) == 1 and f.rank(yes) > 1:
        condition = f.reshape(condition, -1, *[1] * (f.rank(yes) - 1))
    dtype = ctx.get_dtype(node.output[0])
    if dtype in _WIDER:
        yes, no = (f.cast(x, _WIDER[dtype]) for x in (yes, no))
    f.finish(f("Where", condition, yes, no))


FAMILY = {"Select": select, "SelectV2": select}
