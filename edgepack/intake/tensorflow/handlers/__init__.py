"""What tf2onnx lacks or gets wrong: handlers of single operators, and rewriters of whole graphs."""

from __future__ import annotations

from typing import Any

from edgepack.intake.tensorflow.handlers import (
    arithmetic,
    arrangement,
    bits,
    colors,
    convolutions,
    doubles,
    patches,
    quantization,
    resampling,
    running_logsumexp,
    sampling,
    scaled_quantization,
    searching,
    segments,
    selection,
    special_functions,
    suppression,
)
from edgepack.intake.tensorflow.handlers.complex_rewriter import split_complex
from edgepack.intake.tensorflow.handlers.erfc import erfc
from edgepack.intake.tensorflow.handlers.integer_division import (
    floor_div,
    floor_mod,
    truncate_mod,
)
from edgepack.intake.tensorflow.handlers.logarithms import expm1, log1p, xlog1py, xlogy

#: For process_tf_graph's `custom_rewriter`.
REWRITERS = (split_complex,)

#: Operators whose handlers run before tf2onnx's rewriters, one of which takes them first and gets them wrong.
EARLY = scaled_quantization.EARLY

_FAMILIES = (
    arithmetic.FAMILY,
    arrangement.FAMILY,
    colors.FAMILY,
    suppression.FAMILY,
    special_functions.FAMILY,
    sampling.FAMILY,
    scaled_quantization.FAMILY,
    doubles.FAMILY,
    convolutions.FAMILY,
    bits.FAMILY,
    patches.FAMILY,
    quantization.FAMILY,
    resampling.FAMILY,
    running_logsumexp.FAMILY,
    searching.FAMILY,
    segments.FAMILY,
    selection.FAMILY,
)

#: For process_tf_graph's `custom_op_handlers`: by operator, a function and its arguments.
HANDLERS: dict[str, tuple[Any, list[Any]]] = {
    "Erfc": (erfc, []),
    "Expm1": (expm1, []),
    "FloorDiv": (floor_div, []),
    "FloorMod": (floor_mod, []),
    "Log1p": (log1p, []),
    "TruncateMod": (truncate_mod, []),
    "Xlog1py": (xlog1py, []),
    "Xlogy": (xlogy, []),
    **{kind: (handler, []) for family in _FAMILIES for kind, handler in family.items()},
}
