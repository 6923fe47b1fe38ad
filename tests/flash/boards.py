"""Boards for tests of the host's side: an SSH server in this process whose commands and files are this machine's, and a cable to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh


@dataclass
class LocalBoard:
    """An SSH server on a port of 127.0.0.1. `/` of its SFTP is this machine's, and a command goes through `sh`, as on a board."""

    port: int
    root: Path
    host_key: asyncssh.SSHKey
    loop: asyncio.AbstractEventLoop
    connections: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    path: str = os.environ.get("PATH", "")
    lets_in: bool = True
    #: How many connections to elsewhere it was asked for.
    passed_on: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def fingerprint(self) -> str:
        return str(self.host_key.get_fingerprint())

    def known(self) -> str:
        """Its line in known_hosts."""
        key = self.host_key.export_public_key("openssh").decode().split()[:2]
        return f"[127.0.0.1]:{self.port} {' '.join(key)}\n"

    def drop(self) -> None:
        """Every connection breaks."""

        def abort() -> None:
            for connection in self.connections:
                connection.abort()
            self.connections.clear()

        self.loop.call_soon_threadsafe(abort)


class _Server(asyncssh.SSHServer):
    def __init__(self, board: LocalBoard, user_key: asyncssh.SSHKey) -> None:
        self._board, self._user_key = board, user_key

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._board.connections.append(conn)

    def connection_requested(self, *ends: object) -> bool:
        self._board.passed_on += 1
        return True

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return self._board.lets_in and key.public_data == self._user_key.public_data


async def _run(board: LocalBoard, process: asyncssh.SSHServerProcess[bytes]) -> None:
    """A command: its stdin ends when the connection does, and it goes on, as under sshd."""
    board.commands.append(str(process.command))
    child = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", str(process.command)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": board.path, "HOME": str(board.root)},
        start_new_session=True,
    )

    async def give() -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            while data := await process.stdin.read(1 << 16):
                child.stdin.write(data)
                await child.stdin.drain()
        with contextlib.suppress(OSError):
            child.stdin.close()

    async def take(source: asyncio.StreamReader, sink: Any) -> None:
        while data := await source.read(1 << 16):
            with contextlib.suppress(OSError, asyncssh.Error):
                sink.write(data)

    giving = asyncio.ensure_future(give())
    try:
        await asyncio.gather(take(child.stdout, process.stdout), take(child.stderr, process.stderr))
        code = await child.wait()
    finally:
        giving.cancel()
        if child.returncode is None:
            # It may have ended by itself a moment ago, and the loop does not know of it yet.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        while child.returncode is None:  # it is dead; who is in a hurry gets it reaped all the same
            with contextlib.suppress(asyncio.CancelledError):
                await child.wait()
        child._transport.close()  # type: ignore[attr-defined]
    if code < 0:
        process.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
    else:
        process.exit(code)


@contextmanager
def local_board(
    root: Path, user_key: asyncssh.SSHKey, port: int = 0, at: str = "127.0.0.1"
) -> Iterator[LocalBoard]:
    """A board that is up while the block runs; `port` 0: any."""
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    loop = asyncio.new_event_loop()
    board = LocalBoard(port=port, root=root, host_key=host_key, loop=loop)

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            at,
            port,
            server_host_keys=[host_key],
            server_factory=lambda: _Server(board, user_key),
            process_factory=lambda process: _run(board, process),
            sftp_factory=True,
            encoding=None,
        )

    acceptor = loop.run_until_complete(listen())
    board.port = acceptor.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield board
    finally:

        async def end() -> None:
            acceptor.close()
            for connection in board.connections:
                connection.abort()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


class Cable:
    """A TCP connection through here to a port; it counts what goes to the board, and can be cut.

    `target`: the port it leads to. `pulled`: nothing passes, nothing ends.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.sent = 0
        self._at: tuple[int, Callable[[], None]] | None = None
        self.pulled = False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def at(self, sent: int, action: Callable[[], None]) -> None:
        """Do something, once, when so many bytes went towards the board."""
        self._at = (sent, action)

    def cut(self) -> None:
        """Every connection is reset."""
        pairs, self._pairs = self._pairs, []
        for end in (end for pair in pairs for end in pair):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """No connection is left, nor will there be another."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self.pulled = False
        self.cut()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    near.close()
                    continue
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._pairs.append((near, far))
                self._start(self._connection, near, far)

    def _connection(self, near: socket.socket, far: socket.socket) -> None:
        with near, far:
            back = threading.Thread(target=self._pass, args=(far, near, False), daemon=True)
            back.start()
            self._pass(near, far, True)
            back.join()

    def _pass(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                while self.pulled:
                    time.sleep(0.05)
                if counts:
                    self.sent += len(data)
                    if self._at is not None and self.sent >= self._at[0]:
                        (_, action), self._at = self._at, None
                        action()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def cable(port: int) -> Iterator[Cable]:
    """A cable to a board's port, gone at the end."""
    line = Cable(port)
    try:
        yield line
    finally:
        line.close()


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Returns as soon as `holds`; fails if that takes too long."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)
