"""Files to a board over SFTP: many writes under way at once, resumed by offset, on the disk before it counts."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import asyncssh

from edgepack.errors import FlashError
from edgepack.flash.link import Link

#: Bytes in a write: what OpenSSH's limits@openssh.com allows at most; of a server that says nothing asyncssh assumes less.
_BLOCK = 255 * 1024
#: Bytes sent and not yet acknowledged: what the window of OpenSSH's sshd holds; more is lost when a link breaks.
_UNDER_WAY = 2 * 1024 * 1024
#: `f_flag` of statvfs@openssh.com (OpenSSH PROTOCOL, 4.3).
_READ_ONLY = 1

#: Told how many bytes more the board has acknowledged.
Moved = Callable[[int], None]


async def send(link: Link, source: Path, place: str, offset: int, moved: Moved) -> None:
    """Write `source` from `offset` on to `place` on the board, and have it synced where the server can.

    Writes go out in order, so that a file that was cut off holds what comes before its end.

    Raises:
        FlashError: kind `disk`, `read-only`, `permission`, `sftp`, or `source`, which cannot be read; as `connected` where the link breaks.
    """
    flags = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | (0 if offset else asyncssh.FXF_TRUNC)
    try:
        async with link.sftp.open(place, flags, block_size=0, encoding=None) as file:
            await _stream(link, file, source, offset, moved)
            with contextlib.suppress(asyncssh.SFTPOpUnsupported):
                await file.fsync()
    except asyncssh.SFTPError as error:
        if isinstance(error, (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection)):
            raise
        raise await explain(link, place, error) from error


async def _stream(
    link: Link, file: asyncssh.SFTPClientFile, source: Path, offset: int, moved: Moved
) -> None:
    block = min(_BLOCK, link.sftp.limits.max_write_len)
    under_way: deque[asyncio.Task[int]] = deque()
    try:
        with _opened(source) as read:
            read.seek(offset)
            while data := read.read(block):
                if len(under_way) * block >= _UNDER_WAY:
                    moved(await under_way.popleft())
                under_way.append(asyncio.ensure_future(file.write(data, offset)))
                offset += len(data)
        while under_way:
            moved(await under_way.popleft())
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def explain(link: Link, place: str, error: asyncssh.SFTPError) -> FlashError:
    """Why the board did not take a file; SFTP 3 says `Failure` of a full disk, so the board's disk is asked."""
    name, folder = link.host.name, str(PurePosixPath(place).parent)
    disk = await _disk(link, place) if isinstance(error, asyncssh.SFTPFailure) else None
    if isinstance(error, (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded)) or (
        disk is not None and disk.bavail * disk.frsize < _BLOCK
    ):
        return FlashError(
            f"the disk of {name} is full: {place} cannot be written",
            f"free some space under {link.host.root}; edgepack board status {name} lists the releases there",
            kind="disk",
        )
    if isinstance(error, asyncssh.SFTPWriteProtect) or (
        disk is not None and disk.flags & _READ_ONLY
    ):
        return FlashError(
            f"{folder} on {name} is on a read-only file system",
            "remount it for writing, or give another --root",
            kind="read-only",
        )
    # No such file: a folder above it could not be made.
    if isinstance(error, (asyncssh.SFTPPermissionDenied, asyncssh.SFTPNoSuchFile)):
        return FlashError(
            f"{link.user} may not write {place} on {name}",
            f"there: sudo install -d -o {link.user} {link.host.root}; or give a folder of {link.user}'s: --root",
            kind="permission",
        )
    return FlashError(
        f"{name} does not take {place}: {error.reason}", "see whether it is there", kind="sftp"
    )


async def _disk(link: Link, place: str) -> asyncssh.SFTPVFSAttrs | None:
    """The file system of a place, or of the nearest folder above it that is there."""
    for folder in PurePosixPath(place).parents:
        with contextlib.suppress(asyncssh.SFTPError):
            return await link.sftp.statvfs(str(folder))
    return None


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[BinaryIO]:
    """The local file; what is wrong with it is no error of the network."""
    try:
        with source.open("rb") as file:
            yield file
    except OSError as error:
        if error.filename is None:  # the link's
            raise
        raise FlashError(
            f"{source}: {error.strerror}",
            "the bundle must stay as it is while it is flashed",
            kind="source",
        ) from error
