"""Small signed bundles, written without edgepack's own writer, and what attackers do to them."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from edgepack.trust.envelope import sealed, statement
from edgepack.trust.keys import SigningKey
from edgepack.trust.rules import rules
from edgepack.trust.signature import sign

NOW = 1_790_000_000  # 2026-09-21
DAY = 86_400
FILES = {"model/m.onnx": b"weights" * 100, "golden/0/input-0.bin": bytes(64), "README.md": b"hi\n"}


@lru_cache
def key(name: str) -> SigningKey:
    """A key by any name; the same in every run."""
    private = ec.derive_private_key(
        int.from_bytes(sha256(name.encode()).digest(), "big"), ec.SECP256R1()
    )
    numbers = private.public_key().public_numbers()
    point = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    return SigningKey(id=rules().key_id(rules()._P256 + point), private=private)


def public_pem(name: str) -> str:
    """The public half, PEM."""
    numbers = key(name).private.public_key().public_numbers()
    point = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    return str(rules().pem_of(rules()._P256 + point).decode())


def entry(name: str, **changes: Any) -> dict[str, Any]:
    """A key as a trust file has it, valid for a year around NOW."""
    return {
        "id": key(name).id,
        "name": name,
        "public_key": public_pem(name),
        "not_before": rules().as_text(NOW - 180 * DAY),
        "not_after": rules().as_text(NOW + 180 * DAY),
        **changes,
    }


def trust_data(*keys: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A trust file's content: the key `release`, unless others are given."""
    return {
        "schema": 1,
        "version": 3,
        "issued": rules().as_text(NOW - 30 * DAY),
        "keys": list(keys) or [entry("release")],
        **changes,
    }


def make(
    folder: Path, files: Mapping[str, bytes] = FILES, *, app: str = "digits", seq: int = 7
) -> Path:
    """A bundle that is not signed, with as much of a manifest as the rules read."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    manifest = {
        "schema": 1,
        "critical": [],
        "release": {"app": app, "version": "1.2.3", "seq": seq},
        "target": {"name": "jetson-orin", "requires": {}},
        "files": [
            {"path": n, "size": len(d), "sha256": sha256(d).hexdigest(), "role": "model"}
            for n, d in sorted(files.items())
        ],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def signed(folder: Path, *, by: str = "release", **options: Any) -> Path:
    """A bundle signed with a key."""
    make(folder, **options)
    sign(folder, key(by))
    return folder


def change_manifest(bundle: Path, *, by: str | None = "release", **changes: Any) -> None:
    """Change the manifest's fields, and sign it anew as edgepack would not; `by` None: the old signature stays."""
    place = bundle / "manifest.json"
    data = {**json.loads(place.read_bytes()), **changes}
    write_manifest(bundle, json.dumps(data).encode(), by=by)


def write_manifest(bundle: Path, text: bytes, *, by: str | None = "release") -> None:
    """Put any text in the manifest's place, and sign that."""
    (bundle / "manifest.json").write_bytes(text)
    if by is not None:
        resign(bundle, by=by)


def resign(bundle: Path, *, by: str = "release", **also: str) -> None:
    """Sign what lies there, manifest or not; `also`: more digests by path."""
    files = {
        p.relative_to(bundle).as_posix(): sha256(p.read_bytes()).hexdigest()
        for p in bundle.rglob("*")
        if p.is_file() and not p.is_symlink() and p.name != "manifest.sig"
    }
    payload = statement("digits-jetson-orin", {**files, **also})
    (bundle / "manifest.sig").write_bytes(sealed(payload, rules().STATEMENT_PAYLOAD, key(by)))


def change_envelope(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the signature file; the signature in it stays as it was."""
    place = bundle / "manifest.sig"
    data = json.loads(place.read_bytes())
    change(data)
    place.write_text(json.dumps(data, separators=(",", ":"), ensure_ascii=False))


def change_statement(
    bundle: Path, change: Callable[[dict[str, Any]], None], *, by: str = "release"
) -> None:
    """Change what is signed, and sign it."""
    envelope = json.loads((bundle / "manifest.sig").read_bytes())["dsseEnvelope"]
    data = json.loads(base64.b64decode(envelope["payload"]))
    change(data)
    payload = data if isinstance(data, bytes) else json.dumps(data).encode()
    (bundle / "manifest.sig").write_bytes(sealed(payload, rules().STATEMENT_PAYLOAD, key(by)))


def flip(path: Path, at: int = -1) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def snapshot(folder: Path) -> dict[str, Any]:
    """Everything that is below a folder, links as links, with times of change."""
    found: dict[str, Any] = {}
    for parent, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(parent, name)
            info = path.lstat()
            found[path.relative_to(folder).as_posix()] = (
                info.st_mode,
                info.st_size,
                info.st_mtime_ns,
            )
    return found


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What is done to a bundle or asked of the rules, and the refusal that must follow.

    Attributes:
        does: changes the bundle, which the key `release` signed.
        trust: the trust file's content.
        kind, says: of the refusal.
    """

    name: str
    does: Callable[[Path], object] = lambda bundle: None
    trust: Callable[[], dict[str, Any]] = trust_data
    app: str = "digits"
    now: float = NOW
    kind: str
    says: tuple[str, ...] = field(default=())
