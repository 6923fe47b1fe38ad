"""May this bundle be trusted? The rules, for a bare board: the standard library of Python 3.8 and the `openssl` program.

`edgepack verify --trust` on a host applies this very file, so that a board and a host never disagree.

    python3 -I -S edgepack_trust.py verify BUNDLE --trust trust.json --app digits

prints one JSON object, and exits 0 if the bundle may be trusted, 13 if not, 2 if the call itself is wrong.

What is signed: an OpenSSF Model Signing (OMS) bundle in `manifest.sig`: DSSE over an in-toto statement that lists the SHA-256 of every
file, ECDSA over P-256. A bundle holds what the statement and the manifest list, byte for byte, and nothing else.

Sources: OMS 1.0 (github.com/ossf/model-signing-spec), model-signing 1.1.1 (key hint: SHA-256 of the public key's PEM); DSSE 1.0
(secure-systems-lab/dsse, protocol.md: pre-authentication encoding); RFC 5480 2.1.1 (the public key's bytes).
"""

from __future__ import annotations

import argparse
import base64
import binascii
import calendar
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import unicodedata
from typing import Any, Callable, Iterator, NamedTuple

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
MANIFEST_SCHEMA = TRUST_SCHEMA = 1
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT_PAYLOAD, TRUST_PAYLOAD = (
    "application/vnd.in-toto+json",
    "application/vnd.edgepack.trust+json",
)
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
#: A manifest lists some dozens of files; a hundred megabytes of JSON are an attack on memory.
_JSON_BYTES, _TRUST_BYTES = 64 << 20, 1 << 20
_HEX = re.compile(r"[0-9a-f]{64}")
_APP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")
#: SubjectPublicKeyInfo of an uncompressed point on P-256, up to its 64 bytes.
_P256 = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")

#: Whether `signature` (DER) is the key's (SubjectPublicKeyInfo, DER) over `message`: (key, message, signature) → bool.
Check = Callable[[bytes, bytes, bytes], bool]

_AGAIN = "build or copy it again; if it comes from somebody else, do not use it"
_SIGN = "sign it: edgepack sign BUNDLE --key KEY"


class Refusal(Exception):
    """Why something is not trusted: a word for programs, the cause, and what to do next.

    The words: signature-missing, signature-invalid; key-unknown, key-revoked, key-not-yet-valid, key-expired, key-invalid; clock; app,
    release; manifest, files; trust-file; openssl (it is missing, or does not run).
    """

    def __init__(self, kind: str, cause: str, fix: str) -> None:
        super().__init__(cause)
        self.kind, self.cause, self.fix = kind, cause, fix


class Key(NamedTuple):
    """A public key, when it is valid (seconds since 1970; None: always), and for which apps (none named: all)."""

    id: str
    name: str
    der: bytes
    not_before: int | None
    not_after: int | None
    apps: frozenset[str]


class Trust(NamedTuple):
    """What a trust file says: the keys, those that count no more and why, and each app's oldest release that may be installed."""

    version: int
    issued: int | None
    keys: dict[str, Key]
    revoked: dict[str, str]
    min_release_seq: dict[str, int]


class Signed(NamedTuple):
    """A signature file that is well formed; its signature is not checked yet.

    `message` is what was signed; `files` are the SHA-256 digests by path that it vouches for, `digest` the one over all of them.
    """

    key_id: str
    message: bytes
    signature: bytes
    files: dict[str, str]
    digest: str


class Verified(NamedTuple):
    """A bundle that may be trusted: who signed it, and what it is."""

    key_id: str
    key_name: str
    app: str
    version: str
    release_seq: int
    target: str
    files: int
    digest: str


def verify_bundle(
    bundle: str,
    trust: Trust,
    *,
    app: str | None = None,
    min_release_seq: int = 0,
    now: float | None = None,
    check: Check | None = None,
) -> Verified:
    """The bundle in folder `bundle`, once every rule holds. Nothing in it is run, nothing is written.

    Args:
        app: the app it must be; None: any that the key may sign.
        min_release_seq: the oldest release that may come, beside what the trust file says.
        now: seconds since 1970; the clock's if not given.
        check: how signatures are checked; by `openssl` if not given.

    Raises:
        Refusal: the first rule that does not hold.
    """
    place = os.path.join(bundle, SIGNATURE)
    if not os.path.lexists(place):
        raise Refusal("signature-missing", f"{bundle} is not signed: it has no {SIGNATURE}", _SIGN)
    signature = read_file(place)
    text = read_file(os.path.join(bundle, MANIFEST), "manifest", _AGAIN)
    manifest, signed, key = verify_papers(
        text,
        signature,
        trust,
        place=bundle,
        app=app,
        min_release_seq=min_release_seq,
        now=now,
        check=check,
    )
    check_files(bundle, manifest["files"], signed.files)
    release = manifest["release"]
    return Verified(
        key.id,
        key.name,
        release["app"],
        release["version"],
        release["seq"],
        manifest["target"]["name"],
        len(manifest["files"]),
        signed.digest,
    )


def verify_papers(
    text: bytes,
    signature: bytes,
    trust: Trust,
    *,
    place: str,
    app: str | None = None,
    min_release_seq: int = 0,
    now: float | None = None,
    check: Check | None = None,
) -> tuple[dict[str, Any], Signed, Key]:
    """(manifest, signature, key) of a bundle of which only these two files are here yet: every rule but those about its other files.

    Args:
        text: the bytes of manifest.json.
        signature: the bytes of manifest.sig.
        place: the bundle, for messages; the others are those of `verify_bundle`.

    Raises:
        Refusal: the first rule that does not hold.
    """
    here = os.path.join(place, SIGNATURE)
    signed = read_signature(signature, here)
    key = trusted_key(trust, signed.key_id, here, time.time() if now is None else now)
    if not (check or openssl_check)(key.der, signed.message, signed.signature):
        raise Refusal(
            "signature-invalid",
            f"{here}: the signature is not that of key {shown(key)} over these bytes",
            "it was changed after it was signed: " + _AGAIN,
        )
    manifest_place = os.path.join(place, MANIFEST)
    if hashlib.sha256(text).hexdigest() != signed.files.get(MANIFEST):
        raise Refusal("files", f"{manifest_place} is not the one that was signed", _AGAIN)
    manifest = read_manifest(text, manifest_place)
    _check_release(manifest["release"], trust, key, app, min_release_seq, place)
    return manifest, signed, key


def trusted_key(trust: Trust, key_id: str, place: str, now: float) -> Key:
    """The key of that id.

    Raises:
        Refusal: it is unknown or revoked, the clock is wrong, or the key is not valid now.
    """
    if key_id in trust.revoked:
        raise Refusal(
            "key-revoked",
            f"{place}: key {key_id} was revoked: {trust.revoked[key_id]}",
            "sign the bundle with a key that is still trusted",
        )
    if key_id not in trust.keys:
        known = ", ".join(shown(k) for k in trust.keys.values()) or "none"
        raise Refusal(
            "key-unknown",
            f"{place}: signed with key {key_id}, which is not trusted (trusted: {known})",
            "if it should be, add its public key to the trust file",
        )
    key = trust.keys[key_id]
    if trust.issued is not None and now < trust.issued:
        raise Refusal(
            "clock",
            f"the clock says {as_text(now)}, before the trust file was issued ({as_text(trust.issued)})",
            "set the clock (timedatectl set-time, or NTP) and try again",
        )
    if key.not_before is not None and now < key.not_before:
        raise Refusal(
            "key-not-yet-valid",
            f"{place}: key {shown(key)} is valid from {as_text(key.not_before)}; it is {as_text(now)}",
            "wait, or sign the bundle with a key that is valid",
        )
    if key.not_after is not None and now > key.not_after:
        raise Refusal(
            "key-expired",
            f"{place}: key {shown(key)} expired at {as_text(key.not_after)}; it is {as_text(now)}",
            "sign the bundle with a key that is valid, and trust that",
        )
    return key


def _check_release(
    release: dict[str, Any], trust: Trust, key: Key, app: str | None, least: int, bundle: str
) -> None:
    name, seq = release["app"], release["seq"]
    if app is not None and name != app:
        raise Refusal(
            "app",
            f"{bundle} is a release of the app {name}, not of {app}",
            "give the bundle that was built for it (--app)",
        )
    if key.apps and name not in key.apps:
        raise Refusal(
            "app",
            f"{bundle}: key {shown(key)} may sign {', '.join(sorted(key.apps))}, not {name}",
            "sign it with a key for this app, or add the app to the key in the trust file",
        )
    least = max(least, trust.min_release_seq.get(name, 0))
    if seq < least:
        raise Refusal(
            "release",
            f"{bundle} is release {seq} of {name}; the oldest that may be installed is {least}",
            f"build it with --release-seq {least} or more",
        )


def check_files(bundle: str, listed: list[dict[str, Any]], digests: dict[str, str]) -> None:
    """Nothing, if the manifest's list, the signature's digests and the disk have the same files.

    Raises:
        Refusal: names every file that is too many, missing, or changed.
    """
    expected = {f["path"]: f for f in listed}
    vouched = set(digests) - {MANIFEST}
    wrong = differences(listed, digests)
    on_disk: dict[str, os.stat_result] = {}
    for name, info in walk(bundle):
        if not stat.S_ISREG(info.st_mode):
            wrong.append(f"{name} is not a regular file")
        else:
            on_disk[name] = info
            if name not in expected and name not in (MANIFEST, SIGNATURE):
                wrong.append(f"{name} is not in the manifest")
    for name in sorted(set(expected) & vouched):
        file = expected[name]
        if digests[name] != file["sha256"]:
            continue
        if name not in on_disk:
            wrong.append(f"{name} is missing")
        elif on_disk[name].st_size != file["size"]:
            wrong.append(f"{name} has {on_disk[name].st_size} bytes, not {file['size']}")
        elif file_sha256(os.path.join(bundle, *name.split("/"))) != file["sha256"]:
            wrong.append(f"{name} was changed (its SHA-256 differs)")
    if wrong:
        raise Refusal("files", f"{bundle} is not as it was signed: {'; '.join(wrong)}", _AGAIN)


def differences(listed: list[dict[str, Any]], digests: dict[str, str]) -> list[str]:
    """Where a manifest's list and a signature's digests disagree; empty if they say the same."""
    expected = {f["path"]: f["sha256"] for f in listed}
    vouched = {name: digest for name, digest in digests.items() if name != MANIFEST}
    return [
        *(f"{n} is signed but not in the manifest" for n in sorted(set(vouched) - set(expected))),
        *(f"{n} is in the manifest but not signed" for n in sorted(set(expected) - set(vouched))),
        *(
            f"{n} has one hash in the manifest and another in the signature"
            for n in sorted(set(expected) & set(vouched))
            if expected[n] != vouched[n]
        ),
    ]


# What is read


def read_signature(data: bytes, place: str) -> Signed:
    """A bundle's signature file, parsed; every field is the one that OMS writes.

    Raises:
        Refusal: anything else.
    """
    key_id, payload, message, signature = open_envelope(data, STATEMENT_PAYLOAD, place)
    statement = read_json(payload, f"{place}: its payload", "signature-invalid")
    fields = _Fields(place, "signature-invalid", _SIGN)
    fields.exactly(statement, "_type subject predicateType predicate", "the statement")
    fields.require(statement["_type"] == STATEMENT_TYPE, "_type is no in-toto statement")
    fields.require(
        statement["predicateType"] == PREDICATE_TYPE,
        f"predicateType is {statement['predicateType']!r}, not {PREDICATE_TYPE}",
    )
    subject = fields.only(statement["subject"], "subject")
    fields.exactly(subject, "name digest", "subject")
    fields.exactly(subject["digest"], "sha256", "subject.digest")
    predicate = statement["predicate"]
    fields.exactly(predicate, "serialization resources", "predicate")
    how = predicate["serialization"]
    fields.require(
        isinstance(how, dict)
        and how.get("method") == "files"
        and how.get("hash_type") == "sha256"
        and how.get("allow_symlinks") is False,
        "its files are not hashed one by one with SHA-256",
    )
    fields.require(isinstance(predicate["resources"], list), "resources is no list")
    files: dict[str, str] = {}
    whole = hashlib.sha256()
    for resource in predicate["resources"]:
        fields.exactly(resource, "name algorithm digest", "a resource")
        name, digest = resource["name"], resource["digest"]
        fields.require(resource["algorithm"] == "sha256", f"{name!r} is not hashed by sha256")
        fields.require(_is_hex(digest), f"the digest of {name!r} is no SHA-256")
        fields.require(isinstance(name, str) and path_fault(name) is None, f"{name!r} is no path")
        fields.require(name not in files, f"{name!r} is there twice")
        files[name] = digest
        whole.update(bytes.fromhex(digest))
    fields.require(
        subject["digest"]["sha256"] == whole.hexdigest(), "its digests do not make up its subject's"
    )
    return Signed(key_id, message, signature, files, whole.hexdigest())


def open_envelope(data: bytes, payload_type: str, place: str) -> tuple[str, bytes, bytes, bytes]:
    """(key id, payload, what was signed, signature) of a DSSE envelope in a Sigstore bundle, as OMS writes it.

    Raises:
        Refusal: it is not of that form, or its payload of another type.
    """
    fields = _Fields(place, "signature-invalid", _SIGN)
    outer = read_json(data, place, "signature-invalid")
    fields.exactly(outer, "mediaType verificationMaterial dsseEnvelope", "the signature")
    fields.require(
        outer["mediaType"] == MEDIA_TYPE,
        f"mediaType is {outer['mediaType']!r}, not {MEDIA_TYPE}",
    )
    # A byte that could be changed without notice is a byte that nobody vouches for.
    compact = json.dumps(outer, separators=(",", ":"), ensure_ascii=False)
    fields.require(compact.encode("utf-8", "replace") == data, "it is not in compact JSON")
    material = outer["verificationMaterial"]
    fields.exactly(material, "publicKey tlogEntries", "verificationMaterial")
    fields.require(material["tlogEntries"] == [], "tlogEntries is not empty")
    fields.exactly(material["publicKey"], "hint", "publicKey")
    key_id = material["publicKey"]["hint"]
    fields.require(_is_hex(key_id), "publicKey.hint is not the SHA-256 of a key")
    envelope = outer["dsseEnvelope"]
    fields.exactly(envelope, "payload payloadType signatures", "dsseEnvelope")
    fields.require(
        envelope["payloadType"] == payload_type,
        f"payloadType is {envelope['payloadType']!r}, not {payload_type}",
    )
    signature = fields.only(envelope["signatures"], "signatures")
    fields.exactly(signature, "sig keyid", "the signature")
    fields.require(signature["keyid"] == "", "keyid is not empty")
    payload = fields.base64(envelope["payload"], "payload")
    message = pae(payload_type, payload)
    return key_id, payload, message, fields.base64(signature["sig"], "sig")


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is signed in place of the payload."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def read_manifest(data: bytes, place: str) -> dict[str, Any]:
    """A manifest, as far as trust goes: its schema is known, its release and its files are well formed.

    Raises:
        Refusal: they are not.
    """
    fields = _Fields(place, "manifest", _AGAIN)
    manifest = read_json(data, place, "manifest")
    fields.require(isinstance(manifest, dict), "not a JSON object")
    schema = manifest.get("schema")
    if type(schema) is not int or schema != MANIFEST_SCHEMA:
        raise Refusal(
            "manifest",
            f"{place}: schema {schema!r}; this edgepack knows {MANIFEST_SCHEMA}",
            "upgrade edgepack, or build the bundle again",
        )
    critical = manifest.get("critical", [])
    fields.require(isinstance(critical, list), "critical is no list")
    names = ", ".join(map(str, critical))
    fields.require(not critical, f"critical fields that are not known: {names}")
    release, target = manifest.get("release"), manifest.get("target")
    fields.exactly(release, "app version seq", "release")
    fields.require(_is_match(_APP, release["app"]), f"release.app is {release['app']!r}")
    fields.require(isinstance(release["version"], str), "release.version is no text")
    fields.require(_is_count(release["seq"]), f"release.seq is {release['seq']!r}")
    fields.require(
        isinstance(target, dict) and isinstance(target.get("name"), str), "target.name is missing"
    )
    fields.require(isinstance(manifest.get("files"), list), "files is no list")
    seen: dict[str, str] = {}
    for file in manifest["files"]:
        fields.exactly(file, "path size sha256 role", "a file")
        path = file["path"]
        fault = path_fault(path) if isinstance(path, str) else "is no text"
        fields.require(fault is None, f"path {path!r} {fault}")
        fields.require(path not in (MANIFEST, SIGNATURE), f"{path!r} lists itself")
        fields.require(_is_count(file["size"]), f"{path!r} has the size {file['size']!r}")
        fields.require(_is_hex(file["sha256"]), f"{path!r} has no SHA-256")
        fields.require(isinstance(file["role"], str), f"{path!r} has no role")
        same = folded(path)
        fields.require(same not in seen, f"{path!r} is there twice (as {seen.get(same)!r})")
        seen[same] = path
    for same, path in seen.items():
        above = next((seen[p] for p in _parents(same) if p in seen), None)
        fields.require(above is None, f"{path!r} lies in {above!r}, which is a file")
    return dict(manifest)


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:i]) for i in range(1, len(parts))]


def read_trust(data: bytes, place: str) -> Trust:
    """A trust file (JSON).

        {"schema": 1, "version": 3, "issued": "2026-11-26T00:00:00Z",
         "keys": [{"id": "<sha256sum of the PEM file>", "name": "release 2026", "public_key": "-----BEGIN PUBLIC KEY-----…",
                   "not_before": "2026-01-01T00:00:00Z", "not_after": "2028-01-01T00:00:00Z", "apps": ["digits"]}],
         "revoked": [{"id": "…", "reason": "the laptop was stolen"}],
         "min_release_seq": {"digits": 7}}

    `apps`, `revoked` and `min_release_seq` may be left out.

    Raises:
        Refusal: it is not of that form.
    """
    fields = _Fields(place, "trust-file", "correct the trust file (see README.md, Trust)")
    if len(data) > _TRUST_BYTES:
        fields.require(False, f"has {len(data)} bytes, more than {_TRUST_BYTES}")
    top = read_json(data, place, "trust-file")
    fields.exactly(top, "schema version issued keys", "the file", "revoked min_release_seq")
    fields.require(
        type(top["schema"]) is int and top["schema"] == TRUST_SCHEMA,
        f"schema {top['schema']!r}; this edgepack knows {TRUST_SCHEMA}",
    )
    fields.require(_is_count(top["version"]), f"version is {top['version']!r}, no number from 0")
    fields.require(isinstance(top["keys"], list), "keys is no list")
    keys: dict[str, Key] = {}
    for i, entry in enumerate(top["keys"]):
        key = _read_key_entry(entry, fields, f"keys[{i}]")
        fields.require(key.id not in keys, f"key {key.id} is there twice")
        keys[key.id] = key
    revoked: dict[str, str] = {}
    listed = top.get("revoked", [])
    fields.require(isinstance(listed, list), "revoked is no list")
    for i, entry in enumerate(listed):
        what = f"revoked[{i}]"
        fields.exactly(entry, "id reason", what)
        fields.require(_is_hex(entry["id"]), f"{what}.id is no key's id")
        fields.require(isinstance(entry["reason"], str), f"{what}.reason is no text")
        fields.require(entry["id"] not in revoked, f"{entry['id']} is revoked twice")
        revoked[entry["id"]] = entry["reason"]
    least = top.get("min_release_seq", {})
    fields.require(isinstance(least, dict), "min_release_seq is no mapping")
    for app, seq in least.items():
        fields.require(_is_match(_APP, app), f"min_release_seq: {app!r} is no app")
        fields.require(_is_count(seq), f"min_release_seq.{app} is {seq!r}")
    return Trust(top["version"], fields.time(top["issued"], "issued"), keys, revoked, dict(least))


def _read_key_entry(entry: Any, fields: _Fields, what: str) -> Key:
    fields.exactly(entry, "id name public_key not_before not_after", what, "apps")
    fields.require(isinstance(entry["name"], str), f"{what}.name is no text")
    fields.require(isinstance(entry["public_key"], str), f"{what}.public_key is no PEM")
    key = read_public_key(entry["public_key"].encode("utf-8", "replace"), f"{fields.place}: {what}")
    fields.require(entry["id"] == key.id, f"{what}.id is not that of its key, {key.id}")
    begin = fields.time(entry["not_before"], what + ".not_before")
    end = fields.time(entry["not_after"], what + ".not_after")
    fields.require(begin < end, f"{what}.not_after is not after not_before")
    apps = entry.get("apps", [])
    fields.require(
        isinstance(apps, list) and all(_is_match(_APP, a) for a in apps),
        f"{what}.apps is no list of apps",
    )
    fields.require("apps" not in entry or bool(apps), f"{what}.apps is empty")
    return Key(key.id, entry["name"], key.der, begin, end, frozenset(apps))


def read_public_key(pem: bytes, place: str) -> Key:
    """The key in a PEM text, for all apps and times. Its id is the SHA-256 of the PEM file as openssl writes it.

    Raises:
        Refusal: it is no ECDSA public key over P-256.
    """
    lines = pem.decode("ascii", "replace").split()
    body = "".join(lines[3:-3])
    der = b""
    if lines[:3] == ["-----BEGIN", "PUBLIC", "KEY-----"] and lines[-3:] == [
        "-----END",
        "PUBLIC",
        "KEY-----",
    ]:
        try:
            der = base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError):
            der = b""
    if len(der) != len(_P256) + 64 or not der.startswith(_P256):
        raise Refusal(
            "key-invalid",
            f"{place} is no public key of ECDSA over P-256 (PEM)",
            "give the .pub.pem that `edgepack keygen` wrote",
        )
    return Key(key_id(der), os.path.basename(place), der, None, None, frozenset())


def key_id(der: bytes) -> str:
    """The id of a public key: the SHA-256 of its PEM text, 64 hex digits; what `sha256sum KEY.pub.pem` prints."""
    return hashlib.sha256(pem_of(der)).hexdigest()


def pem_of(der: bytes) -> bytes:
    """A public key as PEM, as openssl writes it."""
    text = base64.b64encode(der)
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return b"\n".join([b"-----BEGIN PUBLIC KEY-----", *lines, b"-----END PUBLIC KEY-----", b""])


def trust_in_key(key: Key) -> Trust:
    """Trust in one key and nothing else."""
    return Trust(0, None, {key.id: key}, {}, {})


def renewed_trust(
    old: Trust, data: bytes, place: str, now: float | None = None, check: Check | None = None
) -> tuple[Trust, bytes]:
    """The trust file that is to replace `old`, and its JSON, from an envelope that a key of the old one signed.

    Raises:
        Refusal: the signature is not one that `old` trusts; its version is not higher; or it forgets a revocation or a minimum release.
    """
    signer, payload, message, signature = open_envelope(data, TRUST_PAYLOAD, place)
    key = trusted_key(old, signer, place, time.time() if now is None else now)
    if not (check or openssl_check)(key.der, message, signature):
        raise Refusal(
            "signature-invalid",
            f"{place}: the signature is not that of key {shown(key)} over these bytes",
            "sign the trust file again: edgepack trust sign",
        )
    new = read_trust(payload, place)
    forgotten = sorted(set(old.revoked) - set(new.revoked))
    lower = [a for a, seq in old.min_release_seq.items() if new.min_release_seq.get(a, 0) < seq]
    fault = ""
    if key.apps:
        fault = f"key {shown(key)} may sign releases of {', '.join(sorted(key.apps))} only"
    elif new.version <= old.version:
        fault = f"version {new.version} is not higher than {old.version}"
    elif forgotten:
        fault = f"it no longer revokes {', '.join(forgotten)}"
    elif lower:
        fault = f"it lowers min_release_seq of {', '.join(sorted(lower))}"
    if fault:
        raise Refusal(
            "trust-file",
            f"{place} may not replace the trust file: {fault}",
            "correct it and sign it again",
        )
    return new, payload


# How signatures are checked


def openssl_check(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is the key's over `message`, as the `openssl` program says.

    Raises:
        Refusal: there is no openssl, or it does not work.
    """
    program = shutil.which(
        "openssl", path=os.environ.get("PATH", "") + ":/usr/bin:/bin:/usr/local/bin"
    )
    if program is None:
        raise Refusal("openssl", "openssl is not on PATH", "install it: apt-get install openssl")
    folder = None
    try:
        folder = tempfile.mkdtemp(prefix="edgepack-trust-")
        paths = [os.path.join(folder, name) for name in ("key.pem", "signature", "message")]
        for path, data in zip(paths, (pem_of(key), signature, message)):
            with open(path, "wb") as file:
                file.write(data)
        done = subprocess.run(
            [program, "dgst", "-sha256", "-verify", paths[0], "-signature", paths[1], paths[2]],
            env={"LC_ALL": "C", "OPENSSL_CONF": os.devnull},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Refusal(
            "openssl", f"openssl does not run: {error}", "run `openssl version`"
        ) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    return done.returncode == 0 and done.stdout.strip() == b"Verified OK"


# Files and texts


def walk(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """(path, lstat) of all that is below `folder` but folders; hidden ones too, links as links."""
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders.sort()
        links = [n for n in folders if os.path.islink(os.path.join(parent, n))]
        for name in sorted(files + links):
            full = os.path.join(parent, name)
            yield os.path.relpath(full, folder).replace(os.sep, "/"), os.lstat(full)


def file_sha256(path: str) -> str:
    """The SHA-256 of a file's bytes, read in blocks; a link is not followed."""
    digest = hashlib.sha256()
    descriptor = os.open(
        path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    )
    with os.fdopen(descriptor, "rb") as file:
        while True:
            block = file.read(1 << 20)
            if not block:
                return digest.hexdigest()
            digest.update(block)


def path_fault(path: str) -> str | None:
    """Why `path` cannot be a file's place in a bundle on every system; None if it can."""
    parts = path.split("/")
    if not path or path.startswith("/"):
        return "is no relative path"
    if ".." in parts or "." in parts or "" in parts:
        return "leads elsewhere"
    if len(path.encode("utf-8", "surrogatepass")) > 1024 or max(map(len, parts)) > 200:
        return "is too long"
    if not path.isprintable() or any(c in '\\:*?"<>|' for c in path):
        return "has letters that are not legal in names everywhere"
    if any(part[-1] in ". " for part in parts):
        return "has a name that ends with a dot or space"
    return None


def folded(path: str) -> str:
    """What two paths have in common that are one file on a disk that does not tell case or accents apart."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def read_json(data: bytes, place: str, kind: str) -> Any:
    """The JSON in `data`: UTF-8, no key twice, no NaN, whole letters only.

    Raises:
        Refusal: of that kind.
    """
    try:
        result = json.loads(
            data.decode("utf-8"), object_pairs_hook=_single, parse_constant=_no_constant
        )
        # Half a surrogate pair is no text that could be printed, or be a file's name.
        json.dumps(result, ensure_ascii=False).encode("utf-8")
        return result
    except RecursionError:
        fault = "is nested too deeply"
    except ValueError as error:
        fault = f"is no JSON: {error}"
    raise Refusal(kind, f"{place} {fault}", _AGAIN)


def as_text(seconds: float) -> str:
    """A time as in trust files: 2026-11-26T00:00:00Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def shown(key: Key) -> str:
    """A key for people: its name and how its id begins."""
    return f"{key.name} ({key.id[:12]}…)"


class _Fields:
    """Requirements on the fields of one file; what does not hold is a refusal that names the file."""

    def __init__(self, place: str, kind: str, fix: str) -> None:
        self.place, self._kind, self._fix = place, kind, fix

    def require(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise Refusal(self._kind, f"{self.place}: {otherwise}", self._fix)

    def exactly(self, value: Any, names: str, what: str, optional: str = "") -> None:
        """`value` is an object with these fields, and no others but the optional ones."""
        self.require(isinstance(value, dict), f"{what} is no JSON object")
        needed = names.split()
        missing = [n for n in needed if n not in value]
        self.require(not missing, f"{what} lacks {', '.join(missing)}")
        unknown = sorted(set(value) - set(needed) - set(optional.split()))
        self.require(not unknown, f"{what} has unknown fields: {', '.join(unknown)}")

    def only(self, value: Any, what: str) -> Any:
        """The one item of a list."""
        self.require(isinstance(value, list) and len(value) == 1, f"{what} is not one")
        return value[0]

    def base64(self, text: Any, what: str) -> bytes:
        try:
            data = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
        except (binascii.Error, ValueError):
            data = b""
        # The last letter of base64 has bits to spare.
        self.require(bool(data) and base64.b64encode(data).decode() == text, f"{what} is no base64")
        return data

    def time(self, text: Any, what: str) -> int:
        try:
            self.require(_is_match(_TIME, text), "")
            return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))
        except (Refusal, ValueError, OverflowError):
            pass
        raise Refusal(
            self._kind,
            f"{self.place}: {what} is {text!r}, no time like 2026-11-26T00:00:00Z",
            self._fix,
        )


def read_file(
    path: str, kind: str = "signature-missing", fix: str = _SIGN, most: int = _JSON_BYTES
) -> bytes:
    """A file's bytes.

    Raises:
        Refusal: it is not there, no regular file, or larger than `most`.
    """
    try:
        info = os.lstat(path)
        if not stat.S_ISREG(info.st_mode):
            raise Refusal(kind, f"{path} is not a regular file", fix)
        if info.st_size > most:
            raise Refusal(kind, f"{path} has {info.st_size} bytes, more than {most}", fix)
        with open(path, "rb") as file:
            return file.read(most)
    except OSError as error:
        raise Refusal(kind, f"{path}: {error.strerror}", fix) from error


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} is there twice")
        result[key] = value
    return result


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _raise(error: OSError) -> None:
    raise error


def _is_match(pattern: Any, value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_hex(value: Any) -> bool:
    return _is_match(_HEX, value)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


# The command line


def main(arguments: list[str] | None = None) -> int:
    """Verify a bundle as the command line says; the exit code."""
    parser = argparse.ArgumentParser(
        prog="edgepack_trust.py", description="Verify a signed bundle."
    )
    verify = parser.add_subparsers(dest="command", required=True).add_parser("verify")
    verify.add_argument("bundle")
    given = verify.add_mutually_exclusive_group(required=True)
    given.add_argument("--trust", metavar="FILE.json", help="a trust file")
    given.add_argument("--key", metavar="FILE.pub.pem", help="one public key")
    verify.add_argument("--app", help="the app it must be")
    verify.add_argument("--min-release-seq", type=int, default=0, metavar="N")
    verify.add_argument(
        "--now", type=float, metavar="SECONDS", help="since 1970, instead of the clock"
    )
    options = parser.parse_args(arguments)
    try:
        if options.trust is not None:
            fix = "give a trust file that is there"
            data = read_file(options.trust, "trust-file", fix)
            trust = read_trust(data, options.trust)
        else:
            fix = "give the .pub.pem that `edgepack keygen` wrote"
            data = read_file(options.key, "key-invalid", fix)
            trust = trust_in_key(read_public_key(data, options.key))
        result = verify_bundle(
            options.bundle,
            trust,
            app=options.app,
            min_release_seq=options.min_release_seq,
            now=options.now,
        )
    except Refusal as refusal:
        error = {"kind": refusal.kind, "cause": refusal.cause, "fix": refusal.fix}
        print(json.dumps({"trusted": False, "error": error}))
        return 13
    print(json.dumps(dict(result._asdict(), trusted=True)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
