"""Every loader gives the same answers to the same suite, and refuses the same things under the same kinds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conformance.cases import CPU, Case
from tests.conformance.runners import LOADERS, Answers, Loader, reference
from tests.conformance.suite import write_suite

#: Where a runtime's own arithmetic is allowed to differ.
ATOL = 1e-5


@dataclass(frozen=True)
class Suite:
    root: Path
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Outcome:
    """What a loader answered, and what onnxruntime for Python of the same version answers."""

    loader: Loader
    answers: Answers
    version: str
    expected: dict[str, dict[int, Any]]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    root = tmp_path_factory.mktemp("suite")
    return Suite(root, write_suite(root))


@pytest.fixture(scope="module", params=LOADERS, ids=lambda loader: loader.name)
def outcome(request: pytest.FixtureRequest, suite: Suite) -> Outcome:
    loader: Loader = request.param
    answers = loader.run(suite.root)
    versions = {a["report"]["runtime_version"] for a in answers.values() if "report" in a}
    assert len(versions) == 1, versions
    (version,) = versions
    calls = {c.name: [k for k, call in enumerate(c.calls) if not call.kind] for c in suite.cases}
    found = reference(suite.root, {n: ks for n, ks in calls.items() if ks}, version)
    assert found["version"] == version
    expected = {
        name: dict(zip(calls[name], answers, strict=True))
        for name, answers in found["answers"].items()
    }
    return Outcome(loader, answers, version, expected)


def test_the_table_covers_what_it_says(suite: Suite) -> None:
    names = [case.name for case in suite.cases]
    assert len(names) == len(set(names)) > 80
    dtypes = {t.dtype for case in suite.cases for call in case.calls for t in call.inputs.values()}
    assert dtypes == {"float32", "float16", "int8", "uint8", "int32", "int64", "bool"}
    shapes = [t.shape for case in suite.cases for call in case.calls for t in call.inputs.values()]
    assert {len(shape) for shape in shapes} == set(range(6))
    assert any(0 in shape for shape in shapes)
    kinds = {case.kind for case in suite.cases}
    kinds |= {call.kind for case in suite.cases for call in case.calls}
    assert len(kinds - {None}) == 11  # all that runtime/README.md lists


def test_every_case_is_answered(suite: Suite, outcome: Outcome) -> None:
    assert set(outcome.answers) == {case.name for case in suite.cases}


def test_what_cannot_be_opened_is_refused_under_its_kind(suite: Suite, outcome: Outcome) -> None:
    expected = {case.name: case.kind for case in suite.cases}
    got = {n: a["error"]["kind"] if "error" in a else None for n, a in outcome.answers.items()}
    assert _differences(got, expected) == {}
    for answer in outcome.answers.values():
        assert answer.get("error", {"message": "-"})["message"]


def test_the_self_test_says_what_is_off_and_nothing_else(suite: Suite, outcome: Outcome) -> None:
    for case in suite.cases:
        if case.kind:
            continue
        result = outcome.answers[case.name]["self_test"]
        misses = [c for c in result["cases"] if not c["passed"]]
        names = tuple(f"{c['case']}/{c['output']}/{c['from']}" for c in misses)
        assert (names, result["passed"]) == (case.misses, case.passed), case.name


def test_the_report_says_what_opened(suite: Suite, outcome: Outcome) -> None:
    for case in suite.cases:
        if case.kind:
            continue
        report = outcome.answers[case.name]["report"]
        assert report["provider"] == CPU, case.name
        assert tuple(report["passed_over"]) == case.passed_over, case.name
        assert len(report["model_sha256"]) == 64, case.name
        assert report["precision"] == case.precision, case.name


def test_wrong_calls_are_refused_under_their_kind(suite: Suite, outcome: Outcome) -> None:
    expected = {(c.name, call.name): call.kind for c in suite.cases for call in c.calls}
    got = {
        (c.name, call.name): answer.get("error", {}).get("kind")
        for c in suite.cases
        if c.calls
        for call, answer in zip(c.calls, outcome.answers[c.name]["calls"], strict=True)
    }
    assert _differences(got, expected) == {}


def test_answers_are_onnxruntimes_own(suite: Suite, outcome: Outcome) -> None:
    compared = 0
    for case in suite.cases:
        for k, call in enumerate(case.calls):
            if call.kind:
                continue
            got, want = (
                outcome.answers[case.name]["calls"][k]["outputs"],
                outcome.expected[case.name][k],
            )
            assert {y["name"] for y in got} == {y["name"] for y in want}
            for y in want:
                (same,) = (g for g in got if g["name"] == y["name"])
                where = f"{case.name}, {call.name}, {y['name']}"
                assert (same["dtype"], same["shape"]) == (y["dtype"], y["shape"]), where
                if outcome.loader.exact:
                    assert same["hex"] == y["hex"], f"{where}: {_array(same)}, expected {_array(y)}"
                else:
                    _compare(_array(same), _array(y), where)
                compared += 1
    assert compared > 200


def _compare(got: np.ndarray, want: np.ndarray, where: str) -> None:
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want, err_msg=where)
    else:
        np.testing.assert_allclose(got, want, atol=ATOL, rtol=0, equal_nan=True, err_msg=where)


def _array(y: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(y["hex"]), y["dtype"]).reshape(y["shape"])


def _differences(got: dict[Any, Any], expected: dict[Any, Any]) -> dict[Any, tuple[Any, Any]]:
    """Where the two differ: what came, and what was to come."""
    return {k: (got.get(k), want) for k, want in expected.items() if got.get(k) != want}
