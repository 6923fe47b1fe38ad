"""What this board is, what is missing on it, and what to do about that. Nothing is written."""

from __future__ import annotations

import glob
import json
import os
import re
import sys
from typing import Any, Iterator

from edgepack_agent import engine, facts, preflight
from edgepack_agent.facts import Facts, program
from edgepack_agent.run import run
from edgepack_trust import Refusal, as_text, read_file, read_trust

_PYTHON = (3, 8)
#: Less free than this is trouble soon: a release and an engine are some hundred megabytes.
_DISK_BYTES = 512 << 20
#: Units of the system and of a user; both may start the app.
_UNITS = ("/etc/systemd/system", "~/.config/systemd/user")


def examine(root: str, app: str) -> list[dict[str, Any]]:
    """What was looked at: `[{"what", "ok", "found", "wanted", "fix"}]`; `wanted` is empty where a fact is only told, `fix` where all is well.

    Args:
        root: the board's folder for all apps, `app`: one of them; neither need be there.
    """
    board = facts.read()
    return [
        *_about_the_board(board),
        *_about_programs(board),
        *_about_onnxruntime(board),
        *_about_folders(root, os.path.join(root, app)),
        _about_the_clock(board, os.path.join(root, app, "trust.json")),
        *_about_the_release(board, os.path.join(root, app)),
        _about_boot(root, app),
    ]


def _finding(what: str, ok: bool, found: Any, wanted: str = "", fix: str = "") -> dict[str, Any]:
    shown = "unknown" if found is None else str(found)
    return {"what": what, "ok": ok, "found": shown, "wanted": wanted, "fix": "" if ok else fix}


def _about_the_board(board: Facts) -> Iterator[dict[str, Any]]:
    told = ("arch", "model", "board", "sm", "l4t", "jetpack", "power_mode")
    for name in told if board.board else ("arch",):
        yield _finding(name, True, getattr(board, name))
    free, total = board.memory_available, board.memory_total
    if free is not None and total is not None:
        shown = f"{preflight.shown(free)} free of {preflight.shown(total)}"
        fix = "stop what else runs, or add swap: engines are built in memory"
        yield _finding("memory", free >= total // 8, shown, "an eighth of it free", fix)
    if board.board:
        fix = "sudo apt-get install nvidia-tensorrt, of the board's JetPack"
        yield _finding("tensorrt", board.tensorrt is not None, board.tensorrt, "installed", fix)


def _about_programs(board: Facts) -> Iterator[dict[str, Any]]:
    version = ".".join(map(str, sys.version_info[:3]))
    fix = "install a newer Python, and let the agent run in it"
    yield _finding("python", sys.version_info >= _PYTHON, version, "3.8 or newer", fix)
    place = program("openssl")
    said = run([place, "version"], seconds=15) if place else None
    ok = said is not None and said.code == 0
    shown = said.stdout.strip() if said is not None and ok else "none"
    fix = "sudo apt-get install openssl: signatures are verified with it"
    yield _finding("openssl", ok, shown, "installed", fix)
    if board.board:
        place = program("trtexec", engine.TRTEXEC)
        yield _finding("trtexec", True, place or "none: engines are built by onnxruntime alone")


def _about_onnxruntime(board: Facts) -> Iterator[dict[str, Any]]:
    """Of the interpreter that runs this; a flash may name another with `--python`."""
    code = (
        "import json, numpy, onnxruntime\n"
        "found = [numpy.__version__, onnxruntime.__version__, onnxruntime.get_available_providers()]\n"
        "print(json.dumps(found))"
    )
    ran = run(
        [sys.executable, "-B", "-c", code], seconds=120, environment={"ORT_DISABLE_TELEMETRY": "1"}
    )
    try:
        numpy, onnxruntime, providers = json.loads(ran.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        said = (ran.stderr.strip().splitlines() or [f"it ends with {ran.code}"])[-1]
        fix = "install numpy and onnxruntime for it (on a Jetson NVIDIA's onnxruntime-gpu), or name another: --python"
        yield _finding("onnxruntime", False, said, f"in {sys.executable}", fix)
        return
    shown = f"{onnxruntime} with numpy {numpy}: {', '.join(providers)}"
    # What was compiled in; only a session tells what opens. Without it here it cannot open at all.
    ok = board.board is None or preflight.TENSORRT in providers
    fix = "on a Jetson install NVIDIA's onnxruntime-gpu: PyPI's runs on the CPU alone"
    yield _finding("onnxruntime", ok, shown, "" if ok else preflight.TENSORRT, fix)


def _about_folders(root: str, folder: str) -> Iterator[dict[str, Any]]:
    me = os.geteuid()
    place = folder
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    disk = os.statvfs(place)
    writable = not disk.f_flag & os.ST_RDONLY and os.access(place, os.W_OK | os.X_OK)
    fix = "give it to the user that flashes (chown), or give another --root"
    yield _finding("writable", writable, place, f"by user {me}", fix)
    for each in (root, folder):
        if os.path.isdir(each):
            info = os.stat(each)
            ok = info.st_uid == me and not info.st_mode & 0o022
            shown = f"user {info.st_uid}, mode {info.st_mode & 0o777:o}"
            fix = (
                f"sudo chown {me} {each}; chmod go-w {each}: "
                "who can write there can put code in the app's place"
            )
            wanted = f"user {me}, and nobody else writes"
            yield _finding("owner of " + each, ok, shown, wanted, fix)
    free = disk.f_bavail * disk.f_frsize
    fix = "make room: a release is copied before the old one goes"
    yield _finding(
        "disk", free >= _DISK_BYTES, preflight.shown(free), preflight.shown(_DISK_BYTES), fix
    )
    half = glob.glob(os.path.join(glob.escape(folder), "engines", "*", "*.part"))
    if half:
        fix = "the next flash or recovery removes it; if none is under way, run `recover`"
        yield _finding("engines", False, ", ".join(half), "none half built", fix)


def _about_the_clock(board: Facts, trust: str) -> dict[str, Any]:
    """A board without a battery starts in 1970, when no key is valid yet."""
    now = board.clock or 0
    issued = None
    if os.path.exists(trust):
        try:
            issued = read_trust(read_file(trust), trust).issued
        except (Refusal, OSError):
            issued = None
    fix = "set it: sudo timedatectl set-ntp true, or timedatectl set-time"
    wanted = f"after {as_text(issued)}, when {trust} was issued" if issued else ""
    return _finding("clock", now >= (issued or 0), as_text(now), wanted, fix)


def _about_the_release(board: Facts, folder: str) -> Iterator[dict[str, Any]]:
    """Whether `current` still fits: JetPack may have been upgraded beneath it."""
    current = os.path.join(folder, "current")
    if not os.path.lexists(current):
        yield _finding("current", True, "no release is installed")
        return
    name = os.path.basename(os.path.realpath(current))
    try:
        with open(os.path.join(current, "manifest.json"), "rb") as file:
            preflight.check(json.load(file), board, folder, 0)
    except Refusal as refusal:
        yield _finding("current", False, f"{name}: {refusal.cause}", "fits this board", refusal.fix)
    except (OSError, ValueError, KeyError, TypeError) as error:
        fix = "recover, or flash again"
        yield _finding("current", False, f"{name}: {error}", "a release", fix)
    else:
        yield _finding("current", True, name)
        yield from _about_its_engine(board, os.path.join(folder, "reports", name + ".json"))


def _about_its_engine(board: Facts, report: str) -> Iterator[dict[str, Any]]:
    """Whether the engine that was built for `current` is one for what the board has now."""
    try:
        with open(report, "rb") as file:
            data = json.load(file)
        cache = data["golden"]["report"].get("engine_cache") or {}
        keys = [key for key in (data["engine"].get("key"), cache.get("key")) if key]
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return
    for key in keys[:1]:
        names = ("tensorrt", "sm", "l4t")
        then = {name: key.get(name) or None for name in names}
        now = {name: getattr(board, name) for name in names}
        shown = [f"{n} {v[n] or 'unknown'}" for v in (then, now) for n in names]
        fix = "flash the release again: it builds the engine for what is there now"
        yield _finding("its engine", then == now, ", ".join(shown[:3]), ", ".join(shown[3:]), fix)


def _about_boot(root: str, app: str) -> dict[str, Any]:
    """Whether anything recovers this app at boot: without it a power cut during a trial leaves the new release in place until the next flash."""
    units = [
        path
        for folder in _UNITS
        for path in glob.glob(os.path.join(os.path.expanduser(folder), "**", "*"), recursive=True)
        if os.path.isfile(path) and _mentions(path, app)
    ]
    fix = f"install the unit of the bundle's README.md: ExecStartPre=… --app {app} recover"
    shown = ", ".join(sorted(units)) or "no unit runs `recover`"
    return _finding("recovery at boot", bool(units), shown, "a unit that runs `recover`", fix)


def _mentions(path: str, app: str) -> bool:
    """Whether a unit runs `recover` for this app."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(1 << 16).splitlines()
    except OSError:
        return False
    order = re.compile(rf"Exec(Start|StartPre)=.*--app[ =]{re.escape(app)} .*recover\b")
    return any(order.match(line) for line in lines)
