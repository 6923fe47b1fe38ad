"""Version ranges as targets' `requires` has them: `>=36.4,<37`. Stands alone: hosts load it, too, to check a profile.

A value is one of three kinds, by its key: a word (`arch: aarch64`, several with `|` between), a range of versions, or a range of sizes
(`memory: ">=4GiB"`). Clauses are joined by commas and must all hold. Versions are compared number by number; missing ones are 0.

Source: PEP 440, "Version specifiers", for the operators (of it: releases of numbers only).
"""

from __future__ import annotations

import re
from typing import Callable

#: Keys whose values are words, and keys whose values are ranges of sizes in bytes. All others are versions.
WORDS = ("arch", "board", "power_mode")
SIZES = ("memory", "disk")

_HOLDS: dict[str, Callable[[int], bool]] = {
    **{">=": lambda c: c >= 0, "<=": lambda c: c <= 0, "==": lambda c: c == 0},
    **{"!=": lambda c: c != 0, ">": lambda c: c > 0, "<": lambda c: c < 0},
}
_CLAUSE = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*(\S.*?)\s*")
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def holds(key: str, wanted: str, found: str) -> bool:
    """Whether what was found for `key` is what is wanted.

    Raises:
        ValueError: `wanted` is not of the form above, or `found` is no version.
    """
    if key in WORDS:
        return found in words(wanted)
    number = size if key in SIZES else version
    return all(
        _HOLDS[operator](_compared(number(found), number(bound)))
        for operator, bound in clauses(wanted)
    )


def check(key: str, wanted: str) -> None:
    """Nothing, if `wanted` is well formed.

    Raises:
        ValueError: it is not; the message says what is.
    """
    if key in WORDS:
        words(wanted)
        return
    for _, bound in clauses(wanted):
        (size if key in SIZES else version)(bound)


def words(wanted: str) -> list[str]:
    """The words of which one is wanted."""
    found = [word.strip() for word in wanted.split("|")]
    if not all(re.fullmatch(r"[\w.+-]+", word) for word in found):
        raise ValueError(f"{wanted!r} is no word, nor several with | between")
    return found


def clauses(wanted: str) -> list[tuple[str, str]]:
    """(operator, bound) of each clause."""
    found = [_CLAUSE.fullmatch(part) for part in wanted.split(",")]
    if not all(found):
        raise ValueError(f"{wanted!r} is no range such as >=36.4,<37")
    return [(match.group(1), match.group(2)) for match in found if match]


def version(text: str) -> tuple[int, ...]:
    """The numbers of a version; what dpkg adds (`1:`, `-1+cuda12.5`) is left out."""
    match = re.fullmatch(r"(?:\d+:)?(\d+(?:\.\d+)*)(?:[-+~].*)?", text)
    if match is None:
        raise ValueError(f"{text!r} is no version such as 36.4.3")
    return tuple(int(number) for number in match.group(1).split("."))


def size(text: str) -> tuple[int, ...]:
    """Bytes, of a text such as `4GiB` or `4294967296`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(|[KMG]iB)", text)
    if match is None:
        raise ValueError(f"{text!r} is no size such as 4GiB")
    return (int(float(match.group(1)) * _UNITS[match.group(2)]),)


def _compared(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    length = max(len(a), len(b))
    left, right = (numbers + (0,) * (length - len(numbers)) for numbers in (a, b))
    return (left > right) - (left < right)
