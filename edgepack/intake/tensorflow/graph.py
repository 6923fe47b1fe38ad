"""A TensorFlow model that has been opened: what it answers, and the graph it freezes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from edgepack.artifact import DTYPES, Dim, TensorSpec
from edgepack.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """A graph without variables.

    Attributes:
        graph_def: TensorFlow's GraphDef, function calls inlined where TensorFlow can.
        inputs, outputs: tensor names (`node:0`), in the order of the model's own.
        weights: large variables that stay out of `graph_def`: a float placeholder's tensor name → its value, read when called.
    """

    graph_def: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: Mapping[str, Callable[[], NDArray[Any]]] = field(default_factory=dict)


class TensorFlowGraph(Protocol):
    """Something TensorFlow can run, flat tensors in and out.

    Attributes:
        framework: what answers, with versions.
        layers: names a user knows parts of the model by, if it has such.
    """

    framework: str
    layers: tuple[str, ...]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def input_names(self) -> tuple[str, ...]: ...

    def run(self, feeds: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs, both by position."""
        ...

    def freeze(self) -> Frozen:
        """Raises ModelError: it keeps state between runs, which a frozen graph cannot."""
        ...


def spec(name: str, shape: Any, dtype: Any, *, alone: bool = False) -> TensorSpec:
    """A TensorSpec for a TensorFlow shape and dtype; free dimensions get names.

    Args:
        alone: the model has one input: its dimensions need not carry its name.

    Raises:
        ModelError: a dtype no bundle can carry, or no known rank.
    """
    import tensorflow as tf

    kind = tf.as_dtype(dtype).name
    if kind not in DTYPES:
        raise ModelError(
            f"{name} is of type {kind}, which edge runtimes take no raw tensors of",
            f"move this part out of the model, or cut it off with --inputs and --outputs; dtypes that work: {', '.join(DTYPES)}",
        )
    rank = getattr(shape, "rank", len(shape) if isinstance(shape, (tuple, list)) else None)
    if rank is None:
        raise ModelError(
            f"{name} has no known rank",
            f"give its shape: --shape {name}=SIZES, or give the model an Input with a shape and save it again",
        )
    return TensorSpec(name=name, dtype=kind, shape=dims(name, list(shape), alone=alone))


#: What the axes between batch and channels are called, by the number of axes in all.
_AXES = {3: ("time",), 4: ("height", "width"), 5: ("depth", "height", "width")}


def dims(name: str, sizes: Sequence[int | None], *, alone: bool) -> tuple[Dim, ...]:
    """Sizes as they are, and names for the free ones.

    `batch` for the first axis; then `time`, `height` and so on by the rank, led by `name` if other tensors could differ.
    """
    named: list[Dim] = []
    inner = _AXES.get(len(sizes), ("time",) if len(sizes) == 2 else ())
    for axis, size in enumerate(sizes):
        if size is not None:
            named.append(int(size))
        elif axis == 0:
            named.append("batch")
        elif axis <= len(inner):
            named.append(inner[axis - 1] if alone else f"{name}_{inner[axis - 1]}")
        else:
            named.append(f"{name}_dim{axis}")
    return tuple(named)


def with_sizes(sizes: Sequence[int | None], asked: Sequence[Dim]) -> list[int | None]:
    """`sizes` with those of `asked` in place of free ones, where the ranks agree; a contradiction is left for the shapes step."""
    if len(sizes) != len(asked):
        return list(sizes)
    return [
        new if old is None and isinstance(new, int) else old
        for old, new in zip(sizes, asked, strict=True)
    ]


def unique(names: Sequence[str]) -> list[str]:
    """The names, with `_1`, `_2` … after those that stood before."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, -1) + 1
        result.append(f"{name}_{seen[name]}" if seen[name] else name)
    return result
