"""The same input gives the same bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

import edgepack
from edgepack.bundle.archive import pack
from edgepack.trust.keys import generate
from tests.conftest import ROOT
from tests.models import conv_model, images, two_input_model, write

TARGETS = ["jetson-orin", "android", "android-nnapi", "ios", "web", "web-webgpu"]


def content(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def build_elsewhere(model: Path, samples: Path, output: Path, key: Path) -> None:
    """Build from another checkout, in a process of its own, with another order of sets, from another folder, in another time zone."""
    checkout = model.parent / "checkout"
    for folder in ("edgepack", "runtime", "targets"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, checkout / folder, ignore=ignored)
    targets = [part for target in TARGETS for part in ("-t", target)]
    arguments = [model, *targets, "--calibration", samples, "-o", output, "--sign", key, "--json"]
    subprocess.run(
        [sys.executable, "-m", "edgepack", "build", *map(str, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": str(checkout),
            "PYTHONHASHSEED": "4242",
            "TZ": "Asia/Kathmandu",
            "LC_ALL": "C",
            "SOURCE_DATE_EPOCH": "1",
        },
        cwd=model.parent,
        umask=0o077,
        capture_output=True,
        check=True,
    )


def test_two_builds_in_two_processes_give_the_same_bundles(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there" / "deeper"
    for side in (here, there):
        write(conv_model(), side / "tiny.onnx")
    np.save(there / "samples.npy", images(20))
    # The file's name is not part of the result.
    key = generate(tmp_path / "release.pem").private
    build_elsewhere(there / "tiny.onnx", there / "samples.npy", there / "out", key)
    edgepack.build(
        here / "tiny.onnx",
        targets=TARGETS,
        calibration=images(20),
        output_dir=here / "out",
        sign=key,
    )
    for side in (here, there):
        for target in TARGETS:
            pack(side / "out" / f"tiny-{target}")
    ours, theirs = content(here / "out"), content(there / "out")
    assert list(ours) == list(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []
    for name in ("manifest.json", "manifest.sig", "sbom.cdx.json", ".edgepack"):
        assert len([n for n in ours if n.endswith(name)]) == len(TARGETS)


def test_a_bundle_does_not_depend_on_what_else_is_built(tmp_path: Path) -> None:
    model = write(conv_model(), tmp_path / "tiny.onnx")
    together = edgepack.build(
        model, targets=["android", "web", "jetson-orin"], output_dir=tmp_path / "together"
    )
    for result in together:
        (alone,) = edgepack.build(model, targets=[result.target], output_dir=tmp_path / "alone")
        assert content(alone.bundle) == content(result.bundle)


def test_several_inputs_and_a_scalar_output_survive_the_whole_way(tmp_path: Path) -> None:
    model = write(two_input_model(), tmp_path / "sum.onnx")
    (result,) = edgepack.build(
        model, targets=["web"], output_dir=tmp_path / "out", shapes={"left": (2, 3)}
    )
    manifest = edgepack.load_manifest(result.bundle)
    assert [t.shape for t in manifest.outputs] == [(2, 3), ()]
    assert {e.shape for c in manifest.golden for e in c.expect if e.name == "count"} == {()}
    feeds = {"left": np.ones((2, 3), np.float32), "right": np.full((2, 3), 2)}
    outputs = edgepack.run(result.bundle, feeds)
    assert float(outputs["count"]) == 12.0
    assert edgepack.verify(result.bundle).passed
