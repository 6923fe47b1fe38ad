"""A flash, state by state; README.md has the table."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Callable

from edgepack_agent import (
    agents,
    clock,
    conversation,
    durable,
    engine,
    facts,
    incoming,
    latency,
    lock,
    papers,
    preflight,
    probe,
    recovery,
    releases,
    state,
    timer,
    trial,
)
from edgepack_agent.conversation import Begin, Channel
from edgepack_agent.journal import Journal
from edgepack_agent.places import Places
from edgepack_agent.recovery import Result
from edgepack_trust import Refusal

#: How often what arrived may be wrong or incomplete.
_UPLOADS = 5
#: How long to wait for whoever settles the trial in this process's place.
_SETTLE_SECONDS = 120
_LOOK_SECONDS = 0.2
#: A host that is there says so more often.
_SILENCE_SECONDS = 30.0


class Flash:
    """One flash. `run` goes through the states in the order in which they stand here."""

    def __init__(self, places: Places, channel: Channel, begin: Begin) -> None:
        self._places, self._channel, self._begin = places, channel, begin
        self._options = begin.options._asdict()
        self._journal = Journal(places, begin.flash_id, begin.by)
        self._report: dict[str, Any] = {}
        self._state = ""

    def run(self) -> dict[str, Any]:
        """The last message: outcome, release, and the error if there is one."""
        try:
            with lock.held(self._places, f"a flash from {self._begin.by}"):
                result = self._locked()
            if result.outcome == "trial":
                result = self._confirmed(result)
        # Also what nobody foresaw has an outcome, which is told.
        except Exception as error:
            result = self._cut_short(durable.as_refusal(error))
        done: dict[str, Any] = {"outcome": result.outcome, "release": result.release}
        if result.error is not None:
            done.update(error=as_fields(result.error), state=self._state)
        return dict(done, report=self._report)

    def _locked(self) -> Result:
        self._enter("LOCK")
        found = recovery.recover(self._places, self._journal)
        if found.outcome == "trial":
            raise Refusal(
                "trial",
                f"{found.release} is in trial on this board",
                "confirm it, roll it back, or wait until its trial is over",
            )
        self._enter("PREFLIGHT")
        paper, planned = self._preflight()
        before = state.read(self._places) or state.State()
        unchanged = paper.name == before.committed and found.outcome != "stuck"
        self._enter("BUILD" if unchanged else "UPLOAD")
        self._first_write(paper)
        if unchanged:
            releases.sign_anew(self._places, paper)
        else:
            self._upload(planned)
            self._enter("STAGE", paper.name)
            releases.stage(self._places, paper, planned.sources)
            incoming.clear(self._places)
            self._enter("BUILD", paper.name)
        self._build(paper)
        self._enter("PROBE", paper.name)
        self._probe(paper)
        if unchanged:
            self._journal.ended("unchanged", paper.name)
            return Result("unchanged", paper.name)
        try:
            return self._switched(before, paper)
        # Whatever it is, the board must not stay between two releases.
        except Exception as error:
            return self._gone_back(paper.name, error)

    def _switched(self, before: state.State, paper: papers.Papers) -> Result:
        begin, places = self._begin, self._places
        self._enter("ARM", paper.name)
        attempt = trial.armed(paper.name, begin.flash_id, begin.by, self._options)
        agents.recover_by_this_one(places)
        trial.arm(places, before, attempt)
        timer.start(places, begin.flash_id)
        self._enter("SWITCH", paper.name)
        releases.point(places.current, paper.name)
        self._enter("TRIAL", paper.name)
        self._prove(paper.name)
        proven = before._replace(trial=attempt)
        if begin.options.unattended:
            self._enter("COMMIT", paper.name)
            return recovery.committed(places, proven, self._journal)
        trial.wait(places, proven)
        return Result("trial", paper.name)

    # Each state's work

    def _preflight(self) -> tuple[papers.Papers, incoming.Plan]:
        known = state.read(self._places) or state.State()
        paper = papers.examine(self._places, self._begin, known)
        planned = incoming.plan(self._places, paper)
        self._board = facts.read()
        self._report["board"] = self._board.as_json()
        self._report["preflight"] = preflight.check(
            paper.manifest,
            self._board,
            self._places.folder,
            planned.bytes_to_write(paper, self._places),
            python=self._begin.options.python or sys.executable,
        )
        return paper, planned

    def _first_write(self, paper: papers.Papers) -> None:
        """All that may be asked was asked: from here on the disk is written to."""
        by = {"signed_by": paper.signed_by} if paper.signed_by else {"unsigned": True}
        self._journal.add("flash", release=paper.name, **by)
        if paper.trust is not None:
            durable.write(self._places.trust, paper.trust)
            self._journal.add("trust-file", version=json.loads(paper.trust)["version"])

    def _upload(self, planned: incoming.Plan) -> None:
        have = sum(os.path.getsize(path) for path in planned.sources.values())
        files = incoming.prepare(self._places, planned)
        for _ in range(_UPLOADS):
            left = sum(file["size"] - file["offset"] for file in files)
            self._channel.say("need", files=files, bytes=left, have=have)
            self._wait_for_upload()
            files = incoming.take(self._places, planned)
            if not planned.missing:
                return
        raise Refusal(
            "upload",
            f"{len(files)} files did not arrive as they should, first {files[0]['sha256']}",
            "look at the connection and at what lies between, then flash again",
        )

    def _wait_for_upload(self) -> None:
        while True:
            message = self._channel.hear(_SILENCE_SECONDS)
            if message is None:
                raise Refusal("connection", "the host went away before all was sent", "flash again")
            if message["type"] == "uploaded":
                return
            if message["type"] != "alive":
                raise Refusal("protocol", f"the host said {message['type']!r}", "flash again")

    def _build(self, paper: papers.Papers) -> None:
        self._report["engine"] = engine.build(
            self._places.release(paper.name),
            self._places.engines,
            paper.manifest,
            self._board,
            self._options,
            self._progress("BUILD"),
        )

    def _probe(self, paper: papers.Papers) -> None:
        release, engines = self._places.release(paper.name), self._places.engines
        self._report["golden"] = probe.golden(release, engines, self._options)
        self._report["latency"] = latency.measure(release, engines, self._options)
        durable.make_folder(self._places.reports)
        text = json.dumps(dict(self._report, time=clock.as_text()), sort_keys=True)
        durable.write(self._places.report(paper.name), text.encode() + b"\n")

    def _prove(self, name: str) -> None:
        """The app, restarted, answers; without a probe of its own, the release does, as `current`."""
        probe.restart(self._options)
        if self._begin.options.probe is None:
            places, limit = self._places, trial.OWN_PROBES_SECONDS / 2
            probe.golden(places.current, places.engines, self._options, limit)
        self._report["probes"] = probe.probes(self._options)

    def _confirmed(self, waiting: Result) -> Result:
        """The end of a trial that is the host's to confirm; without the lock, so that a new connection can confirm it too."""
        places, name = self._places, str(waiting.release)
        own = (state.read(places) or state.State()).trial
        seconds = int(own.deadline - clock.since_boot()) if own else 0
        self._channel.say("confirm?", release=name, seconds=seconds)
        while own is not None and trial.is_live(own):
            message = self._channel.hear(_LOOK_SECONDS)
            if message is not None and message["type"] == "confirm":
                self._state = "COMMIT"
                with lock.held(places, "a confirmation", wait_seconds=_SETTLE_SECONDS):
                    # Or the timer was there first.
                    if self._is_in_trial(own):
                        return recovery.confirm(places, name, self._journal)
            if self._channel.ended:
                time.sleep(_LOOK_SECONDS)
            if not self._is_in_trial(own):
                break
        with lock.held(places, "the end of a trial", wait_seconds=_SETTLE_SECONDS):
            recovery.recover(places, self._journal)
        return self._settled(name)

    def _is_in_trial(self, own: state.Trial) -> bool:
        now = (state.read(self._places) or state.State()).trial
        return now is not None and now.flash_id == own.flash_id

    def _settled(self, name: str) -> Result:
        known = state.read(self._places) or state.State()
        if known.committed == name:
            return Result("committed", name)
        if known.stuck is not None:
            return Result("stuck", known.committed, Refusal("stuck", known.stuck, "flash again"))
        why = Refusal("unconfirmed", f"nobody confirmed {name} in time", "look at it, flash again")
        return Result("rolled-back", known.committed, why)

    # What goes wrong

    def _cut_short(self, why: Refusal) -> Result:
        current = releases.linked(self._places.current)
        if self._state in ("", "LOCK", "PREFLIGHT"):
            return Result("refused", current, why)
        fields = as_fields(why)
        if self._state not in ("TRIAL", "COMMIT"):
            self._journal.ended("failed", current, state=self._state, error=fields)
            return Result("failed", current, why)
        self._journal.note("failed", state=self._state, error=fields)
        fix = "the timer, the next boot and the next flash see to it; look at the board's disk"
        return Result("stuck", current, Refusal(why.kind, why.cause, fix))

    def _gone_back(self, release: str, error: Exception) -> Result:
        why = durable.as_refusal(error)
        self._journal.note("failed", state=self._state, error=as_fields(why))
        result = recovery.give_up(self._places, self._journal, release, why)
        if result.outcome != "committed" and result.error is not None:
            fields = as_fields(result.error)
            self._journal.ended(result.outcome, result.release, state=self._state, error=fields)
        return result

    def _enter(self, name: str, release: str | None = None) -> None:
        self._state = name
        self._channel.say("state", state=name, detail=_DETAILS[name])
        if release is not None:
            self._journal.add("state", state=name, release=release)

    def _progress(self, name: str) -> Callable[[str], None]:
        return lambda detail: self._channel.say("progress", state=name, detail=detail)


_DETAILS = {
    "LOCK": "put right what an earlier run left",
    "PREFLIGHT": "signature, app, release, board, disk",
    "UPLOAD": "what no release on the board has",
    "STAGE": "put the release together and verify it",
    "BUILD": "the engine, where there is one to build",
    "PROBE": "golden inputs through the release's own loader",
    "ARM": "lay the way back, start the timer",
    "SWITCH": "current leads to the new release",
    "TRIAL": "restart, probe, wait for the host",
    "COMMIT": "keep it",
}


def as_fields(refusal: Refusal) -> dict[str, str]:
    """A refusal as it is told to the host."""
    return {"kind": refusal.kind, "cause": refusal.cause, "fix": refusal.fix}


def flash(places: Places, channel: Channel) -> dict[str, Any]:
    """The last message of a flash: the host begins it on the channel."""
    message = channel.hear()
    if message is None:
        raise Refusal("protocol", "the host said nothing", "flash again")
    return Flash(places, channel, conversation.read_begin(message)).run()
