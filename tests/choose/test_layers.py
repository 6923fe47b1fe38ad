"""Which layers a search may leave in float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgepack.cache import Cache
from edgepack.calibrate.calibrator import Calibrator
from edgepack.choose import layers
from edgepack.choose.candidate import Candidate
from edgepack.choose.layers import most_harmful
from edgepack.divergence.layers import LayerError
from edgepack.passes.plan import ShapeRequest, make_plans
from edgepack.prove.engine import answers
from edgepack.samples.opening import open_samples
from edgepack.stages import StageRunner
from edgepack.targets import load_target
from tests.legality.graphs import residual_model
from tests.models import wrap


class Quantized:
    """The residual model in a target's INT8."""

    def __init__(self, target: str, folder: Path) -> None:
        (plan,) = make_plans(
            load_target(target),
            requested="int8",
            calibrated=True,
            shapes=ShapeRequest(),
            atol=10.0,
            rtol=None,
        )
        start = wrap(residual_model(), folder)
        data = np.random.default_rng(1).random((8, 3, 16, 16)).astype(np.float32)
        samples = open_samples(data, specs=start.inputs, folder=folder / "samples")
        calibrator = Calibrator(samples, folder / "calibration", Cache(folder=None))
        feeds = [{"image": data[:1]}]
        stages = folder / "stages"
        stages.mkdir()
        source = answers(start.path, feeds)
        runner = StageRunner(stages, "net", feeds, source, calibrator, {})
        candidate = Candidate(plan=plan, options={}, stages=runner.run(plan, start), measured=None)
        prepared = calibrator.observed(candidate.float_graph).prepared
        self.nodes = list(onnx.load(prepared.path).graph.node)
        self.ranked = most_harmful(candidate, prepared, feeds)


@pytest.mark.parametrize("target", ["jetson-orin", "android", "android-nnapi"])
def test_every_product_that_is_quantized_is_ranked(tmp_path: Path, target: str) -> None:
    """Also where the recipe leaves what it makes in float, as TensorRT's does."""
    made = Quantized(target, tmp_path)
    products = {n.name for n in made.nodes if n.op_type in ("Conv", "Gemm")}
    assert len(products) == 5
    assert products <= set(made.ranked)


def test_what_takes_a_harmful_tensor_comes_right_behind_what_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would stay in integers, whatever made it."""
    worst = LayerError(
        node="project", nodes=("project",), operator="Conv", tensor="c3", own_sqnr_db=3.0, sqnr_db=3.0,
        input_sqnr_db=40.0, quantized=True,
    )  # fmt: skip
    monkeypatch.setattr(layers, "layer_errors", lambda *_: [worst])
    assert Quantized("android", tmp_path).ranked == ("project", "residual")


def test_what_takes_a_quantized_input_is_ranked_for_it(tmp_path: Path) -> None:
    made = Quantized("android", tmp_path)
    (stem,) = [n.name for n in made.nodes if "image" in n.input]
    assert stem in made.ranked
