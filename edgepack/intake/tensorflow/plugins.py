"""Handlers of the user's own: `--op-handler [OPERATOR=]module:function`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from edgepack.errors import UsageError


def load_handlers(options: Sequence[str]) -> dict[str, tuple[Any, list[Any]]]:
    """The handlers by operator, in tf2onnx's form: `function(graph, node, name, arguments)`.

    Without `OPERATOR=` the function's own name is the operator's. The module is found as `python -m` finds it, in the working
    folder too; it may load the operator's library (tf.load_op_library), so that TensorFlow can answer for the model.

    Raises:
        UsageError: not of that form, or there is no such module or function.
    """
    handlers: dict[str, tuple[Any, list[Any]]] = {}
    for option in options:
        operator, _, place = option.rpartition("=")
        module_name, _, function_name = place.partition(":")
        if not module_name or not function_name:
            raise UsageError(
                f"--op-handler {option!r} is not [OPERATOR=]module:function",
                "write it like --op-handler MyOp=my_handlers:convert_my_op",
            )
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        try:
            function = getattr(importlib.import_module(module_name), function_name)
        except Exception as error:
            raise UsageError(
                f"--op-handler {option}: {type(error).__name__}: {error}",
                f"{module_name}.py must be importable from here and define {function_name}",
            ) from error
        handlers[operator or function_name] = (function, [])
    return handlers
