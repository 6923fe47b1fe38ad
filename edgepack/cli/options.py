"""Options that several commands share, and the parsing of their values."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgepack.errors import UsageError

if TYPE_CHECKING:
    from edgepack.intake.request import IntakeRequest

ModelArgument = Annotated[
    Path,
    typer.Argument(
        help="A .keras, .h5/.hdf5, SavedModel folder, .tflite, .onnx, frozen .pb or TF 1 checkpoint.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
ShapeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="INPUT=SIZES",
        help="Sizes of an input, e.g. image=1x64x64x1; `?` leaves a dimension free, tokens=batch,length names it. Repeatable.",
    ),
]
BatchOption = Annotated[
    str | None,
    typer.Option(
        "--batch",
        metavar="N|free",
        help="Size of a free batch dimension. [default: the profile's, 1]",
    ),
]
AtolOption = Annotated[
    float | None,
    typer.Option("--atol", help="Absolute parity tolerance, instead of the profile's."),
]
RtolOption = Annotated[
    float | None,
    typer.Option("--rtol", help="Relative parity tolerance, instead of the profile's."),
]
SignatureOption = Annotated[
    str | None, typer.Option("--signature", help="Signature of a SavedModel or TFLite file.")
]
InputsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--inputs",
        metavar="NAMES",
        help="Where the model begins: names of inputs or tensors, by comma. NAME=VALUE fixes one, e.g. is_training=false.",
    ),
]
OutputsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--outputs",
        metavar="NAMES",
        help="Where the model ends: names of outputs, Keras layers or tensors, by comma.",
    ),
]
OpHandlerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--op-handler",
        metavar="[OP=]MODULE:FUNCTION",
        help="tf2onnx handler for an operator it does not know. Runs your code. Repeatable.",
    ),
]
LayoutOption = Annotated[
    str | None,
    typer.Option(
        "--layout", metavar="nchw|nhwc", help="Axes of image inputs. [default: the model's]"
    ),
]
KeyOption = Annotated[
    Path,
    typer.Option(
        "--key", metavar="FILE.pem", help="The private key that signs.", show_default=False
    ),
]
TrustModelOption = Annotated[
    bool,
    typer.Option(
        "--trust-model",
        help="Let code run that the model brings along (Lambda layers, your packages' classes, operators that act), confined.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is already there.")]


def ask_password() -> str | None:
    """The password of an encrypted key, asked for where somebody can answer."""
    if not sys.stdin.isatty():
        return None
    answer: str = typer.prompt("password of the key", hide_input=True, err=True)
    return answer


def intake_request(
    signature: str | None,
    inputs: list[str] | None,
    outputs: list[str] | None,
    op_handler: list[str] | None,
    layout: str | None,
    trust_model: bool,
) -> IntakeRequest:
    """The options of every command that opens a model, as the request they make.

    Raises:
        UsageError: a layout that is not known.
    """
    from edgepack.intake.request import IntakeRequest, as_layout, split_names

    return IntakeRequest(
        signature=signature,
        inputs=split_names(inputs or ()),
        outputs=split_names(outputs or ()),
        op_handlers=tuple(op_handler or ()),
        layout=as_layout(layout),
        trusted=trust_model,
    )


#: 1x64x?x3, or with names 1,height,?,3.
_SIZES = re.compile(r"(\d+|\?)(x(\d+|\?))*|(\d+|\?|[A-Za-z_]\w*)(,(\d+|\?|[A-Za-z_]\w*))+")


def parse_shapes(options: list[str] | None) -> dict[str, tuple[int | str, ...]]:
    """`name=1x64x64x1` or `name=1,64,64,1` → {name: (1, 64, 64, 1)}; `?` leaves a free dimension, a word after a comma names it.

    Raises:
        UsageError: not of that form, or an input is given twice.
    """
    shapes: dict[str, tuple[int | str, ...]] = {}
    for option in options or []:
        name, separator, sizes = option.rpartition("=")
        if not separator or not name or not _SIZES.fullmatch(sizes):
            raise UsageError(
                f"--shape {option!r} is not INPUT=SIZES", "write it like --shape image=1x64x64x1"
            )
        if name in shapes:
            raise UsageError(f"--shape {name} is given twice", "give each input once")
        parts = sizes.split("," if "," in sizes else "x")
        dims = tuple(int(d) if d.isdigit() else d for d in parts)
        if 0 in dims:
            raise UsageError(f"--shape {option!r} has a size of 0", "sizes start at 1")
        shapes[name] = dims
    return shapes


def parse_batch(option: str | None) -> int | str | None:
    """A positive number or "free".

    Raises:
        UsageError: anything else.
    """
    if option is None or option == "free":
        return option
    if not re.fullmatch(r"[1-9]\d*", option):
        raise UsageError(f"--batch {option!r} is no size", "give a number from 1, or free")
    return int(option)
