"""What edgepack builds today is legal by its own rules: real runs of every shipped target in every precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgepack import onnxfile
from edgepack.cache import Cache
from edgepack.calibrate.calibrator import Calibrator
from edgepack.legality.graph import GraphView
from edgepack.legality.macs import int8_mac_share
from edgepack.legality.partition import partition, tables_of
from edgepack.legality.registry import rules_for
from edgepack.legality.require import findings_in, require_legal
from edgepack.legality.rules.files import OpsetRange
from edgepack.legality.subject import Preparation, Subject
from edgepack.passes.plan import ShapeRequest, make_plans
from edgepack.samples.opening import open_samples
from edgepack.targets import TargetProfile, list_targets, load_target, precision_of
from tests.legality.graphs import residual_model
from tests.models import wrap
from tests.weighty import weighty_model

#: The newest operator set and file format that onnxruntime of a version opens; measured, but for 1.17 (its documentation, "Compatibility").
READS = {"1.17.0": (20, 9), "1.23.2": (23, 11), "1.27.0": (26, 13), "1.30.0": (26, 13)}
CASES = [(p.name, precision) for p in list_targets() for precision in p.precisions]


class Runs:
    """Finished graphs, each made once."""

    def __init__(self, folder: Path) -> None:
        self.start = wrap(residual_model(), folder)
        # Small weights stay as they are, and 4 bits take matrix products.
        self.weighty = wrap(weighty_model(), folder, "weighty")
        images = np.random.default_rng(1).random((8, 3, 16, 16)).astype(np.float32)
        samples = open_samples(images, specs=self.start.inputs, folder=folder / "samples")
        calibrator = Calibrator(samples, folder / "calibration", Cache(folder=None))
        self._preparation = Preparation(folder / "steps", "model", calibrator)

    def finished(self, profile: TargetProfile, precision: str) -> Subject:
        plans = make_plans(
            profile,
            requested=precision,
            calibrated=True,
            shapes=ShapeRequest(),
            atol=None,
            rtol=None,
        )
        (plan,) = (p for p in plans if p.way == precision)
        start = self.weighty if precision.endswith("-weights") else self.start
        return self._preparation.subject(plan, start)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("shipped"))


def test_there_are_targets_to_run() -> None:
    assert len(CASES) >= 30


@pytest.mark.parametrize(("target", "precision"), CASES)
def test_what_a_target_builds_breaks_none_of_its_rules(
    runs: Runs, target: str, precision: str
) -> None:
    profile = load_target(target)
    subject = runs.finished(profile, precision)
    assert subject.stopped == ()
    warnings = require_legal(subject.model, profile, precision_of(precision))
    assert {f.severity for f in warnings} <= {"warning"}


@pytest.mark.parametrize("target", [p.name for p in list_targets()])
def test_a_model_of_todays_onnx_becomes_one_that_the_oldest_runtime_of_a_target_reads(
    tmp_path: Path, target: str
) -> None:
    profile, model = load_target(target), residual_model()
    model.opset_import[0].version, model.ir_version = (
        onnx.defs.onnx_opset_version(),
        onnx.IR_VERSION,
    )
    (plan, *_) = make_plans(
        profile, requested="fp32", calibrated=False, shapes=ShapeRequest(), atol=None, rtol=None
    )
    subject = Preparation(tmp_path / "steps", "model", None).subject(plan, wrap(model, tmp_path))
    made = onnxfile.load(subject.model)
    newest = READS[profile.runtime.min_version]
    assert (onnxfile.opset(made), made.ir_version) <= newest
    assert made.ir_version <= newest[1]
    (rule,) = (r for r in rules_for(profile, "fp32") if isinstance(r, OpsetRange))
    assert rule.maximum is not None
    assert rule.maximum <= newest[0]


@pytest.mark.parametrize(("target", "precision"), CASES)
def test_the_providers_of_a_target_share_the_whole_graph_between_them(
    runs: Runs, target: str, precision: str
) -> None:
    profile = load_target(target)
    graph = GraphView.of(runs.finished(profile, precision).model)
    parts = partition(graph, tables_of(profile, precision))
    assert all(p.known for p in parts)
    assert sum(p.operators for p in parts) == len(graph.nodes)
    assert sum(p.mac_share for p in parts) == pytest.approx(1)
    assert all((p.partitions > 0) == (p.operators > 0) for p in parts)


@pytest.mark.parametrize("target", [p.name for p in list_targets()])
def test_int8_holds_nine_tenths_of_the_arithmetic(runs: Runs, target: str) -> None:
    profile = load_target(target)
    graph = GraphView.of(runs.finished(profile, "int8").model)
    findings = findings_in(graph, profile, "int8")
    assert "int8_share" not in {f.rule for f in findings}
    assert int8_mac_share(graph, float_outputs=("Conv", "MatMul", "Gemm")) >= 0.9


@pytest.mark.parametrize("target", ["jetson-orin", "jetson-xavier"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_tensorrt_takes_a_plain_network_in_one_piece(
    runs: Runs, target: str, precision: str
) -> None:
    profile = load_target(target)
    graph = GraphView.of(runs.finished(profile, precision).model)
    first = partition(graph, tables_of(profile))[0]
    assert (first.operator_share, first.partitions, first.left) == (1.0, 1, ())


def test_each_targets_own_int8_recipe_is_illegal_or_worse_on_another_kind_of_device(
    runs: Runs,
) -> None:
    board, phone = load_target("jetson-orin"), load_target("android")
    signed = GraphView.of(runs.finished(phone, "int8").model)
    broken = {f.rule for f in findings_in(signed, board, "int8") if f.severity == "error"}
    assert {"zero_points", "float_bias"} <= broken
    unsigned = GraphView.of(runs.finished(load_target("android-nnapi"), "int8").model)
    broken = {f.rule for f in findings_in(unsigned, board, "int8") if f.severity == "error"}
    assert {"zero_points", "float_bias", "integer_types", "per_channel_weights"} <= broken


def test_onnxruntimes_own_optimizations_give_tensorrt_integer_biases_unless_told_not_to(
    runs: Runs, tmp_path: Path
) -> None:
    """Before a graph is laid on providers, onnxruntime (1.21 and newer, onnxruntime#22889) quantizes float biases itself.

    Once a release leaves them alone, the first assertion fails, and the session option can go from the profile.
    """
    import onnxruntime as ort

    profile = load_target("jetson-orin")
    model = runs.finished(profile, "int8").model
    broken = {}
    for off in ("", "WeightBiasQuantization;BiasQuantization"):
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        options.add_session_config_entry("optimization.disable_specified_optimizers", off)
        ort.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
        graph = GraphView.of(onnxfile.wrap_file(tmp_path / "optimized.onnx"))
        found = findings_in(graph, profile, "int8")
        broken[off] = {f.rule for f in found if f.severity == "error"}
    assert broken[""] == {"float_bias"}
    assert broken["WeightBiasQuantization;BiasQuantization"] == set()
