"""Trust files: which keys count, from when to when, for which apps; which do not any more; the oldest releases that may be installed.

A file is JSON or YAML. Boards take JSON (`as_json`). Keys rotate by overlap: the new key is added, bundles are signed with it, the old
one expires or is revoked. A board replaces its file only by one of a higher version, signed with a key that the old one trusts, which
forgets no revocation and no minimum release (`renewed_trust` in runtime/agent/edgepack_trust.py).
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgepack.errors import TargetError, TrustError, UsageError
from edgepack.trust.envelope import sealed
from edgepack.trust.keys import SigningKey, load_public
from edgepack.trust.rules import checker, refusals, rules
from edgepack.trust.signature import write_whole
from edgepack.yamlfile import YamlFile

_DAY_S = 86400


def load_trust(place: str | Path) -> Any:
    """What a trust file says, as the rules have it.

    Raises:
        TrustError: it is missing, not valid, or of a newer schema.
    """
    with refusals():
        return rules().read_trust(as_json(place), str(place))


def trust_in(public_key: str | Path) -> Any:
    """Trust in one public key (PEM), at all times and for all apps.

    Raises:
        TrustError: it is missing, or no such key.
    """
    return rules().trust_in_key(load_public(Path(public_key)))


def as_json(place: str | Path) -> bytes:
    """A trust file as the JSON that goes to a board; one that is JSON already as it is.

    Raises:
        TrustError: it is missing, or not YAML. Whether it is a valid trust file is not asked.
    """
    path = Path(place)
    if path.suffix not in (".yaml", ".yml"):
        with refusals():
            data: bytes = rules().read_file(str(path), "trust-file", "give a trust file")
            return data
    try:
        data_ = YamlFile(path).data
    except TargetError as error:
        raise TrustError(error.cause, error.fix, kind="trust-file") from error
    return json.dumps(data_, default=_time_text, separators=(",", ":")).encode()


def add_key(
    place: Path,
    public_key: Path,
    *,
    name: str,
    days: int,
    apps: Sequence[str] = (),
    now: float | None = None,
) -> Any:
    """Trust a key from now on for some days; makes the file if it is not there. The new trust.

    Raises:
        TrustError: the file or key is not valid, or the key is there already. UsageError: the file is YAML.
    """
    key = load_public(public_key)
    now = time.time() if now is None else now
    entry = {
        "id": key.id,
        "name": name,
        "public_key": rules().pem_of(key.der).decode(),
        "not_before": rules().as_text(now),
        "not_after": rules().as_text(now + days * _DAY_S),
        **({"apps": list(apps)} if apps else {}),
    }

    def change(data: dict[str, Any]) -> None:
        data["keys"].append(entry)

    return _changed(place, change, now, new=not place.exists())


def revoke(place: Path, key_id: str, *, reason: str, now: float | None = None) -> Any:
    """Trust a key no more, whatever else the file says of it. The new trust.

    Args:
        key_id: its id, or how that begins, if only one key in the file begins so.

    Raises:
        TrustError: the file is not valid. UsageError: no key, or several, begin so; or the file is YAML.
    """
    known = [k for k in load_trust(place).keys if k.startswith(key_id)]
    if len(key_id) == 64:
        known = [key_id]
    if len(known) != 1:
        raise UsageError(
            f"{place}: {len(known)} keys begin with {key_id!r}", "give the whole id (64 hex digits)"
        )

    def change(data: dict[str, Any]) -> None:
        data.setdefault("revoked", []).append({"id": known[0], "reason": reason})

    return _changed(place, change, time.time() if now is None else now)


def require_release(place: Path, app: str, seq: int, *, now: float | None = None) -> Any:
    """Refuse releases of an app that come before `seq` from now on. The new trust.

    Raises:
        TrustError: the file is not valid. UsageError: it asks for a later one already; or the file is YAML.
    """
    least = load_trust(place).min_release_seq.get(app, 0)
    if seq < least:
        raise UsageError(
            f"{place} asks for release {least} of {app} or later", f"give {least} or more"
        )

    def change(data: dict[str, Any]) -> None:
        data.setdefault("min_release_seq", {})[app] = seq

    return _changed(place, change, time.time() if now is None else now)


def sign_trust(place: Path, key: SigningKey) -> bytes:
    """The trust file in an envelope that `key` signed: what a board takes in place of its own.

    Raises:
        TrustError: it is not a valid trust file.
    """
    load_trust(place)
    return sealed(as_json(place), rules().TRUST_PAYLOAD, key)


def renewed(old: Any, data: bytes, place: str) -> tuple[Any, bytes]:
    """The trust that may replace `old`, and its JSON, from what `sign_trust` gave.

    Raises:
        TrustError: it may not.
    """
    with refusals():
        result: tuple[Any, bytes] = rules().renewed_trust(old, data, place, check=checker())
        return result


def describe(trust: Any) -> dict[str, Any]:
    """What a trust file says, as plain data, with the state of each key now."""
    now = time.time()
    return {
        "version": trust.version,
        "issued": rules().as_text(trust.issued),
        "keys": [
            {
                "id": key.id,
                "name": key.name,
                "not_before": rules().as_text(key.not_before),
                "not_after": rules().as_text(key.not_after),
                "apps": sorted(key.apps),
                "state": _state(trust, key, now),
            }
            for key in trust.keys.values()
        ],
        "revoked": [{"id": i, "reason": reason} for i, reason in trust.revoked.items()],
        "min_release_seq": trust.min_release_seq,
    }


def _state(trust: Any, key: Any, now: float) -> str:
    try:
        rules().trusted_key(trust, key.id, "", now)
    except rules().Refusal as refusal:
        return str(refusal.kind).removeprefix("key-")
    return "valid"


def _changed(
    place: Path, change: Callable[[dict[str, Any]], None], now: float, *, new: bool = False
) -> Any:
    if place.suffix in (".yaml", ".yml"):
        raise UsageError(
            f"{place} is YAML, which is yours to edit", "give a .json file, or edit it by hand"
        )
    data: dict[str, Any] = {"schema": rules().TRUST_SCHEMA, "version": 0, "keys": []}
    if not new:
        load_trust(place)
        data = json.loads(place.read_bytes())
    change(data)
    data["version"] += 1
    data["issued"] = rules().as_text(now)
    text = json.dumps(data, indent=2).encode() + b"\n"
    with refusals():
        trust = rules().read_trust(text, str(place))
    write_whole(place, text)
    return trust


def _time_text(value: object) -> str:
    """YAML makes a time of what looks like one."""
    if isinstance(value, datetime.datetime):
        utc = value.astimezone(datetime.timezone.utc) if value.tzinfo else value
        return utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(value)
