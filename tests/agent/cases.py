"""What attackers, mistakes and unfit boards bring to a flash, and the refusal that must follow: one table."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from edgepack.trust.envelope import sealed
from edgepack.trust.rules import rules
from tests.agent import bundles
from tests.agent.board import Board, Message
from tests.agent.bundles import ALWAYS, release
from tests.trust.attacks import files_of, set_envelope, set_outer
from tests.trust.bundles import (
    change_envelope,
    change_manifest,
    change_statement,
    entry,
    flip,
    key,
    resign,
    write_manifest,
)

Change = Callable[[Path], object]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A flash that must be refused before a byte is written.

    Attributes:
        does: changes release 2, which the key `release` signed.
        board: changes the board, which runs release 1.
        bare: nothing was flashed to the board before.
        says: changes the host's first message.
        trust_file: what the host brings.
        kind, cause: of the refusal.
    """

    name: str
    kind: str
    cause: str = ""
    does: Change = lambda bundle: None
    board: Callable[[Board], object] = lambda board: None
    bare: bool = False
    says: Callable[[Message], object] = lambda message: None
    trust_file: Callable[[], bytes | None] = lambda: None
    options: dict[str, Any] = field(default_factory=dict)


def trusts(**changes: Any) -> Callable[[Board], object]:
    """The board's trust file is another one."""
    return lambda board: (board.folder / "trust.json").write_bytes(bundles.trust(**changes))


def seal(by: str = "release", **changes: Any) -> Callable[[], bytes]:
    """A trust file that a key sealed."""
    return lambda: sealed(
        bundles.trust(**{"version": 4, **changes}), rules().TRUST_PAYLOAD, key(by)
    )


def manifest_says(**changes: Any) -> Change:
    return lambda bundle: change_manifest(bundle, **changes)


def requires(**wanted: str) -> Change:
    return manifest_says(target={"name": "jetson-orin", "requires": wanted})


def first_file(**changes: Any) -> Change:
    def change(bundle: Path) -> None:
        files = files_of(bundle)
        change_manifest(bundle, files=[{**files[0], **changes}, *files[1:]])

    return change


def again(bundle: Path, **how: Any) -> None:
    """Another release in the bundle's place."""
    shutil.rmtree(bundle)
    release(bundle, **{"seq": 2, **how})


def unvouched(data: dict[str, Any]) -> None:
    """One file fewer is vouched for, with digests that add up."""
    kept = [r for r in data["predicate"]["resources"] if r["name"] != "model/own.bin"]
    data["predicate"]["resources"] = kept
    whole = sha256(b"".join(bytes.fromhex(r["digest"]) for r in kept)).hexdigest()
    data["subject"][0]["digest"]["sha256"] = whole


def repeated(bundle: Path) -> None:
    text = (bundle / "manifest.json").read_bytes()
    write_manifest(bundle, text.replace(b'"schema": 1', b'"schema": 1, "schema": 1', 1))


def mixed(bundle: Path, name: str) -> None:
    other = release(bundle.parent / "other", 3)
    (bundle / name).write_bytes((other / name).read_bytes())


def year_1970() -> None:
    """The board has no clock battery."""
    import edgepack_trust

    edgepack_trust.time.time = lambda: 0.0


def is_a(**facts: Any) -> Callable[[Board], object]:
    """The board is another one."""

    def patch() -> None:
        from edgepack_agent import facts as module

        known = module.read()._replace(**facts)
        module.read = lambda root="/": known

    return lambda board: board.patches.append(patch)


def says(**fields: Any) -> Callable[[Message], object]:
    return lambda message: message.update(fields)


def option(**options: Any) -> Callable[[Message], object]:
    return lambda message: message["options"].update(options)


EXPIRED = {"not_before": "2020-01-01T00:00:00Z", "not_after": "2021-01-01T00:00:00Z"}
FUTURE = {"not_before": "2110-01-01T00:00:00Z", "not_after": "2120-01-01T00:00:00Z"}
REVOKED = [{"id": key("release").id, "reason": "stolen"}]
OTHERS = [{"id": key("other").id, "reason": "lost"}]
UNSIGNED = {"allow_unsigned": True}


def keys(**changes: Any) -> list[dict[str, Any]]:
    return [entry("release", **{**ALWAYS, **changes})]


# fmt: off
SIGNATURE = (
    Case(name="no signature", kind="signature-missing", cause="is not signed", does=lambda b: (b / "manifest.sig").unlink()),
    Case(name="flipped byte of the manifest", kind="files", cause="manifest.json is not the one", does=lambda b: flip(b / "manifest.json")),
    Case(name="flipped byte of the signature", kind="signature-invalid", does=lambda b: flip(b / "manifest.sig", 300)),
    Case(name="cut-off signature", kind="signature-invalid", does=lambda b: os.truncate(b / "manifest.sig", 400)),
    Case(name="empty signature file", kind="signature-invalid", does=lambda b: os.truncate(b / "manifest.sig", 0)),
    Case(name="unknown key", kind="key-unknown", cause=key("other").id, does=lambda b: resign(b, by="other")),
    Case(name="unknown key under a trusted name", kind="signature-invalid", does=lambda b: (
        resign(b, by="other"),
        change_envelope(b, lambda d: d["verificationMaterial"]["publicKey"].update(hint=key("release").id)))),
    Case(name="revoked key", kind="key-revoked", cause="stolen", board=trusts(revoked=REVOKED)),
    Case(name="expired key", kind="key-expired", board=trusts(keys=keys(**EXPIRED))),
    Case(name="key of the future", kind="key-not-yet-valid", board=trusts(keys=keys(**FUTURE))),
    Case(name="clock at 1970", kind="clock", cause="1970-01-01", board=lambda b: b.patches.append(year_1970)),
    Case(name="signature of another app", kind="app", cause="faces, not of digits", does=lambda b: again(b, app="faces")),
    Case(name="key for another app", kind="app", cause="may sign faces", board=trusts(keys=keys(apps=["faces"]))),
    Case(name="lower release than the committed", kind="release", cause="is 1", does=lambda b: again(b, seq=0)),
    Case(name="lower release than the trust file's", kind="release", cause="is 9", board=trusts(min_release_seq={"digits": 9})),
    Case(name="wrong payloadType", kind="signature-invalid", cause="payloadType", does=set_envelope(payloadType="application/json")),
    Case(name="wrong mediaType", kind="signature-invalid", cause="mediaType", does=set_outer(mediaType="text/plain")),
    Case(name="no signatures in the envelope", kind="signature-invalid", does=set_envelope(signatures=[])),
    Case(name="two bundles mixed: signature", kind="files", does=lambda b: mixed(b, "manifest.sig")),
    Case(name="two bundles mixed: manifest", kind="files", does=lambda b: mixed(b, "manifest.json")),
    Case(name="file that nobody signed", kind="files", cause="not signed", does=lambda b: change_statement(b, unvouched)),
    Case(name="hash that is not the signed one", kind="files", cause="another in the signature", does=first_file(sha256="0" * 64)),
    Case(name="signature of an unlisted file", kind="files", cause="more is signed", does=lambda b: resign(b, more="0" * 64)),
)
UNVOUCHED = (
    Case(name="unsigned, of another app", kind="app", options=UNSIGNED, does=lambda b: again(b, by=None, app="faces")),
    Case(name="unsigned, lower release", kind="release", options=UNSIGNED, does=lambda b: again(b, by=None, seq=0)),
    Case(name="unsigned, lower than the trust file's", kind="release", options=UNSIGNED,
         board=trusts(min_release_seq={"digits": 9}), does=lambda b: (b / "manifest.sig").unlink()),
    Case(name="unsigned allowed, but signed by a stranger", kind="key-unknown", options=UNSIGNED, does=lambda b: resign(b, by="other")),
    Case(name="unsigned allowed, but changed after it was signed", kind="files", options=UNSIGNED, does=lambda b: flip(b / "manifest.json")),
)
MANIFEST = (
    Case(name="key twice", kind="manifest", cause="twice", does=repeated),
    Case(name="unknown schema", kind="manifest", cause="schema 2", does=manifest_says(schema=2)),
    Case(name="unknown critical field", kind="manifest", cause="critical", does=manifest_says(critical=["later"])),
    Case(name="no JSON", kind="manifest", does=lambda b: write_manifest(b, b"{")),
    Case(name="no text", kind="manifest", does=lambda b: write_manifest(b, b"\xff\xfe{}")),
    Case(name="nested too deeply", kind="manifest", does=lambda b: write_manifest(b, b"[" * 200_000)),
    Case(name="empty manifest", kind="manifest", does=lambda b: write_manifest(b, b"")),
    Case(name="../x", kind="manifest", cause="leads elsewhere", does=first_file(path="../x")),
    Case(name="absolute path", kind="manifest", cause="no relative path", does=first_file(path="/etc/passwd")),
    Case(name="path with NUL", kind="manifest", does=first_file(path="a\0b")),
    Case(name="path with newline", kind="manifest", does=first_file(path="a\nb")),
    Case(name="path of 5 KB", kind="manifest", cause="too long", does=first_file(path="a/" * 2500 + "a")),
    Case(name="path that is the manifest's", kind="manifest", cause="lists itself", does=first_file(path="manifest.json")),
    Case(name="two paths that differ in case alone", kind="manifest", cause="twice", does=first_file(path="MODEL/own.bin")),
    Case(name="negative size", kind="manifest", does=first_file(size=-1)),
    Case(name="size that is no number", kind="manifest", does=first_file(size=1.5)),
    Case(name="hash that is none", kind="manifest", does=first_file(sha256="../../x")),
    Case(name="negative release number", kind="manifest", does=manifest_says(release={"app": "digits", "version": "1", "seq": -1})),
    Case(name="app that is a path", kind="manifest", does=manifest_says(release={"app": "../digits", "version": "1", "seq": 2})),
)
TRUST = (
    Case(name="first flash that brings no trust file", bare=True, kind="trust-file", cause="nobody is trusted"),
    Case(name="first flash with a trust file that is none", bare=True, kind="trust-file", trust_file=lambda: b"{}"),
    Case(name="first flash with a trust file that trusts others", bare=True, kind="key-unknown",
         trust_file=lambda: bundles.trust(keys=[entry("other", **ALWAYS)])),
    Case(name="first flash with a sealed trust file", bare=True, kind="trust-file", trust_file=seal()),
    Case(name="first flash, unsigned", bare=True, kind="signature-missing", does=lambda b: (b / "manifest.sig").unlink(), trust_file=bundles.trust),
    Case(name="another trust file, not sealed", kind="trust-file", cause="sealed", trust_file=lambda: bundles.trust(version=9)),
    Case(name="trust file sealed by a stranger", kind="key-unknown", trust_file=seal("other")),
    Case(name="sealed trust file of the same version", kind="trust-file", cause="not higher", trust_file=seal(version=3, issued="2021-01-01T00:00:00Z")),
    Case(name="sealed trust file that forgets a revocation", kind="trust-file", cause="no longer revokes", board=trusts(revoked=OTHERS), trust_file=seal()),
    Case(name="sealed trust file that lowers a minimum", kind="trust-file", cause="lowers", board=trusts(min_release_seq={"digits": 2}), trust_file=seal()),
    Case(name="sealed trust file that revokes the bundle's key", kind="key-revoked", trust_file=seal(revoked=REVOKED)),
    Case(name="sealed trust file, changed", kind="signature-invalid", trust_file=lambda: seal()().replace(b'"sig":"ME', b'"sig":"MF')),
    Case(name="a bundle's signature as trust file", kind="signature-invalid", cause="payloadType", trust_file=lambda: sealed(b"{}", rules().STATEMENT_PAYLOAD, key("release"))),
    Case(name="the board's trust file is damaged", kind="trust-file", board=lambda b: (b.folder / "trust.json").write_text("{")),
    Case(name="the board's trust file is a link", kind="trust-file", cause="not a regular file", board=lambda b: (
        (b.folder / "trust.json").rename(b.folder / "elsewhere.json"), (b.folder / "trust.json").symlink_to("elsewhere.json"))),
)
PROTOCOL = (
    Case(name="newer protocol", kind="protocol", cause="protocol 2", says=says(protocol=2)),
    Case(name="does not begin with begin", kind="protocol", says=says(type="uploaded")),
    Case(name="no flash_id", kind="protocol", says=says(flash_id="")),
    Case(name="flash_id of several lines", kind="protocol", says=says(flash_id="a\nb")),
    Case(name="from that is no text", kind="protocol", says=says(**{"from": 7})),
    Case(name="no manifest at all", kind="protocol", says=says(manifest=None)),
    Case(name="manifest that is no base64", kind="protocol", says=says(manifest="%")),
    Case(name="manifest that is a number", kind="protocol", says=says(manifest=7)),
    Case(name="options that are a list", kind="protocol", says=says(options=[])),
    Case(name="unknown option", kind="protocol", cause="turbo", says=option(turbo=True)),
    Case(name="restart as a line for a shell", kind="protocol", cause="restart", says=option(restart="reboot; rm -rf /")),
    Case(name="probe that is empty", kind="protocol", cause="probe", says=option(probe=[])),
    Case(name="probe with a NUL", kind="protocol", cause="probe", says=option(probe=["a\0b"])),
    Case(name="trial of no time", kind="protocol", cause="trial_seconds", says=option(trial_seconds=0)),
    Case(name="trial of ten years", kind="protocol", cause="trial_seconds", says=option(trial_seconds=315_360_000)),
    Case(name="trial as long as true", kind="protocol", cause="trial_seconds", says=option(trial_seconds=True)),
    Case(name="unknown engine", kind="protocol", cause="engine", says=option(engine="steam")),
    Case(name="unattended by a word", kind="protocol", cause="unattended", says=option(unattended="no")),
)
UNFIT = (
    Case(name="another processor", kind="arch", cause="riscv64", does=requires(arch="riscv64")),
    Case(name="another board", kind="board", cause="tegra194", does=requires(board="tegra234"), board=is_a(board="tegra194")),
    Case(name="no board at all", kind="board", does=requires(board="tegra234")),
    Case(name="older L4T", kind="l4t", cause="35.4.1", does=requires(l4t=">=36,<37"), board=is_a(l4t="35.4.1")),
    Case(name="older TensorRT", kind="tensorrt", cause="8.5.2", does=requires(tensorrt=">=10.3"), board=is_a(tensorrt="8.5.2-1+cuda11.4")),
    Case(name="another GPU", kind="sm", cause="72", does=requires(sm="==87"), board=is_a(sm="72")),
    Case(name="a requirement nobody knows", kind="board", cause="moon", does=requires(moon="full")),
    Case(name="too little memory", kind="memory", does=requires(memory=">=900GiB")),
    Case(name="no memory left", kind="memory", board=is_a(memory_available=1000)),
    Case(name="too small a disk", kind="disk", does=requires(disk=">=900000GiB")),
    Case(name="file of a petabyte", kind="disk", does=lambda b: change_manifest(b, files=[
        *files_of(b)[:-1], {**files_of(b)[-1], "size": 1 << 50, "role": "golden"}])),
    Case(name="bundle that is not for boards", kind="board", cause="loader/edgepack_loader.py", does=lambda b: (
        (b / "loader/edgepack_loader.py").unlink(),
        change_manifest(b, files=[f for f in files_of(b) if f["path"] != "loader/edgepack_loader.py"]))),
    Case(name="another agent than the bundle's", kind="agent", cause="is not the agent", does=lambda b: again(b, more={"edgepack-agent.pyz": b"PK"})),
)
# fmt: on
CASES = (*SIGNATURE, *UNVOUCHED, *MANIFEST, *TRUST, *PROTOCOL, *UNFIT)
