"""`edgepack diff`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.options import (
    BatchOption,
    Json,
    ShapeOption,
    SignatureOption,
    TrustModelOption,
    intake_request,
    parse_batch,
    parse_shapes,
)

_EPILOG = """How to read it: SQNR is 10·log10(signal / noise) in decibels: 20 dB is noise of a tenth of the signal, 40 dB of a hundredth; =
means that no number differs. "matched by" says why two tensors are held to be the same: their name, their place in the graph (structure),
or only that they hold nearly the same numbers (values). Both graphs run as they are written, without onnxruntime's optimizations.

Examples:

edgepack diff model.onnx dist/model-android

edgepack diff dist/model-jetson-orin dist/model-android --all

edgepack diff model.keras quantized.onnx --inputs faces.npz --sqnr-below 30

edgepack diff a.onnx b.onnx --json"""
_ROWS = 12


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("diff", epilog=_EPILOG)(diff)


def diff(
    a: Annotated[
        Path,
        typer.Argument(
            metavar="A",
            help="What is right: a model of any format, an .ort file or a bundle.",
            show_default=False,
        ),
    ],
    b: Annotated[
        Path,
        typer.Argument(metavar="B", help="What is held against it: another.", show_default=False),
    ],
    inputs: Annotated[
        Path | None,
        typer.Option(
            "--inputs",
            metavar="FILE.npz",
            help="What both are given: one array [N, …] per input, three samples of it. [default: a bundle's golden inputs, else seeded noise]",
            show_default=False,
        ),
    ] = None,
    sqnr_below: Annotated[
        float | None,
        typer.Option(
            "--sqnr-below",
            metavar="DB",
            help="Decibels below which two tensors have parted. [default: 20 if either model is int8, 40 if either is fp16, else 60]",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[
        int, typer.Option("--rows", min=1, help="How many of the worst tensors to show.")
    ] = _ROWS,
    all_rows: Annotated[bool, typer.Option("--all", help="Show every tensor.")] = False,
    shape: ShapeOption = None,
    batch: BatchOption = None,
    signature: SignatureOption = None,
    trust_model: TrustModelOption = False,
    json: Json = False,
) -> None:
    """Compare two models layer by layer: where they first part, and where they are furthest apart."""
    from edgepack.cli.diff_text import diff_text
    from edgepack.cli.live import live_progress
    from edgepack.cli.show import print_json
    from edgepack.comparison import diff as compare_models

    with live_progress(quiet=json) as progress:
        result = compare_models(
            a,
            b,
            inputs=inputs,
            sqnr_below=sqnr_below,
            shapes=parse_shapes(shape),
            batch=parse_batch(batch),
            intake=intake_request(signature, None, None, None, None, trust_model),
            progress=progress,
        )
    if json:
        print_json(result.as_json())
    else:
        diff_text(result, None if all_rows else rows)
