"""What a bundle ships for the developer: README, package.json, types."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
import yaml

from tests.conftest import ROOT, need
from tests.device.javascript.conftest import LOADER, MODULES, node_program

EXAMPLE = """
import * as ort from 'onnxruntime-web/wasm';
import { ARRAYS, EdgepackBundle, EdgepackError, type SessionReport, type TensorData } from '%s';

export async function classify(pixels: Float32Array): Promise<TensorData> {
  const bundle = await EdgepackBundle.open(new URL('https://device.test/bundle'), {
    onProgress: ({ loaded, total }) => console.log(loaded / total),
    fetch: (url, init) => fetch(url, { ...init, credentials: 'include' }),
    signal: AbortSignal.timeout(60_000),
  });
  const session = await bundle.session({ ort, threads: 2, providers: ['CPUExecutionProvider'] });
  const report: SessionReport = session.report();
  console.log(report.provider, report.passed_over, bundle.manifest.inputs[0]?.shape);
  try {
    const first = await session.run({ image: { data: pixels, shape: [1, 8, 8, 1] } });
    const second = await session.run({
      image: { data: new ARRAYS.float32(64), shape: [1, 8, 8, 1] },
      scalar: { data: pixels, shape: [], dtype: 'float32' },
      again: first.probabilities,
    });
    return second.probabilities;
  } catch (error) {
    if (error instanceof EdgepackError && error.kind === 'shape-mismatch') console.log(error.message);
    throw error;
  } finally {
    await session.close();
    bundle.close();
  }
}
"""


@pytest.fixture
def app(conv, tmp_path):
    """A folder with the bundle beside it and installed in it as a package."""
    need(MODULES / "typescript", "javascript.sh")
    modules = tmp_path / "node_modules"
    modules.mkdir()
    for name in ("onnxruntime-web", "onnxruntime-common"):
        (modules / name).symlink_to(MODULES / name)
    package = json.loads((conv.root / "package.json").read_text())
    (modules / package["name"]).parent.mkdir()
    shutil.copytree(conv.root, modules / package["name"])
    return tmp_path


def _check(app, text, resolution):
    (app / "package.json").write_text('{"type": "module"}')
    (app / "example.ts").write_text(text)
    module = "nodenext" if resolution == "nodenext" else "esnext"
    options = ["--noEmit", "--strict", "--target", "es2022", "--lib", "es2022,dom", "--types", ""]
    tsc = MODULES / ".bin" / "tsc"
    return subprocess.run(
        [node_program(), tsc, *options, "--module", module, "--moduleResolution", resolution, "example.ts"],
        cwd=app,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("resolution", ["bundler", "nodenext"])
@pytest.mark.parametrize("place", ["@edgepack/bundle", "./bundle/loader/edgepack.mjs"])
def test_types_check_an_app(app, place, resolution):
    done = _check(app, EXAMPLE % place, resolution)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("data: pixels", "data: [1, 2]", "number[]"),
        ("'shape-mismatch'", "'shape'", "no overlap"),
        ("session({ ort,", "session({", "'ort' is missing"),
        ("threads: 2", "threads: '2'", "'string' is not assignable to type 'number'"),
    ],
)
def test_types_refuse_mistakes(app, right, wrong, complaint):
    assert right in EXAMPLE
    done = _check(app, (EXAMPLE % "@edgepack/bundle").replace(right, wrong), "bundler")
    assert done.returncode != 0
    assert complaint in done.stdout


def test_package_can_be_imported_by_name(app):
    script = app / "app.mjs"
    script.write_text(
        "import { EdgepackBundle } from '@edgepack/bundle';\n"
        "const place = new URL('.', import.meta.resolve('@edgepack/bundle/manifest.json'));\n"
        "console.log((await EdgepackBundle.open(place)).manifest.inputs[0].name);\n"
    )
    done = subprocess.run([node_program(), script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("image\n", "")


@pytest.mark.parametrize("name", ["README.md", "package.json", "demo/index.html"])
def test_templates_leave_no_placeholder(conv, name):
    assert "$" not in (conv.root / name).read_text()


def test_loader_is_small_and_needs_nothing_but_itself():
    """One file, self-test and all; what WebGPU needs besides is loaded for it alone. The rest are programs for Node."""
    loader, webgpu = ((LOADER / name).read_text() for name in ("edgepack.mjs", "webgpu.mjs"))
    assert len(loader.encode()) <= 12 * 1024
    assert len(webgpu.encode()) <= 1.5 * 1024
    assert re.findall(r"(?:from|import\()\s*'(.*?)'", loader) == ["./webgpu.mjs"]
    assert re.findall(r"(?:from|import\()\s*'(.*?)'", webgpu) == ["./edgepack.mjs"]


def test_a_bundle_for_webassembly_alone_does_without_what_webgpu_needs(conv, node):
    (conv.root / "loader" / "webgpu.mjs").unlink()
    assert node.self_test(conv.root)["passed"]


@pytest.mark.parametrize("target", ["web", "web-webgpu"])
def test_profiles_pin_the_files_that_npm_has(target):
    profile = yaml.safe_load((ROOT / "targets" / f"{target}.yaml").read_text())
    package = need(MODULES / "onnxruntime-web", "javascript.sh")
    done = subprocess.run(
        [node_program(), LOADER / "pin.mjs", package], capture_output=True, text=True, check=True
    )
    pinned = [
        block["files"]
        for block in yaml.safe_load_all(re.sub("(?m)^#.*", "---", done.stdout))
        if block
    ]
    assert profile["runtime"]["files"] in pinned
