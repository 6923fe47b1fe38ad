"""Which host keys count: those in known_hosts, always; at the first contact also the one whose fingerprint the user read on the board."""

from __future__ import annotations

import os
from pathlib import Path

import asyncssh

from edgepack.errors import FlashError
from edgepack.flash.host import Host

_SSH_PORT = 22


class KnownHosts:
    """The known_hosts files that count for a connection; the first is the one that is written to."""

    def __init__(self, configured: object) -> None:
        """`configured`: what asyncssh made of UserKnownHostsFile. `none` there would mean that any key counts: it never does."""
        files = configured if isinstance(configured, list) else []
        self._files = [Path(f).expanduser() for f in files] or [
            Path("~/.ssh/known_hosts").expanduser()
        ]

    def read(self) -> asyncssh.SSHKnownHosts:
        """All keys in them. A file that is not there has none.

        Raises:
            FlashError: a file cannot be read.
        """
        known = asyncssh.SSHKnownHosts()
        for file in self._files:
            try:
                known.load(file.read_text(encoding="utf-8"))
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                raise FlashError(f"{file}: {error}", "mend it", kind="known-hosts") from error
        return known

    def add(self, name: str, port: int, key: asyncssh.SSHKey) -> None:
        """Append a key that was accepted, in one write.

        Raises:
            FlashError: the file cannot be written.
        """
        file = self._files[0]
        text = key.export_public_key("openssh").split(b" ")
        line = b" ".join([_place(name, port).encode(), *text[:2]]).strip() + b"\n"
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "rb+", buffering=0) as opened:
                size = opened.seek(0, os.SEEK_END)
                if size:
                    opened.seek(-1, os.SEEK_END)
                    line = line if opened.read(1) == b"\n" else b"\n" + line
                opened.write(line)
        except OSError as error:
            raise FlashError(
                f"cannot write {file}: {error.strerror}",
                "check who may write there",
                kind="known-hosts",
            ) from error


class KeyWatch(asyncssh.SSHClient):
    """Asked about a key that known_hosts does not have. Remembers the answer, so that an error can say what was wrong.

    Attributes:
        accepted: the key that was taken by its fingerprint.
        refusal: why it was not.
    """

    def __init__(self, host: Host, known: asyncssh.SSHKnownHosts) -> None:
        self._host, self._known = host, known
        self.accepted: asyncssh.SSHKey | None = None
        self.refusal: FlashError | None = None

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        print_ = key.get_fingerprint()
        name = _place(host, port)
        # A key of the same name on the usual port is another board's, behind a forwarded port: it does not count as changed.
        if self._known.match(name, "", None)[0]:
            self.refusal = FlashError(
                f"the host key of {self._host.name} has changed: it shows {print_}, known_hosts has another",
                f"ask the board itself: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub; only if that is its key: ssh-keygen -R '{name}'",
                kind="host-key-changed",
            )
        elif self._host.fingerprint is None:
            self.refusal = FlashError(
                f"the host key of {self._host.name} is not known: it shows {print_}",
                f"compare it on the board (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then add --host-fingerprint {print_}",
                kind="host-key-unknown",
            )
        elif self._host.fingerprint != print_:
            self.refusal = FlashError(
                f"the host key of {self._host.name} is {print_}, not {self._host.fingerprint}",
                "read the fingerprint on the board; if it differs, somebody stands in between",
                kind="host-key-changed",
            )
        else:
            self.accepted = key
        return self.accepted is not None


def _place(name: str, port: int) -> str:
    """As known_hosts writes it."""
    return name if port == _SSH_PORT else f"[{name}]:{port}"
