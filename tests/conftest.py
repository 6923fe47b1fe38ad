"""What every test shares: the sample bundles, the folder of fetched runtimes, and a rule for what is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# What a test calibrates, it calibrates itself.
os.environ["EDGEPACK_CACHE"] = ""

ROOT = Path(__file__).resolve().parent.parent
#: Where tests/setup/*.sh put the runtimes they fetch; one folder each: board, conformance, cpp, javascript …
CACHE = Path(os.environ.get("EDGEPACK_TEST_CACHE", ROOT / ".cache" / "tests"))


def need(path: Path, setup: str) -> Path:
    """`path`, or a skip that names the script to run; in CI (CI=true) a failure instead."""
    if not path.exists():
        why = f"{path.name} is not here: run tests/setup/{setup}"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return path


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of hand-made bundles, see tests/bundle_samples.py. Copy one before you change it."""
    from tests.bundle_samples import write_samples

    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder)
    return folder
