"""A Jetson as far as files tell of one, and a release that edgepack built for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgepack_agent.facts import Facts

#: `/etc/nv_tegra_release` as boards have it; the second is a Thor's, from a public note on JetPack 7.
L4T = {
    "35.4.1": "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, DATE: Tue Aug  1 19:57:35 UTC 2023\n",
    "36.4.3": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n",
    "38.2.0": "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64, DATE: Fri Aug 22 00:55:42 UTC 2025\n",
}
GIB = 1 << 30

ORIN = Facts(
    arch="aarch64",
    board="tegra234",
    model="NVIDIA Jetson Orin Nano Developer Kit",
    l4t="36.4.3",
    jetpack="6.2+b77",
    tensorrt="10.3.0.30-1+cuda12.5",
    sm="87",
    memory_total=8 * GIB,
    memory_available=5 * GIB,
    power_mode="15W",
    python="3.10.12",
    boot_id="7c22b00d-463c-477c-9b59-8e8dab6b2667",
    clock=1_795_715_068,
)


def package(name: str, version: str, status: str = "install ok installed") -> str:
    """An entry of dpkg's status file."""
    return f"Package: {name}\nStatus: {status}\nArchitecture: arm64\nMaintainer: NVIDIA\nVersion: {version}\nDescription: x\n\n"


def root(
    folder: Path,
    *,
    release: str | None = None,
    compatible: bytes | None = None,
    model: bytes | None = None,
    packages: str = "",
    meminfo: str = "",
) -> str:
    """A board's file system at `folder`, with what is given and nothing else."""
    files: dict[str, bytes | None] = {
        "etc/nv_tegra_release": None if release is None else release.encode(),
        "proc/device-tree/compatible": compatible,
        "proc/device-tree/model": model,
        "proc/meminfo": meminfo.encode(),
        "var/lib/dpkg/status": packages.encode(),
    }
    for name, data in files.items():
        if data is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    return str(folder)


def manifest_of(bundle: Path) -> dict[str, Any]:
    """The manifest as the agent has it: plain data."""
    data: dict[str, Any] = json.loads((bundle / "manifest.json").read_bytes())
    return data


def manifest(**requires: str) -> dict[str, Any]:
    """A manifest as far as a preflight reads it: a model of 1000 bytes for TensorRT."""
    return {
        "target": {"name": "some-board", "requires": requires},
        "runtime": {"providers": [{"name": "TensorrtExecutionProvider", "options": {}}]},
        "files": [
            {"path": "loader/edgepack_loader.py", "size": 9, "sha256": "0" * 64, "role": "loader"},
            {"path": "model/m.onnx", "size": 1000, "sha256": "1" * 64, "role": "model"},
        ],
    }
