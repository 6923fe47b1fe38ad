"""The demo page, served by the bundle's own server under its strict policy."""

from __future__ import annotations

import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from tests.device.javascript.browser import opened
from tests.device.javascript.conftest import MODULES, Bundle, node_program

PREPROCESSING = {
    "height": 8,
    "width": 8,
    "resize": "crop",
    "interpolation": "bilinear",
    "channels": "gray",
    "layout": "nhwc",
    "scale": 1 / 255,
    "mean": [0.5],
    "std": [0.5],
    "pad": [0, 0, 0],
}


@contextmanager
def served(bundle: Bundle) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The page's address, and the server."""
    server = subprocess.Popen(
        [node_program(), bundle.root / "demo" / "serve.mjs", "0"],
        env={**os.environ, "EDGEPACK_NODE_MODULES": str(MODULES)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        yield server.stdout.readline().split()[0], server
    finally:
        server.kill()
        server.communicate()


@pytest.fixture
def demo(conv: Bundle) -> Bundle:
    conv.change(lambda m: m["inputs"][0].update(preprocessing=PREPROCESSING))
    return conv


def _ready(page) -> None:
    page.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)


def test_page_shows_input_output_latency_engine_and_self_test(demo):
    with served(demo) as (url, _), opened(url) as (page, console):
        _ready(page)
        shown = {
            part: page.inner_text(f"#{part}") for part in ("input", "output", "latency", "engine")
        }
        assert page.inner_text("#verdict") == "Self-test passed"
        assert page.locator("#cases tr").count() == 6
        assert page.locator("#given canvas").count() == 1
    assert console == []
    assert "float32 [1, 8, 8, 1]" in shown["input"]
    assert "the largest 8 of 10" in shown["output"]
    assert "Median of 50 runs" in shown["latency"]
    assert "CPUExecutionProvider" in shown["engine"]


def test_picked_image_becomes_the_input(demo, tmp_path):
    picture = tmp_path / "picture.png"
    Image.fromarray(np.full((20, 30, 3), 255, np.uint8)).save(picture)
    with served(demo) as (url, _), opened(url) as (page, console):
        _ready(page)
        before = page.inner_text("#answers")
        page.set_input_files("#image", picture)
        for _ in range(50):
            if page.inner_text("#answers") != before:
                break
            page.wait_for_timeout(100)
        assert page.inner_text("#answers") != before
        assert page.is_hidden("#failure")
    assert console == []


def test_page_starts_again_when_the_server_is_gone(demo):
    with served(demo) as (url, server), opened(url) as (page, console):
        _ready(page)
        server.kill()
        server.wait()
        page.reload()
        _ready(page)
        assert page.inner_text("#verdict") == "Self-test passed", console


def test_failure_is_shown_with_its_kind(demo):
    model = demo.root / "model" / "conv-ort.ort"
    model.write_bytes(model.read_bytes()[:-1])
    with served(demo) as (url, _), opened(url) as (page, _):
        _ready(page)
        assert page.inner_text("#kind") == "file-corrupt"
        assert page.inner_text("#verdict") == "Failed"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_page_fits_the_screen_and_can_be_read(demo, scheme, width):
    viewport = {"width": width, "height": 800}
    with served(demo) as (url, _), opened(url, viewport=viewport, color_scheme=scheme) as (page, _):
        _ready(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 20
    assert min(contrasts.values()) >= 4.5, contrasts  # WCAG 2.2, 1.4.3


#: By text: how much it stands out from what is behind it, as WCAG reckons.
CONTRASTS = """(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => parts(colour).slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    const { backgroundColor } = getComputedStyle(node);
    return (parts(backgroundColor)[3] ?? 1) > 0 || !node.parentElement ? backgroundColor : ground(node.parentElement);
  };
  const found = {};
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!own || !node.checkVisibility()) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(ground(node))].sort((x, y) => y - x);
    found[node.textContent.trim().slice(0, 40)] = (a + 0.05) / (b + 0.05);
  }
  return found;
})()"""


def test_every_control_has_a_name(demo):
    with served(demo) as (url, _), opened(url) as (page, _):
        _ready(page)
        names = page.evaluate("""[...document.querySelectorAll('button, select, input, canvas, progress')]
            .map((node) => node.labels?.[0]?.textContent || node.textContent || node.ariaLabel || node.ariaLabelledByElements?.[0]?.textContent)""")
    assert len(names) >= 7
    assert all(name and name.strip() for name in names), names


# The server


@pytest.mark.parametrize("path", ["/%2e%2e/secret", "/build.log", "/demo/nothing.mjs", "/%ff"])
def test_server_gives_only_what_the_manifest_lists(demo, path):
    (demo.root / "build.log").write_text("not listed")
    with (
        served(demo) as (url, _),
        pytest.raises(urllib.error.HTTPError) as refused,
    ):
        urllib.request.urlopen(url.removesuffix("/demo/") + path)
    refused.value.close()
    assert refused.value.code in (400, 404)
