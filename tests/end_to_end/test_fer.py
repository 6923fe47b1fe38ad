"""FER's emotion model in four bundles, each answered by a real runtime of its kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgepack
from edgepack.choose.choice import is_quicker
from tests.conftest import CACHE, need
from tests.end_to_end.conftest import TARGETS


def _answers(bundle: Path, faces: np.ndarray) -> np.ndarray:
    return edgepack.run(bundle, {"input_1": faces})["predictions"]


@pytest.mark.parametrize("target", TARGETS)
def test_fp32_stages_stay_within_1e_4_of_keras(fer_builds, target):
    result = fer_builds("fp32")[target]
    assert result.precision == "fp32"
    assert max(distance for _, distance in result.worst) <= 1e-4


@pytest.mark.parametrize("target", TARGETS)
def test_names_of_the_users_model_survive(fer_builds, target):
    manifest = edgepack.load_manifest(fer_builds("fp32")[target].bundle)
    assert [(t.name, t.shape) for t in manifest.inputs] == [("input_1", (1, 64, 64, 1))]
    assert [(t.name, t.shape) for t in manifest.outputs] == [("predictions", (1, 7))]


def test_auto_with_calibration_picks_by_profile(fer_builds):
    picked = {target: r.precision for target, r in fer_builds("auto").items()}
    # Android's candidates are timed, and on some CPUs a net as thin as this one is no quicker in integers.
    timings = fer_builds("auto")["android"].timings
    assert picked == {
        "jetson-orin": "int8",
        "android": "fp32" if timings and is_quicker(timings["fp32"], timings["int8"]) else "int8",
        "ios": "fp16",
        "web": "int8-weights",
    }
    assert all(r.because for r in fer_builds("auto").values())


@pytest.mark.parametrize("precision", ["fp32", "auto"])
@pytest.mark.parametrize("target", TARGETS)
def test_bundles_verify(fer_builds, target, precision):
    result = edgepack.verify(fer_builds(precision)[target].bundle)
    assert result.passed, result.cases


def test_jetson_bundle_answers_through_its_own_loader_in_a_process_of_its_own(fer_builds):
    result = edgepack.verify(fer_builds("fp32")["jetson-orin"].bundle)
    assert (result.loader, result.why) == ("python", "")
    assert result.report["provider"] == "CPUExecutionProvider"


@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "not-isolated"])
def test_chromium_answers_like_python(fer_builds, faces, isolated):
    from tests.device.javascript import browser

    bundle = fer_builds("fp32")["web"].bundle
    outcome = browser.browser_self_test(bundle, isolated)
    assert outcome["passed"], outcome
    answers = browser.browser_run(bundle, {"input_1": faces[:1]})["predictions"]
    np.testing.assert_allclose(answers, _answers(bundle, faces[:1]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_jvm_answers_like_python(fer_builds, faces, precision):
    from tests.device.kotlin import jvm

    bundle = fer_builds(precision)["android"].bundle
    outcome = jvm.jvm_self_test(bundle)
    assert outcome["passed"], outcome
    if precision == "fp32":
        answers = jvm.jvm_run(bundle, {"input_1": faces[:1]})["predictions"]
        np.testing.assert_allclose(answers, _answers(bundle, faces[:1]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_swift_answers_like_python(fer_builds, faces, precision):
    from tests.device.swift import linux

    need(CACHE / "swift", "swift.sh")
    bundle = fer_builds(precision)["ios"].bundle
    outcome = linux.swift_self_test(bundle)
    assert outcome["passed"], outcome
    if precision == "fp32":
        answers = linux.swift_run(bundle, {"input_1": faces[:1]})["predictions"]
        np.testing.assert_allclose(answers, _answers(bundle, faces[:1]), atol=1e-5, rtol=0)
