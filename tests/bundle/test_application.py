"""The agent: one file, the same bytes always, in every bundle for a board, and only as it was written."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

import edgepack
from edgepack.bundle.application import application
from edgepack.bundle.loaders import is_ours
from edgepack.resources import RUNTIME

AGENT = "edgepack-agent.pyz"
SOURCES = [RUNTIME / "agent", RUNTIME / "python/edgepack_loader.py"]


def test_its_bytes_depend_on_its_files_alone(tmp_path: Path) -> None:
    copies = [tmp_path / "agent", tmp_path / "edgepack_loader.py"]
    shutil.copytree(SOURCES[0], copies[0])
    shutil.copyfile(SOURCES[1], copies[1])
    (copies[0] / "edgepack_agent/__pycache__").mkdir(exist_ok=True)
    (copies[0] / "edgepack_agent/__pycache__/run.cpython-38.pyc").write_bytes(b"x")
    for path in copies[0].rglob("*.py"):
        path.chmod(0o600)
    assert application(copies) == application(SOURCES) == application(list(reversed(SOURCES)))
    (copies[0] / "edgepack_agent/run.py").write_text("")
    assert application(copies) != application(SOURCES)


def test_it_is_a_zip_of_python_files_stored_as_they_are() -> None:
    with zipfile.ZipFile(io.BytesIO(application(SOURCES))) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names == sorted(names)
        assert {"edgepack_trust.py", "edgepack_loader.py", "edgepack_agent/run.py"} < set(names)
        assert {
            (i.compress_type, i.external_attr >> 16, i.date_time[0]) for i in archive.infolist()
        } == {(zipfile.ZIP_STORED, 0o100644, 1980)}
        assert all(
            archive.read(n) == (RUNTIME / "agent" / n).read_bytes()
            for n in names
            if n != "edgepack_loader.py"
        )


def test_bundles_for_boards_bring_it_and_others_do_not(built: Path) -> None:
    def has_it(target: str) -> bool:
        files = edgepack.load_manifest(built / f"tiny-{target}").files
        return AGENT in {f.path for f in files}

    assert has_it("jetson-orin")
    assert not has_it("android")
    assert not has_it("web")


def test_a_bundle_with_another_agent_is_not_ours(built: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(built / "tiny-jetson-orin", tmp_path / "bundle")
    manifest = edgepack.load_manifest(bundle)
    assert is_ours(manifest, bundle)
    with (bundle / AGENT).open("ab") as file:
        file.write(b"#")
    assert not is_ours(manifest, bundle)
