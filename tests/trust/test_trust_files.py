"""Trust files: strict, and never weaker than before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgepack.errors import TrustError, UsageError
from edgepack.trust.keys import generate
from edgepack.trust.rules import rules
from edgepack.trust.trustfile import (
    add_key,
    as_json,
    describe,
    load_trust,
    renewed,
    require_release,
    revoke,
    sign_trust,
)
from tests.trust.bundles import DAY, NOW, entry, key, trust_data


def write(folder: Path, data: dict[str, Any], name: str = "trust.json") -> Path:
    (folder / name).write_text(json.dumps(data))
    return folder / name


def test_json_and_yaml_say_the_same(tmp_path: Path) -> None:
    data = trust_data(
        revoked=[{"id": key("old").id, "reason": "stolen"}], min_release_seq={"digits": 7}
    )
    yaml_file = tmp_path / "trust.yaml"
    yaml_file.write_text(yaml.safe_dump(data))
    assert load_trust(write(tmp_path, data)) == load_trust(yaml_file)
    # Unquoted, YAML makes times of them.
    yaml_file.write_text(yaml.safe_dump(data).replace("'", ""))
    assert load_trust(write(tmp_path, data)) == load_trust(yaml_file)
    assert json.loads(as_json(yaml_file))["issued"] == data["issued"]


BAD: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "unknown schema": (lambda d: d.update(schema=2), "schema 2; this edgepack knows 1"),
    "schema as text": (lambda d: d.update(schema="1"), "schema '1'"),
    "no keys": (lambda d: d.pop("keys"), "lacks keys"),
    "keys as a mapping": (lambda d: d.update(keys={}), "keys is no list"),
    "no version": (lambda d: d.pop("version"), "lacks version"),
    "negative version": (lambda d: d.update(version=-1), "version is -1"),
    "no issue date": (lambda d: d.pop("issued"), "lacks issued"),
    "a typo": (lambda d: d.update(revokd=[]), "unknown fields: revokd"),
    "a time without a zone": (
        lambda d: d.update(issued="2026-01-01T00:00:00"),
        "issued is '2026-01-01T00:00:00', no time like",
    ),
    "a thirteenth month": (lambda d: d.update(issued="2026-13-01T00:00:00Z"), "issued is"),
    "a time as a number": (lambda d: d.update(issued=5), "issued is 5"),
    "an id of another key": (
        lambda d: d["keys"][0].update(id=key("other").id),
        "keys[0].id is not that of its key",
    ),
    "no public key": (
        lambda d: d["keys"][0].update(public_key="x"),
        "keys[0] is no public key of ECDSA over P-256",
    ),
    "a key with odd letters": (
        lambda d: d["keys"][0].update(public_key="\ud800"),
        "surrogates not allowed",
    ),
    "a key twice": (lambda d: d["keys"].append(dict(d["keys"][0])), "is there twice"),
    "an end before the beginning": (
        lambda d: d["keys"][0].update(not_after="2020-01-01T00:00:00Z"),
        "keys[0].not_after is not after not_before",
    ),
    "no end": (lambda d: d["keys"][0].pop("not_after"), "keys[0] lacks not_after"),
    "no app at all": (lambda d: d["keys"][0].update(apps=[]), "keys[0].apps is empty"),
    "an app that is none": (
        lambda d: d["keys"][0].update(apps=["../x"]),
        "keys[0].apps is no list of apps",
    ),
    "a revoked name": (lambda d: d.update(revoked=[{"id": "release", "reason": ""}]), "no key's"),
    "a revocation without reason": (
        lambda d: d.update(revoked=[{"id": key("old").id}]),
        "revoked[0] lacks reason",
    ),
    "a minimum that is true": (
        lambda d: d.update(min_release_seq={"digits": True}),
        "min_release_seq.digits is True",
    ),
    "a minimum of no app": (lambda d: d.update(min_release_seq={"a b": 1}), "'a b' is no app"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_trust_file_that_is_not_right_is_refused(tmp_path: Path, case: str) -> None:
    change, says = BAD[case]
    data = trust_data()
    change(data)
    place = write(tmp_path, data)
    with pytest.raises(TrustError) as caught:
        load_trust(place)
    assert says in caught.value.cause
    assert str(place) in caught.value.cause
    assert caught.value.kind in ("trust-file", "key-invalid")


TEXTS = {
    "duplicate keys": ('{"schema": 1, "schema": 1}', "'schema' is there twice"),
    "no JSON": ("schema: 1", "no JSON"),
    "empty": ("", "no JSON"),
    "a list": ("[]", "no JSON object"),
    "nested without end": ("[" * 100_000, "nested too deeply"),
    "larger than any": (" " * (2 << 20), "more than"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_a_text_that_is_no_trust_file_is_refused(tmp_path: Path, case: str) -> None:
    text, says = TEXTS[case]
    (tmp_path / "trust.json").write_text(text)
    with pytest.raises(TrustError, match=says):
        load_trust(tmp_path / "trust.json")


YAMLS = {
    "python calls": ("a: !!python/object/apply:os.system ['touch ran']", "lacks schema"),
    "python objects": ("a: !!python/object/apply:os.getcwd", "python/object"),
    "an alias bomb": ("a: &a [1]\nb: [*a, *a]", "aliases are not allowed"),
    "duplicate keys": ("schema: 1\nschema: 1", "twice"),
    "a list": ("- 1", "not a mapping"),
    "broken": ("a: [", "not YAML"),
    "missing": (None, "No such file"),
}


@pytest.mark.parametrize("case", YAMLS)
def test_yaml_that_is_no_trust_file_is_refused(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, says = YAMLS[case]
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "trust.yaml").write_text(text)
    with pytest.raises(TrustError, match=says):
        load_trust(tmp_path / "trust.yaml")
    assert not (tmp_path / "ran").exists()


def test_keys_are_added_and_revoked(tmp_path: Path) -> None:
    pair, place = generate(tmp_path / "release.pem"), tmp_path / "trust.json"
    first = add_key(place, pair.public, name="one", days=10, apps=["digits"], now=NOW)
    assert first.version == 1
    assert first.keys[pair.id].apps == {"digits"}
    assert first.keys[pair.id].not_after == NOW + 10 * DAY
    second = generate(tmp_path / "second.pem")
    add_key(place, second.public, name="two", days=10, now=NOW)
    trust = revoke(place, pair.id[:6], reason="stolen", now=NOW)
    assert trust.version == 3
    assert trust.revoked == {pair.id: "stolen"}
    assert load_trust(place) == trust
    states = {k["name"]: k["state"] for k in describe(trust)["keys"]}
    assert states["one"] == "revoked"
    with pytest.raises(TrustError, match="twice"):
        add_key(place, second.public, name="two", days=10, now=NOW)
    with pytest.raises(UsageError, match="0 keys begin with"):
        revoke(place, "nothing", reason="")
    assert load_trust(place) == trust
    with pytest.raises(UsageError, match="YAML"):
        add_key(tmp_path / "trust.yaml", second.public, name="two", days=10, now=NOW)


def test_a_minimum_can_be_raised_and_not_lowered(tmp_path: Path) -> None:
    place = write(tmp_path, trust_data())
    trust = require_release(place, "digits", 7, now=NOW)
    assert (trust.version, trust.min_release_seq) == (4, {"digits": 7})
    with pytest.raises(UsageError, match="asks for release 7 of digits or later"):
        require_release(place, "digits", 6, now=NOW)
    with pytest.raises(TrustError, match="'a b' is no app"):
        require_release(place, "a b", 1, now=NOW)
    assert load_trust(place) == trust
    assert require_release(place, "faces", 1, now=NOW).min_release_seq == {"digits": 7, "faces": 1}


# Rotation


def signed_trust(folder: Path, data: dict[str, Any], by: str = "release") -> bytes:
    return sign_trust(write(folder, data, "new.json"), key(by))


def old_trust() -> Any:
    data = trust_data(
        revoked=[{"id": key("old").id, "reason": "lost"}], min_release_seq={"digits": 7}
    )
    return rules().read_trust(json.dumps(data).encode(), "trust.json")


def next_data(*keys: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return trust_data(
        *keys,
        **{
            "version": 4,
            "revoked": [{"id": key("old").id, "reason": "lost"}],
            "min_release_seq": {"digits": 7},
            **changes,
        },
    )


def test_a_key_hands_over_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules().time, "time", lambda: NOW)
    data = next_data(entry("next"), min_release_seq={"digits": 9})
    trust, text = renewed(old_trust(), signed_trust(tmp_path, data), "signed")
    assert list(trust.keys) == [key("next").id]
    assert json.loads(text) == data
    later = next_data(entry("next"), version=5, min_release_seq={"digits": 9})
    assert renewed(trust, signed_trust(tmp_path, later, by="next"), "s")[0].version == 5
    with pytest.raises(TrustError, match="not trusted"):
        renewed(trust, signed_trust(tmp_path, later, by="release"), "signed")


WEAKER: dict[str, tuple[dict[str, Any], str, str]] = {
    "same version": (next_data(version=3), "release", "version 3 is not higher than 3"),
    "forgets a revocation": (next_data(revoked=[]), "release", "no longer revokes"),
    "lowers a minimum": (
        next_data(min_release_seq={"digits": 6}),
        "release",
        "lowers min_release_seq of digits",
    ),
    "drops a minimum": (next_data(min_release_seq={}), "release", "lowers min_release_seq"),
    "signed by itself": (next_data(entry("evil")), "evil", "which is not trusted"),
    "signed by a revoked key": (next_data(), "old", "was revoked: lost"),
}


@pytest.mark.parametrize("case", WEAKER)
def test_a_trust_file_is_not_replaced_by_a_weaker_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    data, by, says = WEAKER[case]
    monkeypatch.setattr(rules().time, "time", lambda: NOW)
    with pytest.raises(TrustError, match=says):
        renewed(old_trust(), signed_trust(tmp_path, data, by), "signed")


def test_a_key_of_one_app_hands_nothing_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules().time, "time", lambda: NOW)
    one = trust_data(entry("release", apps=["digits"]))
    old = rules().read_trust(json.dumps(one).encode(), "trust.json")
    with pytest.raises(TrustError, match="may sign releases of digits only"):
        renewed(old, signed_trust(tmp_path, next_data()), "signed")


def test_a_bundles_signature_is_no_trust_file(tmp_path: Path) -> None:
    from tests.trust.bundles import signed

    data = (signed(tmp_path / "bundle") / "manifest.sig").read_bytes()
    with pytest.raises(TrustError, match="payloadType"):
        renewed(old_trust(), data, "signed")


def test_every_changed_byte_of_a_signed_trust_file_is_noticed(tmp_path: Path) -> None:
    data = signed_trust(tmp_path, next_data())
    old = old_trust()
    from edgepack.trust.rules import cryptography_check

    rules().renewed_trust(old, data, "signed", now=NOW, check=cryptography_check)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(rules().Refusal):
            rules().renewed_trust(old, bytes(changed), "signed", now=NOW, check=cryptography_check)
