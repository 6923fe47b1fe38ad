"""Results as tables for people and JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from edgepack.bundle.manifest import Attempt
    from edgepack.bundle.verify import VerifyResult
    from edgepack.conversion import ConvertResult
    from edgepack.pipeline import BuildResult
    from edgepack.quickstart import QuickstartResult
    from edgepack.targets import TargetProfile


#: Layers that a table names; the manifest names all.
_NAMED = 4
#: Of an error's text in a table, characters that are shown; manifest.json has all of it.
_SAID = 160


def print_json(data: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(data, indent=2, ensure_ascii=False))


def size(size_bytes: int) -> str:
    """Bytes for people: 873 KB."""
    value, unit = float(size_bytes), "B"
    for larger in ("KB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"


def build_table(results: Sequence[BuildResult]) -> None:
    """What was built, how far each stage is from the source, and what to do next."""
    console = Console()
    table = Table(title="Bundles", title_justify="left")
    for heading in ("target", "precision", "size before → after"):
        table.add_column(heading, no_wrap=True)
    table.add_column("worst |a−b| against the source, stage by stage")
    for r in results:
        worst = " · ".join(f"{stage} {distance:.0e}" for stage, distance in r.worst)
        sizes = f"{size(r.size_before)} → {size(r.size_after)}"
        table.add_row(r.target, r.precision, sizes, worst)
    console.print(table)
    for r in results:
        tried_table(console, r)
    for r in results:
        console.print(
            f"[bold]{r.target}[/]  {escape(str(r.bundle))}", highlight=False, soft_wrap=True
        )
        # Several ways may lead to a precision (int8@openvino): it is one of them that is shipped.
        way = next((a.precision for a in r.accuracy.tried if a.shipped), r.precision)
        console.print(f"  {way}: {escape(r.because)}", highlight=False, soft_wrap=True)
        if r.signed_by:
            console.print(f"  signed with key {r.signed_by}", highlight=False, soft_wrap=True)
        if r.left_out:
            console.print(f"  {escape(r.left_out)}", highlight=False, soft_wrap=True)
        if r.untimed:
            said = f"  nothing was timed: {r.untimed}"
            console.print(escape(said), highlight=False, soft_wrap=True)
        console.print(f"  next: {escape(r.next)}", highlight=False, soft_wrap=True)
    console.print(
        f"check one: edgepack verify {escape(str(results[0].bundle))}",
        highlight=False,
        soft_wrap=True,
    )


def tried_table(console: Console, result: BuildResult) -> None:
    """What was tried for one target and how it was measured; nothing where there was nothing to measure."""
    accuracy, gate = result.accuracy, result.accuracy.gate
    if gate is None:
        return
    table = Table()
    table.add_column("tried", ratio=1)
    times = ["ms, one thread here"] if result.timings else []
    for heading in ("drop", "size", *times, ""):
        table.add_column(heading, justify="right", no_wrap=True)
    shown = [a for a in accuracy.tried if not a.options.get("float_nodes")]
    rescues = [a for a in accuracy.tried if a.options.get("float_nodes")]
    if rescues:
        # What is shipped; else one that holds, with the fewest layers in float; else the one that loses least.
        best = min(rescues, key=_rescue)
        shown.insert(max(i for i, a in enumerate(shown) if a.precision == best.precision) + 1, best)
    for attempt in shown:
        timed = result.timings.get(attempt.precision) if attempt.holds else None
        table.add_row(
            escape(_way(attempt)),
            "–" if attempt.drop is None else f"{attempt.drop:.4g}",
            size(attempt.size) if attempt.size else "–",
            *["" if timed is None else f"{timed.median_ms:.3g}" for _ in times],
            _verdict(attempt),
        )
    console.print(f"{result.target}: {gate.said}", style="italic", markup=False, highlight=False)
    console.print(table)
    if len(accuracy.tried) > len(shown):
        console.print(
            f"and {len(accuracy.tried) - len(shown)} with other layers in float; manifest.json has them all"
        )


def _verdict(attempt: Attempt) -> str:
    if attempt.shipped:
        return "[bold green]shipped[/]"
    if attempt.holds:
        return "[green]holds[/]"
    return "[red]refused[/]" if attempt.failure else "[red]loses too much[/]"


def _rescue(attempt: Attempt) -> tuple[bool, bool, float]:
    loss = math.inf if attempt.drop is None else attempt.drop
    return (
        not attempt.shipped,
        not attempt.holds,
        len(attempt.options["float_nodes"]) if attempt.holds else loss,
    )


def _way(attempt: Attempt) -> str:
    """`int8, method entropy, 2 layers in float: conv_1, conv_2`, and why it was refused."""
    parts: list[str] = [attempt.precision]
    parts += [f"{k} {v}" for k, v in attempt.options.items() if k != "float_nodes"]
    kept = attempt.options.get("float_nodes", ())
    if kept:
        named = ", ".join(kept[:_NAMED]) + (" …" if len(kept) > _NAMED else "")
        parts.append(f"{len(kept)} {'layer' if len(kept) == 1 else 'layers'} in float: {named}")
    way, failure = ", ".join(parts), " ".join(attempt.failure.split())
    if not failure:
        return way
    return f"{way}: {failure[:_SAID]}{' …' if len(failure) > _SAID else ''}"


def convert_text(result: ConvertResult) -> None:
    """Where the file is, what its edges are, how far it is from the source."""
    console = Console()
    console.print(f"{result.path}: {size(result.model.size_bytes)}, opset {result.model.opset}")
    for label, specs in (("input", result.model.inputs), ("output", result.model.outputs)):
        for spec in specs:
            console.print(f"  {label}  {spec}", highlight=False, markup=False)
    for p in result.parity:
        console.print(
            f"  parity with {result.framework}: {p.output}: max |a−b| {p.max_abs:.2e}",
            highlight=False,
            markup=False,
        )


def verify_text(result: VerifyResult) -> None:
    """Each golden comparison, and which loader made it."""
    console = Console()
    table = Table(title=f"{result.bundle}: {result.files} files as built", title_justify="left")
    for heading in ("case", "output", "against", "max |a−b|", "allowed", ""):
        table.add_column(heading)
    for c in result.cases:
        distance = "not finite" if c["max_abs"] is None else f"{c['max_abs']:.2e}"
        allowed = f"{c['atol']:.1e} + {c['rtol']:.0e}·|b|"
        verdict = "[green]ok[/]" if c["passed"] else "[red]MISS[/]"
        table.add_row(c["case"], c["output"], c["from"], distance, allowed, verdict)
    console.print(table)
    why = f" ({result.why})" if result.why else ""
    console.print(
        f"golden run through the {result.loader} loader{why} on {result.report['provider']}",
        highlight=False,
        markup=False,
    )
    console.print(
        f"signature: {signature_text(result.signature.as_json())}", highlight=False, markup=False
    )
    console.print("[green]verified[/]" if result.passed else "[red]NOT verified[/]")


def inspect_text(data: dict[str, Any]) -> None:
    """A model or bundle for people."""
    console = Console()

    def line(label: str, text: object) -> None:
        console.print(f"{label:<11}{text}", highlight=False, markup=False)

    if data["kind"] == "bundle":
        release, model = data["release"], data["model"]
        line("bundle", f"{release['app']} {release['version']} for {data['target']['name']}")
        line("model", f"{model['path']}, {model['precision']}, opset {model['opset']}")
        line("precision", data["precision"]["because"])
        line("source", f"{data['source']['name']}, {data['source']['framework']}")
        runtime = data["runtime"]
        line(
            "runtime",
            f"{runtime['package']} {runtime['version']} (at least {runtime['min_version']})",
        )
        line("providers", ", ".join(p["name"] for p in runtime["providers"]))
        line("signature", signature_text(data["signature"]))
        line("size", ", ".join(f"{role} {size(n)}" for role, n in data["sizes"].items()))
    else:
        line("model", f"{data['format']}, {size(data['size'])}, {data['parameters']:,} parameters")
        line("opened by", data["framework"])
    for label in ("inputs", "outputs"):
        for spec in data[label]:
            shape = ", ".join(map(str, spec["shape"]))
            line(label[:-1], f"{spec['name']}: {spec['dtype']} [{shape}]")
    if data["kind"] == "bundle":
        table = Table("step", "size", "worst |a−b|", "facts")
        for step in data["steps"]:
            distances = [p["max_abs"] for p in step["parity"]]
            worst = "not finite" if None in distances else f"{max(distances):.1e}"
            facts = ", ".join(f"{k} {v}" for k, v in step["facts"].items() if "sha256" not in k)
            table.add_row(step["step"], size(step["size"]), worst, facts)
        console.print(table)
    else:
        line("operators", ", ".join(f"{op} ×{n}" for op, n in data["operators"].items()))


def targets_table(profiles: Sequence[TargetProfile]) -> None:
    """All targets, a line each."""
    table = Table("target", "what it is", "precisions", "providers in order")
    for p in profiles:
        providers = ", ".join(q.name.removesuffix("ExecutionProvider") for q in p.runtime.providers)
        table.add_row(p.name, p.title, ", ".join(p.precisions), providers)
    Console().print(table)


def trust_table(data: dict[str, Any]) -> None:
    """Whom a trust file trusts."""
    console = Console()
    table = Table(
        title=f"trust file, version {data['version']}, issued {data['issued']}",
        title_justify="left",
    )
    for heading in ("key", "id", "from", "to", "apps", "state now"):
        table.add_column(heading)
    for key in data["keys"]:
        apps = ", ".join(key["apps"]) or "all"
        span = (key["not_before"][:10], key["not_after"][:10])
        table.add_row(escape(key["name"]), key["id"][:12], *span, apps, key["state"])
    console.print(table)
    for key in data["revoked"]:
        console.print(f"revoked {key['id']}: {escape(key['reason'])}", highlight=False)
    for app, seq in data["min_release_seq"].items():
        console.print(f"{app}: release {seq} or later", highlight=False)


def signature_text(signature: dict[str, Any]) -> str:
    """What is known of a bundle's signature, in a line."""
    key = signature["key_id"]
    return {
        "none": "not signed (edgepack sign BUNDLE --key KEY)",
        "unchecked": f"signed with key {key[:16]}…, not checked: say whom you trust with --trust or --key",
        "trusted": f"trusted: {signature['key_name'] or 'key'}, key {key[:16]}…",
    }[signature["state"]]


def quickstart_table(result: QuickstartResult) -> None:
    """Accuracy of each bundle, and what verified it."""
    console = Console()
    table = Table(
        title=f"One model, {len(result.bundles)} devices, {result.digits} evaluation digits",
        title_justify="left",
    )
    for heading in ("target", "precision", "accuracy", "size before → after", "verified by"):
        table.add_column(heading, no_wrap=True)
    for b in result.bundles:
        table.add_row(
            b.built.target,
            b.built.precision,
            f"{b.accuracy:.2%}",
            f"{size(b.built.size_before)} → {size(b.built.size_after)}",
            f"{b.verified.loader} loader" if b.verified.passed else "[red]NOT verified[/]",
        )
    console.print(table)
    for b in result.bundles:
        console.print(
            f"{b.built.target}: {escape(str(b.built.bundle))}", highlight=False, soft_wrap=True
        )
    first = escape(str(result.bundles[0].built.bundle))
    console.print(f"look inside one: edgepack inspect {first}", highlight=False, soft_wrap=True)
