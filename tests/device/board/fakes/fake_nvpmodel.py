"""Stands in for `nvpmodel -q`; `FAKE_NVPMODEL`: the recording that it replays."""

import os
import sys
from pathlib import Path

assert sys.argv[1:] == ["-q"], sys.argv
name = os.environ.get("FAKE_NVPMODEL", "nvpmodel-root")
lines = (Path(__file__).resolve().parent / "recordings" / f"{name}.txt").read_text().splitlines()
print("\n".join(line for line in lines if not line.startswith("# ")))
sys.exit(255 if "user" in name else 0)
