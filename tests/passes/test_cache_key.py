"""A compiled model's name changes with the model, and reaches whoever compiles it."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from edgepack.passes.cache_key import CacheKey
from edgepack.passes.ort_format import OrtFormat
from edgepack.prove.engine import open_session
from tests.models import answers_of, conv_model, images, run_step, wrap

KEY = "COREML_CACHE_KEY"


def metadata(path: Path) -> dict[str, str]:
    """As ONNX Runtime hands it to a provider."""
    return dict(open_session(path).get_modelmeta().custom_metadata_map)


@pytest.mark.parametrize("style", ["fixed", "runtime"])
def test_the_key_is_the_models_digest_and_stays_in_ort_format(tmp_path: Path, style: str) -> None:
    start = wrap(conv_model(batch=1), tmp_path)
    keyed = run_step(CacheKey(metadata=KEY), start, tmp_path)
    shipped = run_step(OrtFormat(style=style), keyed.model, tmp_path).model  # type: ignore[arg-type]
    assert keyed.facts == {"key": start.sha256}
    assert metadata(keyed.model.path) == metadata(shipped.path) == {KEY: start.sha256}
    assert len(start.sha256) == 64
    assert start.sha256.isalnum()


def test_nothing_else_of_the_model_changes(tmp_path: Path) -> None:
    proto = conv_model(batch=1)
    proto.metadata_props.add(key="author", value="me")
    start = wrap(proto, tmp_path)
    keyed = run_step(CacheKey(metadata=KEY), start, tmp_path).model
    after = onnx.load(keyed.path)
    del after.metadata_props[1:]
    assert after == onnx.load(start.path)
    before = answers_of(start, image=images(1))
    assert (
        answers_of(keyed, image=images(1))["probabilities"].tolist()
        == before["probabilities"].tolist()
    )


def test_another_model_has_another_key_and_an_old_key_does_not_stay(tmp_path: Path) -> None:
    step, start = CacheKey(metadata=KEY), wrap(conv_model(batch=1), tmp_path)
    first = run_step(step, start, tmp_path)
    changed = onnx.load(first.model.path)
    changed.graph.initializer[0].raw_data = bytes(len(changed.graph.initializer[0].raw_data))
    second = run_step(step, wrap(changed, tmp_path, "changed"), tmp_path)
    assert metadata(second.model.path) == {KEY: second.facts["key"]}
    assert second.facts != first.facts
