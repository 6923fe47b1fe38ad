"""How fast a flash uploads, beside scp of the same bytes to the same sshd over loopback, in turns: `python -m tests.benchmarks.flash_throughput`.

To an sshd of this machine (openssh-server must be installed) and to the emulated arm64 board. The upload is the one of `edgepack flash`, with its
fsync at the end, which scp does not do; both begin with a connection that is open no longer than the copy. `--sweep` measures sizes of writes, bytes
under way and ciphers.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pwd
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgepack.flash import link as links
from edgepack.flash import upload
from edgepack.flash.host import Host, parse_host
from edgepack.flash.link import connected
from edgepack.flash.upload import send
from tests.device.board.board import Board
from tests.device.board.ssh import sshd

_CONFIG = """Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/board
AuthorizedKeysFile {folder}/user.pub
PasswordAuthentication no
UsePAM no
StrictModes no
Subsystem sftp /usr/lib/openssh/sftp-server
"""


@dataclass(frozen=True, kw_only=True)
class Server:
    """An sshd, and how it is reached."""

    name: str
    user: str
    port: int
    keys: Path
    place: str

    def host(self) -> Host:
        host = parse_host(f"{self.user}@127.0.0.1:{self.port}")
        return Host(**{**vars(host), "identity": self.keys / "user"})


@contextmanager
def native(folder: Path) -> Iterator[Server]:
    """This machine's sshd."""
    for name in ("board", "user"):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(argv, check=True)
    port = _free_port()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'board.pub').read_text()}")
    (folder / "config").write_text(_CONFIG.format(port=port, folder=folder))
    Path("/run/sshd").mkdir(exist_ok=True)
    daemon = subprocess.Popen(
        ["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "config")], stderr=subprocess.DEVNULL
    )
    try:
        time.sleep(1)
        user = pwd.getpwuid(os.getuid()).pw_name
        yield Server(
            name="this machine's sshd", user=user, port=port, keys=folder, place=str(folder / "out")
        )
    finally:
        daemon.terminate()
        daemon.wait()


def scp(server: Server, source: Path) -> float:
    """Seconds that scp takes."""
    options = ["-F", "none", "-q", "-i", str(server.keys / "user"), "-P", str(server.port)]
    options += ["-o", f"UserKnownHostsFile={server.keys / 'known_hosts'}"]
    began = time.monotonic()
    target = f"{server.user}@127.0.0.1:{server.place}"
    subprocess.run(["scp", *options, str(source), target], check=True)
    return time.monotonic() - began


def flash(server: Server, source: Path) -> float:
    """Seconds that the upload of a flash takes, its connection included."""

    async def copy() -> None:
        async with connected(server.host()) as link:
            await send(link, source, server.place, 0, lambda count: None)

    began = time.monotonic()
    asyncio.run(copy())
    return time.monotonic() - began


def compare(server: Server, source: Path, rounds: int) -> None:
    """One line: the medians of both, and of the ratio of neighbours."""
    pairs = []
    for number in range(rounds + 1):
        first, second = (scp, flash) if number % 2 else (flash, scp)
        one, other = first(server, source), second(server, source)
        if number:  # the first round warms up
            pairs.append((one, other) if first is flash else (other, one))
    megabytes = source.stat().st_size / 1e6
    ours, theirs = (megabytes / statistics.median(x) for x in zip(*pairs, strict=True))
    ratios = sorted(them / us for us, them in pairs)
    print(
        f"{server.name}: {megabytes:.0f} MB, flash {ours:.0f} MB/s, scp {theirs:.0f} MB/s; "
        f"flash / scp {statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f}), {rounds} rounds",
        flush=True,
    )


def settings(server: Server, source: Path, rounds: int) -> None:
    """What sizes of writes, bytes under way, and ciphers make of it."""
    chosen = (upload._BLOCK, upload._UNDER_WAY, links._CIPHERS)
    ways = [
        (f"{b >> 10} KB writes, {u >> 20} MB under way", b, u, chosen[2])
        for b in (32 << 10, 255 << 10)
        for u in (1 << 20, 2 << 20, 4 << 20)
    ]
    ways += [(c, chosen[0], chosen[1], (c,)) for c in chosen[2][:4]]
    times: dict[str, list[float]] = {name: [] for name, *_ in ways}
    try:
        for _ in range(rounds):
            for name, upload._BLOCK, upload._UNDER_WAY, links._CIPHERS in ways:
                times[name].append(flash(server, source))
    finally:
        upload._BLOCK, upload._UNDER_WAY, links._CIPHERS = chosen
    megabytes = source.stat().st_size / 1e6
    for name, seconds in times.items():
        print(f"  {name}: {megabytes / statistics.median(seconds):.0f} MB/s", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--megabytes", type=int, default=128)
    parser.add_argument("--sweep", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="throughput.") as name:
        folder = Path(name)
        (folder / "home/.ssh").mkdir(parents=True)
        os.environ["HOME"] = str(folder / "home")
        source = folder / "source"
        source.write_bytes(os.urandom(given.megabytes * 1_000_000))
        if shutil.which("/usr/sbin/sshd"):
            (folder / "native").mkdir()
            with native(folder / "native") as server:
                shutil.copy(server.keys / "known_hosts", folder / "home/.ssh/known_hosts")
                compare(server, source, given.rounds)
                if given.sweep:
                    settings(server, source, given.rounds)
        else:
            print("this machine has no sshd: apt-get install openssh-server")
        os.truncate(source, given.megabytes * 1_000_000 // 4)
        with Board.fresh() as board, sshd(board) as remote:
            shutil.copy(remote.keys / "known_hosts", folder / "home/.ssh/known_hosts")
            server = Server(
                **{"name": "the emulated arm64 board", "user": "edge", "port": remote.port},
                keys=remote.keys,
                place="/home/edge/out",
            )
            compare(server, source, given.rounds)
            if given.sweep:
                settings(server, source, given.rounds)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
