"""A connection to a board, and what its errors mean."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import asyncssh

from edgepack.errors import FlashError
from edgepack.flash.host import Host
from edgepack.flash.keys import KeyWatch, KnownHosts

_CONNECT_S, _LOGIN_S = 15, 30
#: A cable that was pulled is noticed after three of these.
_ALIVE_S = 5
#: AES first, which all Jetsons have instructions for: in counter mode with encrypt-then-MAC, the quickest on this side whose cost on a board without
#: them is bearable (tests/benchmarks/flash_throughput.py --sweep). ChaCha20-Poly1305 is last: boards of JetPack 5 have an sshd without the strict
#: key exchange that Terrapin made necessary for it (CVE-2023-48795). `Ciphers` in ~/.ssh/config overrules.
_CIPHERS = (
    *("aes128-ctr", "aes128-gcm@openssh.com", "aes256-gcm@openssh.com"),
    *("aes256-ctr", "aes192-ctr", "chacha20-poly1305@openssh.com"),
)


class LinkError(FlashError):
    """The board does not answer, or no longer: worth another try."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """An open connection: for commands, and for files."""

    host: Host
    ssh: asyncssh.SSHClientConnection
    sftp: asyncssh.SFTPClient
    user: str


@asynccontextmanager
async def connected(host: Host) -> AsyncIterator[Link]:
    """A connection to the board, closed at the end.

    Raises:
        LinkError: it does not answer, or the link broke. FlashError: kind `host-key-unknown`, `host-key-changed`, `auth`, `ssh`, `sftp`.
    """
    with explained(host):
        ssh = await _open(host)
        try:
            try:
                sftp = await ssh.start_sftp_client()
            except (asyncssh.ChannelOpenError, asyncssh.SFTPError) as error:
                if isinstance(error, (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection)):
                    raise
                raise FlashError(
                    f"{host.name} has no SFTP server: {error}",
                    "install one there (Debian, Ubuntu: openssh-sftp-server)",
                    kind="sftp",
                ) from error
            user = str(ssh.get_extra_info("username"))
            yield Link(host=host, ssh=ssh, sftp=sftp, user=user)
        finally:
            ssh.abort()


async def answers(host: Host) -> None:
    """Returns if a connection of its own can be opened; raises as `connected`."""
    with explained(host):
        ssh = await _open(host)
        ssh.abort()


async def _open(host: Host) -> asyncssh.SSHClientConnection:
    try:
        options = await asyncio.to_thread(_options, host)
        known = KnownHosts(options.known_hosts)
        read = known.read()
        options = await asyncio.to_thread(
            asyncssh.SSHClientConnectionOptions, options=options, known_hosts=read
        )
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, OSError) as error:
        raise FlashError(
            f"the key {host.identity or 'of ~/.ssh'} cannot be used: {error}",
            "give another --identity; one with a password goes into ssh-agent: ssh-add FILE",
            kind="auth",
        ) from error
    except (asyncssh.ConfigParseError, ValueError) as error:
        raise FlashError(f"~/.ssh/config: {error}", "mend it", kind="ssh") from error
    watch = KeyWatch(host, read)
    try:
        ssh: asyncssh.SSHClientConnection = await asyncssh.connect(
            host.address, options=options, client_factory=lambda: watch
        )
    except asyncssh.HostKeyNotVerifiable as error:
        raise watch.refusal or FlashError(
            f"the host key of {host.name} does not count: {error}",
            "see known_hosts; a revoked key, or a certificate that expired, is not taken; a ProxyJump host has to be in it, too: ssh to it once",
            kind="host-key-changed",
        ) from error
    if watch.accepted is not None:
        known.add(options.host_key_alias or options.host, options.port, watch.accepted)
    return ssh


def _options(host: Host) -> asyncssh.SSHClientConnectionOptions:
    """What to connect with. Reads ~/.ssh/config and keys."""
    given: dict[str, object] = {}
    if host.port is not None:
        given["port"] = host.port
    if host.user is not None:
        given["username"] = host.user
    if host.identity is not None:
        given["client_keys"] = [str(host.identity)]
    options = asyncssh.SSHClientConnectionOptions(
        host=host.address,
        config=(),  # ~/.ssh/config
        connect_timeout=_CONNECT_S,
        login_timeout=_LOGIN_S,
        keepalive_interval=_ALIVE_S,
        keepalive_count_max=3,
        # Other ways than known_hosts to vouch for a board.
        x509_trusted_certs=None,
        gss_kex=False,
        agent_forwarding=False,
        request_pty=False,
        **given,
    )
    if options.config.get("Ciphers", None) is None:
        options = asyncssh.SSHClientConnectionOptions(options=options, encryption_algs=_CIPHERS)
    return options


@contextmanager
def explained(host: Host) -> Iterator[None]:
    """What asyncssh and the system say, as errors with a cause and a remedy."""
    try:
        yield
    except FlashError:
        raise
    except asyncssh.PermissionDenied as error:
        raise FlashError(
            f"{host.name} lets nobody in with these keys: {error.reason}",
            "add your public key to ~/.ssh/authorized_keys there, or give --identity FILE or user@host",
            kind="auth",
        ) from error
    except asyncssh.KeyExchangeFailed as error:
        raise FlashError(
            f"{host.name} and this machine share no way to talk: {error.reason}",
            "if its kind of host key changed: ask the board, then ssh-keygen -R; else see Ciphers in ~/.ssh/config",
            kind="ssh",
        ) from error
    except (asyncssh.DisconnectError, asyncssh.ChannelOpenError) as error:
        raise LinkError(
            f"the connection to {host.name} broke: {error.reason}", _AGAIN, kind="link"
        ) from error
    except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection) as error:
        raise LinkError(f"the connection to {host.name} broke", _AGAIN, kind="link") from error
    except (asyncio.TimeoutError, OSError) as error:
        raise _of_the_network(host, error) from error


_AGAIN = "run the same command again: what arrived is not sent again"


def _of_the_network(host: Host, error: BaseException) -> LinkError:
    place = f"{host.address}:{host.port or 22}"
    if isinstance(error, socket.gaierror):
        return LinkError(
            f"{host.name}: no address for {host.address}", "check the name", kind="unreachable"
        )
    if isinstance(error, ConnectionRefusedError):
        return LinkError(
            f"{host.name} refuses connections at {place}",
            "check the port, and that sshd runs there",
            kind="unreachable",
        )
    if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
        return LinkError(
            f"{host.name} does not answer at {place}",
            "check that it is on and in this network",
            kind="unreachable",
        )
    number = error.errno if isinstance(error, OSError) else None
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if number in (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED):
        return LinkError(f"the connection to {host.name} broke: {said}", _AGAIN, kind="link")
    return LinkError(f"{host.name} at {place}: {said}", "check the network", kind="unreachable")
