"""Providers' operator tables: which operators each execution provider takes, and on which conditions. Files in targets/providers."""

from __future__ import annotations

import difflib
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from edgepack.errors import TargetError
from edgepack.resources import TARGETS
from edgepack.yamlfile import YamlFile, explain

TABLES = TARGETS / "providers"
_STRICT = ConfigDict(extra="forbid", frozen=True)

#: Which sizes a provider must know before it runs.
Static = Literal["none", "inner", "all"]


class QuantizedForm(BaseModel):
    """Integer types in which a provider takes an operator between Q/DQ pairs.

    Attributes:
        weights: of the second input; None for operators without one.
        per_channel: whether it may have a scale for each channel.
    """

    model_config = _STRICT
    activations: str
    weights: str | None = None
    per_channel: bool = True


class Conditions(BaseModel):
    """When a provider takes an operator; everything that is not said is taken for granted.

    Attributes:
        types: element types of the input `data`, by numpy's names; None: the table's.
        data: the input that types and ranks speak of; −1: the first output.
        ranks: of the input `data`.
        static: "all": every size of every input is known; "inner": all but the first of the input `data`; None: the table's.
        constants: inputs that must be constants, where they are there.
        zeros: inputs that must be constants of 0, where they are there (zero points).
        attributes: legal values by attribute, where it is there.
        absent: attributes that must not be there.
        outputs: how many outputs may be used.
        minimum, maximum: versions of the operator (the operator set in which it last changed).
        last_axis: the attribute `axis` must be the last.
        after: it is taken only together with one of these, whose result it takes and which nobody else takes.
        quantized: forms in which it is taken between pairs by a provider that looks at pairs as groups.
        note: what the source says besides, and is not checked.
    """

    model_config = _STRICT
    types: tuple[str, ...] | None = None
    data: int = Field(default=0, ge=-1)
    ranks: tuple[int, ...] = ()
    static: Static | None = None
    constants: tuple[int, ...] = ()
    zeros: tuple[int, ...] = ()
    attributes: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    absent: tuple[str, ...] = ()
    outputs: int | None = None
    minimum: int | None = None
    maximum: int | None = None
    last_axis: bool = False
    after: tuple[str, ...] = ()
    quantized: tuple[QuantizedForm, ...] = ()
    note: str = ""


class Group(Conditions):
    """Conditions that several operators share; names with their domain where that is not ONNX's own."""

    names: tuple[str, ...] = Field(min_length=1)


class Opinion(BaseModel):
    """A parser that can be asked for a second opinion.

    Attributes:
        module: the Python package it lies in.
        extra: edgepack's extra that installs it.
        title: what it is, for its verdict.
        compute_capability: of the GPU it compiles for, by the parser's own name.
        stands_for: what the verdict must not be taken for.
    """

    model_config = _STRICT
    module: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    extra: str
    title: str
    compute_capability: str = Field(pattern=r"^SM\d+$")
    stands_for: str


class ProviderTable(BaseModel):
    """What one execution provider takes.

    Attributes:
        provider: ONNX Runtime's name for it.
        title: for people, with the version the table is of.
        source: where the table comes from.
        everything: it takes all operators (the provider that is always there).
        types: element types for operators that do not say their own; empty: any.
        read_as: types it reads as another one (64-bit integers as 32-bit ones).
        static: see `Conditions.static`.
        pairs: how it looks at QuantizeLinear and DequantizeLinear: "nodes": like any other operator; "groups": an operator between
            them is one with them, and taken in the forms it lists alone.
        second_opinion: a parser of the same family that can be asked.
    """

    model_config = _STRICT
    provider: str = Field(pattern=r"^[A-Za-z]+ExecutionProvider$")
    title: str
    source: str
    everything: bool = False
    types: tuple[str, ...] = ()
    read_as: dict[str, str] = Field(default_factory=dict)
    static: Static = "none"
    pairs: Literal["nodes", "groups"] = "nodes"
    second_opinion: Opinion | None = None
    operators: tuple[Group, ...] = ()

    def conditions(self, operator: str) -> Conditions | None:
        """On which conditions it takes an operator; None: not at all."""
        return next((g for g in self.operators if operator in g.names), None)


@lru_cache(maxsize=32)
def load_table(name: str, folder: Path = TABLES) -> ProviderTable:
    """The table in the file `name`.yaml.

    Raises:
        TargetError: there is none (the nearest is given), or it is not valid: names file, line and key.
    """
    path = folder / f"{name}.yaml"
    known = table_names(folder)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise TargetError(
            f"there is no operator table {name!r}", f"{hint}tables: {', '.join(known)}"
        )
    file = YamlFile(path)
    try:
        table = ProviderTable.model_validate(file.data)
    except pydantic.ValidationError as error:
        raise explain(error, file, _KNOWN_KEYS) from error
    names = [n for g in table.operators for n in g.names]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise TargetError(f"{path}: {', '.join(twice)} stand in two groups", "keep one")
    return table


def table_names(folder: Path = TABLES) -> tuple[str, ...]:
    """Names of all tables."""
    return tuple(sorted(p.stem for p in folder.glob("*.yaml")))


_KNOWN_KEYS = {
    "": tuple(ProviderTable.model_fields),
    "operators.*": tuple(Group.model_fields),
    "operators.*.quantized.*": tuple(QuantizedForm.model_fields),
    "second_opinion": tuple(Opinion.model_fields),
}
