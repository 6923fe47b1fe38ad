"""manifest.json: its laws, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rfc8785

import edgepack
from edgepack.bundle.manifest import Manifest
from edgepack.errors import BundleError

TARGETS = ("jetson-orin", "android", "web")
PLACE = Path("somewhere/manifest.json")
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def data(built: Path) -> dict[str, Any]:
    """A valid manifest as plain data."""
    manifest: dict[str, Any] = json.loads((built / "tiny-android" / "manifest.json").read_bytes())
    return manifest


def parse(data: object) -> Manifest:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return Manifest.from_json(text, place=PLACE)


def refusal(data: object) -> BundleError:
    with pytest.raises(BundleError) as caught:
        parse(data)
    assert caught.value.cause.startswith(str(PLACE))
    return caught.value


# Laws


@pytest.mark.parametrize("target", TARGETS)
def test_reading_gives_back_what_was_written(built: Path, target: str) -> None:
    manifest = edgepack.load_manifest(built / f"tiny-{target}")
    assert parse(manifest.to_json()) == manifest


@pytest.mark.parametrize("target", TARGETS)
def test_the_text_is_canonical_json(built: Path, target: str) -> None:
    text = (built / f"tiny-{target}" / "manifest.json").read_bytes()
    assert text == rfc8785.dumps(json.loads(text))
    assert text == edgepack.load_manifest(built / f"tiny-{target}").to_json()


def test_the_order_of_keys_does_not_matter(data: dict[str, Any]) -> None:
    backwards = {key: data[key] for key in reversed(data)}
    assert parse(backwards) == parse(data)
    assert parse(backwards).to_json() == parse(data).to_json()


@pytest.mark.parametrize("target", TARGETS)
def test_there_is_no_time_place_or_machine_in_it(built: Path, target: str) -> None:
    for name in ("manifest.json", "build.log"):
        text = (built / f"tiny-{target}" / name).read_text(encoding="utf-8")
        assert str(built) not in text
        assert str(Path.home()) not in text
        assert not re.search(r"\b20\d\d-\d\d-\d\d|\d\d:\d\d:\d\d", text)


def test_it_holds_what_was_asked_for(data: dict[str, Any]) -> None:
    assert data["release"] == {"app": "tiny", "version": "1.2.3", "seq": 7}
    assert data["schema"] == 1
    assert data["critical"] == []
    assert data["build"]["source"]["name"] == "tiny.onnx"
    assert data["build"]["precision"]["requested"] == "auto"
    assert [s["step"] for s in data["build"]["steps"]][:3] == ["convert", "opset", "shapes"]
    assert [f["path"] for f in data["files"]] == sorted(f["path"] for f in data["files"])


def test_a_golden_case_expects_the_shipped_and_the_sources_answer(data: dict[str, Any]) -> None:
    assert [case["name"] for case in data["golden"]] == ["0", "1", "2"]
    for case in data["golden"]:
        shipped, source = case["expect"]
        assert (shipped["from"], source["from"]) == ("shipped", "source")
        # The device may be off from the shipped answer, and the shipped answer from the source's.
        assert source["atol"] > shipped["atol"] > 0


# What is refused


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff\xfe", b"[1]", b'"text"', b"null", b"7", b"[" * 100_000]
)
def test_what_is_no_json_object_is_refused(text: bytes) -> None:
    refusal(text)


@pytest.mark.parametrize("value", ["\ud800", 1 << 60])
def test_what_canonical_json_cannot_say_is_refused(data: dict[str, Any], value: object) -> None:
    """Found by fuzzing: half a surrogate pair, and a number that not every reader takes for the same one."""
    data["build"]["steps"][0]["facts"]["odd"] = value
    refusal(json.dumps(data).encode())


@pytest.mark.parametrize("place", ["top", "nested"])
def test_a_key_that_is_there_twice_is_refused(data: dict[str, Any], place: str) -> None:
    text = json.dumps(data)
    was, twice = {
        "top": ('"schema": 1', '"schema": 1, "schema": 1'),
        "nested": ('"app": "tiny"', '"app": "tiny", "app": "tiny"'),
    }[place]
    assert text.count(was) == 1
    error = refusal(text.replace(was, twice).encode())
    assert "is there twice" in error.cause


def test_a_newer_schema_is_refused_with_the_remedy(data: dict[str, Any]) -> None:
    error = refusal({**data, "schema": 2, "something": "new"})
    assert "schema 2" in error.cause
    assert error.fix == "upgrade edgepack"


@pytest.mark.parametrize("schema", [0, -1, "1", 1.5, True, None])
def test_a_schema_that_never_was_is_refused(data: dict[str, Any], schema: object) -> None:
    assert "schema" in refusal({**data, "schema": schema}).cause


def test_an_unknown_critical_field_is_refused_by_name(data: dict[str, Any]) -> None:
    error = refusal({**data, "critical": ["signature", "sealed"], "sealed": True})
    assert "signature, sealed" in error.cause
    assert error.fix == "upgrade edgepack"


@pytest.mark.parametrize("critical", [5, {"a": 1}, [["files"]], [{}], [1], "files"])
def test_a_critical_that_is_no_list_of_names_is_refused(
    data: dict[str, Any], critical: object
) -> None:
    refusal({**data, "critical": critical})


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../up", "a/../../up", "a\\b", "./a", "a//b", "a/", ".", "", "a/./b"],
)
@pytest.mark.parametrize("where", ["file", "model", "input", "expectation"])
def test_a_path_that_leaves_the_bundle_is_refused(
    data: dict[str, Any], path: str, where: str
) -> None:
    holder = {
        "file": data["files"][0],
        "model": data["model"],
        "input": data["golden"][0]["inputs"][0],
        "expectation": data["golden"][0]["expect"][0],
    }[where]
    holder["path"] = path
    assert "path" in refusal(data).cause


@pytest.mark.parametrize("language", ["../python", "/tmp", "a/b", "..", "", "Python\n"])
def test_a_language_is_a_plain_name(data: dict[str, Any], language: str) -> None:
    data["runtime"]["language"] = language
    assert "runtime.language" in refusal(data).cause


def _set(*keys: str | int, to: object) -> Change:
    def change(data: Any) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (_set("extra", to=1), "extra"),
        (_set("model", "extra", to=1), "model.extra"),
        (_set("files", 0, "extra", to=1), "files.0.extra"),
        (_set("files", 0, "sha256", to="ABC"), "files.0.sha256"),
        (_set("files", 0, "sha256", to="A" * 64), "files.0.sha256"),
        (_set("files", 0, "size", to=-1), "files.0.size"),
        (_set("files", 0, "size", to="7"), "files.0.size"),
        (_set("files", 0, "role", to="virus"), "files.0.role"),
        (_set("target", "name", to='x", "exports": "./golden'), "target.name"),
        (_set("runtime", "version", to='1.0.0"'), "runtime.version"),
        (_set("model", "format", to="tflite"), "model.format"),
        (_set("model", "precision", to="int4"), "model.precision"),
        (_set("release", "seq", to=-1), "release.seq"),
        (_set("release", "app", to="a/b"), "release.app"),
        (_set("release", "app", to=".."), "release.app"),
        (_set("runtime", "providers", 0, "name", to="rm -rf"), "runtime.providers.0.name"),
        (_set("golden", 0, "expect", 0, "from", to="hearsay"), "golden.0.expect.0.from"),
        (_set("golden", 0, "expect", 0, "atol", to=float("nan")), "NaN"),
        (_set("golden", 0, "expect", 0, "atol", to=-1.0), "golden.0.expect.0.atol"),
        (_set("inputs", 0, "dtype", to="float8"), "inputs.0.dtype"),
        (_set("inputs", 0, "shape", to=[-1]), "inputs.0.shape"),
    ],
)
def test_a_field_that_is_not_legal_is_refused_by_name(
    data: dict[str, Any], change: Change, where: str
) -> None:
    change(data)
    assert where in refusal(data).cause


@pytest.mark.parametrize(
    "field",
    [
        "schema",
        "release",
        "target",
        "model",
        "inputs",
        "outputs",
        "runtime",
        "golden",
        "files",
        "build",
    ],
)
def test_a_missing_field_is_refused_by_name(data: dict[str, Any], field: str) -> None:
    del data[field]
    assert field in refusal(data).cause
