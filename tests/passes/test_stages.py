"""Stages: what targets share runs once, and each is proved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepack.artifact import ModelFile
from edgepack.cache import Cache
from edgepack.calibrate.calibrator import Calibrator
from edgepack.errors import ParityError
from edgepack.passes.int8 import Int8
from edgepack.passes.ort_format import OrtFormat
from edgepack.passes.plan import ShapeRequest, make_plans
from edgepack.passes.simplify import Simplify
from edgepack.passes.step import Step, StepContext, StepResult
from edgepack.samples.opening import open_samples
from edgepack.stages import Stage, StageRunner
from edgepack.targets import load_target
from tests.models import answers_of, conv_model, images, wrap

Count = Callable[[type[Step]], list[str]]


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Count:
    """Wraps a step's `run`; the list grows by the input's digest with each real run."""

    def wrapped(step: type[Step]) -> list[str]:
        runs: list[str] = []
        original = step.run

        def run(self: Step, model: ModelFile, context: StepContext) -> StepResult:
            runs.append(model.sha256)
            return original(self, model, context)

        monkeypatch.setattr(step, "run", run)
        return runs

    return wrapped


def runner(folder: Path, wrong_by: float = 0.0) -> tuple[StageRunner, ModelFile]:
    start = wrap(conv_model(), folder)
    feeds = [{"image": x[None]} for x in images(3)]
    source = [answers_of(start, **feed) for feed in feeds]
    for answer in source:
        answer["probabilities"] += np.float32(wrong_by)
    samples = open_samples(images(8), specs=start.inputs, folder=folder / "samples")
    calibrator = Calibrator(samples, folder / "prepared", Cache(folder=None))
    (folder / "stages").mkdir()
    return StageRunner(folder / "stages", "model", feeds, source, calibrator, {}), start


def run(stages: StageRunner, start: ModelFile, target: str, precision: str) -> list[Stage]:
    (plan,) = make_plans(
        load_target(target),
        requested=precision,
        calibrated=True,
        shapes=ShapeRequest(),
        atol=None,
        rtol=None,
    )
    return stages.run(plan, start)


def test_what_targets_share_runs_once(tmp_path: Path, count: Count) -> None:
    simplified, quantized = count(Simplify), count(Int8)
    stages, start = runner(tmp_path)
    for target in ("jetson-orin", "jetson-thor", "android", "ios-cpu", "web"):
        run(stages, start, target, "int8")
    assert len(simplified) == 1
    # One recipe for boards, one for all the others.
    assert len(quantized) == 2


def test_a_step_with_other_options_runs_again(tmp_path: Path, count: Count) -> None:
    packed = count(OrtFormat)
    stages, start = runner(tmp_path)
    for target in ("web", "ios-cpu", "android"):
        run(stages, start, target, "fp32")
    # Two styles: fixed for the first two, runtime for the last.
    assert len(packed) == 2


def test_a_new_runner_remembers_nothing(tmp_path: Path, count: Count) -> None:
    simplified = count(Simplify)
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        stages, start = runner(tmp_path / side)
        run(stages, start, "web", "fp32")
    assert len(simplified) == 2


def test_each_stage_is_recorded_in_order_with_its_options_and_distance(tmp_path: Path) -> None:
    stages, start = runner(tmp_path)
    done = run(stages, start, "android", "int8")
    names = ["convert", "opset", "shapes", "simplify", "tune", "int8", "ort_format"]
    assert [s.name for s in done] == names
    assert [s.record.step for s in done] == [s.name for s in done]
    assert done[0].record.facts == {"opset": 17}
    assert done[5].record.options["per_channel"] is True
    assert done[-1].record.sha256 == done[-1].result.model.sha256
    assert all(s.parity[0].passed for s in done)
    assert done[1].parity[0].max_abs < 1e-6 < done[5].parity[0].max_abs
    # From the step on that changes the precision, that precision's bounds hold.
    assert done[3].parity[0].allowed_abs < done[5].parity[0].allowed_abs


def test_a_stage_that_changes_the_answers_stops_the_build_by_name(tmp_path: Path) -> None:
    stages, start = runner(tmp_path, wrong_by=0.01)
    with pytest.raises(ParityError) as caught:
        run(stages, start, "web", "fp32")
    assert "web: stage convert changed output 'probabilities'" in caught.value.cause
    assert f"{0.01:.3g}" in caught.value.cause
