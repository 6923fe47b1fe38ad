"""A process's own view of the disk, by Linux' Landlock: it takes rights away from itself, without being root.

Source: Linux, Documentation/userspace-api/landlock.rst and include/uapi/linux/landlock.h (ABI 1: 5.13, 2: 5.19, 3: 6.2, 4: 6.7, 6: 6.12).
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_PATH_BENEATH, _ABI = 1, 1
_NO_NEW_PRIVS = 38
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
#: make_char, make_sock, make_fifo, make_block, make_sym: nothing that a model needs.
_SPECIAL = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12
_EXECUTE, _WRITE_FILE, _TRUNCATE, _IOCTL = 1, 1 << 1, 1 << 14, 1 << 15
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
#: Handled rights by ABI: those of 1, rename between folders (2), truncate (3), ioctl on devices (5).
_RIGHTS = (0, (1 << 13) - 1, (1 << 14) - 1, (1 << 15) - 1, (1 << 15) - 1, (1 << 16) - 1)
_TCP, _SCOPES = 0b11, 0b11


def restrict(read: Iterable[Path], write: Iterable[Path]) -> int:
    """Give up all rights on files but to read below `read`, and to read, write, make and delete below `write`; start no programs.

    From ABI 4 on TCP goes too, from ABI 6 on signals and abstract sockets to processes outside. It holds for all threads to come and
    all children, for good.

    Returns: the kernel's ABI; 0: it has no Landlock, and nothing was restricted.

    Raises:
        OSError: the kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    abi = libc.syscall(_CREATE, None, 0, _ABI)
    if abi < 1:
        return 0
    rights = _RIGHTS[min(abi, len(_RIGHTS) - 1)]
    attributes = struct.pack("=QQQ", rights, _TCP if abi >= 4 else 0, _SCOPES if abi >= 6 else 0)[
        : 8 if abi < 4 else 16 if abi < 6 else 24
    ]
    ruleset = _call(libc, _CREATE, attributes, len(attributes), 0)
    try:
        writing = rights & ~(_EXECUTE | _SPECIAL)
        for paths, allowed in ((read, _READ_FILE | _READ_DIR), (write, writing)):
            for path in paths:
                _allow(libc, ruleset, path, allowed)
        if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
        _call(libc, _RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)
    return int(abi)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, allowed: int) -> None:
    """Rights on what `path` leads to; nothing if it leads nowhere."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            allowed &= _FILE_RIGHTS
        rule = struct.pack("=Qi", allowed, place)
        _call(libc, _ADD, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(place)


def _call(libc: ctypes.CDLL, number: int, *arguments: object) -> int:
    result = libc.syscall(number, *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"Landlock, system call {number}: {os.strerror(error)}")
    return int(result)
