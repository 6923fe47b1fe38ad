"""The edges of two models: what both must have in common to be given the same inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.artifact import Dim, ModelFile, TensorSpec
from edgepack.errors import DataError, ModelError, ShapeError


def common_inputs(a: ModelFile, b: ModelFile, names: tuple[str, str]) -> tuple[TensorSpec, ...]:
    """A's inputs, with a size wherever one of the two models has one.

    Raises:
        ModelError: inputs or outputs differ by name or kind of number. ShapeError: by shape.
    """
    for what, here, there in (("inputs", a.inputs, b.inputs), ("outputs", a.outputs, b.outputs)):
        _require_names(what, here, there, names)
        other = {s.name: s for s in there}
        for spec in here:
            _require_kind(what, spec, other[spec.name], names)
    other = {s.name: s for s in b.inputs}
    sizes: dict[str, int] = {}
    merged = [_merged(s, other[s.name], sizes) for s in a.inputs]
    return tuple(
        TensorSpec(
            name=s.name,
            dtype=s.dtype,
            shape=tuple(sizes.get(d, d) if isinstance(d, str) else d for d in s.shape),
        )
        for s in merged
    )


def fitting(
    feeds: Sequence[Mapping[str, NDArray[Any]]], model: ModelFile, origin: str
) -> list[dict[str, NDArray[Any]]]:
    """The feeds in the float types that `model` takes.

    Raises:
        DataError: they are not of its names, shapes or kinds of number; names the input.
    """
    result = []
    for feed in feeds:
        if set(feed) != {s.name for s in model.inputs}:
            raise DataError(
                f"{origin}: it has {_listed(feed)}; the models' inputs are {_listed(s.name for s in model.inputs)}",
                "give one array for each input under its name: np.savez(file, **{name: array})",
            )
        result.append({s.name: _fitted(s, feed[s.name], origin) for s in model.inputs})
    return result


def _fitted(spec: TensorSpec, x: NDArray[Any], origin: str) -> NDArray[Any]:
    dtype = np.dtype(spec.dtype)
    sizes = zip(spec.shape, x.shape, strict=False)
    fits = x.ndim == len(spec.shape) and all(isinstance(d, str) or d == n for d, n in sizes)
    if not fits or x.dtype.kind != dtype.kind:
        raise DataError(
            f"{origin}: {spec.name} is {x.dtype} {list(x.shape)}; the model takes {spec}",
            "give other inputs with --inputs FILE.npz",
        )
    return x.astype(dtype, copy=False)


def _require_names(
    what: str, a: Sequence[TensorSpec], b: Sequence[TensorSpec], names: tuple[str, str]
) -> None:
    here, there = {s.name for s in a}, {s.name for s in b}
    if here != there:
        only = "; ".join(
            f"only in {name}: {_listed(left)}"
            for name, left in zip(names, (here - there, there - here), strict=True)
            if left
        )
        raise ModelError(
            f"the {what} differ by name ({only})",
            "compare models of one source, or cut or rename them alike (edgepack convert --inputs … --outputs …)",
        )


def _require_kind(what: str, a: TensorSpec, b: TensorSpec, names: tuple[str, str]) -> None:
    if np.dtype(a.dtype).kind != np.dtype(b.dtype).kind:
        raise ModelError(
            f"the {what} differ by type: {a} in {names[0]}, {b.dtype} in {names[1]}",
            "compare models that keep the float types at their edges",
        )
    free = len(a.shape) == len(b.shape) and all(
        x == y or isinstance(x, str) or isinstance(y, str)
        for x, y in zip(a.shape, b.shape, strict=False)
    )
    if not free:
        shown = ", ".join(map(str, b.shape))
        raise ShapeError(
            f"the {what} differ by shape: {a} in {names[0]}, [{shown}] in {names[1]}",
            "give both the same sizes and layout (edgepack convert --shape … --layout …)",
        )


def _merged(a: TensorSpec, b: TensorSpec, sizes: dict[str, int]) -> TensorSpec:
    shape: list[Dim] = []
    for x, y in zip(a.shape, b.shape, strict=True):
        if isinstance(x, str) and isinstance(y, int):
            sizes[x] = y
        shape.append(y if isinstance(x, str) and isinstance(y, int) else x)
    return TensorSpec(name=a.name, dtype=a.dtype, shape=tuple(shape))


def _listed(names: Any) -> str:
    return ", ".join(sorted(repr(n) for n in names)) or "nothing"
