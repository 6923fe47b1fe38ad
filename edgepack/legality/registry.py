"""Every rule there is, by the name a target profile uses."""

from __future__ import annotations

import difflib
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pydantic

from edgepack.legality.rules.files import FileSize, OpsetRange
from edgepack.legality.rules.interface import InterfaceNames, InterfaceTypes
from edgepack.legality.rules.operators import (
    DiscouragedOperators,
    ForbiddenOperators,
    KnownOperators,
    ProviderOperators,
)
from edgepack.legality.rules.quantization import (
    FloatBias,
    FloatOperators,
    Int8Share,
    IntegerTypes,
    PerChannelWeights,
    ZeroPoints,
)
from edgepack.legality.rules.rule import Rule
from edgepack.legality.rules.shapes import StaticShapes
from edgepack.legality.rules.types import Float16Arithmetic

if TYPE_CHECKING:
    from edgepack.targets import TargetProfile

RULES: dict[str, type[Rule]] = {
    rule.name: rule
    for rule in (
        OpsetRange,
        FileSize,
        StaticShapes,
        InterfaceTypes,
        InterfaceNames,
        KnownOperators,
        ForbiddenOperators,
        DiscouragedOperators,
        ProviderOperators,
        Float16Arithmetic,
        IntegerTypes,
        ZeroPoints,
        FloatBias,
        PerChannelWeights,
        FloatOperators,
        Int8Share,
    )
}
#: The switch of this rule is the profile's own key of that name.
_SWITCHED = StaticShapes.name


def make_rule(name: str, options: dict[str, Any]) -> Rule:
    """The rule `name` with `options`.

    Raises:
        ValueError: no such rule or option, or an option's value is not legal. The message names the nearest.
    """
    if name not in RULES:
        raise ValueError(f"no rule {name!r}{_nearest(name, list(RULES))}")
    kind = RULES[name]
    legal = [f.name for f in fields(kind)]
    for key in options:
        if key not in legal:
            raise ValueError(f"rule {name} has no option {key!r}{_nearest(key, legal)}")
    try:
        return pydantic.TypeAdapter(kind).validate_python(options)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        option = ".".join(map(str, first["loc"]))
        raise ValueError(f"rule {name}: {option} is {first['input']!r}: {first['msg']}") from error


def rules_for(profile: TargetProfile, precision: str) -> tuple[Rule, ...]:
    """The profile's rules for one precision, in the order of `RULES`."""
    rules = [
        make_rule(name, profile.legality[name] or {})
        for name in RULES
        if profile.legality.get(name, False) is not False and name != _SWITCHED
    ]
    if profile.static_shapes:
        rules.append(make_rule(_SWITCHED, profile.legality.get(_SWITCHED) or {}))
    return tuple(r for r in rules if not r.precisions or precision in r.precisions)


def _nearest(name: str, legal: list[str]) -> str:
    near = difflib.get_close_matches(name, legal, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint} (one of {', '.join(sorted(legal)) or 'none'})"
