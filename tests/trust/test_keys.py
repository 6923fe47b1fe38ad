"""Keys: made, kept, read."""

from __future__ import annotations

import os
import stat
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from edgepack.errors import EnvironmentMissing, OutputError, TrustError
from edgepack.trust.keys import generate, load_private, load_public
from edgepack.trust.rules import rules


def pem(private) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def test_a_pair_is_made_and_only_its_owner_may_read_the_private_half(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        pair = generate(tmp_path / "release.pem")
    finally:
        os.umask(before)
    assert stat.S_IMODE(pair.private.stat().st_mode) == 0o600
    assert pair.public == tmp_path / "release.pub.pem"
    assert pair.id == sha256(pair.public.read_bytes()).hexdigest()
    assert load_private(pair.private).id == load_public(pair.public).id == pair.id


def test_openssl_reads_both_halves_and_writes_the_same_public_one(tmp_path: Path) -> None:
    pair = generate(tmp_path / "release.pem")
    command = ["openssl", "ec", "-in", str(pair.private), "-pubout"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout == pair.public.read_bytes()


@pytest.mark.parametrize("there", ["release.pem", "release.pub.pem"])
def test_a_key_is_never_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("precious")
    with pytest.raises(OutputError, match="already there"):
        generate(tmp_path / "release.pem")
    assert [p.name for p in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "precious"


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "release.pem").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError):
        generate(tmp_path / "release.pem")
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="none"):
        generate(tmp_path / "none" / "release.pem")


def test_a_password_is_asked_for_or_taken_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = generate(tmp_path / "release.pem", "geheim")
    assert b"ENCRYPTED" in pair.private.read_bytes()
    assert load_private(pair.private, lambda: "geheim").id == pair.id
    with pytest.raises(TrustError, match="is encrypted") as caught:
        load_private(pair.private)
    assert "EDGEPACK_KEY_PASSWORD" in caught.value.fix
    with pytest.raises(TrustError, match="the password is wrong"):
        load_private(pair.private, lambda: "falsch")
    monkeypatch.setenv("EDGEPACK_KEY_PASSWORD", "geheim")
    assert load_private(pair.private).id == pair.id


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"junk",
        pem(ec.generate_private_key(ec.SECP384R1())),
        pem(ec.generate_private_key(ec.SECP256K1())),
        pem(rsa.generate_private_key(65537, 2048)),
    ],
)
def test_only_p256_signs(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key.pem").write_bytes(content)
    with pytest.raises(TrustError, match="no private key of ECDSA over P-256"):
        load_private(tmp_path / "key.pem")


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP256K1(), None])
def test_only_p256_is_trusted(tmp_path: Path, curve: ec.EllipticCurve | None) -> None:
    made = ec.generate_private_key(curve) if curve else rsa.generate_private_key(65537, 2048)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    place = tmp_path / "key.pub.pem"
    place.write_bytes(made.public_key().public_bytes(serialization.Encoding.PEM, form))
    with pytest.raises(TrustError, match="no public key of ECDSA over P-256"):
        load_public(place)


def test_a_private_key_given_as_the_public_one_is_refused(tmp_path: Path) -> None:
    pair = generate(tmp_path / "release.pem")
    with pytest.raises(TrustError, match="no public key") as caught:
        load_public(pair.private)
    assert ".pub.pem" in caught.value.fix


def test_a_point_off_the_curve_is_no_signature(tmp_path: Path) -> None:
    from edgepack.trust.rules import cryptography_check

    der = rules()._P256 + bytes(63) + b"\1"
    for check in (cryptography_check, rules().openssl_check):
        assert check(der, b"message", bytes.fromhex("3006020101020101")) is False


def test_the_same_message_gets_the_same_signature(tmp_path: Path) -> None:
    key = load_private(generate(tmp_path / "release.pem").private)
    assert key.sign(b"message") == key.sign(b"message")
    assert key.sign(b"message") != key.sign(b"massage")


def test_without_cryptography_the_remedy_is_the_command_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cryptography", None)
    with pytest.raises(EnvironmentMissing) as caught:
        generate(tmp_path / "release.pem")
    assert caught.value.fix == "pip install 'edgepack[sign]'"
    assert not list(tmp_path.iterdir())


def test_a_key_does_not_show_in_what_is_printed(tmp_path: Path) -> None:
    key = load_private(generate(tmp_path / "release.pem").private)
    assert "private" not in repr(key)
