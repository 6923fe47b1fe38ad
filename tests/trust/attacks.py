"""Attacks on a signed bundle: what is done, and the refusal that must follow. One table, for hosts and boards."""

from __future__ import annotations

import base64
import json
import os
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.trust.bundles import (
    DAY,
    FILES,
    NOW,
    Attack,
    change_envelope,
    change_manifest,
    change_statement,
    entry,
    flip,
    key,
    make,
    resign,
    signed,
    trust_data,
    write_manifest,
)


def mixed(bundle: Path) -> None:
    """Half of another bundle of the same app, by the same key."""
    other = signed(bundle.parent / "other", files={**FILES, "model/m.onnx": b"W" * 700})
    shutil.copy(other / "model" / "m.onnx", bundle / "model" / "m.onnx")


def mixed_signature(bundle: Path) -> None:
    other = signed(bundle.parent / "other", files={**FILES, "model/m.onnx": b"W" * 700})
    shutil.copy(other / "manifest.sig", bundle / "manifest.sig")


def mixed_manifest(bundle: Path) -> None:
    other = signed(bundle.parent / "other", app="faces")
    shutil.copy(other / "manifest.json", bundle / "manifest.json")


def other_app(bundle: Path) -> None:
    shutil.rmtree(bundle)
    signed(bundle, app="faces")


def repeated_key(bundle: Path, old: str, new: str) -> None:
    text = (bundle / "manifest.json").read_text()
    assert old in text
    write_manifest(bundle, text.replace(old, new, 1).encode())


def linked(bundle: Path, name: str) -> None:
    """The file's content is right, but it lies elsewhere."""
    elsewhere = bundle.parent / "elsewhere"
    shutil.move(bundle / name, elsewhere)
    (bundle / name).symlink_to(elsewhere)


def hidden(bundle: Path) -> None:
    (bundle / ".git").mkdir()
    (bundle / ".git" / "x").write_text("OMS skips .git")


def add(bundle: Path, name: str) -> None:
    (bundle / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle / name).write_text("more")


def files_of(bundle: Path) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads((bundle / "manifest.json").read_bytes())["files"]
    return listed


def file_with(bundle: Path, **changes: Any) -> None:
    """The first file of the manifest, said to be something else."""
    files = files_of(bundle)
    change_manifest(bundle, files=[{**files[0], **changes}, *files[1:]])


def not_canonical(data: dict[str, Any]) -> None:
    """The last letter of the signature has bits that decoders drop."""
    signature = data["dsseEnvelope"]["signatures"][0]
    raw = base64.b64decode(signature["sig"])
    while len(raw) % 3 != 1:
        raw += b"\0"
    text = base64.b64encode(raw).decode()
    assert text.endswith("==")
    signature["sig"] = text[:-3] + chr(ord(text[-3]) + 1) + "=="


def set_envelope(**fields: Any) -> Any:
    return lambda bundle: change_envelope(bundle, lambda d: d["dsseEnvelope"].update(fields))


def set_outer(**fields: Any) -> Any:
    return lambda bundle: change_envelope(bundle, lambda d: d.update(fields))


def set_statement(**fields: Any) -> Any:
    return lambda bundle: change_statement(bundle, lambda d: d.update(fields))


def set_how(**fields: Any) -> Any:
    return lambda bundle: change_statement(
        bundle, lambda d: d["predicate"]["serialization"].update(fields)
    )


def resource(**fields: Any) -> Any:
    return lambda bundle: change_statement(
        bundle, lambda d: d["predicate"]["resources"][0].update(fields)
    )


def without_file(data: dict[str, Any]) -> None:
    """One file fewer is vouched for, with digests that add up."""
    resources = [r for r in data["predicate"]["resources"] if r["name"] != "model/m.onnx"]
    data["predicate"]["resources"] = resources
    whole = sha256(b"".join(bytes.fromhex(r["digest"]) for r in resources)).hexdigest()
    data["subject"][0]["digest"]["sha256"] = whole


def twice(data: dict[str, Any]) -> None:
    data["predicate"]["resources"].append(dict(data["predicate"]["resources"][0]))


OTHER = key("other").id
BYTES = (
    Attack(
        name="flipped byte of the model",
        does=lambda b: flip(b / "model/m.onnx"),
        kind="files",
        says=("model/m.onnx was changed",),
    ),
    Attack(
        name="flipped byte of a golden tensor",
        does=lambda b: flip(b / "golden/0/input-0.bin", 0),
        kind="files",
        says=("golden/0/input-0.bin was changed",),
    ),
    Attack(
        name="flipped byte of the manifest",
        does=lambda b: flip(b / "manifest.json"),
        kind="files",
        says=("manifest.json is not the one that was signed",),
    ),
    Attack(
        name="shorter file",
        does=lambda b: os.truncate(b / "README.md", 1),
        kind="files",
        says=("README.md has 1 bytes, not 3",),
    ),
    Attack(
        name="missing file",
        does=lambda b: (b / "README.md").unlink(),
        kind="files",
        says=("README.md is missing",),
    ),
    Attack(
        name="unlisted file",
        does=lambda b: add(b, "model/more.bin"),
        kind="files",
        says=("model/more.bin is not in the manifest",),
    ),
    Attack(
        name="unlisted .git/x", does=hidden, kind="files", says=(".git/x is not in the manifest",)
    ),
    Attack(
        name="unlisted .gitignore",
        does=lambda b: add(b, ".gitignore"),
        kind="files",
        says=(".gitignore is not in the manifest",),
    ),
    Attack(
        name="second signature file",
        does=lambda b: add(b, "manifest.sig.old"),
        kind="files",
        says=("manifest.sig.old is not",),
    ),
    Attack(
        name="file that is a link",
        does=lambda b: linked(b, "model/m.onnx"),
        kind="files",
        says=("model/m.onnx is not a regular file",),
    ),
    Attack(
        name="folder that is a link",
        does=lambda b: linked(b, "golden"),
        kind="files",
        says=("golden is not a regular file",),
    ),
    Attack(
        name="manifest that is a link",
        does=lambda b: linked(b, "manifest.json"),
        kind="manifest",
        says=("manifest.json is not a regular file",),
    ),
    Attack(
        name="signature that is a link",
        does=lambda b: linked(b, "manifest.sig"),
        kind="signature-missing",
        says=("manifest.sig is not a regular file",),
    ),
    Attack(
        name="pipe",
        does=lambda b: os.mkfifo(b / "pipe"),
        kind="files",
        says=("pipe is not a regular file",),
    ),
    Attack(
        name="no signature",
        does=lambda b: (b / "manifest.sig").unlink(),
        kind="signature-missing",
        says=("is not signed",),
    ),
    Attack(
        name="no manifest",
        does=lambda b: (b / "manifest.json").unlink(),
        kind="manifest",
        says=("manifest.json: No such file",),
    ),
    Attack(
        name="two signed bundles mixed: a file",
        does=mixed,
        kind="files",
        says=("model/m.onnx was changed",),
    ),
    Attack(
        name="two signed bundles mixed: the signature",
        does=mixed_signature,
        kind="files",
        says=("manifest.json is not the one that was signed",),
    ),
    Attack(
        name="two signed bundles mixed: the manifest",
        does=mixed_manifest,
        kind="files",
        says=("manifest.json is not the one that was signed",),
    ),
    Attack(
        name="manifest changed with its file, not signed anew",
        does=lambda b: (flip(b / "model/m.onnx"), make(b, {**FILES, "model/m.onnx": b"new"})),
        kind="files",
        says=("manifest.json is not the one that was signed",),
    ),
)
WHO = (
    Attack(
        name="unknown key",
        does=lambda b: resign(b, by="other"),
        kind="key-unknown",
        says=(OTHER, "trusted: release"),
    ),
    Attack(
        name="unknown key that says it is a trusted one",
        does=lambda b: (
            resign(b, by="other"),
            change_envelope(
                b, lambda d: d["verificationMaterial"]["publicKey"].update(hint=key("release").id)
            ),
        ),
        kind="signature-invalid",
        says=("not that of key release",),
    ),
    Attack(
        name="revoked key",
        trust=lambda: trust_data(revoked=[{"id": key("release").id, "reason": "stolen"}]),
        kind="key-revoked",
        says=("was revoked: stolen",),
    ),
    Attack(
        name="expired key",
        now=NOW + 200 * DAY,
        kind="key-expired",
        says=("release", "expired at 2027-03-20T14:13:20Z"),
    ),
    Attack(
        name="key that is not valid yet",
        trust=lambda: trust_data(
            entry("release", not_before="2026-12-01T00:00:00Z", not_after="2027-12-01T00:00:00Z")
        ),
        kind="key-not-yet-valid",
        says=("valid from 2026-12-01",),
    ),
    Attack(
        name="clock at 1970",
        now=0,
        kind="clock",
        says=("the clock says 1970-01-01T00:00:00Z", "2026-08-22"),
    ),
    Attack(
        name="no key at all", trust=lambda: trust_data(keys=[]), kind="key-unknown", says=("none",)
    ),
    Attack(
        name="valid signature of another app",
        does=other_app,
        kind="app",
        says=("a release of the app faces, not of digits",),
    ),
    Attack(
        name="key for another app",
        trust=lambda: trust_data(entry("release", apps=["faces"])),
        kind="app",
        says=("may sign faces, not digits",),
    ),
    Attack(
        name="lower release than the trust file allows",
        trust=lambda: trust_data(min_release_seq={"digits": 8, "faces": 1}),
        kind="release",
        says=("release 7 of digits", "is 8"),
    ),
)
ENVELOPE = (
    Attack(
        name="wrong payloadType",
        does=set_envelope(payloadType="application/json"),
        kind="signature-invalid",
        says=("payloadType is 'application/json'",),
    ),
    Attack(
        name="trust file's payloadType",
        does=set_envelope(payloadType="application/vnd.edgepack.trust+json"),
        kind="signature-invalid",
        says=("payloadType",),
    ),
    Attack(
        name="wrong mediaType",
        does=set_outer(mediaType="application/vnd.dev.sigstore.bundle.v0.4+json"),
        kind="signature-invalid",
        says=("mediaType",),
    ),
    Attack(
        name="no signatures",
        does=set_envelope(signatures=[]),
        kind="signature-invalid",
        says=("signatures is not one",),
    ),
    Attack(
        name="two signatures",
        does=lambda b: change_envelope(
            b,
            lambda d: d["dsseEnvelope"]["signatures"].append(
                dict(d["dsseEnvelope"]["signatures"][0])
            ),
        ),
        kind="signature-invalid",
        says=("signatures is not one",),
    ),
    Attack(
        name="empty signature",
        does=set_envelope(signatures=[{"sig": "", "keyid": ""}]),
        kind="signature-invalid",
        says=("sig is no base64",),
    ),
    Attack(
        name="signature of zeros",
        does=set_envelope(signatures=[{"sig": "MAYCAQACAQA=", "keyid": ""}]),
        kind="signature-invalid",
        says=("not that of key",),
    ),
    Attack(
        name="signature that is no DER",
        does=set_envelope(signatures=[{"sig": "AAAA", "keyid": ""}]),
        kind="signature-invalid",
        says=("not that of key",),
    ),
    Attack(
        name="base64 with spare bits set",
        does=lambda b: change_envelope(b, not_canonical),
        kind="signature-invalid",
        says=("sig is no base64",),
    ),
    Attack(
        name="payload that is no base64",
        does=set_envelope(payload="%%%"),
        kind="signature-invalid",
        says=("payload is no base64",),
    ),
    Attack(
        name="keyid",
        does=set_envelope(signatures=[{"sig": "AAAA", "keyid": "x"}]),
        kind="signature-invalid",
        says=("keyid",),
    ),
    Attack(
        name="no key hint",
        does=set_outer(verificationMaterial={"publicKey": {"hint": ""}, "tlogEntries": []}),
        kind="signature-invalid",
        says=("hint",),
    ),
    Attack(
        name="certificate in place of a key",
        does=set_outer(verificationMaterial={"certificate": {}, "tlogEntries": []}),
        kind="signature-invalid",
        says=("lacks publicKey",),
    ),
    Attack(
        name="unknown field",
        does=set_outer(extra=1),
        kind="signature-invalid",
        says=("unknown fields: extra",),
    ),
    Attack(
        name="spaces added",
        does=lambda b: (b / "manifest.sig").write_bytes((b / "manifest.sig").read_bytes() + b"\n"),
        kind="signature-invalid",
        says=("not in compact JSON",),
    ),
    Attack(
        name="duplicate keys in the signature",
        does=lambda b: (b / "manifest.sig").write_bytes(
            (b / "manifest.sig")
            .read_bytes()
            .replace(b'{"mediaType"', b'{"mediaType":"x","mediaType"', 1)
        ),
        kind="signature-invalid",
        says=("'mediaType' is there twice",),
    ),
    Attack(
        name="empty signature file",
        does=lambda b: (b / "manifest.sig").write_bytes(b""),
        kind="signature-invalid",
        says=("no JSON",),
    ),
    Attack(
        name="signature file of binary rubbish",
        does=lambda b: (b / "manifest.sig").write_bytes(bytes(range(256))),
        kind="signature-invalid",
        says=("no JSON",),
    ),
    Attack(
        name="signature nested without end",
        does=lambda b: (b / "manifest.sig").write_bytes(b"[" * 200_000),
        kind="signature-invalid",
        says=("nested too deeply",),
    ),
    Attack(
        name="signature file of a gigabyte",
        does=lambda b: os.truncate(b / "manifest.sig", 1 << 30),
        kind="signature-missing",
        says=("more than",),
    ),
)
STATEMENT = (
    Attack(
        name="no in-toto statement",
        does=set_statement(_type="https://in-toto.io/Statement/v0.1"),
        kind="signature-invalid",
        says=("_type",),
    ),
    Attack(
        name="another predicate",
        does=set_statement(predicateType="https://slsa.dev/provenance/v1"),
        kind="signature-invalid",
        says=("predicateType",),
    ),
    Attack(
        name="OMS 0.1, which vouches for no file set",
        does=set_statement(predicateType="https://model_signing/Digests/v0.1"),
        kind="signature-invalid",
        says=("predicateType",),
    ),
    Attack(
        name="hashed by shards",
        does=set_how(method="shards"),
        kind="signature-invalid",
        says=("one by one",),
    ),
    Attack(
        name="hashed by BLAKE2",
        does=set_how(hash_type="blake2b"),
        kind="signature-invalid",
        says=("SHA-256",),
    ),
    Attack(
        name="symlinks allowed",
        does=set_how(allow_symlinks=True),
        kind="signature-invalid",
        says=("one by one",),
    ),
    Attack(
        name="signed without the model, ignoring it",
        does=lambda b: (
            change_statement(b, without_file),
            set_how(ignore_paths=["manifest.sig", "model/m.onnx"])(b),
        ),
        kind="files",
        says=("model/m.onnx is in the manifest but not signed",),
    ),
    Attack(
        name="signed file that the manifest lacks",
        does=lambda b: resign(b, **{"model/x": "0" * 64}),
        kind="files",
        says=("model/x is signed but not in the manifest",),
    ),
    Attack(
        name="a file signed twice",
        does=lambda b: change_statement(b, twice),
        kind="signature-invalid",
        says=("is there twice",),
    ),
    Attack(
        name="digests that do not add up",
        does=resource(digest="0" * 64),
        kind="signature-invalid",
        says=("subject",),
    ),
    Attack(
        name="digest that is none",
        does=resource(digest="xyz"),
        kind="signature-invalid",
        says=("no SHA-256",),
    ),
    Attack(
        name="path out of the bundle in the statement",
        does=resource(name="../x"),
        kind="signature-invalid",
        says=("'../x' is no path",),
    ),
    Attack(
        name="two subjects",
        does=lambda b: change_statement(b, lambda d: d["subject"].append(dict(d["subject"][0]))),
        kind="signature-invalid",
        says=("subject is not one",),
    ),
)
MANIFESTS = (
    Attack(
        name="duplicate keys in the manifest",
        does=lambda b: repeated_key(b, '"seq": 7', '"seq": 9, "seq": 7'),
        kind="manifest",
        says=("'seq' is there twice",),
    ),
    Attack(
        name="unknown schema",
        does=lambda b: change_manifest(b, schema=2),
        kind="manifest",
        says=("schema 2; this edgepack knows 1",),
    ),
    Attack(
        name="schema that is true",
        does=lambda b: change_manifest(b, schema=True),
        kind="manifest",
        says=("schema True",),
    ),
    Attack(
        name="unknown critical field",
        does=lambda b: change_manifest(b, critical=["lease"]),
        kind="manifest",
        says=("critical fields that are not known: lease",),
    ),
    Attack(
        name="release that is a fraction",
        does=lambda b: change_manifest(b, release={"app": "digits", "version": "1", "seq": 7.5}),
        kind="manifest",
        says=("release.seq is 7.5",),
    ),
    Attack(
        name="release that is negative",
        does=lambda b: change_manifest(b, release={"app": "digits", "version": "1", "seq": -1}),
        kind="manifest",
        says=("release.seq is -1",),
    ),
    Attack(
        name="app that is a path",
        does=lambda b: change_manifest(b, release={"app": "../up", "version": "1", "seq": 7}),
        kind="manifest",
        says=("release.app is '../up'",),
    ),
    Attack(
        name="NaN",
        does=lambda b: repeated_key(b, '"seq": 7', '"seq": NaN'),
        kind="manifest",
        says=("NaN is not JSON",),
    ),
    *(
        Attack(
            name=f"path {path!r} in the manifest",
            does=lambda b, path=path: file_with(b, path=path),
            kind="manifest",
            says=(repr(path),),
        )
        for path in (
            "../x",
            "/etc/passwd",
            "C:\\x",
            "a//b",
            "./x",
            "a/../x",
            "x\0y",
            "x\ny",
            "n" * 5000,
            "manifest.json",
            "manifest.sig",
            "aux.",
        )
    ),
    Attack(
        name="two names that are one on many disks",
        does=lambda b: change_manifest(
            b, files=[*files_of(b), {**files_of(b)[0], "path": "readme.MD"}]
        ),
        kind="manifest",
        says=("'readme.MD' is there twice (as 'README.md')",),
    ),
    Attack(
        name="size that is negative",
        does=lambda b: file_with(b, size=-1),
        kind="manifest",
        says=("has the size -1",),
    ),
    Attack(
        name="size that is a text",
        does=lambda b: file_with(b, size="3"),
        kind="manifest",
        says=("has the size '3'",),
    ),
    Attack(
        name="hash in capitals",
        does=lambda b: file_with(b, sha256="A" * 64),
        kind="manifest",
        says=("has no SHA-256",),
    ),
    Attack(
        name="another hash in the manifest than in the signature",
        does=lambda b: file_with(b, sha256="a" * 64),
        kind="files",
        says=("one hash in the manifest and another in the signature",),
    ),
    Attack(
        name="manifest that is a list",
        does=lambda b: write_manifest(b, b"[]"),
        kind="manifest",
        says=("not a JSON object",),
    ),
)
ATTACKS = (*BYTES, *WHO, *ENVELOPE, *STATEMENT, *MANIFESTS)
