"""Real ext4 disks in files, and what is left of one when the power goes: all that was synced, and of the rest what the kernel had sent."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_MEGABYTES = 24
#: Nothing gets onto the disk by itself: ext4 does not write a file's bytes before its name (`data=ordered`), nor when it is renamed over another
#: (`auto_da_alloc`), nor after five seconds. What is left is what POSIX promises. Source: Linux, Documentation/admin-guide/ext4.rst.
_OPTIONS = "loop,data=writeback,noauto_da_alloc,commit=300"


def require_loop_devices() -> None:
    """Skip where nobody may mount; CI may."""
    tools = all(shutil.which(tool) for tool in ("mkfs.ext4", "mount", "umount"))
    if os.geteuid() != 0 or not tools or not Path("/dev/loop-control").exists():
        why = "root mounts disks, with mkfs.ext4 and loop devices"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(why)


def make(disk: Path) -> Path:
    """A new file with an empty ext4 in it."""
    with open(disk, "wb") as file:
        file.truncate(_MEGABYTES << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", disk], check=True)
    return disk


def duplicate(disk: Path, to: Path) -> Path:
    """What the disk holds at this moment; while it is mounted: what it would hold if the power went."""
    subprocess.run(["cp", "--sparse=always", disk, to], check=True)
    return to


@contextmanager
def mounted(disk: Path) -> Iterator[Path]:
    """The folder in which the disk is mounted; ext4 first replays what its journal has, as after any boot."""
    folder = disk.with_name(f"{disk.name}.mounted")
    folder.mkdir()
    subprocess.run(["mount", "-o", _OPTIONS, disk, folder], check=True)
    try:
        yield folder
    finally:
        # A timer of the agent may still look at it.
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()
