"""Bundles to break, inputs to give, and refusals to look at."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bundle_samples import seal
from tests.device.kotlin.jvm import Jvm, LoaderError


class Bundle:
    """A copy of a sample that may be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def edit(self, change: Callable[[dict[str, Any]], object]) -> Path:
        """The folder, its manifest sealed again after `change`."""
        manifest = json.loads((self.folder / "manifest.json").read_text())
        change(manifest)
        seal(self.folder, manifest)
        return self.folder

    def put(self, path: str, content: bytes) -> Path:
        """The folder, its file `path` replaced and listed with the right size and hash."""
        (self.folder / path).write_bytes(content)

        def relist(manifest: dict[str, Any]) -> None:
            (file,) = [file for file in manifest["files"] if file["path"] == path]
            file.update(size=len(content), sha256=hashlib.sha256(content).hexdigest())

        return self.edit(relist)


#: A fixture: a changeable copy of the sample of that name.
Copy = Callable[[str], Bundle]


def set_at(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    """A change of the manifest: the value at a dotted path; `...` takes the key away."""

    def change(manifest: Any) -> None:
        *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
        for key in way:
            manifest = manifest[key]
        if value is ...:
            del manifest[last]
        else:
            manifest[last] = value

    return change


def refused(jvm: Jvm, bundle: Path, **options: Any) -> LoaderError:
    with pytest.raises(LoaderError) as error:
        jvm.self_test(bundle, **options)
    return error.value


def image(seed: int = 7) -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(seed).random((1, 8, 8, 1), np.float32)}


def seven(batch: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(batch)
    x = rng.integers(-100, 100, (batch, 3))
    return {
        "f16": rng.normal(size=(batch, 3)).astype(np.float16),
        "f32": rng.normal(size=(batch, 3)).astype(np.float32),
        "i8": x.astype(np.int8),
        "u8": x.astype(np.uint8),
        "i32": x.astype(np.int32) * 10_000_000,
        "i64": x.astype(np.int64) << 50,
        "b": x > 0,
        "scalar/odd name:0": np.float32(2.5).reshape(()),
    }
