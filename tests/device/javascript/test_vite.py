"""The bundle as an npm package: packed by npm, and imported by an app that Vite builds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.conftest import need
from tests.device.javascript.browser import opened, serve_folder
from tests.device.javascript.conftest import MODULES, Bundle, complete_copy, node_program
from tests.device.javascript.test_hosted import self_host


def _run(folder: Path, *command: object) -> str:
    environment = {**os.environ, "PATH": f"{Path(node_program()).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_npm_packs_every_file_that_the_manifest_lists(conv, tmp_path):
    need(MODULES, "javascript.sh")
    (packed,) = json.loads(_run(conv.root, "npm", "pack", "--json", "--pack-destination", tmp_path))
    assert packed["name"] == "@edgepack/bundle"
    with tarfile.open(tmp_path / packed["filename"]) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    package = Bundle(tmp_path / "unpacked" / "package")
    for entry in package.manifest()["files"]:
        assert (package.root / entry["path"]).stat().st_size == entry["size"]


@pytest.fixture(scope="module")
def built(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that Vite makes of an app of README.md's lines, the bundle installed as `file:./bundle` is: by a link."""
    need(MODULES / "vite", "javascript.sh")
    app = tmp_path_factory.mktemp("app")
    bundle = complete_copy(samples / "conv-ort", app / "bundle")
    modules = app / "node_modules"
    (modules / "@edgepack").mkdir(parents=True)
    (modules / "@edgepack" / "bundle").symlink_to("../../bundle")
    for name in ("onnxruntime-web", "onnxruntime-common"):
        (modules / name).symlink_to(MODULES / name)
    done = self_host(bundle.root, app / "public" / "bundle")
    assert done.returncode == 0, done.stderr
    readme = (bundle.root / "README.md").read_text()
    (lines,) = re.findall(r"```js\n([^`]*?@vite-ignore.*?)```", readme, re.DOTALL)
    (link,) = re.findall(r"```html\n(.*?)```", readme, re.DOTALL)
    (app / "main.js").write_text(
        f"{lines}\nconsole.log(JSON.stringify(await session.selfTest()));\n"
        "document.documentElement.dataset.done = 'yes';\n"
    )
    (app / "index.html").write_text(
        f'<!doctype html><head><link rel="icon" href="data:,">{link}</head>'
        '<script type="module" src="/main.js"></script>'
    )
    (app / "package.json").write_text('{"type": "module"}')
    _run(app, node_program(), MODULES / "vite" / "bin" / "vite.js", "build", "--logLevel", "warn")
    return app / "dist"


def test_app_that_vite_builds_runs_the_bundle(built):
    with (
        serve_folder(built) as port,
        opened(f"http://127.0.0.1:{port}/") as (page, console),
    ):
        page.wait_for_selector("html[data-done]", state="attached", timeout=60_000)
    (line,) = console
    assert "integrity=" in (built / "index.html").read_text()
    outcome = json.loads(line)
    assert outcome["passed"]
    assert outcome["report"]["isolated"]
    assert outcome["report"]["threads"] == min(4, os.cpu_count() or 1)
