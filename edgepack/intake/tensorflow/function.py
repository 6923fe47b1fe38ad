"""A model that is a function of tensors: Keras models, and SavedModels that only TF 2's loader restores."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.artifact import TensorSpec
from edgepack.errors import ModelError, first_line
from edgepack.intake.tensorflow.freeze import freeze_function
from edgepack.intake.tensorflow.graph import Frozen, spec, unique


class FunctionGraph:
    """A function of flat tensors, traced once."""

    def __init__(
        self,
        call: Callable[..., Sequence[Any]],
        inputs: Sequence[TensorSpec],
        output_names: Sequence[str],
        *,
        framework: str,
        layers: Sequence[str] = (),
        keep: Any = None,
    ) -> None:
        """Args:
            call: flat tensors in the order of `inputs` → flat tensors in the order of `output_names`.
            keep: what must stay alive while the function is used.

        Raises:
            ModelError: it cannot be traced with these shapes; its own words are in the error.
        """
        import tensorflow as tf

        self.framework = framework
        self.layers = tuple(layers)
        self.inputs = tuple(inputs)
        signature = [
            tf.TensorSpec([None if isinstance(d, str) else d for d in s.shape], s.dtype)
            for s in inputs
        ]
        self._keep = keep
        self._function = tf.function(lambda *flat: tuple(call(*flat)), input_signature=signature)
        try:
            self._traced = traced = self._function.get_concrete_function()
        except Exception as error:
            free = [s for s in inputs if s.free_dims]
            listed = ", ".join(map(str, free))
            raise ModelError(
                f"the model cannot be traced as a graph for {listed or 'its inputs'}: {_reason(error)}",
                f"give sizes: --shape {free[0].name}=SIZES" if free else "rewrite that layer",
            ) from error
        self.outputs = tuple(
            spec(name, t.shape, t.dtype, alone=len(inputs) == 1)
            for name, t in zip(unique(output_names), traced.structured_outputs, strict=True)
        )

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(s.name for s in self.inputs)

    def run(self, feeds: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        import tensorflow as tf

        return [np.asarray(o) for o in self._function(*[tf.constant(f) for f in feeds])]

    def freeze(self) -> Frozen:
        return freeze_function(self._traced, len(self.inputs))


def _reason(error: Exception) -> str:
    """What a layer said, without the stack that TensorFlow writes before it and the arguments that Keras lists after it."""
    text = re.sub(r"\x1b\[\d*m", "", str(error)).split("Arguments received by")[
        0
    ]  # Keras writes in bold.
    lines = [line.strip() for line in text.splitlines()]
    words = [line for line in lines if line and not line.startswith(("File ", "in user code"))]
    named = [i for i, line in enumerate(words) if "Error: " in line]
    return (" ".join(words[named[-1] :]) if named else first_line(error))[:300]
