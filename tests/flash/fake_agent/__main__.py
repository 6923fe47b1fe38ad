"""Speaks as the agent on a board does, and does nothing but keep what arrives: a bundle's agent for tests of the host's side alone.

`ROOT/<app>/fake.json` tells it what to do: {"outcome", "error", "die_at", "silent_at", "nonsense_at", "seconds": 4, "exit": 3}.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

REPORT = {"median_ms": 1.5}


def say(kind: str, **fields: Any) -> None:
    print(json.dumps({"type": kind, **fields}), flush=True)


class Ear:
    """The host's messages but for `alive`; None at the end, or if nothing comes within `seconds`."""

    def __init__(self) -> None:
        self.rest = b""

    def hear(self, seconds: float = 30) -> dict[str, Any] | None:
        end = time.monotonic() + seconds
        while True:
            while b"\n" not in self.rest:
                ready, _, _ = select.select([0], [], [], max(0, end - time.monotonic()))
                data = os.read(0, 1 << 20) if ready else b""
                if not data:
                    return None
                self.rest += data
            line, _, self.rest = self.rest.partition(b"\n")
            message: dict[str, Any] = json.loads(line)
            if message["type"] != "alive":
                return message


class Fake:
    def __init__(self, root: Path, app: str) -> None:
        self.folder = root / app
        self.folder.mkdir(parents=True, exist_ok=True)
        place = self.folder / "fake.json"
        self.orders: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {}
        self.flash_id = ""
        self.hear = Ear().hear

    def at(self, state: str, detail: str = "") -> None:
        if self.orders.get("die_at") == state and not (self.folder / "died").exists():
            (self.folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.orders.get("silent_at") == state:
            time.sleep(3600)
        if self.orders.get("nonsense_at") == state:
            print("Welcome to \033[31mcam-1\033[0m, last login: yesterday", flush=True)
        say("state", state=state, detail=detail)

    def done(self, outcome: str, release: str, **more: Any) -> None:
        last = {"flash_id": self.flash_id, "outcome": outcome, "release": release}
        kept = {key: more.get(key) for key in ("state", "error")}
        (self.folder / "last.json").write_text(json.dumps({**last, **kept}))
        say("done", **last, **more)

    def flash(self) -> None:
        begin = self.hear()
        assert begin is not None
        self.flash_id = begin["flash_id"]
        text = base64.b64decode(begin["manifest"])
        manifest = json.loads(text)
        release = f"{manifest['release']['seq']}-{hashlib.sha256(text).hexdigest()[:12]}"
        (self.folder / "begin.json").write_text(json.dumps(begin))
        self.at("LOCK")
        self.at("PREFLIGHT")
        if self.orders.get("outcome") == "refused":
            return self.done("refused", release, error=self.orders["error"], state="PREFLIGHT")
        kept = self.folder / "incoming"
        kept.mkdir(exist_ok=True)
        need = []
        for file in manifest["files"]:
            if not (kept / file["sha256"]).exists():
                part = kept / f"{file['sha256']}.part"
                offset = part.stat().st_size if part.exists() else 0
                need.append(
                    {
                        "sha256": file["sha256"],
                        "size": file["size"],
                        "offset": offset,
                        "path": str(part),
                    }
                )
        need = list({n["sha256"]: n for n in need}.values())
        place = self.folder / "offsets.json"
        offsets = json.loads(place.read_text()) if place.exists() else []
        place.write_text(json.dumps([*offsets, [n["offset"] for n in need]]))
        self.at("UPLOAD")
        say("need", files=need, bytes=sum(n["size"] - n["offset"] for n in need), have=0)
        message = self.hear()
        if message is None:
            return self.done("failed", release, state="UPLOAD")
        assert message["type"] == "uploaded", message
        self.at("STAGE")
        for n in need:
            part = Path(n["path"])
            assert hashlib.sha256(part.read_bytes()).hexdigest() == n["sha256"]
            part.rename(kept / n["sha256"])
        self.at("SWITCH")
        trial = {"release": release, "seconds": 60}
        (self.folder / "trial.json").write_text(json.dumps(trial))
        self.at("TRIAL")
        if not begin["options"]["unattended"]:
            say("confirm?", release=release, seconds=self.orders.get("seconds", 60))
            end = time.monotonic() + self.orders.get("seconds", 60)
            message = self.hear(self.orders.get("seconds", 60))
            while (
                message is None
                and time.monotonic() < end
                and not (self.folder / "confirmed").exists()
            ):
                time.sleep(0.05)
            if message is None and not (self.folder / "confirmed").exists():
                (self.folder / "trial.json").unlink()
                error = {
                    "kind": "unconfirmed",
                    "cause": "nobody confirmed it",
                    "fix": "flash again",
                }
                return self.done("rolled-back", release, error=error, state="TRIAL")
        self.at("COMMIT")
        (self.folder / "trial.json").unlink()
        (self.folder / "current.txt").write_text(release)
        self.done("committed", release, report=REPORT)

    def status(self) -> None:
        def read(name: str) -> Any:
            place = self.folder / name
            return json.loads(place.read_text()) if place.exists() else None

        current = self.folder / "current.txt"
        say(
            "done",
            outcome="ok",
            status={
                "app": self.folder.name,
                "current": current.read_text() if current.exists() else None,
                "report": REPORT,
                "previous": None,
                "trial": read("trial.json"),
                "lock": None,
                "last": read("last.json"),
            },
        )


def main() -> int:
    _, root, _, app, order, *rest = sys.argv[1:]
    fake = Fake(Path(root), app)
    if "exit" in fake.orders:
        print("Traceback: it broke", file=sys.stderr)
        return int(fake.orders["exit"])
    if order == "flash":
        fake.flash()
    elif order == "confirm":
        (fake.folder / "confirmed").touch()
        deadline = time.monotonic() + 10
        while (fake.folder / "trial.json").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        say("done", outcome="committed", release=rest[0])
    elif order == "admit":
        (fake.folder / "admitted").write_text(rest[0])
        say("done", outcome="admitted")
    elif order == "status":
        fake.status()
    elif order == "history":
        say("done", outcome="ok", events=[{"time": "2026-01-01T00:00:00Z", "event": "flash"}])
    elif order == "doctor":
        check = {"what": "disk", "ok": False, "found": "1 MB", "wanted": "5 MB", "fix": "free some"}
        say("done", outcome="ok", checks=[check])
    else:
        say("done", outcome="rolled-back", release="1-000000000000")
    return 0


if __name__ == "__main__":
    sys.exit(main())
