"""What the user asks of the intake."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgepack.artifact import Dim
from edgepack.errors import UsageError

#: The order of an image's axes after the batch: channels first or last.
Layout = Literal["nchw", "nhwc"]
LAYOUTS: tuple[Layout, ...] = ("nchw", "nhwc")


@dataclass(frozen=True, kw_only=True)
class IntakeRequest:
    """Which part of the source to take and how; what is empty is found from the source itself.

    Attributes:
        signature: a SavedModel's or TFLite file's signature.
        inputs: where the model begins: names of inputs, layers or tensors. `name=value` fixes an input to a constant.
        outputs: where it ends.
        op_handlers: `[OPERATOR=]module:function`, handlers for operators that tf2onnx does not know.
        layout: the axes that image inputs of the result have.
        shapes: sizes of inputs, for what a source must know before it can be opened: an unknown rank, a layer that takes no free
            size. They are checked and made part of the model by the shapes step.
        trusted: what the model brings along to run (Lambda layers, other packages' classes, operators that act) may run, in the
            same confined process.
    """

    signature: str | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    op_handlers: tuple[str, ...] = ()
    layout: Layout | None = None
    shapes: tuple[tuple[str, tuple[Dim, ...]], ...] = ()
    trusted: bool = False

    def as_json(self) -> dict[str, Any]:
        """Plain data: `IntakeRequest.from_json(r.as_json()) == r`."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> IntakeRequest:
        """The request that `as_json` gave."""
        return IntakeRequest(
            signature=data["signature"],
            inputs=tuple(data["inputs"]),
            outputs=tuple(data["outputs"]),
            op_handlers=tuple(data["op_handlers"]),
            layout=data["layout"],
            shapes=tuple((name, tuple(sizes)) for name, sizes in data["shapes"]),
            trusted=data["trusted"],
        )


def with_shapes(
    request: IntakeRequest | None, shapes: Mapping[str, Sequence[Dim]] | None
) -> IntakeRequest:
    """The request, or an empty one, with the sizes of `--shape` in it."""
    sizes = tuple((name, tuple(dims)) for name, dims in (shapes or {}).items())
    return dataclasses.replace(request or IntakeRequest(), shapes=sizes)


def split_names(options: Sequence[str]) -> tuple[str, ...]:
    """`a,b=1` and repeated options alike → one item each; commas inside brackets stay."""
    items: list[str] = []
    for option in options:
        depth = 0
        items.append("")
        for letter in option:
            depth += (letter == "[") - (letter == "]")
            if letter == "," and depth == 0:
                items.append("")
            else:
                items[-1] += letter
    return tuple(i.strip() for i in items if i.strip())


def as_layout(text: str | None) -> Layout | None:
    """A layout by its name.

    Raises:
        UsageError: there is none of that name.
    """
    for layout in LAYOUTS:
        if text is not None and text.lower() == layout:
            return layout
    if text is None:
        return None
    raise UsageError(f"layout {text!r} is not known", f"use one of: {', '.join(LAYOUTS)}")
