"""A board of the tests: a folder, the agent's own code in child processes, and a host that talks to it."""

from __future__ import annotations

import atexit
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepack.bundle.application import application
from edgepack.resources import RUNTIME
from edgepack.trust.rules import rules
from tests.agent.faults import Fault, install

#: Loaded from there, as on a board; all of it at once, as children come by fork.
AGENT = Path(tempfile.mkdtemp(prefix="edgepack-agent-")) / "edgepack-agent.pyz"
AGENT.write_bytes(application([RUNTIME / "agent", RUNTIME / "python/edgepack_loader.py"]))
atexit.register(shutil.rmtree, AGENT.parent, ignore_errors=True)
sys.path.insert(0, str(AGENT))
# One module of that name for the host's side and the board's, or there are two classes Refusal.
rules()

from edgepack_agent import facts, orders, places, releases, timer  # noqa: E402

_FACTS = facts.read()
#: The board's Python is the tests' own; it does not wait long.
OPTIONS: dict[str, Any] = {"python": sys.executable, "trial_seconds": 60, "probe_seconds": 5}
Message = dict[str, Any]


@dataclass(kw_only=True)
class Ended:
    """How an order ended: what the agent said, and its exit code (negative: the signal that killed it)."""

    messages: list[Message]
    code: int

    @property
    def done(self) -> Message:
        assert self.messages, f"nothing was said; exit code {self.code}"
        assert self.messages[-1]["type"] == "done", self.messages[-1]
        return self.messages[-1]

    @property
    def outcome(self) -> str:
        return str(self.done["outcome"])

    @property
    def kind(self) -> str:
        """The kind of the error it ended with."""
        return str(self.done["error"]["kind"])

    @property
    def states(self) -> list[str]:
        return [m["state"] for m in self.messages if m["type"] == "state"]

    @property
    def sent(self) -> int:
        """Bytes that the agent asked for."""
        return sum(m["bytes"] for m in self.messages if m["type"] == "need")


@dataclass(kw_only=True)
class Child:
    """An order at work in a child process."""

    pid: int
    stdin: int
    stdout: int
    buffer: bytes = b""
    heard: list[Message] = field(default_factory=list)

    def say(self, message: Message | bytes) -> None:
        data = message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):
            while data:
                data = data[os.write(self.stdin, data) :]

    def hear(self) -> Message | None:
        while b"\n" not in self.buffer:
            block = os.read(self.stdout, 1 << 16)
            if not block:
                return None
            self.buffer += block
        line, self.buffer = self.buffer.split(b"\n", 1)
        self.heard.append(json.loads(line))
        return self.heard[-1]

    def hear_all(self) -> Iterator[Message]:
        while (message := self.hear()) is not None:
            yield message

    def hang_up_in(self) -> None:
        """The host says no more, and listens."""
        os.close(self.stdin)
        self.stdin = -1

    def hang_up(self) -> None:
        """The host is gone: both ends close."""
        for descriptor in (self.stdin, self.stdout):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def wait(self) -> int:
        self.hang_up()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@dataclass(kw_only=True)
class Board:
    """The app `digits` below `root`.

    `patches` change the agent's own modules in the child, for what a test machine cannot do: reboot, or know no timer.
    """

    root: Path
    app: str = "digits"
    patches: list[Callable[[], None]] = field(default_factory=list)

    @property
    def places(self) -> places.Places:
        return places.Places(str(self.root), self.app)

    @property
    def folder(self) -> Path:
        return self.root / self.app

    @property
    def log(self) -> Path:
        """The operations of the last order."""
        return self.root.parent / f"{self.root.name}.log"

    def operations(self) -> list[str]:
        return self.log.read_text().splitlines()

    def current(self) -> str | None:
        return releases.linked(self.places.current)

    def previous(self) -> str | None:
        return releases.linked(self.places.previous)

    def state(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.folder / "state.json").read_bytes())
        return data

    def events(self) -> list[str]:
        text = (self.folder / "journal.jsonl").read_text()
        return [json.loads(line)["event"] for line in text.splitlines()]

    def copy(self, root: Path) -> Board:
        """The same board again, elsewhere."""
        shutil.copytree(self.root, root, symlinks=True)
        return Board(root=root, app=self.app, patches=list(self.patches))

    def start(self, *order: str, fault: Fault | None = None) -> Child:
        """An order, begun."""
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.dup2(theirs_in, 0)
                os.dup2(theirs_out, 1)
                os.closerange(3, 256)
                for patch in self.patches:
                    patch()
                if fault is not None:
                    self.log.unlink(missing_ok=True)
                    install(fault, self.root, self.log)
                code = orders.main(["--root", str(self.root), "--app", self.app, *order])
                os._exit(code)
            except SystemExit as end:
                os._exit(end.code if isinstance(end.code, int) else 1)
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(70)
        os.close(theirs_in)
        os.close(theirs_out)
        return Child(pid=pid, stdin=ours_in, stdout=ours_out)

    def order(self, *order: str, fault: Fault | None = None) -> Ended:
        """An order other than flash, done."""
        child = self.start(*order, fault=fault)
        messages = list(child.hear_all())
        return Ended(messages=messages, code=child.wait())

    def flash(self, bundle: Path, *, fault: Fault | None = None, **how: Any) -> Ended:
        """A bundle, flashed by a host that does as it should, but for what `how` says (see `talk`)."""
        return talk(self.start("flash", fault=fault), bundle, **how)

    def answers(self) -> bool:
        """Whether the app would: every file of `current` is right, and its own self-test passes."""
        name = self.current()
        if name is None or not releases.is_whole(self.places, name):
            return False
        loader = self.folder / "current" / "loader" / "edgepack_loader.py"
        done = subprocess.run(
            [sys.executable, "-ISs", str(loader), "self-test"], capture_output=True
        )
        return done.returncode == 0


def begin(bundle: Path, *, trust_file: bytes | None = None, **options: Any) -> Message:
    """The host's first message."""
    signature = bundle / "manifest.sig"
    return {
        "type": "begin",
        "protocol": 1,
        "flash_id": uuid.uuid4().hex,
        "from": "ada@workshop",
        "manifest": _base64((bundle / "manifest.json").read_bytes()),
        "signature": _base64(signature.read_bytes()) if signature.exists() else None,
        "trust": None if trust_file is None else _base64(trust_file),
        "options": {**OPTIONS, **options},
    }


def talk(
    child: Child,
    bundle: Path,
    *,
    trust_file: bytes | None = None,
    message: Message | None = None,
    upload: Callable[[Path, Message], object] | None = None,
    confirm: bool | Callable[[Child], object] = True,
    **options: Any,
) -> Ended:
    """A flash, to its end.

    Args:
        upload: writes one needed file, given the bundle and the need; by default all of it, from its offset on.
        confirm: whether the host confirms; or what it does instead.
        options: of the flash.
    """
    child.say(message or begin(bundle, trust_file=trust_file, **options))
    for said in child.hear_all():
        if said["type"] == "need":
            for need in said["files"]:
                (upload or send)(bundle, need)
            child.say({"type": "uploaded"})
        elif said["type"] == "confirm?":
            if callable(confirm):
                confirm(child)
            elif confirm:
                child.say({"type": "confirm"})
    return Ended(messages=child.heard, code=child.wait())


def send(bundle: Path, need: Message, *, until: int | None = None) -> None:
    """Write a needed file as the host does over SFTP, from its offset to its end or `until`."""
    data = content(bundle, need["sha256"])[need["offset"] : until]
    with open(need["path"], "r+b" if os.path.exists(need["path"]) else "wb") as file:
        file.seek(need["offset"])
        file.write(data)


def content(bundle: Path, sha256: str) -> bytes:
    """The bytes of the bundle's file with that hash."""
    for file in json.loads((bundle / "manifest.json").read_bytes())["files"]:
        if file["sha256"] == sha256:
            return (bundle / file["path"]).read_bytes()
    raise AssertionError(f"the agent asks for {sha256}, which is not in the bundle")


def name_of(bundle: Path) -> str:
    """The name a bundle has as a release."""
    text = (bundle / "manifest.json").read_bytes()
    return places.release_name(json.loads(text)["release"]["seq"], text)


def without_timer() -> None:
    """Recovery is to be seen at work alone."""
    timer.start = lambda *a: None


def swift() -> None:
    """What takes longest and changes nothing is left out: facts of a machine that is no board, latency, a look at the interpreter."""
    from edgepack_agent import latency, preflight

    facts.read = lambda root="/": _FACTS
    latency.measure = lambda *a: {}
    preflight._check_python = lambda python: {}


def rebooted() -> None:
    """The board has started again."""
    from edgepack_agent import clock

    clock.boot_id = lambda: "another boot"


def wait_for(what: Callable[[], bool], seconds: float = 15) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)


def vanish(child: Child) -> None:
    """The agent is killed; for `talk`."""
    os.kill(child.pid, signal.SIGKILL)


def kill(child: Child) -> None:
    os.kill(child.pid, signal.SIGKILL)
    child.wait()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
