"""No quantized bundle is written whose loss was not measured, whichever way one comes to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import edgepack
from edgepack.bundle.manifest import Attempt, Manifest
from edgepack.errors import AccuracyError, DataError, UsageError
from edgepack.passes.int8 import Int8
from edgepack.passes.simplify import Simplify
from edgepack.pipeline import BuildResult
from edgepack.targets import list_targets, precision_of
from tests.models import conv_model, images, run_step, wrap, write

INT8_TARGETS = [p.name for p in list_targets() if "int8" in p.precisions]
LABELS = np.arange(40) % 10


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(conv_model(), tmp_path / "net.onnx")


def shipped(manifest: Manifest) -> Attempt:
    """The one attempt that the manifest calls the bundle's own."""
    chosen = manifest.build.precision
    (attempt,) = [a for a in chosen.tried if a.shipped]
    assert attempt.holds
    assert precision_of(attempt.precision) == chosen.chosen
    return attempt


def require_measured(result: BuildResult) -> None:
    """The bundle says what was measured, on what, and that it holds."""
    manifest = edgepack.load_manifest(result.bundle)
    gate, attempt = manifest.build.precision.gate, shipped(manifest)
    assert gate is not None
    assert gate.samples > 0
    assert attempt.score is not None
    assert attempt.drop is not None
    assert attempt.drop <= gate.max_drop
    assert attempt.size == manifest.build.steps[-1].size


def test_int8_asked_for_by_name_is_measured_on_every_target(model: Path, tmp_path: Path) -> None:
    results = edgepack.build(
        model,
        targets=INT8_TARGETS,
        output_dir=tmp_path / "out",
        precision="int8",
        calibration=images(40),
        max_drop=10.0,
    )
    assert [r.precision for r in results] == ["int8"] * len(INT8_TARGETS)
    for result in results:
        require_measured(result)


def test_without_data_int8_is_refused(model: Path, tmp_path: Path) -> None:
    for target in INT8_TARGETS:
        with pytest.raises(UsageError, match="needs calibration data"):
            edgepack.build(model, targets=[target], output_dir=tmp_path / "out", precision="int8")
    assert not (tmp_path / "out").exists()


def test_labels_alone_calibrate_nothing(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs calibration data"):
        edgepack.build(
            model,
            targets=["android"],
            output_dir=tmp_path / "out",
            precision="int8",
            evaluation={"image": images(40), "labels": LABELS},
        )


@pytest.mark.parametrize("prefer", ["speed", "size", "accuracy"])
@pytest.mark.parametrize("calibrated", [False, True])
def test_what_auto_chooses_is_measured_or_not_quantized(
    model: Path, tmp_path: Path, prefer: str, calibrated: bool
) -> None:
    results = edgepack.build(
        model,
        targets=["android", "jetson-orin", "web"],
        output_dir=tmp_path / "out",
        calibration=images(40) if calibrated else None,
        prefer=prefer,  # type: ignore[arg-type]
        max_drop=10.0 if calibrated else None,
    )
    for result in results:
        if result.precision == "int8":
            assert calibrated
            require_measured(result)


def test_random_data_are_measured_on_and_called_random(model: Path, tmp_path: Path) -> None:
    (result,) = edgepack.build(
        model,
        targets=["jetson-orin"],
        output_dir=tmp_path / "out",
        precision="int8",
        calibration="random",
        max_drop=10.0,
    )
    require_measured(result)
    manifest = edgepack.load_manifest(result.bundle)
    assert manifest.build.precision.gate is not None
    assert manifest.build.precision.gate.data == "random calibration data"
    assert manifest.build.golden_from == "random calibration data"


def test_a_variant_that_the_search_ends_with_is_measured(model: Path, tmp_path: Path) -> None:
    """An outlier in the calibration data ruins the plain recipe's ranges; the labels tell."""
    data = images(40)
    data[20] *= 400
    (result,) = edgepack.build(
        model,
        targets=["android"],
        output_dir=tmp_path / "out",
        precision="int8",
        calibration=data,
        evaluation={"image": images(40), "labels": float_classes(model, images(40))},
        max_drop=5.0,
        atol=10.0,
    )
    require_measured(result)
    tried = edgepack.load_manifest(result.bundle).build.precision.tried
    assert not tried[0].holds
    assert shipped(edgepack.load_manifest(result.bundle)).options


def test_what_parity_refuses_in_every_way_is_rescued_by_layers_in_float(
    model: Path, tmp_path: Path
) -> None:
    """No INT8 of this net is that exact; layer after layer in float is."""
    (result,) = edgepack.build(
        model,
        targets=["jetson-orin"],
        output_dir=tmp_path / "out",
        precision="int8",
        calibration=images(40),
        max_drop=10.0,
        atol=0.006,
        rtol=0.0,
    )
    require_measured(result)
    tried = edgepack.load_manifest(result.bundle).build.precision.tried
    assert "changed output" in tried[0].failure
    assert shipped(edgepack.load_manifest(result.bundle)).options["float_nodes"]


def float_classes(model: Path, data: np.ndarray) -> np.ndarray:
    import onnxruntime as ort

    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": data})[0].argmax(axis=1)


def test_what_loses_too_much_leaves_nothing(model: Path, tmp_path: Path) -> None:
    wrong = (float_classes(model, images(40)) + np.arange(40) % 2) % 10
    with pytest.raises(AccuracyError) as caught:
        edgepack.build(
            model,
            targets=["web"],
            output_dir=tmp_path / "out",
            precision="int8",
            calibration=np.full((8, 8, 8, 1), 1e-3, np.float32),
            evaluation={"image": images(40), "labels": wrong},
            max_drop=0.0,
            atol=10.0,
        )
    assert "at best" in caught.value.cause
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("precision", ["fp32", "int8", "auto"])
def test_a_model_that_came_quantized_is_measured_wherever_it_is_called_int8(
    tmp_path: Path, precision: str
) -> None:
    start = run_step(Simplify(), wrap(conv_model(batch=1), tmp_path), tmp_path).model
    source = run_step(Int8(), start, tmp_path, images(20)).model.path
    (result,) = edgepack.build(
        source,
        targets=["android"],
        output_dir=tmp_path / "out",
        precision=precision,
        calibration=images(20),
    )
    if result.precision == "int8":
        require_measured(result)
    # Nothing was quantized here: what is shipped answers as the user's own model does.
    assert max(distance for _, distance in result.worst) <= 0.05


def test_a_metric_without_labels_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no evaluation data"):
        edgepack.build(
            model,
            targets=["android"],
            output_dir=tmp_path / "out",
            calibration=images(8),
            metric="top1",
        )


@pytest.mark.parametrize("metric", ["mse", "mae", "tests.end_to_end.test_nothing_unmeasured:score"])
def test_a_metric_in_its_own_unit_needs_a_bound(model: Path, tmp_path: Path, metric: str) -> None:
    data = {"image": images(20), "labels": np.eye(10)[LABELS[:20]]}
    with pytest.raises(UsageError, match="--max-drop"):
        edgepack.build(
            model,
            targets=["android"],
            output_dir=tmp_path / "out",
            calibration=images(8),
            evaluation=data,
            metric=metric,
        )


def score(answers: list[dict[str, np.ndarray]], labels: list[np.ndarray]) -> float:
    """A metric of a user's own."""
    pairs = zip(answers, labels, strict=True)
    return float(np.mean([(a["probabilities"].argmax() == b).mean() for a, b in pairs]))


def test_no_samples_are_no_measurement(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sample"):
        edgepack.build(
            model,
            targets=["android"],
            output_dir=tmp_path / "out",
            precision="int8",
            calibration=images(8),
            evaluation={"image": images(8)[:0], "labels": LABELS[:0]},
        )


def test_an_int8_bundle_really_holds_integers(model: Path, tmp_path: Path) -> None:
    """What the other tests call quantized is."""
    (result,) = edgepack.build(
        model,
        targets=["jetson-orin"],
        output_dir=tmp_path / "out",
        precision="int8",
        calibration=images(40),
        max_drop=10.0,
    )
    path = result.bundle / edgepack.load_manifest(result.bundle).model.path
    assert any(n.op_type == "QuantizeLinear" for n in onnx.load(path).graph.node)
