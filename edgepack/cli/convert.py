"""`edgepack convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.options import (
    AtolOption,
    BatchOption,
    InputsOption,
    Json,
    LayoutOption,
    ModelArgument,
    OpHandlerOption,
    OutputsOption,
    Overwrite,
    RtolOption,
    ShapeOption,
    SignatureOption,
    TrustModelOption,
    intake_request,
    parse_batch,
    parse_shapes,
)

_EPILOG = """Examples:

edgepack convert model.keras -o model.onnx

edgepack convert saved_model/ -o model.onnx --batch 1 --signature classify

edgepack convert frozen.pb -o model.onnx --inputs image,is_training=false --outputs probs

edgepack convert model.tflite -o model.onnx --layout nchw --opset 21"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("convert", epilog=_EPILOG)(convert)


def convert(
    model: ModelArgument,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The .onnx file to write.", show_default=False)
    ],
    shape: ShapeOption = None,
    batch: BatchOption = None,
    atol: AtolOption = None,
    rtol: RtolOption = None,
    signature: SignatureOption = None,
    inputs: InputsOption = None,
    outputs: OutputsOption = None,
    op_handler: OpHandlerOption = None,
    layout: LayoutOption = None,
    trust_model: TrustModelOption = False,
    opset: Annotated[
        int | None,
        typer.Option(
            "--opset", min=7, help="ONNX operator set. [default: 17; an ONNX model's own]"
        ),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Convert a model to ONNX with its own names, and prove that it answers the same."""
    from edgepack.cli.live import live_progress
    from edgepack.cli.show import convert_text, print_json
    from edgepack.conversion import convert as convert_model

    with live_progress(quiet=json) as progress:
        result = convert_model(
            model,
            output,
            shapes=parse_shapes(shape),
            batch=parse_batch(batch),
            atol=atol,
            rtol=rtol,
            opset=opset,
            intake=intake_request(signature, inputs, outputs, op_handler, layout, trust_model),
            overwrite=overwrite,
            progress=progress,
        )
    if json:
        print_json(result.as_json())
    else:
        convert_text(result)
