"""Each attack on a signed bundle is refused, for its reason, on a host and on a bare board alike; nothing is written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from edgepack.errors import TrustError
from edgepack.resources import RUNTIME
from edgepack.trust import signature
from edgepack.trust.envelope import sealed, statement
from edgepack.trust.rules import cryptography_check, rules
from tests.bundle.archives import LARGE, LARGE_SHA256
from tests.trust.attacks import ATTACKS
from tests.trust.bundles import NOW, Attack, key, make, signed, snapshot, trust_data


def bare_pythons() -> list[str]:
    """This Python, and a 3.8, the oldest that boards have, where there is one."""
    pyenv = sorted(Path.home().glob(".pyenv/versions/3.8.*/bin/python"))
    # pyenv's own `python3.8` on PATH is a script that may know no such version.
    oldest = str(pyenv[0]) if pyenv else shutil.which("python3.8")
    return [sys.executable, *([oldest] if oldest else [])]


#: Calls the board's file for each line of arguments; -I -S: without site-packages, environment or working folder.
_BOARD = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("edgepack_trust", sys.argv[1])
sys.modules["edgepack_trust"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
for line in sys.stdin:
    print(module.main(["verify"] + json.loads(line)), flush=True)
"""


def on_board(python: str, calls: list[list[str]]) -> list[tuple[int, dict]]:
    """Exit code and JSON of each call of the board's file, all in one bare interpreter."""
    command = [python, "-I", "-S", "-c", _BOARD, str(RUNTIME / "agent" / "edgepack_trust.py")]
    lines = "".join(json.dumps(call) + "\n" for call in calls)
    done = subprocess.run(command, input=lines, capture_output=True, text=True)
    assert not done.stderr, done.stderr
    said = done.stdout.splitlines()
    return [(int(code), json.loads(text)) for text, code in zip(said[::2], said[1::2], strict=True)]


def call(bundle: Path, trust: Path, app: str, now: float) -> list[str]:
    return [str(bundle), "--trust", str(trust), "--app", app, "--now", str(now)]


@pytest.fixture
def prepared(tmp_path: Path, attack: Attack) -> tuple[Path, Path]:
    """The attacked bundle, and the trust file."""
    bundle = signed(tmp_path / "bundle")
    attack.does(bundle)
    trust = tmp_path / "trust.json"
    trust.write_text(json.dumps(attack.trust()))
    return bundle, trust


def ids(attack: Attack) -> str:
    return attack.name


@pytest.mark.parametrize("attack", ATTACKS, ids=ids)
@pytest.mark.parametrize("check", [cryptography_check, rules().openssl_check])
def test_a_host_refuses(prepared: tuple[Path, Path], attack: Attack, check, monkeypatch) -> None:
    bundle, trust_file = prepared
    before = snapshot(bundle.parent)
    trust = rules().read_trust(trust_file.read_bytes(), str(trust_file))
    monkeypatch.setattr(signature, "checker", lambda: check)
    with pytest.raises(TrustError) as caught:
        signature.require_trusted(bundle, trust, app=attack.app, now=attack.now)
    assert (caught.value.kind, caught.value.exit_code) == (attack.kind, 13)
    assert all(part in caught.value.cause for part in attack.says), caught.value.cause
    assert caught.value.fix
    assert snapshot(bundle.parent) == before


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, dict]]:
    """What a bare board says to each attack; nothing is written by that."""
    folder = tmp_path_factory.mktemp("board")
    calls = []
    for i, attack in enumerate(ATTACKS):
        bundle = signed(folder / str(i) / "bundle")
        attack.does(bundle)
        trust = folder / str(i) / "trust.json"
        trust.write_text(json.dumps(attack.trust()))
        calls.append(call(bundle, trust, attack.app, attack.now))
    before = snapshot(folder)
    said = on_board(bare_pythons()[-1], calls)
    assert snapshot(folder) == before
    return dict(zip([a.name for a in ATTACKS], said, strict=True))


@pytest.mark.parametrize("attack", ATTACKS, ids=ids)
def test_a_bare_board_refuses(verdicts: dict[str, tuple[int, dict]], attack: Attack) -> None:
    code, said = verdicts[attack.name]
    assert code == 13
    assert said["trusted"] is False
    assert said["error"]["kind"] == attack.kind
    assert all(part in said["error"]["cause"] for part in attack.says), said["error"]["cause"]


@pytest.mark.parametrize("python", bare_pythons())
def test_a_bare_board_accepts_what_is_right(tmp_path: Path, python: str) -> None:
    bundle = signed(tmp_path / "bundle")
    trust = tmp_path / "trust.json"
    trust.write_text(json.dumps(trust_data(min_release_seq={"digits": 7})))
    before = snapshot(tmp_path)
    ((code, said),) = on_board(python, [call(bundle, trust, "digits", NOW)])
    assert (code, said["trusted"]) == (0, True)
    assert (said["key_name"], said["app"]) == ("release", "digits")
    assert (said["release_seq"], said["files"]) == (7, 3)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("python", bare_pythons())
def test_the_boards_file_is_a_program(tmp_path: Path, python: str) -> None:
    bundle, trust = signed(tmp_path / "bundle"), tmp_path / "trust.json"
    trust.write_text(json.dumps(trust_data()))
    program = [python, "-I", "-S", str(RUNTIME / "agent" / "edgepack_trust.py"), "verify"]
    done = subprocess.run([*program, *call(bundle, trust, "digits", NOW)], capture_output=True)
    assert (done.returncode, json.loads(done.stdout)["trusted"]) == (0, True)
    done = subprocess.run([*program, *call(bundle, trust, "faces", NOW)], capture_output=True)
    assert (done.returncode, json.loads(done.stdout)["error"]["kind"]) == (13, "app")
    assert subprocess.run(program, capture_output=True).returncode == 2


def test_no_two_attacks_are_the_same() -> None:
    names = [a.name for a in ATTACKS]
    assert len(names) == len(set(names))
    assert len(names) >= 60


def test_a_board_without_openssl_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(rules().shutil, "which", lambda name, path: None)
    with pytest.raises(rules().Refusal) as caught:
        rules().openssl_check(b"", b"", b"")
    assert caught.value.kind == "openssl"
    assert "install" in caught.value.fix


def test_the_last_byte_of_more_than_4_gib_counts(tmp_path: Path) -> None:
    """Sparse on disk. RAUC once took only the first 2 GiB (CVE-2026-34155)."""
    bundle = make(tmp_path / "bundle")
    large = bundle / "model" / "large"
    with large.open("wb") as file:
        file.seek(LARGE - 1)
        file.write(b"\1")
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    entry = {"path": "model/large", "size": LARGE, "sha256": LARGE_SHA256, "role": "model"}
    manifest["files"].append(entry)
    text = json.dumps(manifest).encode()
    (bundle / "manifest.json").write_bytes(text)
    digests = {f["path"]: f["sha256"] for f in manifest["files"]}
    payload = statement("x", {**digests, "manifest.json": sha256(text).hexdigest()})
    data = sealed(payload, rules().STATEMENT_PAYLOAD, key("release"))
    (bundle / "manifest.sig").write_bytes(data)
    trust = rules().read_trust(json.dumps(trust_data()).encode(), "trust.json")
    with pytest.raises(rules().Refusal, match="model/large was changed") as caught:
        rules().verify_bundle(str(bundle), trust, now=NOW)
    assert caught.value.cause.count("was changed") == 1


def test_the_board_may_ask_for_a_later_release_than_the_trust_file(tmp_path: Path) -> None:
    bundle = signed(tmp_path / "bundle")
    trust = rules().read_trust(json.dumps(trust_data()).encode(), "trust.json")
    assert rules().verify_bundle(str(bundle), trust, now=NOW, min_release_seq=7).release_seq == 7
    with pytest.raises(rules().Refusal, match="the oldest that may be installed is 8"):
        rules().verify_bundle(str(bundle), trust, now=NOW, min_release_seq=8)


def test_the_boards_file_needs_nothing_that_python_3_8_lacks() -> None:
    """Held by ruff for the syntax, and by running it where there is a Python 3.8."""
    source = RUNTIME / "agent" / "edgepack_trust.py"
    options = ["--isolated", "--target-version", "py38", "--select", "E9,F"]
    command = [sys.executable, "-m", "ruff", "check", *options, str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    imported = {
        line.split()[1] for line in source.read_text().splitlines() if line[:7] == "import "
    }
    assert imported <= sys.stdlib_module_names
