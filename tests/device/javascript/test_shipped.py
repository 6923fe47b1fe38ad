"""What a bundle ships for the developer: README, package.json, types."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from tests.conftest import need
from tests.device.javascript.browser import chromium, serve
from tests.device.javascript.conftest import MODULES, node_program

EXAMPLE = """
import * as ort from 'onnxruntime-web/wasm';
import { ARRAYS, EdgepackBundle, EdgepackError, type SessionReport, type TensorData } from '%s';

export async function classify(pixels: Float32Array): Promise<TensorData> {
  const bundle = await EdgepackBundle.open(new URL('https://device.test/bundle'), {
    onProgress: ({ loaded, total }) => console.log(loaded / total),
    fetch: (url) => fetch(url, { cache: 'force-cache' }),
  });
  const session = await bundle.session({ ort, threads: 2, providers: ['CPUExecutionProvider'] });
  const report: SessionReport = session.report();
  console.log(report.provider, report.passed_over, bundle.manifest.inputs[0]?.shape);
  try {
    const first = await session.run({ image: pixels });
    const second = await session.run({
      image: { data: new ARRAYS.float32(64), shape: [1, 8, 8, 1] },
      scalar: new ort.Tensor('float32', pixels, []),
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
        ("image: pixels", "image: [1, 2]", "number[]"),
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


def test_readme_code_runs_as_it_stands_there(conv):
    readme = (conv.root / "README.md").read_text()
    app, self_test = re.findall(r"```js\n(.*?)```", readme, re.DOTALL)
    code = (app + self_test).replace('"onnxruntime-web/wasm"', '"/ort/ort.wasm.bundle.min.mjs"')
    with serve(conv.root, True, {"app.mjs": code}) as port, chromium().new_context() as context:
        page = context.new_page()
        console: list[str] = []
        page.on("console", lambda message: console.append(message.text))
        page.goto(f"http://127.0.0.1:{port}/")
        page.evaluate("import('/app.mjs')")
    assert console[0] == "24840 of 24840 bytes"
    assert "shape: Array(2), dtype: float32" in console[1]
    assert json.loads(console[2])["passed"]


@pytest.mark.parametrize("name", ["README.md", "package.json"])
def test_templates_leave_no_placeholder(conv, name):
    assert "$" not in (conv.root / name).read_text()
