"""Erfc: what Keras lowers the exact GELU to."""

from __future__ import annotations

from typing import Any

import numpy as np


def erfc(ctx: Any, node: Any, name: str, args: Any) -> None:
    """erfc(x) = 1 − erf(x), which is its definition.

    Far right, where erfc falls below float32's step at 1 (x > 4), 1 − erf is 0: for the GELU, which multiplies by x/2, that is a
    difference below 1e-7.
    """
    dtype = ctx.get_dtype(node.output[0])
    shape = ctx.get_shape(node.output[0])
    source, result = node.input[0], node.output[0]
    ctx.remove_node(node.name)
    erf = ctx.make_node("Erf", [source], name=f"{name}/Erf", shapes=[shape], dtypes=[dtype])
    kind = np.float16 if dtype == 10 else np.float64 if dtype == 11 else np.float32
    one = ctx.make_const(f"{name}/one", np.array(1, kind))
    ctx.make_node(
        "Sub",
        [one.output[0], erf.output[0]],
        name=f"{name}/Sub",
        outputs=[result],
        shapes=[shape],
        dtypes=[dtype],
    )
