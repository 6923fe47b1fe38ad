"""Does a bundle still prove itself? Hashes, schema, then the golden run through a loader."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from numpy.typing import NDArray

from edgepack import proc
from edgepack.bundle.loaders import SelfTest, is_ours, load_spec
from edgepack.bundle.manifest import Manifest
from edgepack.bundle.open import check_files, load_manifest
from edgepack.errors import BundleError, DataError, EnvironmentMissing, UsageError
from edgepack.resources import python_loader
from edgepack.trust.signature import Signature, read, require_trusted
from edgepack.trust.trustfile import load_trust, trust_in

_SELF_TEST_TIMEOUT_S = 600.0


@dataclass(frozen=True, kw_only=True)
class VerifyResult:
    """A verified bundle.

    Attributes:
        loader: the language of the loader that ran the golden tensors.
        why: why it was not the bundle's own loader; empty if it was.
        passed: every golden case is within its bounds.
        cases: per case, output and origin: max_abs, atol, rtol, passed.
        report: the loader's own report (provider, versions).
        signature: who signed it, and whether that was checked.
    """

    bundle: Path
    files: int
    loader: str
    why: str
    passed: bool
    cases: list[dict[str, Any]]
    report: dict[str, Any]
    signature: Signature

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            **vars(self),
            "bundle": str(self.bundle),
            "signature": self.signature.as_json(),
        }


def verify(
    bundle: str | Path,
    *,
    trust: str | Path | None = None,
    key: str | Path | None = None,
    app: str | None = None,
) -> VerifyResult:
    """Check a bundle's signature, if it is said whom to trust; then its schema, its files, and its answers.

    The golden run goes through the bundle's own loader where this host can run it, else through the Python loader.

    Args:
        trust: a trust file. key: a public key (PEM), in place of one.
        app: the app it must be; asked only with `trust` or `key`.

    Raises:
        TrustError: the signature is missing, malformed, or not trusted.
        BundleError: schema or files are wrong. A golden miss is no error here but `passed=False`.
    """
    root = Path(bundle)
    signature = _signature(root, trust, key, app)
    manifest = load_manifest(root)
    check_files(root, manifest)
    own = load_spec(manifest.runtime.language).self_test
    why = _cannot_run(root, manifest, own)
    if not why and own is not None:
        outcome = _run_own(root, own)
        loader = manifest.runtime.language
        if "error" in outcome:
            why = f"{outcome['error']['kind']}: {outcome['error']['message']}"
            if outcome["error"]["kind"] != "provider-unavailable":
                raise BundleError(f"{root}: its own loader says {why}", "build it again")
    if why:
        outcome, loader = self_test(root), "python"
    return VerifyResult(
        bundle=root,
        files=len(manifest.files),
        loader=loader,
        why=why,
        passed=outcome["passed"],
        cases=outcome["cases"],
        report=outcome["report"],
        signature=signature,
    )


def _signature(
    root: Path, trust: str | Path | None, key: str | Path | None, app: str | None
) -> Signature:
    if trust is None and key is None:
        if app is not None:
            raise UsageError("an app is asked for, but not whom to trust", "add --trust or --key")
        return read(root)
    if trust is not None and key is not None:
        raise UsageError("a trust file and a key are given", "give one of them")
    trusted = load_trust(trust) if trust is not None else trust_in(str(key))
    return require_trusted(root, trusted, app=app)


def require_self_test(bundle: Path, target: str) -> None:
    """Raises BundleError: a bundle that was just made misses one of its golden cases."""
    report = self_test(bundle)
    if not report["passed"]:
        missed = [c for c in report["cases"] if not c["passed"]]
        raise BundleError(
            f"{target}: the finished bundle does not answer its golden tensors: {missed}",
            "this is a bug in edgepack; please report it with the model",
        )


def self_test(bundle: Path) -> dict[str, Any]:
    """The golden run through the Python loader in this process: {passed, cases, report}.

    Raises:
        BundleError: the loader refuses the bundle.
    """
    loader = python_loader()
    try:
        opened = loader.EdgepackBundle.open(bundle)
        with opened.session() as session:
            outcome: dict[str, Any] = session.self_test()
            return {**outcome, "report": session.report()}
    except loader.EdgepackError as error:
        raise BundleError(f"{bundle}: {error}", "build or copy it again") from error


def run(bundle: str | Path, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """A bundle's answers to `inputs`, through the Python loader on this machine.

    Raises:
        BundleError: the bundle is damaged.
        DataError: an input is missing, unknown, or of the wrong dtype or shape.
    """
    loader = python_loader()
    try:
        with loader.EdgepackBundle.open(Path(bundle)).session() as session:
            outputs: dict[str, NDArray[Any]] = session.run(dict(inputs))
            return outputs
    except loader.EdgepackError as error:
        if error.kind in ("input-missing", "input-unknown", "dtype-mismatch", "shape-mismatch"):
            raise DataError(
                str(error), "see `edgepack inspect` for what the bundle takes"
            ) from error
        raise BundleError(f"{bundle}: {error}", "build or copy it again") from error


def _cannot_run(root: Path, manifest: Manifest, own: SelfTest | None) -> str:
    if own is None:
        return f"the {manifest.runtime.language} loader runs on the device"
    if not is_ours(manifest, root):
        # A hash in the manifest proves nothing of who wrote it: only code of this very edgepack is run.
        return "its loader is not the one this edgepack ships"
    missing = [p for p in own.needs if shutil.which(p) is None]
    return f"{', '.join(missing)} is not on PATH" if missing else ""


def _run_own(root: Path, own: SelfTest) -> dict[str, Any]:
    values = {"cwd": os.getcwd(), "python": sys.executable}
    done = proc.run(
        [Template(part).substitute(values) for part in own.command],
        cwd=root,
        timeout_s=_SELF_TEST_TIMEOUT_S,
        environment={k: Template(v).substitute(values) for k, v in own.environment.items()},
    )
    try:
        outcome: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise EnvironmentMissing(
            f"{' '.join(own.command)} in {root} ended with exit {done.returncode}: {done.stderr.strip()[-500:]}",
            "run it by hand to see why",
        ) from error
    return outcome
