"""The conversation with the host: one JSON object a line, in on stdin, out on stdout.

The host may fall silent at any time. What is said to nobody is dropped, never an error: whatever was begun on the board goes on.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import time
from typing import Any, NamedTuple

from edgepack_trust import Refusal

PROTOCOL = 1
#: A manifest, its signature and a trust file in base64.
_LINE_BYTES = 192 << 20
_AGAIN = "flash with the edgepack that built the bundle"


class Options(NamedTuple):
    """How to flash; see README.md. Commands are lists of arguments, never lines for a shell."""

    allow_unsigned: bool = False
    unattended: bool = False
    trial_seconds: int = 120
    engine: str = "auto"
    engine_seconds: int = 1800
    restart: Any = None
    probe: Any = None
    probe_seconds: int = 30
    probes: int = 3
    python: Any = None


class Begin(NamedTuple):
    """What a host begins a flash with."""

    flash_id: str
    by: str
    manifest: bytes
    signature: bytes | None
    trust: bytes | None
    options: Options


class Channel:
    """Lines of JSON on two file descriptors."""

    def __init__(self, reader: int = 0, writer: int = 1) -> None:
        self._reader, self._writer = reader, writer
        self._buffer = bytearray()
        self._ended = False

    def say(self, kind: str, **fields: Any) -> None:
        """Send a message, if anybody still listens."""
        data = json.dumps(dict(fields, type=kind)).encode() + b"\n"
        # A host that is gone does not decide the outcome (EPIPE, EIO).
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._writer, data) :]

    def hear(self, seconds: float | None = None) -> dict[str, Any] | None:
        """The next message; None if the host ended the conversation, or, with a limit, said nothing for so long.

        Raises:
            Refusal: of kind `protocol`: it is no message.
        """
        until = None if seconds is None else time.monotonic() + seconds
        while b"\n" not in self._buffer:
            left = None if until is None else max(0.0, until - time.monotonic())
            if self._ended or not self._more(left):
                return None
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise _wrong(f"a line that is no message: {line[:60]!r}")
        return message

    @property
    def ended(self) -> bool:
        """Whether the host said that it will say no more, or is gone."""
        return self._ended

    def _more(self, seconds: float | None) -> bool:
        ready, _, _ = select.select([self._reader], [], [], seconds)
        if not ready:
            return False
        try:
            block = os.read(self._reader, 1 << 20)
        except OSError:
            block = b""
        self._ended = not block
        self._buffer += block
        if len(self._buffer) > _LINE_BYTES:
            raise _wrong(f"a line of more than {_LINE_BYTES} bytes")
        return bool(block)


def read_begin(message: dict[str, Any]) -> Begin:
    """The message `begin`, its fields checked.

    Raises:
        Refusal: of kind `protocol`.
    """
    if message["type"] != "begin":
        raise _wrong(f"{message['type']!r}, where `begin` is due")
    if message.get("protocol") != PROTOCOL:
        raise _wrong(f"protocol {message.get('protocol')!r}; this agent speaks {PROTOCOL}")
    flash_id, by = _text(message, "flash_id"), _text(message, "from")
    manifest = _decoded(message, "manifest")
    if manifest is None:
        raise _wrong("no manifest")
    return Begin(
        flash_id,
        by,
        manifest,
        _decoded(message, "signature"),
        _decoded(message, "trust"),
        read_options(message.get("options", {})),
    )


def read_options(given: Any) -> Options:
    """The options of a flash, with what is not given as it is by default.

    Raises:
        Refusal: of kind `protocol`: an option is unknown, or not of its type.
    """
    if not isinstance(given, dict):
        raise _wrong("options that are no object")
    unknown = sorted(set(given) - set(Options._fields))
    if unknown:
        raise _wrong(f"options that this agent does not know: {', '.join(unknown)}")
    options = Options(**given)
    counts = ("trial_seconds", "engine_seconds", "probe_seconds", "probes")
    for name in Options._fields:
        value = getattr(options, name)
        if name in ("allow_unsigned", "unattended"):
            fine = isinstance(value, bool)
        elif name in counts:
            fine = type(value) is int and 0 < value <= 86400
        elif name == "engine":
            fine = value in ("auto", "trtexec", "onnxruntime", "none")
        elif name == "python":
            fine = value is None or (isinstance(value, str) and value != "")
        else:
            fine = value is None or _is_argv(value)
        if not fine:
            raise _wrong(f"the option {name}: {value!r}")
    return options


def _is_argv(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(a, str) and "\0" not in a for a in value)
        and value[0] != ""
    )


def _text(message: dict[str, Any], name: str) -> str:
    value = message.get(name)
    # It is shown to people, and stands in a command line.
    if isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable():
        return value
    raise _wrong(f"{name}: {value!r}")


def _decoded(message: dict[str, Any], name: str) -> bytes | None:
    value = message.get(name)
    if value is None:
        return None
    try:
        return base64.b64decode(value, validate=True)
    except (ValueError, TypeError):
        raise _wrong(f"{name} that is no base64") from None


def _wrong(what: str) -> Refusal:
    return Refusal("protocol", f"the host sent {what}", _AGAIN)
