"""`.edgepack` files: one form, and nothing is written that was not looked at."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from hashlib import sha256
from pathlib import Path

import pytest

import edgepack
from edgepack.bundle import archive
from edgepack.bundle.archive import pack, read_entries, unpack
from edgepack.bundle.zipformat import directory, header
from edgepack.errors import BundleError, OutputError
from edgepack.trust.keys import generate
from edgepack.workspace import workspace
from tests.bundle.archives import ATTACKS, LARGE, LARGE_CRC, LARGE_SHA256, Files, plain
from tests.bundle.conftest import Bundle
from tests.trust.bundles import snapshot


def content(folder: Path) -> Files:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.fixture(scope="module")
def files(built: Path) -> Files:
    """A bundle's files, in the order of an archive."""
    return dict(sorted(content(built / "tiny-jetson-orin").items()))


def test_pack_and_unpack_give_the_bundle_back(bundle: Bundle, tmp_path: Path) -> None:
    place = bundle()
    (place / "manifest.sig").write_text("a signature, which is not looked at here")
    packed = pack(place)
    assert packed == tmp_path / "tiny-jetson-orin.edgepack"
    there = unpack(packed, tmp_path / "there")
    assert content(there) == content(place)
    assert {p.stat().st_mode & 0o7111 for p in there.rglob("*") if p.is_file()} == {0}
    assert not list(tmp_path.rglob(".edgepack-*"))


def test_the_api_signs_packs_and_unpacks(bundle: Bundle, tmp_path: Path) -> None:
    pair = generate(tmp_path / "release.pem")
    place = bundle()
    signature = edgepack.sign(place, pair.private)
    there = edgepack.unpack(edgepack.pack(place), tmp_path / "there")
    result = edgepack.verify(there, key=pair.public, app="tiny")
    assert (result.passed, result.signature.state) == (True, "trusted")
    assert result.signature.key_id == signature.key_id == pair.id


def test_the_same_bundle_gives_the_same_bytes(bundle: Bundle, tmp_path: Path, files: Files) -> None:
    place = bundle()
    first = pack(place, tmp_path / "a").read_bytes()
    for path in place.rglob("*"):
        os.utime(path, (0, 0))
        path.chmod(0o700)
    assert pack(place, tmp_path / "b").read_bytes() == first
    assert first == plain(files)


def test_other_programs_read_it(bundle: Bundle, tmp_path: Path, files: Files) -> None:
    packed = pack(bundle())
    with zipfile.ZipFile(packed) as opened:
        assert opened.testzip() is None
        assert opened.namelist() == list(files)
        assert {i.date_time for i in opened.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    if shutil.which("unzip"):
        subprocess.run(["unzip", "-qq", packed, "-d", tmp_path / "theirs"], check=True)
        assert content(tmp_path / "theirs") == files


@pytest.mark.parametrize("case", ATTACKS)
def test_an_archive_that_is_not_right_is_refused_and_nothing_is_written(
    files: Files, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, says = ATTACKS[case]
    path = tmp_path / "in" / "x.edgepack"
    path.parent.mkdir()
    path.write_bytes(build(files))
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(BundleError) as caught:
        unpack(path, tmp_path / "out" / "bundle")
    assert says in caught.value.cause
    assert str(path) in caught.value.cause
    assert len(caught.value.cause) < 5000
    after = snapshot(tmp_path)
    assert after.keys() == before.keys()
    assert {n: v for n, v in after.items() if n != "."} == before


#: Refused only once the bytes were read; all others before any folder is made.
_BY_CONTENT = ("changed file", "damaged file")


@pytest.mark.parametrize("case", [c for c in ATTACKS if c not in _BY_CONTENT])
def test_what_headers_and_manifest_show_is_refused_before_a_folder_is_made(
    files: Files, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a folder was made")

    path = tmp_path / "x.edgepack"
    path.write_bytes(ATTACKS[case][0](files))
    monkeypatch.setattr(archive, "workspace", never)
    with pytest.raises(BundleError):
        unpack(path, tmp_path / "bundle")


def test_what_is_there_is_not_replaced_unless_asked(bundle: Bundle, tmp_path: Path) -> None:
    place = bundle()
    packed = pack(place)
    with pytest.raises(OutputError, match="already there"):
        pack(place)
    pack(place, overwrite=True)
    there = tmp_path / "there"
    there.mkdir()
    (there / "precious").write_text("x")
    with pytest.raises(OutputError, match="already there"):
        unpack(packed, there)
    assert (there / "precious").exists()
    unpack(packed, there, overwrite=True)
    assert content(there) == content(place)


def test_unpacking_goes_by_default_to_a_folder_by_the_bundles_name(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack(bundle(), tmp_path / "any name.zip")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert unpack(packed) == Path("tiny-jetson-orin")
    assert Path("tiny-jetson-orin/manifest.json").is_file()


def test_a_damaged_bundle_is_not_packed(bundle: Bundle, tmp_path: Path) -> None:
    place = bundle()
    (place / "extra").write_text("x")
    with pytest.raises(BundleError, match="extra is not in the manifest"):
        pack(place)
    assert [p.name for p in tmp_path.iterdir()] == [place.name]


@pytest.mark.parametrize("name", ["x.edgepack", "model/x.edgepack"])
def test_a_bundle_is_not_packed_into_itself(bundle: Bundle, name: str) -> None:
    place = bundle()
    before = content(place)
    with pytest.raises(OutputError, match="in the bundle itself"):
        pack(place, place / name)
    assert content(place) == before


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"none\.edgepack: No such file"):
        unpack(tmp_path / "none.edgepack")


def test_a_kill_while_unpacking_leaves_no_folder_of_that_name(
    bundle: Bundle, tmp_path: Path
) -> None:
    packed = pack(bundle())
    script = (
        "import os, sys\n"
        "from edgepack.bundle import archive\n"
        "real = archive._blocks\n"
        "def dying(file, entry):\n"
        "    if entry.name.startswith('model/'): os.kill(os.getpid(), 9)\n"
        "    return real(file, entry)\n"
        "archive._blocks = dying\n"
        "archive.unpack(sys.argv[1], sys.argv[2])\n"
    )
    command = [sys.executable, "-c", script, str(packed), str(tmp_path / "there")]
    assert subprocess.run(command).returncode == -9
    assert not (tmp_path / "there").exists()


# Beyond 4 GiB


def test_zip64_is_what_pythons_zipfile_writes_and_reads(tmp_path: Path) -> None:
    """With a limit of 100 bytes in place of 4 GiB, every field of ZIP64 comes into play."""
    (tmp_path / "in").mkdir()
    given = {"a": b"a" * 300, "b/c": b"c" * 10, "d": b"d" * 100, "e": b""}
    for name, data in given.items():
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    path = tmp_path / "out.zip"
    with path.open("wb") as file:
        archive.write(file, tmp_path / "in", list(given), limit=100)
    with zipfile.ZipFile(path) as opened:
        assert opened.testzip() is None
        assert {n: opened.read(n) for n in opened.namelist()} == given
    with path.open("rb") as file:
        entries = read_entries(path, file, limit=100)
        assert [(e.name, e.size) for e in entries] == [(n, len(d)) for n, d in given.items()]
        # By the real limit none of this needs ZIP64: there is one spelling for everything.
        with pytest.raises(BundleError, match="the header of 'a'"):
            read_entries(path, file)
    data = path.read_bytes()
    assert data.count(b"PK\x06\x06") == data.count(b"PK\x06\x07") == 1
    for at in (data.index(b"PK\x06\x06") + 24, data.index(b"PK\x06\x07") + 8):
        broken = tmp_path / "broken.zip"
        broken.write_bytes(data[:at] + struct.pack("<Q", 1 << 60) + data[at + 8 :])
        with broken.open("rb") as file, pytest.raises(BundleError):
            read_entries(broken, file, limit=100)


def test_an_archive_beyond_4_gib_unpacks_and_its_tail_counts(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sparse on disk; one file of 4 GiB and 4 KiB, and one that lies behind it."""
    manifest = json.loads(files["manifest.json"])
    large = {"path": "model/tiny.onnx.data", "size": LARGE, "sha256": LARGE_SHA256}
    manifest["files"] = [*manifest["files"], {**large, "role": "model"}]
    given = {**files, "manifest.json": json.dumps(manifest).encode(), "z/last": b"behind"}
    last = {"path": "z/last", "size": 6, "sha256": sha256(b"behind").hexdigest(), "role": "doc"}
    manifest["files"].append(last)
    given["manifest.json"] = json.dumps(manifest).encode()

    path = tmp_path / "large.edgepack"
    entries = []
    with path.open("wb") as file:
        for name in sorted([*given, large["path"]]):
            data = given.get(name)
            length = LARGE if data is None else len(data)
            check = LARGE_CRC if data is None else zlib.crc32(data)
            entry = archive.Entry(name=name, size=length, crc=check, offset=file.tell())
            entries.append(entry)
            file.write(header(entry))
            if data is None:
                file.seek(LARGE, io.SEEK_CUR)
            else:
                file.write(data)
        file.write(directory(entries))
    assert path.stat().st_size > 4 << 30
    assert entries[-1].offset > 4 << 30
    there = unpack(path, tmp_path / "there")
    assert (there / "model" / "tiny.onnx.data").stat().st_size == LARGE
    assert (there / "z" / "last").read_bytes() == b"behind"
    shutil.rmtree(there)

    data_entry = next(e for e in entries if e.name == large["path"])
    with path.open("r+b") as file:
        file.seek(data_entry.offset + len(header(data_entry)) + LARGE - 1)
        file.write(b"\1")
    with pytest.raises(BundleError, match=r"model/tiny\.onnx\.data was changed"):
        unpack(path, tmp_path / "there")
    assert [p.name for p in tmp_path.iterdir()] == ["large.edgepack"]


def test_the_workspace_is_the_one_that_cleans_up() -> None:
    assert archive.workspace is workspace
