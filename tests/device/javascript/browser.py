"""Bundles in headless Chromium, WebGPU on SwiftShader included: `browser_self_test(bundle)`, `browser_run(bundle, inputs)`."""

from __future__ import annotations

import atexit
import base64
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from tests.conftest import CACHE, need

HERE = Path(__file__).parent
#: A host name that leads here and is not localhost, so that browsers do not trust it.
INSECURE_HOST = "device.test"
CSP = "script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'"
VISIT = """([request, timeout]) => Promise.race([
    import('/page.mjs').then(({ visit }) => visit(request)),
    new Promise((_, reject) => setTimeout(() => reject(new Error(`no answer in ${timeout} ms`)), timeout)),
])"""
FLAGS = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    f"--host-resolver-rules=MAP {INSECURE_HOST} 127.0.0.1",
)


def browser_self_test(bundle: Path, isolated: bool = True) -> dict[str, Any]:
    """What the bundle's own loader reports: {passed, cases, report}, or {error}."""
    return visit(bundle, isolated=isolated).outcome


def browser_run(bundle: Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The bundle's answers to `inputs`."""
    return visit(bundle, [inputs]).answers[0]


@dataclass(frozen=True, kw_only=True)
class Visit:
    """What a page made of a bundle: the self-test's report or {error}, answers, lines on the console."""

    outcome: dict[str, Any]
    answers: list[dict[str, np.ndarray]]
    console: list[str]


def visit(
    bundle: Path,
    feeds: Sequence[Mapping[str, np.ndarray]] = (),
    *,
    isolated: bool = True,
    host: str = "127.0.0.1",
    gpu: bool = True,
    build: str = "wasm",
    timeout_s: float = 60,
    **options: Any,
) -> Visit:
    """Open a bundle in a page of its own, run its self-test, then `feeds` all at once.

    Args:
        isolated: whether the page is cross-origin isolated.
        host: the name the page is served under.
        gpu: whether the page has navigator.gpu.
        build: of onnxruntime-web: `wasm`, `webgpu`, or empty for the default one.
        options: of `bundle.session`.
    """
    request = {
        "build": f"ort.{build}.bundle.min.mjs" if build else "ort.bundle.min.mjs",
        "options": options,
        "feeds": [{name: _encode(x) for name, x in feed.items()} for feed in feeds],
    }
    with serve(bundle, isolated) as port, chromium().new_context() as context:
        page = context.new_page()
        console: list[str] = []
        page.on("console", lambda message: console.append(message.text))
        if not gpu:
            page.add_init_script("delete Navigator.prototype.gpu")
        page.goto(f"http://{host}:{port}/")
        result = page.evaluate(VISIT, [request, timeout_s * 1000])
    answers = [{name: _decode(y) for name, y in answer.items()} for answer in result["answers"]]
    return Visit(outcome=result["outcome"], answers=answers, console=console)


@contextmanager
def opened(url: str, **options: Any) -> Iterator[tuple[Page, list[str]]]:
    """A page of its own at `url`, and the lines on its console, violations of its policy among them. `options` of the context."""
    with chromium().new_context(**options) as context:
        page = context.new_page()
        console: list[str] = []
        page.on("console", lambda message: console.append(message.text))
        page.on("pageerror", lambda error: console.append(str(error)))
        page.goto(url)
        yield page, console


@contextmanager
def serve(bundle: Path, isolated: bool, extra: Mapping[str, str] | None = None) -> Iterator[int]:
    """The port of a server of a blank page, /bundle, /ort (onnxruntime-web), page.mjs and `extra` files."""
    dist = need(CACHE / "javascript" / "node_modules" / "onnxruntime-web" / "dist", "javascript.sh")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "bundle").symlink_to(bundle.resolve())
        (root / "ort").symlink_to(dist)
        (root / "page.mjs").symlink_to(HERE / "page.mjs")
        (root / "index.html").write_text('<!doctype html><link rel="icon" href="data:,">')
        for name, text in (extra or {}).items():
            (root / name).write_text(text)
        with serve_folder(root, isolated) as port:
            yield port


@contextmanager
def serve_folder(folder: Path, isolated: bool = True) -> Iterator[int]:
    """The port of a server of a folder, with the headers that a bundle's README.md asks for."""
    handler = partial(_Isolated if isolated else _Handler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


_STOP: list[Callable[[], None]] = []


@cache
def chromium() -> Browser:
    """One Chromium for all tests of this process."""
    executable = need(Path(shutil.which("chromium") or "chromium"), "javascript.sh")
    playwright = sync_playwright().start()
    browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)

    def stop() -> None:
        browser.close()
        playwright.stop()

    atexit.register(stop)
    _STOP.append(stop)
    return browser


def close() -> None:
    """End Chromium and Playwright, whose event loop counts as running in this thread: asyncio.run() refuses to start beside it."""
    chromium.cache_clear()
    while _STOP:
        stop = _STOP.pop()
        atexit.unregister(stop)
        stop()


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = {  # noqa: RUF012
        **SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", CSP)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Isolated(_Handler):
    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


def _encode(x: np.ndarray) -> dict[str, Any]:
    data = base64.b64encode(np.ascontiguousarray(x).tobytes()).decode()
    return {"dtype": x.dtype.name, "shape": list(x.shape), "base64": data}


def _decode(tensor: dict[str, Any]) -> np.ndarray:
    data = base64.b64decode(tensor["base64"])
    return np.frombuffer(data, tensor["dtype"]).reshape(tensor["shape"])
