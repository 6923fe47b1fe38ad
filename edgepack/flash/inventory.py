"""The boards of a fleet in a YAML file: hosts, what they share, and groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from edgepack.errors import FlashError, TargetError, UsageError
from edgepack.flash.host import (
    ROOT,
    Host,
    parse_host,
    require_address,
    require_fingerprint,
    require_root,
    require_user,
    twice,
)
from edgepack.names import NAME
from edgepack.yamlfile import YamlFile, explain

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)
_T = TypeVar("_T")


def _held(rule: Callable[[str], str]) -> AfterValidator:
    def check(text: str) -> str:
        try:
            return rule(text)
        except UsageError as error:
            raise ValueError(f"{error.cause}; {error.fix}") from error

    return AfterValidator(check)


Name = Annotated[str, StringConstraints(pattern=NAME)]


class _Way(BaseModel):
    """What hosts may share."""

    model_config = _STRICT
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    user: Annotated[str, _held(require_user)] | None = None
    identity: str | None = None
    root: Annotated[str, _held(require_root)] | None = None


class _Entry(_Way):
    """One host; its address is its name if it has none."""

    address: Annotated[str, _held(require_address)] | None = None
    fingerprint: Annotated[str, _held(require_fingerprint)] | None = None


class _File(BaseModel):
    model_config = _STRICT
    defaults: _Way = _Way()
    hosts: dict[Name, _Entry | None] = Field(min_length=1)
    groups: dict[Name, list[str]] = Field(default_factory=dict)


_KNOWN = {
    "": tuple(_File.model_fields),
    "defaults": tuple(_Way.model_fields),
    "hosts.*": tuple(_Entry.model_fields),
}


class Inventory:
    """A fleet: hosts by name, and groups of them."""

    def __init__(self, hosts: dict[str, Host], groups: dict[str, tuple[str, ...]]) -> None:
        self.hosts, self.groups = hosts, groups

    def pick(self, groups: Sequence[str], hosts: Sequence[str]) -> list[Host]:
        """The hosts in `groups`, and those named (or written out as user@host:port); all of them if both are empty. None twice.

        Raises:
            UsageError: no such group.
        """
        for group in groups:
            if group not in self.groups:
                listed = ", ".join(sorted(self.groups)) or "none"
                raise UsageError(f"there is no group {group!r}", f"groups are: {listed}")
        if not groups and not hosts:
            return list(self.hosts.values())
        names = [name for group in groups for name in self.groups[group]]
        picked = [self.hosts[name] for name in names]
        picked += [self.hosts[text] if text in self.hosts else parse_host(text) for text in hosts]
        return list({host.name: host for host in picked}.values())


def load_inventory(path: Path) -> Inventory:
    """The fleet in a YAML file.

    Raises:
        FlashError (kind `inventory`): it is missing, not YAML, has an unknown key or a faulty value; named with file, line, key, and
            the nearest legal key. Two hosts with one address, or a group of a host that is not there.
    """
    try:
        file = YamlFile(path)
        try:
            data = _File.model_validate(file.data)
        except pydantic.ValidationError as error:
            raise explain(error, file, _KNOWN) from error
    except TargetError as error:
        raise FlashError(error.cause, error.fix, kind="inventory") from error
    hosts = {
        name: _host(name, entry or _Entry(), data.defaults, path.parent)
        for name, entry in data.hosts.items()
    }
    _require_apart(hosts, file)
    for group, members in data.groups.items():
        for i, member in enumerate(members):
            if member not in hosts:
                raise FlashError(
                    f"{file.place(('groups', group, i))}: group {group} has {member!r}, which is no host here",
                    f"hosts are: {', '.join(hosts)}",
                    kind="inventory",
                )
    return Inventory(hosts, {group: tuple(members) for group, members in data.groups.items()})


def _host(name: str, entry: _Entry, defaults: _Way, folder: Path) -> Host:
    identity = _first(entry.identity, defaults.identity)
    return Host(
        name=name,
        address=entry.address or name,
        port=_first(entry.port, defaults.port),
        user=_first(entry.user, defaults.user),
        identity=folder / Path(identity).expanduser() if identity else None,
        root=_first(entry.root, defaults.root) or ROOT,
        fingerprint=entry.fingerprint,
    )


def _first(own: _T | None, shared: _T | None) -> _T | None:
    return own if own is not None else shared


def _require_apart(hosts: dict[str, Host], file: YamlFile) -> None:
    if pair := twice(hosts.values()):
        one, other = pair
        raise FlashError(
            f"{file.place(('hosts', other.name))}: {other.name} is at {other.address}:{other.port or 22}, and so is {one.name}",
            "keep one of them: a board is flashed once at a time",
            kind="inventory",
        )
