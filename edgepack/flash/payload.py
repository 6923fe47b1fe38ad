"""The bundle that is flashed, verified here before a board is asked."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

from edgepack.bundle.application import application
from edgepack.bundle.archive import unpack
from edgepack.bundle.loaders import load_spec
from edgepack.bundle.manifest import MANIFEST, SIGNATURE, File, Manifest
from edgepack.bundle.open import check_files, load_manifest
from edgepack.errors import BundleError, FlashError, TrustError
from edgepack.resources import RUNTIME
from edgepack.trust.signature import require_trusted
from edgepack.trust.trustfile import as_json, load_trust

#: What the board runs of a bundle (runtime/agent/README.md).
AGENT = "edgepack-agent.pyz"
_AGENTS = "agent"


@dataclass(frozen=True, kw_only=True)
class Payload:
    """A bundle as boards take it.

    Attributes:
        manifest, signature, trust: their bytes, as they are sent; None: there is none.
        files: where each file lies here, by its SHA-256.
        agent, agent_sha256: the agent that the bundle brings.
        vouched: a board that has no agent yet may run this one: the signature was found to be trusted, or the user does without, or it is
            byte for byte this edgepack's own.
        digest: the SHA-256 of the manifest, which names every byte.
    """

    app: str
    version: str
    seq: int
    target: str
    manifest: bytes
    signature: bytes | None
    trust: bytes | None
    files: Mapping[str, Path]
    agent: Path
    agent_sha256: str
    vouched: bool
    digest: str

    @property
    def release(self) -> str:
        """What a board calls it."""
        return f"{self.seq}-{self.digest[:12]}"


@contextmanager
def opened(bundle: Path, *, trust: Path | None, allow_unsigned: bool) -> Iterator[Payload]:
    """The bundle in a folder or a `.edgepack` file, once it is whole, signed, and, with a trust file, trusted.

    Raises:
        BundleError: damaged, or no such bundle. TrustError: not signed, or not trusted. FlashError (kind `agent`): it brings no agent.
    """
    if bundle.is_dir():
        yield _read(bundle, trust, allow_unsigned)
        return
    with tempfile.TemporaryDirectory(prefix="edgepack-") as scratch:
        folder = unpack(bundle, Path(scratch) / "bundle")
        yield _read(folder, trust, allow_unsigned)


def _read(root: Path, trust: Path | None, allow_unsigned: bool) -> Payload:
    text = _bytes(root / MANIFEST)
    manifest = load_manifest(root)
    check_files(root, manifest)
    signature = _bytes(root / SIGNATURE) if (root / SIGNATURE).exists() else None
    if signature is None and not allow_unsigned:
        raise TrustError(
            f"{root} is not signed",
            f"sign it: edgepack sign {root} --key KEY.pem; or add --allow-unsigned, which the board's journal keeps",
            kind="signature-missing",
        )
    trusted = signature is not None and trust is not None
    if trusted:
        require_trusted(root, load_trust(str(trust)), app=manifest.release.app)
    if manifest.release.app == _AGENTS:
        raise FlashError(
            f"{root}: an app cannot be called {_AGENTS!r} on a board, where agents lie in that folder",
            "build it with another --app",
            kind="app",
        )
    agent = _agent(root, manifest)
    return Payload(
        app=manifest.release.app,
        version=manifest.release.version,
        seq=manifest.release.seq,
        target=manifest.target.name,
        manifest=text,
        signature=signature,
        trust=as_json(trust) if trust is not None else None,
        files={f.sha256: root / f.path for f in manifest.files},
        agent=root / agent.path,
        agent_sha256=agent.sha256,
        vouched=trusted or allow_unsigned or agent.sha256 == sha256(own_agent()).hexdigest(),
        digest=sha256(text).hexdigest(),
    )


def own_agent() -> bytes:
    """The agent that this edgepack gives to bundles."""
    return application([RUNTIME / source for source in load_spec("python").applications[AGENT]])


def _agent(root: Path, manifest: Manifest) -> File:
    for file in manifest.files:
        if PurePosixPath(file.path).name == AGENT:
            return file
    raise FlashError(
        f"{root} brings no agent ({AGENT}) to install it: target {manifest.target.name}, {manifest.runtime.language} loader",
        "flashing is for targets whose loader is Python's (Jetson, Linux); build it again with this edgepack if it is one",
        kind="agent",
    )


def _bytes(place: Path) -> bytes:
    try:
        return place.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{place}: {error.strerror}",
            "give a folder that `edgepack build` wrote, or a .edgepack file",
        ) from error
