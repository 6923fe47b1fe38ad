"""Does the release answer on this board? Its own loader says so, then the user's own probe."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Callable

from edgepack_agent.preflight import LOADER
from edgepack_agent.run import Ran, run
from edgepack_trust import Refusal

#: A loader's answer is JSON with a line for every output of every golden case.
_ANSWER_BYTES = 16 << 20
_ENGINE_SECONDS, _PROBE_SECONDS, _PROBES, _RESTART_SECONDS = 1800, 30, 3, 90


def golden(
    release: str, engines: str, options: dict[str, Any], limit: float | None = None
) -> dict[str, Any]:
    """What the release's own loader says of its golden cases: `{"passed": True, "cases", "report", "seconds"}`.

    It may take `limit` seconds; without one `engine_seconds`, as the first run may build an engine.

    Raises:
        Refusal: kind `probe`: an answer is off, or the model did not open; which, by how much, and what to do.
    """
    begin = time.monotonic()
    if limit is not None:
        options = {**options, "engine_seconds": limit}
    outcome = loader(release, ["self-test", "--cache-dir", engines], options)
    if not outcome.get("passed"):
        missed = [case for case in outcome.get("cases", []) if not case["passed"]]
        raise Refusal("probe", _missed(release, missed), _MISSED)
    return {**outcome, "seconds": round(time.monotonic() - begin, 3)}


def loader(
    release: str,
    arguments: list[str],
    options: dict[str, Any],
    kind: str = "probe",
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """The JSON that the release's loader answers, in a process of its own; `arguments` begin with its command.

    Raises:
        Refusal: of that kind: it does not run, does not end in `engine_seconds`, or answers with an error.
    """
    python = options.get("python") or sys.executable
    command, *rest = arguments
    # -B: a release's folder holds what its manifest lists, and no compiled files.
    argv = [python, "-B", os.path.join(release, LOADER), command, release, *rest]
    seconds = float(options.get("engine_seconds") or _ENGINE_SECONDS)

    def waiting(passed: float) -> None:
        if progress is not None:
            progress(f"the loader has been busy for {passed:.0f} s of at most {seconds:.0f} s")

    ran = run(argv, seconds=seconds, keep=_ANSWER_BYTES, waiting=waiting)
    if ran.timed_out:
        why = f"the release's loader was still busy with `{command}` after {seconds:.0f} s"
        raise Refusal(kind, why, f"run it by hand: {_by_hand(argv)}; or give it longer")
    outcome = _json_object(ran.stdout)
    if outcome is None:
        why = f"the release's loader {ended(ran.code)} without an answer: {last_line(ran)}"
        raise Refusal(kind, why, "run it by hand: " + _by_hand(argv))
    if "error" in outcome:
        error = outcome["error"]
        why = f"the release's loader: {error['kind']}: {error['message']}"
        fix = 'see "Read a failure" in the bundle\'s README.md'
        raise Refusal(kind, why, _FIX.get(error["kind"], fix))
    return outcome


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


_MISSED = (
    "`report` of the loader says what runs the model: compare with --providers CPUExecutionProvider, "
    'and see "Read a failure" in the bundle\'s README.md'
)
_FIX = {
    "runtime-too-old": "install a newer onnxruntime for this Python, or name one that has it: --python",
    "provider-unavailable": "install an onnxruntime for this Python (on a Jetson NVIDIA's onnxruntime-gpu), or name one: --python",
    "file-missing": "flash the bundle again: a file of it changed after it was staged",
    "file-corrupt": "flash the bundle again: a file of it changed after it was staged",
}


def _missed(release: str, cases: list[dict[str, Any]]) -> str:
    name = os.path.basename(release)
    if not cases:
        return f"{name} has no golden cases: nothing proves that it answers right"
    worst = cases[0]
    off = worst.get("why") or "not finite"
    if worst["max_abs"] is not None:
        bound = f"{worst['atol']:.3g} + {worst['rtol']:.3g}·|b|"
        off = f"max |a−b| {worst['max_abs']:.3g}, allowed {bound}"
    more = f" (and {len(cases) - 1} more)" if len(cases) > 1 else ""
    where = f"golden case {worst['case']}, output {worst['output']} against {worst['from']}"
    return f"{name} answers otherwise on this board: {where}: {off}{more}"


def probes(options: dict[str, Any]) -> list[dict[str, Any]]:
    """What the user's own probe said, run by run: `[{"code", "seconds", "tried"}]`; none, if there is none.

    An app takes a moment to start: until the probe has succeeded once, it is tried again for `probe_seconds`. From then on it must
    succeed every time, `probes` times in all; each may take `probe_seconds`.

    Raises:
        Refusal: kind `probe`: it failed, or hung; with the last line that it printed.
    """
    argv = options.get("probe")
    if not argv:
        return []
    limit = float(options.get("probe_seconds") or _PROBE_SECONDS)
    done = [_until_it_answers(argv, limit)]
    for _ in range(int(options.get("probes") or _PROBES) - 1):
        time.sleep(min(1.0, limit / 10))
        begin = time.monotonic()
        ran = run(argv, seconds=limit)
        if ran.timed_out or ran.code:
            raise _probe_refusal(argv, ran, limit, f"it had answered {len(done)} times")
        done.append({"code": 0, "seconds": round(time.monotonic() - begin, 3), "tried": 1})
    return done


def _until_it_answers(argv: list[str], limit: float) -> dict[str, Any]:
    begin, tried = time.monotonic(), 0
    while True:
        left = limit - (time.monotonic() - begin)
        ran = run(argv, seconds=max(left, 0.1))
        tried += 1
        passed = time.monotonic() - begin
        if not ran.timed_out and ran.code == 0:
            return {"code": 0, "seconds": round(passed, 3), "tried": tried}
        pause = min(1.0, limit / 10)
        if ran.timed_out or passed + pause >= limit:
            raise _probe_refusal(argv, ran, limit, f"tried {tried} times")
        time.sleep(pause)


def _probe_refusal(argv: list[str], ran: Ran, limit: float, when: str) -> Refusal:
    name = " ".join(argv)
    if ran.timed_out:
        why = f"the probe `{name}` did not end within {limit:.0f} s ({when})"
        return Refusal("probe", why, "see why the app does not answer, or give --probe-seconds")
    why = f"the probe `{name}` {ended(ran.code)} ({when}): {last_line(ran)}"
    return Refusal("probe", why, "run it on the board to see more; the app's own log tells why")


def restart(options: dict[str, Any]) -> dict[str, Any]:
    """How the app was restarted: `{"restarted", "seconds"}`; not at all, where no command was given.

    The command is a service manager's: what it leaves running in its own process group is killed.

    Raises:
        Refusal: kind `restart`.
    """
    argv = options.get("restart")
    if not argv:
        return {"restarted": False, "because": "no command was given (--restart)"}
    begin = time.monotonic()
    ran = run(argv, seconds=_RESTART_SECONDS)
    name = " ".join(argv)
    if ran.timed_out:
        why = f"`{name}` did not end within {_RESTART_SECONDS} s"
        raise Refusal(
            "restart", why, "a unit that takes longer to start wants Type=notify or simple"
        )
    if ran.code:
        why = f"`{name}` {ended(ran.code)}: {last_line(ran)}"
        raise Refusal(
            "restart", why, "run it on the board as this user; systemctl may want polkit or sudo -n"
        )
    return {"restarted": True, "seconds": round(time.monotonic() - begin, 3)}


def ended(code: int) -> str:
    """How a program ended, for people."""
    return f"was ended by signal {-code}" if code < 0 else f"ended with {code}"


def last_line(ran: Ran) -> str:
    """The last line that a program printed, stderr first."""
    lines = (ran.stderr.strip() or ran.stdout.strip() or "it printed nothing").splitlines()
    return lines[-1].strip()[:500]


def _by_hand(argv: list[str]) -> str:
    return " ".join(argv)
