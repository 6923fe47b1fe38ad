"""The agents on the board: the one that recovers at boot, and those that no release needs any more."""

from __future__ import annotations

import os
import re

from edgepack_agent import durable, releases
from edgepack_agent.papers import agents_of
from edgepack_agent.places import Places, own_program
from edgepack_trust import Refusal

_NAME = re.compile(r"([0-9a-f]{64})\.pyz")
_CURRENT = "current.pyz"
#: Another host may have put one there and be about to start it.
_FRESH_SECONDS = 3600


def recover_by_this_one(places: Places) -> None:
    """What runs at boot is this agent from now on: it knows the state that it is about to write."""
    mine = own_program()
    if os.path.dirname(mine) == places.agents:
        link = os.path.join(places.agents, _CURRENT)
        if not os.path.islink(link) or os.readlink(link) != os.path.basename(mine):
            durable.point(link, os.path.basename(mine))


def clean(places: Places) -> None:
    """Remove the agents of releases that are on this board no more, of whatever app."""
    stay = {os.path.basename(own_program())}
    link = os.path.join(places.agents, _CURRENT)
    if os.path.islink(link):
        stay.add(os.readlink(link))
    for app in durable.names(places.root):
        theirs = Places(places.root, app)
        for name in releases.names(theirs):
            try:
                stay |= {
                    f"{sha256}.pyz" for sha256 in agents_of(releases.manifest_of(theirs, name))
                }
            except Refusal:
                continue
    # Files are compared with files: the date may be anything.
    newest = os.lstat(places.state).st_mtime
    for name in durable.names(places.agents):
        path = os.path.join(places.agents, name)
        fresh = abs(newest - os.lstat(path).st_mtime) < _FRESH_SECONDS
        if _NAME.fullmatch(name) and name not in stay and not fresh:
            durable.remove(path)
