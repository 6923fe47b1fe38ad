"""Keys that sign bundles: ECDSA over P-256, private ones in PKCS #8 PEM."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.errors import EnvironmentMissing, OutputError, TrustError
from edgepack.trust.rules import refusals, rules

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

#: Asked for the password of an encrypted key; None: there is none.
AskPassword = Callable[[], str | None]
PASSWORD_VARIABLE = "EDGEPACK_KEY_PASSWORD"


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """A private key that was read, and the id of its public one."""

    id: str
    private: EllipticCurvePrivateKey = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        """The signature, DER. The same message gets the same signature (RFC 6979), so that signed bundles are reproducible too."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        try:
            return self.private.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        except UnsupportedAlgorithm:  # a cryptography built against OpenSSL before 3.2
            return self.private.sign(message, ec.ECDSA(hashes.SHA256()))


@dataclass(frozen=True, kw_only=True)
class KeyPair:
    """A new pair of keys on disk."""

    private: Path
    public: Path
    id: str


def generate(place: Path, password: str | None = None) -> KeyPair:
    """A new pair: `place` (only its owner may read it) and its public half `NAME.pub.pem` beside it. Nothing is ever overwritten.

    Args:
        password: encrypts the private key.

    Raises:
        EnvironmentMissing: cryptography is not installed. OutputError: one of the files is there already, or cannot be written.
    """
    _require_cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    encryption = (
        serialization.BestAvailableEncryption(password.encode())
        if password
        else serialization.NoEncryption()
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    public_place = place.with_name(f"{place.name.removesuffix('.pem')}.pub.pem")
    der = _public_der(private)
    _write_new([(place, pem, 0o600), (public_place, rules().pem_of(der), 0o644)])
    return KeyPair(private=place, public=public_place, id=rules().key_id(der))


def load_private(place: Path, ask_password: AskPassword = lambda: None) -> SigningKey:
    """The private key in a PEM file; an encrypted one by $EDGEPACK_KEY_PASSWORD, or what `ask_password` gives.

    Raises:
        EnvironmentMissing: cryptography is not installed. TrustError: no such file, no such key, or a wrong password.
    """
    _require_cryptography()
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    pem = _read(place)
    password: str | None = None
    if b"ENCRYPTED" in pem:
        password = os.environ.get(PASSWORD_VARIABLE) or ask_password()
        if not password:
            raise TrustError(
                f"{place} is encrypted", f"set ${PASSWORD_VARIABLE}", kind="key-password"
            )
    try:
        private = load_pem_private_key(pem, password.encode() if password else None)
    except (ValueError, TypeError) as error:
        if password:
            raise TrustError(
                f"{place}: the password is wrong, or the file is damaged",
                "give the right one",
                kind="key-password",
            ) from error
        raise _no_key(place) from error
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != "secp256r1":
        raise _no_key(place)
    return SigningKey(id=rules().key_id(_public_der(private)), private=private)


def load_public(place: Path) -> Any:
    """The public key in a PEM file, as the rules have it.

    Raises:
        TrustError: no such file, or no such key.
    """
    with refusals():
        return rules().read_public_key(_read(place), str(place))


def _public_der(private: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _require_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise EnvironmentMissing(
            "signing needs cryptography, which is not installed", "pip install 'edgepack[sign]'"
        ) from error


def _no_key(place: Path) -> TrustError:
    return TrustError(
        f"{place} is no private key of ECDSA over P-256 (PEM)",
        "make one: edgepack keygen release.pem",
        kind="key-invalid",
    )


def _read(place: Path) -> bytes:
    try:
        return place.read_bytes()
    except OSError as error:
        raise TrustError(
            f"{place}: {error.strerror}", "check the path of the key", kind="key-invalid"
        ) from error


def _write_new(files: list[tuple[Path, bytes, int]]) -> None:
    """Write all files or none; never over one that is there."""
    made: list[Path] = []
    try:
        for place, data, mode in files:
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            made.append(place)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
    except BaseException as error:
        for place in made:
            place.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            raise OutputError(
                f"already there: {error.filename}",
                "a key is never overwritten: choose another name",
            ) from error
        if isinstance(error, OSError):
            raise OutputError(
                f"cannot write {error.filename}: {error.strerror}", "choose another folder"
            ) from error
        raise
