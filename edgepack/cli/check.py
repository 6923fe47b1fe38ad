"""`edgepack check`."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgepack.cli.options import (
    BatchOption,
    InputsOption,
    Json,
    LayoutOption,
    OpHandlerOption,
    OutputsOption,
    ShapeOption,
    SignatureOption,
    TrustModelOption,
    intake_request,
    parse_batch,
    parse_shapes,
)

if TYPE_CHECKING:
    from rich.console import Console

    from edgepack.checking import CheckResult
    from edgepack.legality.partition import Part

_EPILOG = """Examples:

edgepack check model.keras -t jetson-orin -t android

edgepack check model.onnx -t jetson-orin --precision int8 --calibration images.npz --second-opinion

edgepack check dist/digits-web --json"""
#: Reasons for leaving operators that a row of the provider table spells out; --json has them all.
_REASONS = 4


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("check", epilog=_EPILOG)(check)


def check(
    model: Annotated[
        Path,
        typer.Argument(
            help="Any model that build takes, or a bundle's folder.", show_default=False
        ),
    ],
    target: Annotated[
        list[str] | None,
        typer.Option(
            "-t",
            "--target",
            help="A target's name or YAML file. Repeatable. [default: a bundle's own]",
            show_default=False,
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            help="auto (the first that a build could make), or one that the target has: fp32, fp16, bf16, int8, fp16-weights, int8-weights, int4-weights.",
        ),
    ] = "auto",
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration",
            metavar="DATA",
            help="Real inputs, as for build. Without, the float graph stands in for the int8 one.",
        ),
    ] = None,
    preprocess: Annotated[
        str | None,
        typer.Option("--preprocess", metavar="NAME|FILE", help="For image files, as for build."),
    ] = None,
    second_opinion: Annotated[
        bool,
        typer.Option(
            "--second-opinion", help="Ask the vendor's real parser too, where one can be had."
        ),
    ] = False,
    shape: ShapeOption = None,
    batch: BatchOption = None,
    signature: SignatureOption = None,
    inputs: InputsOption = None,
    outputs: OutputsOption = None,
    op_handler: OpHandlerOption = None,
    layout: LayoutOption = None,
    trust_model: TrustModelOption = False,
    json: Json = False,
) -> None:
    """Check what of a model a target does not take, and which provider would run which part. Writes nothing.

    Exit code 11 if a target would refuse it, or answer wrong; warnings alone leave it 0.
    """
    from edgepack.checking import check as check_model
    from edgepack.cli.live import live_progress
    from edgepack.cli.show import print_json
    from edgepack.errors import LegalityError

    with live_progress(quiet=json) as progress:
        results = check_model(
            model,
            targets=target or (),
            precision=precision,
            calibration=calibration,
            preprocessing=preprocess,
            shapes=parse_shapes(shape),
            batch=parse_batch(batch),
            intake=intake_request(signature, inputs, outputs, op_handler, layout, trust_model),
            second_opinion=second_opinion,
            progress=progress,
        )
    legal = all(r.legal for r in results)
    if json:
        print_json({"legal": legal, "targets": [r.as_json() for r in results]})
    else:
        _show(results)
    if not legal:
        raise typer.Exit(LegalityError.exit_code)


def _show(results: tuple[CheckResult, ...]) -> None:
    from rich.console import Console

    console = Console()
    for result in results:
        _show_head(console, result)
        _show_parts(console, result)
        _show_findings(console, result)
        for verdict in result.opinions:
            console.print(f"second opinion: {verdict.said}", highlight=False, markup=False)
            for r in verdict.rejections:
                console.print(f"  {r.operator} {r.node}: {r.why}", highlight=False, markup=False)
        errors = sum(f.severity == "error" for f in result.findings)
        warnings = len(result.findings) - errors
        counts = f"{_count(errors, 'error')}, {_count(warnings, 'warning')}"
        verdict_text = "[green]legal[/]" if result.legal else "[red]NOT legal[/]"
        console.print(f"{verdict_text} on {result.target}: {counts}\n", highlight=False)


def _show_head(console: Console, result: CheckResult) -> None:
    after = f" after {', '.join(result.steps)}" if result.steps else ""
    after += f" (before {', '.join(result.rest)})" if result.rest else ""
    facts = [f"opset {result.opset}", _count(result.operators, "operator")]
    facts.append(f"{result.macs:,} multiply-accumulates a run")
    if result.int8_mac_share:
        facts.append(f"{result.int8_mac_share:.0%} of them in INT8")
    if result.uncounted:
        facts.append(f"{_count(result.uncounted, 'node')} not counted (unknown shapes)")
    console.print(
        f"[bold]{result.target}[/] {result.precision}{after}: {', '.join(facts)}", highlight=False
    )
    if result.note:
        console.print(f"  {result.note}", highlight=False, markup=False)


def _show_parts(console: Console, result: CheckResult) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for header in ("provider", "operators", "MACs", "partitions"):
        table.add_column(header, no_wrap=True)
    table.add_column("leaves")
    for p in result.parts:
        if not p.known:
            table.add_row(p.title, "?", "?", "?", "edgepack has no operator table of it")
            continue
        table.add_row(
            p.title,
            f"{p.operators} ({p.operator_share:.0%})",
            f"{p.mac_share:.0%}" if result.macs else "–",
            str(p.partitions),
            escape(_left(p)),
        )
    console.print(table)


def _left(part: Part) -> str:
    """Operators that a provider leaves, those together that it leaves for one reason."""
    by_reason: dict[str, list[str]] = {}
    for left in part.left:
        by_reason.setdefault(left.why, []).append(f"{left.operator} ×{len(left.nodes)}")
    said = [f"{', '.join(which)} ({why})" for why, which in by_reason.items()]
    more = len(said) - _REASONS
    return "; ".join(said[:_REASONS]) + (
        f"; and for {_count(more, 'more reason')}" if more > 0 else ""
    )


def _show_findings(console: Console, result: CheckResult) -> None:
    from rich.markup import escape
    from rich.table import Table

    if not result.findings:
        return
    table = Table()
    for header in ("", "rule"):
        table.add_column(header, no_wrap=True)
    table.add_column("where", overflow="fold", max_width=24)
    table.add_column("what, and what to do", overflow="fold")
    for f, following in zip_longest(result.findings, result.findings[1:]):
        colour = "red" if f.severity == "error" else "yellow"
        source = f"\nsource: {f.source}" if f.source else ""
        last = following is None or (following.rule, following.fix) != (f.rule, f.fix)
        table.add_row(
            f"[{colour}]{f.severity}[/]",
            f.rule,
            escape("\n".join(x for x in (f.operator, f.node) if x) or "the model"),
            escape(f"{f.cause}\nfix: {f.fix}{source}" if last else f.cause),
            # What findings of one rule have in common is said once, below the last.
            end_section=last,
        )
    console.print(table)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
