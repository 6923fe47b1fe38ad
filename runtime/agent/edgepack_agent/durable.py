"""Changes that a power cut leaves done or not done: written beside, synced, renamed, and the folder synced.

A rename is atomic, but only the folder's fsync makes it last; a file's bytes last once the file is synced
(POSIX rename(2), fsync(2); ext4 orders neither for us where `noauto_da_alloc` is set).
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from typing import Iterator

from edgepack_trust import Refusal

_BLOCK_BYTES = 1 << 20
#: So that an app that runs as somebody else can read its release, whatever the umask.
_FILE_MODE, _FOLDER_MODE = 0o644, 0o755


def refusal(error: OSError) -> Refusal:
    """What to tell a person of a failed call of the system: kind `disk`, `read-only`, `permission`, or `io`."""
    cause = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refusal("disk", cause, "free space on the board's disk and flash again")
    if error.errno == errno.EROFS:
        return Refusal("read-only", cause, "mount the board's disk writable and flash again")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Refusal(
            "permission", cause, "flash as the user whose folder that is, or give another --root"
        )
    return Refusal("io", cause, "look at the board's disk (dmesg), then flash again")


def as_refusal(error: Exception) -> Refusal:
    """What to tell a person of any error; one that nobody foresaw is named as such."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, OSError):
        return refusal(error)
    return Refusal("agent", f"{type(error).__name__}: {error}", "report this as a bug of edgepack")


def fill(path: str, data: bytes) -> None:
    """Make the file `path` hold `data`, synced. What was there is lost: for files that nobody reads yet."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, _FILE_MODE)
    try:
        os.fchmod(descriptor, _FILE_MODE)
        _write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: str, data: bytes) -> None:
    """Put a file with `data` in the place of `path`; readers find the old one or the new one, whole."""
    beside = _beside(path)
    fill(beside, data)
    rename(beside, path)


def point(link: str, target: str) -> None:
    """Make `link` a symbolic link to `target`; it is never missing in between (`ln -sfn` removes it first)."""
    beside = _beside(link)
    remove(beside)
    os.symlink(target, beside)
    rename(beside, link)


def rename(source: str, target: str) -> None:
    """`source` in the place of `target`, lastingly; both in one folder, or the source's is synced by nobody."""
    os.rename(source, target)
    sync_folder(os.path.dirname(target))


def append(path: str, data: bytes) -> None:
    """Add `data`, whole lines, to a file's end, synced; a last line that an earlier run left unfinished goes."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, _FILE_MODE)
    try:
        end = _end_of_lines(descriptor)
        os.ftruncate(descriptor, end)
        os.lseek(descriptor, end, os.SEEK_SET)
        _write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if end == 0:
        sync_folder(os.path.dirname(path))


def copy(source: str, target: str) -> None:
    """Copy the bytes of `source` to `target`, a new file, synced."""
    reader = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        writer = os.open(target, flags, _FILE_MODE)
        try:
            os.fchmod(writer, _FILE_MODE)
            for block in iter(lambda: os.read(reader, _BLOCK_BYTES), b""):
                _write_all(writer, block)
            os.fsync(writer)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def move_in(source: str, target: str) -> None:
    """A second name for `source` at `target`; a copy where the disk knows no hard links. Synced, but for the folder."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.EMLINK):
            raise
        copy(source, target)
        return
    os.chmod(target, _FILE_MODE)
    sync_file(target)


def make_folder(path: str) -> None:
    """A folder at `path`, and those above it, where they are not there yet; lasting."""
    try:
        os.mkdir(path, _FOLDER_MODE)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_folder(os.path.dirname(path))
        os.mkdir(path, _FOLDER_MODE)
    os.chmod(path, _FOLDER_MODE)
    sync_folder(os.path.dirname(path))


def remove(path: str) -> bool:
    """Whether there was something at `path` to remove: a file, a link (not what it leads to), or a folder with all in it."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        shutil.rmtree(path)
    else:
        os.remove(path)
    return True


def sync_file(path: str) -> None:
    """Make a file's bytes last, whoever wrote them."""
    _sync(path, os.O_RDONLY | os.O_NOFOLLOW)


def sync_folder(path: str) -> None:
    """Make a folder's names last: what was created, renamed and removed in it."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def sync_folders(path: str) -> None:
    """Make the names in a folder and all folders below it last."""
    for parent, _, _ in os.walk(path, topdown=False):
        sync_folder(parent)


def names(folder: str) -> Iterator[str]:
    """The names in a folder, sorted; none if there is no such folder."""
    try:
        yield from sorted(os.listdir(folder))
    except FileNotFoundError:
        return


def _beside(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.tmp")


def _sync(path: str, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _end_of_lines(descriptor: int) -> int:
    """Where the last whole line ends, in bytes."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 4096)
        os.lseek(descriptor, start, os.SEEK_SET)
        newline = os.read(descriptor, end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
