"""Every step there is, by the name a target profile uses."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pydantic

from edgepack.passes.bfloat16 import BFloat16
from edgepack.passes.cache_key import CacheKey
from edgepack.passes.float16 import Float16
from edgepack.passes.float16_weights import Float16Weights
from edgepack.passes.int4_weights import Int4Weights
from edgepack.passes.int8 import Int8
from edgepack.passes.int8_weights import Int8Weights
from edgepack.passes.opset import Opset
from edgepack.passes.ort_format import OrtFormat
from edgepack.passes.shapes import Shapes
from edgepack.passes.simplify import Simplify
from edgepack.passes.step import Step, nearest
from edgepack.passes.tune.step import Tune

STEPS: dict[str, type[Step]] = {
    step.name: step
    for step in (
        *(Opset, Shapes, Simplify, Tune),
        *(Float16, BFloat16, Float16Weights, Int8, Int8Weights, Int4Weights),
        *(CacheKey, OrtFormat),
    )
}


def make_step(name: str, options: dict[str, Any]) -> Step:
    """The step `name` with `options`.

    Raises:
        ValueError: no such step or option, or an option's value is not legal. The message names the nearest.
    """
    if name not in STEPS:
        raise ValueError(f"no step {name!r}{nearest(name, list(STEPS))}")
    kind = STEPS[name]
    legal = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    for key in options:
        if key not in legal:
            raise ValueError(f"step {name} has no option {key!r}{nearest(key, legal)}")
    try:
        return pydantic.TypeAdapter(kind).validate_python(options)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        if "error" in first.get("ctx", {}):
            # What the step itself says of its options together.
            raise ValueError(f"step {name}: {first['ctx']['error']}") from error
        option = ".".join(map(str, first["loc"]))
        raise ValueError(f"step {name}: {option} is {first['input']!r}: {first['msg']}") from error
