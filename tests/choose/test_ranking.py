"""The order in which a search keeps a real model's nodes in float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgepack.artifact import ModelFile
from edgepack.cache import Cache
from edgepack.calibrate.calibrator import Calibrator
from edgepack.choose import ranking
from edgepack.choose.candidate import Candidate, with_options
from edgepack.choose.ranking import Ranking
from edgepack.errors import ParityError
from edgepack.passes.plan import Plan, ShapeRequest, make_plans
from edgepack.prove.engine import Answers, answers
from edgepack.samples.opening import open_samples
from edgepack.stages import StageRunner
from edgepack.targets import load_target
from tests.legality.graphs import residual_model
from tests.models import wrap


class Ranked:
    """The residual model for one target, asked to be as exact as `atol`."""

    def __init__(
        self, folder: Path, *, precision: str, atol: float, source: Answers | None = None
    ) -> None:
        target = "android" if precision == "int8" else "web"
        self.plan = self._plan(target, precision, atol)
        self.start = wrap(residual_model(), folder)
        data = np.random.default_rng(1).random((8, 3, 16, 16)).astype(np.float32)
        samples = open_samples(data, specs=self.start.inputs, folder=folder / "samples")
        calibrator = Calibrator(samples, folder / "calibration", Cache(folder=None))
        feeds = [{"image": data[:1]}]
        stages = folder / "stages"
        stages.mkdir()
        right = source or answers(self.start.path, feeds)
        self.said: list[str] = []
        self.runner = StageRunner(stages, "net", feeds, right, calibrator, {})
        self.ranking = Ranking(
            runner=self.runner,
            converted=self.start,
            calibrator=calibrator,
            feeds=feeds,
            say=self.said.append,
        )

    @staticmethod
    def _plan(target: str, precision: str, atol: float) -> Plan:
        (plan,) = make_plans(
            load_target(target),
            requested=precision,
            calibrated=True,
            shapes=ShapeRequest(),
            atol=atol,
            rtol=0.0,
        )
        # The residual model's weights are few.
        return plan if precision == "int8" else with_options(plan, {"smallest": 1})

    def candidate(self) -> Candidate:
        """Built and let through, or not, as in a search."""
        try:
            stages = self.runner.run(self.plan, self.start)
        except ParityError as error:
            return Candidate(plan=self.plan, options={}, stages=(), measured=None, error=error)
        return Candidate(plan=self.plan, options={}, stages=stages, measured=None)


def test_a_candidate_that_was_not_let_through_is_ranked_like_any_other(tmp_path: Path) -> None:
    folders = [tmp_path / "built", tmp_path / "refused"]
    for folder in folders:
        folder.mkdir()
    built = Ranked(folders[0], precision="int8", atol=10.0)
    refused = Ranked(folders[1], precision="int8", atol=1e-5)
    known, unknown = built.candidate(), refused.candidate()
    assert known.stages
    assert not unknown.stages
    assert built.ranking.order(known) == refused.ranking.order(unknown)
    assert built.ranking.cost(known) == refused.ranking.cost(unknown)


def test_a_model_that_is_wrong_in_float_is_not_ranked(tmp_path: Path) -> None:
    wrong = [{"probabilities": np.full((1, 10), 7.0, np.float32)}]
    made = Ranked(tmp_path, precision="int8", atol=1e-5, source=wrong)
    assert made.ranking.order(made.candidate()) == ()
    assert made.ranking.cost(made.candidate()) == {}


def test_what_a_layer_costs_is_its_arithmetic_or_where_only_weights_change_their_number(
    tmp_path: Path,
) -> None:
    folders = [tmp_path / "int8", tmp_path / "weights"]
    for folder in folders:
        folder.mkdir()
    arithmetic = Ranked(folders[0], precision="int8", atol=10.0)
    weights = Ranked(folders[1], precision="int8-weights", atol=10.0)
    macs = arithmetic.ranking.cost(arithmetic.candidate())
    numbers = weights.ranking.cost(weights.candidate())
    assert macs["stem"] == 16 * 16 * 8 * 27
    assert numbers["stem"] == 8 * 27 + 8


def test_a_model_too_large_to_try_each_layer_alone_is_ranked_by_own_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Ranked(tmp_path, precision="int8", atol=10.0)
    monkeypatch.setattr(ranking, "total_macs", lambda graph: 10**12)
    named: list[tuple[ModelFile, list[str]]] = []

    def fake_most_harmful(candidate: Candidate, prepared: ModelFile, feeds: object) -> list[str]:
        names = [n.name for n in onnx.load(prepared.path).graph.node]
        named.append((prepared, names))
        return names

    monkeypatch.setattr(ranking, "most_harmful", fake_most_harmful)
    assert made.ranking.order(made.candidate()) == named[0][1]
    assert len(made.said) == 1
