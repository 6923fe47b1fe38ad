"""What the child does to itself before it looks at a model: limits, no network, a narrow view of the disk. Standard library only.

Each guard that this system lacks is left out, and what is left is told: it goes into the build log.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgepack.intake import landlock

_NEW_NET, _NEW_USER = 0x40000000, 0x10000000
#: Where systems keep libraries, settings and what they tell of themselves.
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc", "/opt", "/nix", "/snap")
_KERNEL = ("/proc", "/sys", "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_DEVICES = ("/dev/null", "/dev/zero")


def confine(request: dict[str, Any]) -> tuple[str, ...]:
    """The guards that are on in this process from now on.

    Args:
        request: memory_bytes, cpu_s and file_bytes; confined; read, a list of paths it may read besides Python's own and the system's;
            write, the one folder in which it may write, and where its temporary files go.
    """
    folder = Path(request["write"])
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    # Settings of the user's own (a float type, a backend) would change what a model gives.
    os.environ["KERAS_HOME"] = str(folder)
    on = [*_limits(request)]
    if request["confined"]:
        on += [
            *_without_network(),
            *_narrow_view([Path(p) for p in request["read"]], folder),
        ]
    return tuple(on)


def _limits(request: dict[str, Any]) -> list[str]:
    try:
        import resource
    except ImportError:  # Windows
        return []
    on = []
    # On Linux this counts what a process may write to: heap, stacks, private mappings, and not the files that it maps.
    wanted = [("core files", "RLIMIT_CORE", 0, 0)]
    if sys.platform == "linux":
        memory = request["memory_bytes"]
        wanted.append(("memory", "RLIMIT_DATA", memory, memory))
    cpu, file = request["cpu_s"], request["file_bytes"]
    wanted += [("CPU time", "RLIMIT_CPU", cpu, cpu + 5), ("file size", "RLIMIT_FSIZE", file, file)]
    for name, constant, soft, hard in wanted:
        kind = getattr(resource, constant)
        _, most = resource.getrlimit(kind)
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (soft, hard))
            on.append(name)
    return on


def _without_network() -> list[str]:
    """A network of its own, in which there is nothing: as root at once, else as root of a user namespace of its own."""
    if sys.platform != "linux":
        return []
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NET) == 0:
        return ["network"]
    if libc.unshare(_NEW_USER | _NEW_NET) != 0:
        return []
    with contextlib.suppress(OSError):  # who it is matters to messages only
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return ["network"]


def _narrow_view(read: Sequence[Path], folder: Path) -> list[str]:
    if sys.platform != "linux":
        return []
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    own = [*sys.path, sys.prefix, sys.base_prefix, sys.exec_prefix, *libraries]
    paths = [Path(p) for p in (*_SYSTEM, *_KERNEL, *own) if p]
    try:
        abi = landlock.restrict([*paths, *read], [folder, *(Path(p) for p in _DEVICES)])
    except OSError:
        return []
    return ["files", "programs", *(["TCP"] if abi >= 4 else [])] if abi else []
