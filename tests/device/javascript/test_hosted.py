"""A bundle as it is served: self-hosted with onnxruntime-web's pinned files, started without a network, and what is tampered with."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.device.javascript.browser import opened, serve
from tests.device.javascript.conftest import MODULE, MODULES, WASM, Bundle, node_program

#: In a page: the bundle's session on the pinned files; what it downloads in `events`.
SESSION = """
const events = [];
const onProgress = (event) => events.push(event);
const { EdgepackBundle } = await import('/bundle/loader/edgepack.mjs');
const open = (options) => EdgepackBundle.open('/bundle', { onProgress, ...options });
const session = async (bundle, options) => bundle.session({
  ort: await import('/bundle/runtime/ort.wasm.bundle.min.mjs'),
  wasm: '/bundle/runtime/ort-wasm-simd-threaded.wasm', threads: 1, onProgress, ...options,
});
const kept = async () => (await (await caches.open('edgepack')).keys()).map(({ url }) => new URL(url).pathname).sort();
"""
IN_TIME = """Promise.race([(async () => { %s })(),
    new Promise((_, reject) => setTimeout(() => reject(new Error('no answer in 60 s')), 60_000))])"""


def self_host(bundle: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [node_program(), bundle / "loader" / "self-host.mjs", *map(str, arguments)],
        env={**os.environ, "EDGEPACK_NODE_MODULES": str(MODULES)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def hosted(conv: Bundle, tmp_path: Path) -> Bundle:
    done = self_host(conv.root, tmp_path / "hosted")
    assert done.returncode == 0, done.stderr
    return Bundle(tmp_path / "hosted")


@contextmanager
def visited(
    hosted: Bundle, extra: dict[str, str] | None = None
) -> Iterator[Callable[[str], object]]:
    """`run(code)` in a page of the served bundle; nothing may be on the console at the end."""
    with (
        serve(hosted.root, True, extra) as port,
        opened(f"http://127.0.0.1:{port}/") as (page, console),
    ):
        yield lambda code: page.evaluate(IN_TIME % f"{SESSION} {code}")
        assert console == []


# Self-hosting


def test_hosted_copy_has_every_file_and_the_two_that_are_pinned(conv, hosted):
    listed = {entry["path"] for entry in conv.manifest()["files"]} | {"manifest.json"}
    there = {p.relative_to(hosted.root).as_posix() for p in hosted.root.rglob("*") if p.is_file()}
    assert there == listed | {f"runtime/{MODULE['path']}", f"runtime/{WASM['path']}"}


def test_hosted_copy_takes_the_place_of_an_earlier_one_and_of_nothing_else(conv, hosted, tmp_path):
    (hosted.root / "left-over").touch()
    assert self_host(conv.root, hosted.root).returncode == 0
    assert not (hosted.root / "left-over").exists()
    (tmp_path / "photos").mkdir()
    done = self_host(conv.root, tmp_path / "photos")
    assert done.returncode == 1
    assert "no earlier copy of a bundle" in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["runtime"]["files"][1].update(sha256="0" * 64), "Install the very version"),
        (lambda m: m["files"][0].update(sha256="0" * 64), "build the bundle again"),
    ],
    ids=["onnxruntime-web", "bundle"],
)
def test_a_file_that_is_not_the_listed_one_is_not_hosted(conv, tmp_path, change, message):
    done = self_host(conv.change(change), tmp_path / "hosted")
    assert (done.returncode, message in done.stderr) == (1, True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle"]


def test_usage_is_told(conv, tmp_path):
    for arguments in ([], ["--compress"], [tmp_path / "hosted", "--fast"]):
        done = self_host(conv.root, *arguments)
        assert (done.returncode, done.stderr.startswith("usage: ")) == (2, True)


def test_compressed_files_lie_beside_those_that_gain_by_it(conv, tmp_path):
    conv.change(lambda m: m["runtime"].update(files=[MODULE]))
    assert self_host(conv.root, tmp_path / "hosted", "--compress").returncode == 0
    size = {p.name: p.stat().st_size for p in (tmp_path / "hosted" / "runtime").iterdir()}
    name = MODULE["path"]
    assert size[f"{name}.br"] < size[f"{name}.gz"] < size[name] / 2


# In a page


def test_first_start_downloads_with_growing_progress_and_keeps_the_files(hosted):
    with visited(hosted) as run:
        events, kept, passed = run("""
            const { passed } = await (await session(await open())).selfTest();
            await new Promise((resolve) => setTimeout(resolve, 500));
            return [events, await kept(), passed];""")
    assert passed
    for path, size in (("model/conv-ort.ort", 24840), (WASM["path"], WASM["size"])):
        loaded = [e["loaded"] for e in events if e["path"] == path]
        assert (loaded, loaded[-1]) == (sorted(loaded), size)
        assert {e["total"] for e in events if e["path"] == path} == {size}
    names = ["manifest.json", "model/conv-ort.ort", f"runtime/{WASM['path']}"]
    assert set(kept) >= {f"/bundle/{name}" for name in names}


def test_second_start_needs_no_network(hosted):
    with visited(hosted) as run:
        run("""await (await session(await open())).selfTest();
            for (let n = 0; n < 50 && (await kept()).length < 3; n += 1) await new Promise((r) => setTimeout(r, 100));""")
        assert run("""const fetch = () => Promise.reject(new TypeError('no network'));
            const again = await session(await open({ fetch }));
            return [(await again.selfTest()).passed, events];""") == [True, []]


def test_new_release_takes_the_place_of_what_was_kept(hosted):
    keep = "await open(); await new Promise((r) => setTimeout(r, 500));"
    with visited(hosted) as run:
        run(keep)
        hosted.replace("model/conv-ort.ort", b"a new release")
        assert run(f"{keep} return events.at(-1).total;") == 13
        assert run(
            "const { manifest } = await open(); return [manifest.files[0].path && events.length];"
        ) == [0]


def test_damaged_copy_is_fetched_anew(hosted):
    with visited(hosted) as run:
        assert run("""
            await open();
            const cache = await caches.open('edgepack');
            await cache.put('/bundle/model/conv-ort.ort', new Response('damaged'));
            events.length = 0;
            await open();
            return events.at(-1);""") == {
            "path": "model/conv-ort.ort",
            "loaded": 24840,
            "total": 24840,
        }


def test_nothing_is_kept_of_what_shall_not_be(hosted):
    with visited(hosted) as run:
        assert (
            run("await (await session(await open({ cache: false }))).selfTest(); return kept();")
            == []
        )


def test_download_ends_when_it_is_aborted(hosted):
    with visited(hosted) as run:
        assert run("""
            const name = (error) => error.name;
            const before = await open({ signal: AbortSignal.abort() }).catch(name);
            const controller = new AbortController();
            const during = await session(await open(), {
              signal: controller.signal, onProgress: () => controller.abort() }).catch(name);
            const timeout = await open({ cache: false, fetch: (url, { signal }) => new Promise((resolve, reject) => {
              signal.onabort = () => reject(signal.reason); }), signal: AbortSignal.timeout(20) }).catch(name);
            const passed = (await (await session(await open())).selfTest()).passed;
            return [before, during, timeout, passed];""") == [
            "AbortError",
            "AbortError",
            "TimeoutError",
            True,
        ]


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("path", ["model/conv-ort.ort", f"runtime/{WASM['path']}"])
def test_tampered_file_is_refused(hosted, path):
    _flip(hosted.root / path)
    with visited(hosted) as run:
        kind, message = run(
            "try { await session(await open()); } catch (error) { return [error.kind, error.message]; }"
        )
    assert (kind, Path(path).name in message) == ("file-corrupt", True)


def test_missing_webassembly_is_told(hosted):
    (hosted.root / "runtime" / WASM["path"]).unlink()
    with serve(hosted.root, True) as port, opened(f"http://127.0.0.1:{port}/") as (page, _):
        error = page.evaluate(f"""(async () => {{ {SESSION}
            return session(await open()).catch(({{ kind, message }}) => [kind, message]); }})()""")
    assert error == [
        "file-missing",
        f"cannot read http://127.0.0.1:{port}/bundle/runtime/{WASM['path']}: HTTP 404",
    ]


def test_page_refuses_a_tampered_module_by_the_integrity_that_readme_gives(hosted):
    (link,) = re.findall(r"```html\n(.*?)```", (hosted.root / "README.md").read_text(), re.DOTALL)
    page = '<!doctype html><link rel="icon" href="data:,">' + link
    importing = (
        "import('/bundle/runtime/ort.wasm.bundle.min.mjs').then(() => 'imported', () => 'refused')"
    )
    for tampered, outcome in ((False, "imported"), (True, "refused")):
        if tampered:
            _flip(hosted.root / "runtime" / MODULE["path"])
        with (
            serve(hosted.root, True, {"index.html": page}) as port,
            opened(f"http://127.0.0.1:{port}/") as (tab, _),
        ):
            assert tab.evaluate(importing) == outcome


def test_module_in_a_worker_runs_the_bundle(hosted):
    worker = f"""{SESSION}
        postMessage((await (await session(await open())).selfTest()).passed);"""
    with visited(hosted, {"worker.mjs": worker}) as run:
        assert run("""return new Promise((resolve, reject) => {
            const worker = new Worker('/worker.mjs', { type: 'module' });
            worker.onmessage = ({ data }) => resolve(data);
            worker.onerror = reject; });""")


def test_threads_start_under_the_policy(hosted):
    with visited(hosted) as run:
        report = run("""const two = await session(await open(), { threads: 2 });
            await two.selfTest();
            return two.report();""")
    assert (report["threads"], report["isolated"]) == (2, True)


# What README.md says


def _readme(hosted: Bundle, language: str = "js") -> list[str]:
    return re.findall(
        rf"```{language}\n(.*?)```", (hosted.root / "README.md").read_text(), re.DOTALL
    )


def test_readme_lines_for_a_page_run_as_they_stand(hosted):
    app, self_test = (
        next(b for b in _readme(hosted) if mark in b) for mark in ("ARRAYS", "selfTest")
    )
    link = _readme(hosted, "html")[0]
    html = f'<!doctype html><link rel="icon" href="data:,">{link}<script type="module" src="app.mjs"></script>'
    extra = {
        "index.html": html,
        "app.mjs": f"{app}\n{self_test}\ndocument.documentElement.dataset.done = 'yes';",
    }
    with (
        serve(hosted.root, True, extra) as port,
        opened(f"http://127.0.0.1:{port}/") as (page, console),
    ):
        page.wait_for_selector("html[data-done]", state="attached")
    assert console[0] == "model/conv-ort.ort 24840 of 24840 bytes"
    assert any("shape: Array(2), dtype: float32" in line for line in console)
    assert json.loads(console[-1])["passed"]


def test_readme_lines_for_node_run_as_they_stand(conv, tmp_path):
    node, self_test = (
        next(b for b in _readme(conv) if mark in b) for mark in ("import.meta.url", "selfTest")
    )
    (tmp_path / "node_modules").symlink_to(MODULES)
    (tmp_path / "app.mjs").write_text(f"{node}\n{self_test}\nprocess.exit();\n")
    done = subprocess.run(
        [node_program(), "app.mjs"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert json.loads(done.stdout)["passed"], done.stderr
