"""sshd on the board, as on a Jetson in a network: keys, an SFTP server, the users root and `edge`.

with Board.fresh() as board, sshd(board) as remote:
    done = remote.run("uname -m")
    remote.put(folder, "bundle")
"""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

from tests.device.board.board import EDGE_UID, ROOT_UID, Board
from tests.device.board.enter import ENVIRONMENT

_CONFIG = Template("""Port $port
ListenAddress 127.0.0.1
HostKey /etc/ssh/board
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PrintMotd no
Subsystem sftp /usr/lib/openssh/sftp-server
# sshd drops the environment, and with it what qemu and Python need.
SetEnv $environment
""")


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A board that answers on `port` of this machine. Killing `process` cuts its power."""

    port: int
    keys: Path
    process: subprocess.Popen[bytes]

    @property
    def options(self) -> list[str]:
        """What ssh and scp need to reach it."""
        return [
            *("-F", "none", "-i", str(self.keys / "user"), "-o", "BatchMode=yes"),
            *("-o", f"UserKnownHostsFile={self.keys / 'known_hosts'}"),
            *("-o", "StrictHostKeyChecking=yes", "-o", f"Port={self.port}"),
        ]

    def run(
        self, command: str, user: str = "edge", timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a line in the user's shell on the board; the exit code is the line's own, 255 if there is no connection."""
        line = ["ssh", *self.options, f"{user}@127.0.0.1", command]
        return subprocess.run(line, capture_output=True, text=True, timeout=timeout_s)

    def put(self, source: Path, place: str, user: str = "edge") -> None:
        """Copy a file or folder with scp."""
        line = ["scp", "-q", "-r", *self.options, str(source), f"{user}@127.0.0.1:{place}"]
        subprocess.run(line, check=True, timeout=120)

    def cut_power(self) -> None:
        """Nothing of the board goes on; what was written stays."""
        self.process.kill()
        self.process.wait(30)


@contextmanager
def sshd(board: Board, keys: Path | None = None) -> Iterator[Remote]:
    """The board, up and answering to a key of its own; `keys`: a folder for them, or with those of an earlier boot."""
    own = keys is None
    keys = keys or Path(tempfile.mkdtemp(prefix="board-keys."))
    try:
        for name in ("board", "user"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / name]
            if not (keys / name).exists():
                subprocess.run(command, check=True)
        port = _free_port()
        environment = " ".join(f"{k}={shlex.quote(v)}" for k, v in ENVIRONMENT.items())
        config = _CONFIG.substitute(port=port, environment=environment)
        (keys / "sshd_config").write_text(config)
        host_key = (keys / "board.pub").read_text()
        (keys / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
        for source, place, uid in (
            ("board", "/etc/ssh/board", ROOT_UID),
            ("sshd_config", "/etc/ssh/board_config", ROOT_UID),
            ("user.pub", "/root/.ssh/authorized_keys", ROOT_UID),
            ("user.pub", "/home/edge/.ssh/authorized_keys", EDGE_UID),
        ):
            board.put(keys / source, place, uid)
        daemon = ["/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/board_config"]
        with open(keys / "log", "wb") as log:
            process = subprocess.Popen(
                board.command(daemon, ROOT_UID), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            _wait(port, process, keys / "log")
            yield Remote(port=port, keys=keys, process=process)
        finally:
            process.kill()
            process.wait(30)
    finally:
        if own:
            shutil.rmtree(keys)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"sshd does not answer on the board: {log.read_text()[-2000:]}")
