"""The models of the suite: every dtype and rank, empty tensors, several inputs and outputs, odd names, free dimensions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.bundle_samples import conv_model, make_model, multi_model

#: All that a manifest may hold and that is an identifier nowhere. Nothing beyond Unicode's first 65,536 characters:
#: ONNX Runtime's Java API (1.29) does not find such names, it hands C their "modified UTF-8".
NAMES = (
    *("a b", "a/b", "a:0", "a.b", "a-b", "'a'", '"a"', "a\\b", "$a", "{a}", "%41", "0"),
    *("ä", "入力", "constructor", "toString", "init", "self", "class", "A" * 200),
)
RANKS = ([], [3], [2, 3], [1, 2, 3], [2, 1, 2, 3], [1, 2, 1, 2, 3], [0], [2, 0, 3])


def ranks_model() -> onnx.ModelProto:
    """A scalar, one input of each rank up to 5, two that are always empty; each comes back plus one."""
    return _each([f"rank{len(shape)}-{np.prod(shape):.0f}" for shape in RANKS], RANKS)


def names_model() -> onnx.ModelProto:
    """One input for each odd name; each comes back plus one, under its name with `:out` behind it."""
    return _each(NAMES, [[2]] * len(NAMES))


def free_model() -> onnx.ModelProto:
    """Two free dimensions that share names over two inputs: `a` [batch, length] and `b` [length, batch] to a @ b."""
    value = helper.make_tensor_value_info
    return make_model(
        [helper.make_node("MatMul", ["a", "b"], ["product"])],
        [
            value("a", TensorProto.FLOAT, ["batch", "length"]),
            value("b", TensorProto.FLOAT, ["length", "batch"]),
        ],
        [value("product", TensorProto.FLOAT, ["batch", "batch"])],
        [],
    )


def _each(names, shapes) -> onnx.ModelProto:  # type: ignore[no-untyped-def]
    value = helper.make_tensor_value_info
    one = helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])
    outputs = [f"{name}:out" for name in names]
    return make_model(
        [helper.make_node("Add", [x, "one"], [y]) for x, y in zip(names, outputs, strict=True)],
        [value(x, TensorProto.FLOAT, s) for x, s in zip(names, shapes, strict=True)],
        [value(y, TensorProto.FLOAT, s) for y, s in zip(outputs, shapes, strict=True)],
        [one],
    )


#: By the name of the bundle. `dtypes` has seven dtypes, a free batch and a scalar.
MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "conv": conv_model,
    "dtypes": multi_model,
    "ranks": ranks_model,
    "names": names_model,
    "free": free_model,
}
