"""Sign a bundle; say who signed it, and whether they are trusted."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from edgepack.errors import BundleError, OutputError, TrustError
from edgepack.names import bundle_name
from edgepack.trust.envelope import sealed, statement
from edgepack.trust.keys import SigningKey, load_private
from edgepack.trust.rules import checker, refusals, rules


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What is known of a bundle's signature.

    Attributes:
        state: "none", "unchecked" (well formed, but nobody said whom to trust), or "trusted".
        key_id: the SHA-256 of the public key's PEM file; empty without a signature.
        key_name: what the trust file, or the key's file, calls it; empty unless trusted.
        digest: the SHA-256 over the digests of all files; two bundles with the same one are the same bundle.
    """

    state: str
    key_id: str = ""
    key_name: str = ""
    digest: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return dict(vars(self))


def sign(bundle: str | Path, key: SigningKey | str | Path, *, overwrite: bool = False) -> Signature:
    """Write `manifest.sig` into the bundle, once its files are those of its manifest; the signature, trusted.

    Args:
        key: the private key, or its file (an encrypted one's password: $EDGEPACK_KEY_PASSWORD).

    Raises:
        BundleError: it is no bundle, or not as it was built. OutputError: it is signed already, or cannot be written.
    """
    key = load_private(Path(key)) if isinstance(key, (str, Path)) else key
    root = Path(bundle)
    place = root / rules().SIGNATURE
    if os.path.lexists(place) and not overwrite:
        raise OutputError(f"{root} is signed already", "add --overwrite to sign it anew")
    try:
        text = (root / rules().MANIFEST).read_bytes()
        manifest = rules().read_manifest(text, str(root / rules().MANIFEST))
        files = {f["path"]: f["sha256"] for f in manifest["files"]}
        files[rules().MANIFEST] = sha256(text).hexdigest()
        rules().check_files(str(root), manifest["files"], files)
    except OSError as error:
        raise BundleError(
            f"{root} is no bundle: {rules().MANIFEST}: {error.strerror}",
            "give the folder that `edgepack build` wrote",
        ) from error
    except rules().Refusal as refusal:
        raise BundleError(f"not signed: {refusal.cause}", refusal.fix) from refusal
    name = bundle_name(manifest["release"]["app"], manifest["target"]["name"])
    data = sealed(statement(name, files), rules().STATEMENT_PAYLOAD, key)
    write_whole(place, data)
    signed = rules().read_signature(data, str(place))
    return Signature(state="trusted", key_id=key.id, digest=signed.digest)


def read(bundle: str | Path) -> Signature:
    """Who says they signed the bundle; nothing is checked but the form.

    Raises:
        TrustError: there is a signature, and it is malformed.
    """
    place = Path(bundle) / rules().SIGNATURE
    if not os.path.lexists(place):
        return Signature(state="none")
    with refusals():
        signed = rules().read_signature(rules().read_file(str(place)), str(place))
    return Signature(state="unchecked", key_id=signed.key_id, digest=signed.digest)


def require_trusted(
    bundle: str | Path,
    trust: Any,
    *,
    app: str | None = None,
    min_release_seq: int = 0,
    now: float | None = None,
) -> Signature:
    """The bundle's signature, once every rule holds (see `verify_bundle` in runtime/agent/edgepack_trust.py).

    Args:
        trust: of `trustfile.load_trust`, or of `trustfile.trust_in`.
        now: seconds since 1970; the clock's, if not given.

    Raises:
        TrustError: the first rule that does not; its kind says which.
    """
    with refusals():
        try:
            verified = rules().verify_bundle(
                str(bundle),
                trust,
                app=app,
                min_release_seq=min_release_seq,
                now=now,
                check=checker(),
            )
        except OSError as error:
            raise TrustError(
                f"{error.filename or bundle}: {error.strerror}",
                "check who may read it",
                kind="files",
            ) from error
    return Signature(
        state="trusted",
        key_id=verified.key_id,
        key_name=verified.key_name,
        digest=verified.digest,
    )


def write_whole(place: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    aside: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(prefix=".edgepack-", dir=place.parent)
        aside = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        aside.chmod(0o644)
        aside.replace(place)
    except OSError as error:
        raise OutputError(
            f"cannot write {place}: {error.strerror}", "check who may write there"
        ) from error
    finally:
        if aside is not None:
            aside.unlink(missing_ok=True)
