"""Timing on onnxruntime-web's WebAssembly under Node."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgepack.choose.race_web import WebEngine, find_web_engine, race_web
from edgepack.errors import EnvironmentMissing, StepError
from edgepack.targets import load_target
from tests.choose.test_race import products
from tests.conftest import CACHE, need

RUNTIME = load_target("web").runtime
FEED = {"x0": np.ones((64, 256), np.float32)}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> WebEngine:
    modules = need(CACHE / "javascript" / "node_modules" / "onnxruntime-web", "javascript.sh")
    monkeypatch.setenv("EDGEPACK_NODE_MODULES", str(modules.parent))
    return find_web_engine(RUNTIME)


def installed(folder: Path, version: str) -> Path:
    package = folder / "node_modules" / "onnxruntime-web"
    package.mkdir(parents=True)
    (package / "package.json").write_text(json.dumps({"version": version}))
    return folder


def test_the_engine_is_looked_for_in_the_folder_named_and_above(engine: WebEngine) -> None:
    assert engine.version == "1.30.0"
    assert engine.package.name == "package.json"


def test_without_a_name_it_is_looked_for_where_edgepack_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEPACK_NODE_MODULES", raising=False)
    inner = installed(tmp_path, "1.31.0-dev.3") / "src" / "deep"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert find_web_engine(RUNTIME).version == "1.31.0-dev.3"


def test_an_engine_that_is_not_there_is_told_how_to_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPACK_NODE_MODULES", str(tmp_path))
    with pytest.raises(EnvironmentMissing) as caught:
        find_web_engine(RUNTIME)
    assert caught.value.cause == f"onnxruntime-web is not in {tmp_path / 'node_modules'}"
    assert caught.value.fix == "npm install onnxruntime-web@1.30.0"


def test_an_engine_that_is_too_old_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPACK_NODE_MODULES", str(installed(tmp_path, "1.9.7")))
    with pytest.raises(EnvironmentMissing, match=r"is 1\.9\.7, older than 1\.30\.0"):
        find_web_engine(RUNTIME)


def test_the_model_with_fifty_times_the_work_is_slower(tmp_path: Path, engine: WebEngine) -> None:
    models = {"short": products(tmp_path, "short", 1), "long": products(tmp_path, "long", 50)}
    times = race_web(models, FEED, RUNTIME, engine)
    assert times["short"].median_ms < times["long"].median_ms
    assert len(times["short"].times_ms) == len(times["long"].times_ms) >= 7


def test_a_model_that_the_engine_cannot_open_is_an_error(tmp_path: Path, engine: WebEngine) -> None:
    broken = products(tmp_path, "broken", 1)
    broken.path.write_bytes(b"no model")
    with pytest.raises(StepError, match=r"onnxruntime-web 1\.30\.0 cannot run fp32"):
        race_web({"fp32": broken}, FEED, RUNTIME, engine)


def test_an_engine_that_is_broken_is_told_so(tmp_path: Path) -> None:
    package = installed(tmp_path, "1.30.0") / "node_modules" / "onnxruntime-web" / "package.json"
    broken = WebEngine(package=package, version="1.30.0")
    with pytest.raises(EnvironmentMissing, match=r"race_web\.mjs ended with exit 1"):
        race_web({"a": products(tmp_path, "a", 1)}, FEED, RUNTIME, broken)
