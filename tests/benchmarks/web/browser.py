"""A page in Chromium in which all engines are."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.device.javascript.browser import chromium

HERE = Path(__file__).parent
INDEX = """<!doctype html>
<link rel="icon" href="data:,">
<script type="importmap">{"imports": {"@litertjs/wasm-utils": "/litert/wasm-utils/dist/index.js"}}</script>
<script src="/tfjs/tfjs-core/dist/tf-core.min.js"></script>
<script src="/tfjs/tfjs-backend-cpu/dist/tf-backend-cpu.min.js"></script>
<script src="/tfjs/tfjs-backend-wasm/dist/tf-backend-wasm.min.js"></script>
<script src="/tfjs/tfjs-converter/dist/tf-converter.min.js"></script>
"""


class _Quiet(SimpleHTTPRequestHandler):
    extensions_map = {  # noqa: RUF012
        **SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def page(cache: Path, models: Path) -> Iterator[Any]:
    """A page with the engines started, `models` under /models; `compare` goes to it."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        places: Mapping[str, Path] = {
            "ort": cache / "javascript" / "node_modules" / "onnxruntime-web" / "dist",
            "tfjs": cache / "benchmark-web" / "node_modules" / "@tensorflow",
            "litert": cache / "benchmark-web" / "node_modules" / "@litertjs",
            "models": models,
            "page.mjs": HERE / "page.mjs",
        }
        for name, place in places.items():
            (root / name).symlink_to(place.resolve())
        (root / "index.html").write_text(INDEX)
        with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder)) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            try:
                with chromium().new_context() as context:
                    opened = context.new_page()
                    opened.goto(f"http://127.0.0.1:{server.server_address[1]}/")
                    opened.evaluate("import('/page.mjs').then((page) => page.start())")
                    yield opened
            finally:
                server.shutdown()
                thread.join()


def compare(opened: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """What page.mjs' `compare` gives."""
    script = "(request) => import('/page.mjs').then((page) => page.compare(request))"
    result: dict[str, Any] = opened.evaluate(script, dict(request))
    return result
