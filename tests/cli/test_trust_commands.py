"""`edgepack keygen`, `sign`, `trust`, `verify --trust`, `pack` and `unpack` on a finished bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Command, content


@pytest.fixture
def key(command: Command, tmp_path: Path) -> Path:
    place = tmp_path / "release.pem"
    assert command("keygen", place).code == 0
    return place


def public(key: Path) -> Path:
    return key.with_name(f"{key.stem}.pub.pem")


def test_keygen_says_where_the_keys_are_and_what_to_do(command: Command, tmp_path: Path) -> None:
    done = command("keygen", tmp_path / "a.pem", "--json")
    assert done.code == 0
    assert done.json["public"] == str(tmp_path / "a.pub.pem")
    again = command("keygen", tmp_path / "a.pem")
    assert again.code == 8
    assert "never overwritten" in again.err


def test_a_bundle_is_signed_and_verified(command: Command, bundle: Path, key: Path) -> None:
    assert "not signed" in command("verify", bundle).out
    assert command("inspect", bundle, "--json").json["signature"]["state"] == "none"
    signed = command("sign", bundle, "--key", key, "--json")
    assert signed.code == 0
    assert command("sign", bundle, "--key", key).code == 8
    assert command("sign", bundle, "--key", key, "--overwrite").code == 0
    data = command("verify", bundle, "--json").json
    assert data["signature"]["state"] == "unchecked"
    assert data["signature"]["key_id"] == signed.json["signature"]["key_id"]
    assert "not checked" in command("inspect", bundle).out
    trusted = command("verify", bundle, "--key", public(key), "--app", "tiny")
    assert trusted.code == 0
    assert "trusted: release.pub.pem" in trusted.out
    assert command("verify", bundle, "--key", public(key), "--app", "digits").code == 13


def test_verify_goes_by_a_trust_file(
    command: Command, bundle: Path, key: Path, tmp_path: Path
) -> None:
    trust = tmp_path / "trust.json"
    added = command("trust", "add", trust, "--key", public(key), "--name", "release 2026")
    assert added.code == 0
    assert "release 2026" in added.out
    command("sign", bundle, "--key", key)
    assert command("trust", "require", trust, "--app", "tiny", "--release-seq", 0).code == 0
    data = command("verify", bundle, "--trust", trust, "--json").json
    assert data["signature"]["key_name"] == "release 2026"
    key_id = data["signature"]["key_id"]
    assert command("trust", "revoke", trust, key_id[:8], "--reason", "stolen").code == 0
    refused = command("verify", bundle, "--trust", trust, "--json")
    assert refused.code == 13
    assert refused.json["error"]["kind"] == "key-revoked"
    assert "stolen" in refused.err
    shown = command("trust", "show", trust, "--json").json
    assert shown["keys"][0]["state"] == "revoked"


def test_a_trust_file_is_handed_over(command: Command, key: Path, tmp_path: Path) -> None:
    trust, signed = tmp_path / "trust.json", tmp_path / "signed"
    command("trust", "add", trust, "--key", public(key), "--name", "one")
    old = shutil.copy(trust, tmp_path / "old.json")
    command("keygen", tmp_path / "second.pem")
    command("trust", "add", trust, "--key", tmp_path / "second.pub.pem", "--name", "two")
    assert command("trust", "sign", trust, "--key", key, "-o", signed).code == 0
    accept = ["trust", "accept", signed, "--old", old, "-o", tmp_path / "new.json"]
    assert "two" in command(*accept).out
    assert (tmp_path / "new.json").read_bytes() == trust.read_bytes()
    again = ["trust", "accept", signed, "--old", trust, "-o", tmp_path / "newer.json"]
    assert command(*again).code == 13
    assert not (tmp_path / "newer.json").exists()


def test_verify_without_a_signature_is_refused_if_it_is_said_whom_to_trust(
    command: Command, bundle: Path, key: Path
) -> None:
    before = content(bundle)
    done = command("verify", bundle, "--key", public(key), "--json")
    assert done.code == 13
    assert done.json["error"]["kind"] == "signature-missing"
    assert "edgepack sign" in done.err
    assert content(bundle) == before


def test_verify_wants_one_way_to_trust(command: Command, bundle: Path, key: Path) -> None:
    both = command("verify", bundle, "--key", public(key), "--trust", key)
    assert both.code == 2
    assert command("verify", bundle, "--app", "tiny").code == 2


def test_a_damaged_bundle_is_not_signed(command: Command, bundle: Path, key: Path) -> None:
    (bundle / "README.md").write_text("x")
    done = command("sign", bundle, "--key", key)
    assert done.code == 7
    assert "not signed" in done.err
    assert "README.md" in done.err
    assert not (bundle / "manifest.sig").exists()


def test_build_signs(command: Command, model: Path, key: Path, tmp_path: Path) -> None:
    done = command(
        "build", model, "-t", "web", "--sign", key, "-o", tmp_path / "out", "--json"
    ).json
    bundle = tmp_path / "out" / "tiny-web"
    assert done["bundles"][0]["signed_by"]
    assert command("verify", bundle, "--key", public(key)).code == 0


def test_build_fails_at_once_for_a_key_that_is_none(
    command: Command, model: Path, tmp_path: Path
) -> None:
    done = command("build", model, "-t", "web", "--sign", model, "-o", tmp_path / "out")
    assert done.code == 13
    assert "no private key" in done.err
    assert not (tmp_path / "out").exists()


def test_pack_and_unpack_give_the_bundle_back(
    command: Command, bundle: Path, key: Path, tmp_path: Path
) -> None:
    command("sign", bundle, "--key", key)
    packed = command("pack", bundle, "--json")
    archive = Path(packed.json["archive"])
    assert archive == bundle.parent / f"{bundle.name}.edgepack"
    assert packed.json["size"] == archive.stat().st_size
    assert command("pack", bundle).code == 8
    unpacked = command("unpack", archive, "-o", tmp_path / "there", "--json")
    assert unpacked.json == {"bundle": str(tmp_path / "there")}
    assert content(tmp_path / "there") == content(bundle)
    assert command("unpack", archive, "-o", tmp_path / "there").code == 8
    assert command("verify", tmp_path / "there", "--key", public(key)).code == 0


@pytest.mark.parametrize("name", ["keygen", "sign", "trust", "pack", "unpack", "verify"])
def test_help_has_examples(command: Command, name: str) -> None:
    done = command(name, "--help")
    assert done.code == 0
    assert f"edgepack {name}" in done.out
    assert "Example" in done.out
