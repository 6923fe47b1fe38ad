"""How a board is reached, and what may stand in its address: the only words of a user that get near a shell are held to a few letters."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgepack.errors import UsageError

#: Where a board keeps its releases if nobody says otherwise (runtime/agent/README.md).
ROOT = "/var/lib/edgepack"
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
#: RFC 1123 host names, and the aliases of ~/.ssh/config.
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_ZONE = re.compile(r"[A-Za-z0-9_.-]+")
_ROOT = re.compile(r"(?:/[A-Za-z0-9._@+=,:-]+)+")
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_WRITE = "write it like edge@10.0.0.7, board.local:2222 or [fe80::1]:22"


@dataclass(frozen=True, kw_only=True)
class Host:
    """A board.

    Attributes:
        name: what reports call it.
        address: a host name, an alias of ~/.ssh/config, or an IP address.
        port, user, identity: None: as ~/.ssh/config says, else 22, the local user, and the usual keys.
        root: the folder on the board that edgepack writes in.
        fingerprint: of the host key that is accepted at the first contact, `SHA256:…`.
    """

    name: str
    address: str
    port: int | None = None
    user: str | None = None
    identity: Path | None = None
    root: str = ROOT
    fingerprint: str | None = None


def parse_host(text: str) -> Host:
    """`[user@]host[:port]` as a host; an IPv6 address stands in brackets.

    Raises:
        UsageError: it is not of that form, or holds a character that no address has.
    """
    user, at, rest = text.rpartition("@")
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", rest)
    if bracketed:
        address, port = bracketed[1], bracketed[2]
    else:
        address, colon, after = rest.partition(":")
        port = after if colon else None
    if at:
        require_user(user)
    require_address(address)
    if port is not None and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(f"{text!r} has no port after its colon", _WRITE)
    return Host(name=text, address=address, port=int(port) if port else None, user=user or None)


def twice(hosts: Iterable[Host]) -> tuple[Host, Host] | None:
    """Two hosts at one address and port, if there are any: a board is flashed once at a time."""
    seen: dict[tuple[str, int], Host] = {}
    for host in hosts:
        other = seen.setdefault((host.address, host.port or 22), host)
        if other is not host:
            return other, host
    return None


def require_address(address: str) -> str:
    """The address, if it is a host name or an IP address.

    Raises:
        UsageError: it is neither.
    """
    if not _NAME.fullmatch(address) and not _is_ip(address):
        raise UsageError(f"{address!r} is no host name and no IP address", _WRITE)
    return address


def require_user(user: str) -> str:
    """The user's name, if it can be one.

    Raises:
        UsageError: it cannot.
    """
    if not _USER.fullmatch(user):
        raise UsageError(f"{user!r} is no user's name", _WRITE)
    return user


def require_root(root: str) -> str:
    """The folder on the board, if it is absolute, plain, and not the board's own root.

    Raises:
        UsageError: it is not.
    """
    if not _ROOT.fullmatch(root) or str(PurePosixPath(root)) != root or ".." in root.split("/"):
        raise UsageError(
            f"the root {root!r} is no plain absolute path",
            f"use letters, digits and ._@+=,:- between slashes, like {ROOT}",
        )
    return root


def require_fingerprint(text: str) -> str:
    """The fingerprint, if it is one that `ssh-keygen -l` prints.

    Raises:
        UsageError: it is not.
    """
    if not _FINGERPRINT.fullmatch(text):
        raise UsageError(
            f"{text!r} is no fingerprint of a host key",
            "read it on the board: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub (SHA256:…)",
        )
    return text


def _is_ip(address: str) -> bool:
    plain, percent, zone = address.partition("%")
    if percent and not _ZONE.fullmatch(zone):
        return False
    try:
        ipaddress.ip_address(plain)
    except ValueError:
        return False
    return True
