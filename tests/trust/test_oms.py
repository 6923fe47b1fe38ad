"""OpenSSF's own model-signing against ours: each verifies what the other signed, and refuses what was changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgepack.errors import TrustError
from edgepack.trust.keys import KeyPair, generate, load_private
from edgepack.trust.signature import require_trusted, sign
from edgepack.trust.trustfile import trust_in
from tests.trust.bundles import flip, make


@pytest.fixture
def pair(tmp_path: Path) -> KeyPair:
    return generate(tmp_path / "release.pem")


def model_signing(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def theirs_verifies(bundle: Path, pair: KeyPair) -> subprocess.CompletedProcess[str]:
    options = ["--signature", bundle / "manifest.sig", "--public_key", pair.public]
    return model_signing("verify", "key", bundle, *options)


def test_theirs_verifies_ours(tmp_path: Path, pair: KeyPair) -> None:
    bundle = make(tmp_path / "bundle")
    sign(bundle, load_private(pair.private))
    done = theirs_verifies(bundle, pair)
    assert done.returncode == 0, done.stderr
    assert "Verification succeeded" in done.stdout
    # Wherever it lies.
    moved = bundle.rename(tmp_path / "moved")
    assert theirs_verifies(moved, pair).returncode == 0
    flip(moved / "model" / "m.onnx")
    done = theirs_verifies(moved, pair)
    assert done.returncode != 0
    assert "model/m.onnx" in done.stdout + done.stderr


def test_theirs_refuses_ours_with_a_file_more(tmp_path: Path, pair: KeyPair) -> None:
    bundle = make(tmp_path / "bundle")
    sign(bundle, load_private(pair.private))
    (bundle / "model" / "more").write_text("more")
    assert theirs_verifies(bundle, pair).returncode != 0


def test_ours_verifies_theirs(tmp_path: Path, pair: KeyPair) -> None:
    bundle = make(tmp_path / "bundle")
    options = ["--signature", bundle / "manifest.sig", "--private_key", pair.private]
    done = model_signing("sign", "key", bundle, *options)
    assert done.returncode == 0, done.stderr
    trust = trust_in(pair.public)
    signature = require_trusted(bundle, trust, app="digits")
    assert signature.key_id == pair.id
    flip(bundle / "model" / "m.onnx")
    with pytest.raises(TrustError, match=r"model/m\.onnx was changed"):
        require_trusted(bundle, trust)


def test_ours_refuses_theirs_where_they_look_away(tmp_path: Path, pair: KeyPair) -> None:
    """OMS leaves .git out, and whatever the signer says; the manifest does not."""
    bundle = make(tmp_path / "bundle")
    options = ["--signature", bundle / "manifest.sig", "--private_key", pair.private]
    options += ["--ignore-paths", bundle / "model"]
    assert model_signing("sign", "key", bundle, *options).returncode == 0
    assert theirs_verifies(bundle, pair).returncode == 0
    with pytest.raises(TrustError, match=r"model/m\.onnx is in the manifest but not signed"):
        require_trusted(bundle, trust_in(pair.public))
