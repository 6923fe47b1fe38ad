"""Bytes that nobody thought of, in every parser of what comes from outside: our own errors and no others, and no changed byte accepted.

A hundred examples a parser by default, the same in every run. Longer, and others each time:

    EDGEPACK_FUZZ=100000 .venv/bin/python -m pytest tests/trust/test_fuzz.py
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepack.bundle.archive import unpack, write
from edgepack.bundle.manifest import Manifest
from edgepack.errors import BundleError, TrustError
from edgepack.trust.rules import cryptography_check, rules
from edgepack.trust.signature import sign
from edgepack.trust.trustfile import as_json, sign_trust
from tests.bundle.conftest import built as built
from tests.trust.bundles import NOW, entry, key, signed, trust_data

_ASKED = os.environ.get("EDGEPACK_FUZZ", "")
fuzz = settings(
    max_examples=int(_ASKED or 100),
    derandomize=not _ASKED,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["../x", "/x", "a\0b", "x" * 5000, "\ud800", "schema", "1" * 5000]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@st.composite
def changed(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` with a few bytes flipped, cut, doubled or put in; never `data` itself."""
    result = data
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(result) - 1)))
        length = draw(st.sampled_from([1, 1, 1, 2, 4, 16, 300]))
        kind = draw(st.sampled_from(["flip", "cut", "double", "insert", "overwrite", "truncate"]))
        new = draw(st.binary(min_size=1, max_size=length))
        if kind == "flip":
            bit = 1 << draw(st.integers(0, 7))
            result = result[:at] + bytes(b ^ bit for b in result[at : at + 1]) + result[at + 1 :]
        elif kind == "cut":
            result = result[:at] + result[at + length :]
        elif kind == "double":
            result = result[: at + length] + result[at:]
        elif kind == "insert":
            result = result[:at] + new + result[at:]
        elif kind == "overwrite":
            result = result[:at] + new + result[at + len(new) :]
        else:
            result = result[:at]
    return result if result != data else result + b"\0"


@st.composite
def rewritten(draw: st.DrawFn, data: Any) -> bytes:
    """The JSON `data` with one value replaced, dropped, or put beside another."""
    result = copy.deepcopy(data)
    parent: Any = None
    where: Any = None
    here = result
    for _ in range(draw(st.integers(1, 6))):
        if isinstance(here, dict) and here:
            parent, where = here, draw(st.sampled_from(sorted(here)))
        elif isinstance(here, list) and here:
            parent, where = here, draw(st.integers(0, len(here) - 1))
        else:
            break
        here = parent[where]
    what = draw(st.sampled_from(["replace", "drop", "add"]))
    if what == "drop":
        del parent[where]
    elif what == "add" and isinstance(parent, dict):
        parent[draw(st.text(max_size=8))] = draw(_JSON)
    else:
        parent[where] = draw(_JSON)
    return json.dumps(result).encode()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small signed bundle; it is not changed."""
    return signed(tmp_path_factory.mktemp("fuzz") / "bundle")


@pytest.fixture(scope="module")
def manifest(built: Path) -> bytes:
    """A real manifest."""
    return (built / "tiny-jetson-orin" / "manifest.json").read_bytes()


PARSERS = {
    "manifest": (lambda b: Manifest.from_json(b, place=Path("m")), BundleError),
    "manifest on a board": (lambda b: rules().read_manifest(b, "m"), rules().Refusal),
    "trust file": (lambda b: rules().read_trust(b, "t"), rules().Refusal),
    "signature": (lambda b: rules().read_signature(b, "s"), rules().Refusal),
    "public key": (lambda b: rules().read_public_key(b, "k"), rules().Refusal),
}


@pytest.mark.parametrize("parser", PARSERS)
@fuzz
@given(data=st.binary(max_size=300) | _JSON.map(lambda x: json.dumps(x).encode()))
def test_no_parser_takes_or_dies_of_rubbish(parser: str, data: bytes) -> None:
    parse, refusal = PARSERS[parser]
    with pytest.raises(refusal):
        parse(data)


def parsed(parse: Any, text: bytes, refusal: Any, place: str) -> Any:
    """What a parser makes of a text; None: it refused it, and said where."""
    try:
        return parse(text)
    except refusal as error:
        said = str(error)
    assert said.startswith(place)
    return None


@fuzz
@given(data=st.data())
def test_a_changed_manifest_is_a_manifest_or_an_error(manifest: bytes, data: st.DataObject) -> None:
    text = data.draw(rewritten(json.loads(manifest)) | changed(manifest))
    place = Path("manifest.json")
    found = parsed(lambda b: Manifest.from_json(b, place=place), text, BundleError, str(place))
    assert found is None or Manifest.from_json(found.to_json(), place=place) == found
    parsed(lambda b: rules().read_manifest(b, str(place)), text, rules().Refusal, str(place))


@fuzz
@given(data=st.data())
def test_a_changed_trust_file_is_a_trust_file_or_an_error(data: st.DataObject) -> None:
    whole = trust_data(
        entry("release", apps=["digits"]),
        entry("next"),
        revoked=[{"id": key("old").id, "reason": "lost"}],
        min_release_seq={"digits": 7},
    )
    text = data.draw(rewritten(whole) | changed(json.dumps(whole).encode()))
    place = "trust.json"
    trust = parsed(lambda b: rules().read_trust(b, place), text, rules().Refusal, place)
    # Whatever it says, no key comes in that was not in it.
    known = {key("release").id, key("next").id}
    assert trust is None or {k.id for k in trust.keys.values()} <= known


@fuzz
@given(text=st.text(max_size=200) | st.binary(max_size=100).map(lambda b: b.decode("latin-1")))
def test_yaml_rubbish_is_an_error(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trust.yaml"
        path.write_text(text, encoding="utf-8", errors="replace")
        try:
            data = as_json(path)
        except TrustError:
            return
        with pytest.raises(rules().Refusal):
            rules().read_trust(data, "trust.yaml")


@fuzz
@given(data=st.data())
def test_no_changed_byte_of_a_signature_is_accepted(bundle: Path, data: st.DataObject) -> None:
    right = (bundle / "manifest.sig").read_bytes()
    envelope = json.loads(right)
    text = data.draw(changed(right) | rewritten(envelope))
    trust = rules().read_trust(json.dumps(trust_data()).encode(), "trust.json")
    place = bundle / "manifest.sig"
    try:
        place.write_bytes(text)
        if text == right:
            return
        with pytest.raises(rules().Refusal):
            rules().verify_bundle(str(bundle), trust, now=NOW, check=cryptography_check)
    finally:
        place.write_bytes(right)
    rules().verify_bundle(str(bundle), trust, now=NOW, check=cryptography_check)


@fuzz
@given(data=st.data())
def test_no_changed_byte_of_a_bundle_is_accepted(bundle: Path, data: st.DataObject) -> None:
    files = sorted(p for p in bundle.rglob("*") if p.is_file())
    place = data.draw(st.sampled_from(files))
    right = place.read_bytes()
    trust = rules().read_trust(json.dumps(trust_data()).encode(), "trust.json")
    try:
        place.write_bytes(data.draw(changed(right)))
        with pytest.raises(rules().Refusal):
            rules().verify_bundle(str(bundle), trust, now=NOW, check=cryptography_check)
    finally:
        place.write_bytes(right)


@fuzz
@given(data=st.data())
def test_no_changed_byte_of_an_archive_is_accepted(
    archive: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path_factory.getbasetemp()))
    try:
        path = folder / "x.edgepack"
        path.write_bytes(data.draw(changed(archive)))
        with pytest.raises(BundleError) as caught:
            unpack(path, folder / "out")
        assert str(path) in caught.value.cause
        assert os.listdir(folder) == ["x.edgepack"]
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def archive(built: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A signed bundle's archive, with one golden tensor of a few."""
    place = tmp_path_factory.mktemp("archive")
    root = Path(shutil.copytree(built / "tiny-web", place / "tiny-web"))
    sign(root, key("release"))
    names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    with (place / "x").open("w+b") as file:
        write(file, root, names)
        file.seek(0)
        return file.read()


@fuzz
@given(data=st.data())
def test_no_changed_byte_of_a_signed_trust_file_is_accepted(data: st.DataObject) -> None:
    old = rules().read_trust(json.dumps(trust_data()).encode(), "trust.json")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "new.json"
        place.write_text(json.dumps(trust_data(version=9)))
        right = sign_trust(place, key("release"))
    rules().renewed_trust(old, right, "signed", now=NOW, check=cryptography_check)
    with pytest.raises(rules().Refusal):
        rules().renewed_trust(
            old, data.draw(changed(right)), "signed", now=NOW, check=cryptography_check
        )
