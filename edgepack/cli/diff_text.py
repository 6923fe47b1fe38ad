"""What `edgepack diff` shows a person: the verdict, then the worst tensors in the order in which they are computed."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from edgepack.comparison import DiffResult, LayerDifference

_FIRST, _WORST, _OUTPUT = "▶", "▼", "●"
#: The column of nodes takes what the others leave, and no less than this; operators are cropped.
_NODE, _SHORTEST, _OPERATOR = 2, 16, 12
#: Outputs that the verdict names.
_ENDS = 4
#: Within this many decibels above the threshold a tensor is shown as near it.
_NEAR_DB = 10.0


def diff_text(result: DiffResult, rows: int | None) -> None:
    """The verdict, and the `rows` worst tensors, or all."""
    console = Console()
    for line in (*_verdict(result), *_outputs(result)):
        console.print(line, highlight=False, soft_wrap=True)
    shown = result.layers if rows is None else tuple(x for x in result.layers if not x.identical)
    if rows is not None and rows < len(shown):
        # Of equals the first: what comes after it only carries it on.
        worst = sorted(shown, key=lambda x: (x.sqnr_db, x.position))[:rows]
        shown = tuple(x for x in result.layers if x in worst or x is result.first)
    if shown:
        console.print(_table(result, shown, console.width))
    for text in _rest(result, shown):
        console.print(text, highlight=False, soft_wrap=True, markup=False)


def _verdict(result: DiffResult) -> list[Text]:
    first, worst = result.first, result.worst
    bound = f"{result.sqnr_below_db:g} dB ({result.because})"
    if worst is None or not result.layers:
        return [Text("nothing to compare: no tensor of one was found in the other", "yellow")]
    if worst.identical:
        return [Text(f"identical: no number differs in {_tensors(len(result.layers))}", "green")]
    if first is None:
        head = Text(f"no divergence: {_tensors(len(result.layers))}, none below {bound}", "green")
        return [head, Text(f"worst: {_place(worst)}, {_db(worst)}")]
    below = sum(x.sqnr_db < result.sqnr_below_db for x in result.layers)
    head = Text(f"first divergence: {_place(first)}, {_db(first)}", "bold red")
    same = first is worst
    return [
        head,
        Text(
            f"worst: {'the same' if same else f'{_place(worst)}, {_db(worst)}'}; "
            f"{below} of {_tensors(len(result.layers))} below {bound}"
        ),
    ]


def _outputs(result: DiffResult) -> list[Text]:
    """What comes out of the model in the end."""
    found = [f"{name} {_db(x)}" for x in result.layers for name in x.outputs]
    more = f", and {len(found) - _ENDS} more" if len(found) > _ENDS else ""
    return [Text(f"output: {', '.join(found[:_ENDS])}{more}")] if found else []


def _table(result: DiffResult, shown: tuple[LayerDifference, ...], width: int) -> Table:
    prefix = _prefix(result)
    cells = [_cells(x, result, prefix) for x in shown]
    heads = ("", "#", "node", "operator", "SQNR dB", "|a−b|", "rel.", "cosine", "by")
    taken = [max(len(c[i]) for c in (heads, *cells)) for i in range(len(heads)) if i != _NODE]
    left = max(_SHORTEST, width - sum(taken) - 2 * len(taken))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in heads:
        numbers = head in ("#", "SQNR dB", "|a−b|", "rel.", "cosine")
        table.add_column(head, justify="right" if numbers else "left", no_wrap=True)
    for x, row in zip(shown, cells, strict=True):
        row[_NODE] = _cropped(row[_NODE], left)
        color = _color(x, result.sqnr_below_db)
        table.add_row(*(Text(c, color if i == _NODE + 2 else "") for i, c in enumerate(row)))
    return table


def _cells(x: LayerDifference, result: DiffResult, prefix: str) -> list[str]:
    name = x.node.removeprefix(prefix) if prefix else x.node
    return [
        _mark(x, result),
        str(x.position),
        name,
        x.operator if len(x.operator) <= _OPERATOR else f"{x.operator[: _OPERATOR - 1]}…",
        _number(x),
        _small(x.max_abs),
        _small(x.max_rel),
        f"{x.cosine:.5f}",
        x.matched,
    ]


def _prefix(result: DiffResult) -> str:
    """The folder that all nodes' names begin with."""
    names = [x.node for x in result.layers if x.operator != "Input"]
    return _common(names)


def _rest(result: DiffResult, shown: tuple[LayerDifference, ...]) -> list[str]:
    lines = []
    left = [x for x in result.layers if x not in shown]
    if left and shown:
        same = sum(x.identical for x in left)
        exact = f", {same} of them identical" if same else ""
        lines.append(f"… {_tensors(len(left))} more, none worse{exact} (--all)")
    if shown:
        prefix = _prefix(result)
        first = f"{_FIRST} first below {result.sqnr_below_db:g} dB  " if result.first else ""
        names = f"; names without {prefix}" if prefix else ""
        lines.append(f"{first}{_WORST} worst  {_OUTPUT} output{names}")
    ways = Counter(x.matched for x in result.layers)
    lines.append(
        f"matched by {', '.join(f'{way}: {n}' for way, n in ways.items())}; "
        f"without counterpart: {len(result.only_a)} of A's, {len(result.only_b)} of B's (--json lists them)"
    )
    lines.append(f"inputs: {result.inputs}, {result.feeds} feed{'s' if result.feeds != 1 else ''}")
    return lines


def _common(names: list[str]) -> str:
    """The longest beginning of all names that ends in a slash; the names of the first and the last in order decide it."""
    first, last = (min(names), max(names)) if len(names) > 1 else ("", "")
    same = next(
        (i for i, (x, y) in enumerate(zip(first, last, strict=False)) if x != y),
        min(len(first), len(last)),
    )
    return first[: first.rfind("/", 0, same) + 1]


def _mark(x: LayerDifference, result: DiffResult) -> str:
    worst = x is result.worst and not x.identical
    return (
        (_FIRST if x is result.first else "")
        + (_WORST if worst else "")
        + (_OUTPUT if x.outputs else "")
    )


def _place(x: LayerDifference) -> str:
    if x.operator == "Input":
        return f"input {x.node}"
    return f"node {_cropped(x.node, 60)} ({x.operator})"


def _db(x: LayerDifference) -> str:
    if x.identical:
        return "identical"
    if math.isfinite(x.sqnr_db):
        return f"{_number(x)} dB"
    return "not finite, or nothing of the signal left"


def _number(x: LayerDifference) -> str:
    if x.identical:
        return "="
    return f"{x.sqnr_db:.1f}" if math.isfinite(x.sqnr_db) else "−∞"


def _small(value: float) -> str:
    if value == 0.0:
        return "0"
    return f"{value:.1e}" if math.isfinite(value) else "∞"


def _color(x: LayerDifference, below_db: float) -> str:
    if x.sqnr_db < below_db:
        return "red"
    return "yellow" if x.sqnr_db < below_db + _NEAR_DB else "green"


def _cropped(text: str, width: int) -> str:
    """Long names keep their ends: that is where they differ."""
    return text if len(text) <= width else f"…{text[1 - width :]}"


def _tensors(count: int) -> str:
    return f"{count} tensor{'s' if count != 1 else ''}"
