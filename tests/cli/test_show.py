"""What a build's table of attempts says."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from edgepack.bundle.manifest import Attempt, ChosenPrecision, GateRecord
from edgepack.cli.show import build_table, tried_table
from edgepack.pipeline import BuildResult
from edgepack.prove.agreement import Judge


def attempt(
    *kept: str, drop: float, holds: bool, shipped: bool = False, failure: str = ""
) -> Attempt:
    return Attempt(
        precision="int8",
        options={"float_nodes": list(kept)} if kept else {},
        size=1000,
        score=100 - drop,
        drop=drop,
        holds=holds,
        failure=failure,
        shipped=shipped,
    )


def built(
    *tried: Attempt, metric: str = "top1", reference: float | None = None, **judged_by: Judge
) -> BuildResult:
    gate = GateRecord(
        metric=metric,
        judged_by=judged_by,
        unit="points",
        max_drop=0.5,
        samples=10,
        data="evaluation data",
        sha256="0" * 64,
        reference=reference,
    )
    return BuildResult(
        target="android",
        bundle=Path("out"),
        precision="int8",
        because="",
        size_before=1,
        size_after=1,
        worst=(),
        accuracy=ChosenPrecision(
            requested="int8", chosen="int8", because="", gate=gate, tried=tried
        ),
        timings={},
        untimed="",
        next="",
    )


def shown(
    *tried: Attempt, metric: str = "top1", reference: float | None = None, **judged_by: Judge
) -> str:
    text = StringIO()
    result = built(*tried, metric=metric, reference=reference, **judged_by)
    tried_table(Console(file=text, width=120), result)
    return text.getvalue()


def test_of_layers_in_float_the_shipped_attempt_is_shown() -> None:
    said = shown(
        attempt(drop=3.0, holds=False),
        attempt("a", "b", drop=0.1, holds=True),
        attempt("c", drop=0.4, holds=True, shipped=True),
        attempt("a", drop=0.6, holds=False),
    )
    assert "1 layer in float: c" in said
    assert "a, b" not in said
    assert "and 2 with other layers in float" in said


def test_the_way_that_is_shipped_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    other = attempt(drop=0.1, holds=True, shipped=True)
    build_table([built(other.model_copy(update={"precision": "int8@openvino"}))])
    assert "int8@openvino: " in capsys.readouterr().out


def test_what_is_shipped_is_told_from_what_would_do_too_and_from_what_failed() -> None:
    said = shown(
        attempt(drop=0.2, holds=True),
        attempt(drop=0.1, holds=True, shipped=True),
        attempt(drop=3.0, holds=False),
        attempt(drop=0.0, holds=False).model_copy(update={"failure": "too far off"}),
    )
    assert re.findall(r"(\w[\w ]*?) +│$", said, re.MULTILINE) == [
        *("holds", "shipped", "loses too much", "refused")
    ]


def test_where_none_holds_the_one_that_loses_least_is() -> None:
    said = shown(
        attempt(drop=3.0, holds=False),
        attempt("a", drop=0.9, holds=False),
        attempt("a", "b", drop=0.7, holds=False),
    )
    assert "2 layers in float: a, b" in said


def test_the_table_says_by_what_each_output_was_judged() -> None:
    held = attempt(drop=0.1, holds=True, shipped=True)
    said = shown(held, metric="agreement", scores="classes", more="classes")
    assert "android: agreement of classes on 10 samples" in said
    said = shown(held, metric="agreement", boxes="values", scores="classes")
    assert "agreement of classes (scores) and values (boxes) on 10 samples" in said
    assert "android: top1 on 10 samples" in shown(held)


def test_the_float_models_own_score_is_there_to_see() -> None:
    """At chance it tells of labels or a preprocessing that are not the model's, whatever the drop."""
    said = shown(attempt(drop=0.1, holds=True, shipped=True), reference=10.21)
    assert "evaluation data (the float model: 10.21), may drop by 0.5 points" in said


def test_what_could_not_be_built_is_refused_and_says_which_it_was() -> None:
    failure = "stage int8 changed output 'y'"
    said = shown(
        attempt(drop=0.0, holds=False, failure=failure),
        attempt("a", "b", drop=0.0, holds=False, failure=failure),
    )
    assert f"int8: {failure}" in said
    assert f"int8, 2 layers in float: a, b: {failure}" in said
    assert said.count("refused") == 2
    assert "loses too much" not in said
