"""A loader's files as they go into a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgepack
from edgepack.bundle.loaders import rendered
from edgepack.bundle.manifest import Target
from edgepack.errors import TargetError


def test_a_target_that_does_not_say_what_a_template_needs_is_refused_with_the_key(
    built: Path,
) -> None:
    manifest = edgepack.load_manifest(built / "tiny-android")
    parts = (manifest.model, manifest.runtime, manifest.inputs, manifest.outputs)
    assert "build.gradle.kts" in rendered(manifest.release, manifest.target, *parts)
    bare = Target(name="bare", requires={})
    with pytest.raises(TargetError, match=r"build\.gradle\.kts\.in: .*\$requires_android_api") as e:
        rendered(manifest.release, bare, *parts)
    assert "requires: android_api" in e.value.fix
