"""Read a YAML file into a pydantic model, with errors that name file, line, key and the nearest legal key."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic
import yaml

from edgepack.errors import TargetError

Key = tuple[str | int, ...]


class YamlFile:
    """A parsed YAML mapping and the line on which each of its keys stands.

    Aliases are refused (an alias bomb grows without bound), duplicate keys too. Only plain YAML types are built.
    """

    def __init__(self, path: Path) -> None:
        """Raises TargetError: the file is missing, not YAML, or not a mapping."""
        self.path = path
        self._lines: dict[Key, int] = {}
        try:
            text = path.read_text(encoding="utf-8")
            if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
                raise TargetError(f"{path}: YAML aliases are not allowed", "write the value out")
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except OSError as error:
            raise TargetError(f"{path}: {error.strerror}", "check the path") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise TargetError(f"{path}: not YAML: {error}", "mend the syntax") from error
        if not isinstance(node, yaml.MappingNode):
            raise TargetError(f"{path}: not a mapping of keys to values", "see targets/*.yaml")
        self.data: dict[str, Any] = self._build(node, ())

    def place(self, key: Key) -> str:
        """`file:line` of a key, or of its nearest ancestor that stands in this file."""
        while key not in self._lines and key:
            key = key[:-1]
        return f"{self.path}:{self._lines[key]}" if key else str(self.path)

    def _build(self, node: yaml.Node, key: Key) -> Any:
        if isinstance(node, yaml.MappingNode):
            result: dict[str, Any] = {}
            for key_node, value_node in node.value:
                name = str(key_node.value)
                line = key_node.start_mark.line + 1
                if name in result:
                    raise TargetError(f"{self.path}:{line}: {name} is there twice", "keep one")
                self._lines[(*key, name)] = line
                result[name] = self._build(value_node, (*key, name))
            return result
        if isinstance(node, yaml.SequenceNode):
            for i, item in enumerate(node.value):
                self._lines[(*key, i)] = item.start_mark.line + 1
            return [self._build(item, (*key, i)) for i, item in enumerate(node.value)]
        constructor = yaml.SafeLoader("")
        try:
            return constructor.construct_object(node, deep=True)
        except yaml.YAMLError as error:
            line = node.start_mark.line + 1
            raise TargetError(f"{self.path}:{line}: {error}", "use a plain value") from error
        finally:
            constructor.dispose()


def explain(
    error: pydantic.ValidationError, file: YamlFile, known: Mapping[str, tuple[str, ...]]
) -> TargetError:
    """The first thing pydantic found wrong, as an error with file, line and remedy.

    Args:
        known: legal keys by the dotted place they stand in (list indexes and free keys as `*`; "" is the top).
    """
    first = first_fault(error)
    key = tuple(part for part in first["loc"] if part != "[key]")
    dotted = ".".join(map(str, key))
    place = file.place(key)
    if first["type"] == "extra_forbidden":
        legal = known.get(_pattern(key[:-1], known), ())
        return unknown_key(place, dotted, str(key[-1]), legal)
    if first["type"] == "missing":
        return TargetError(f"{place}: {dotted} is missing", f"add {dotted}")
    message = first["msg"].removeprefix("Value error, ")
    return TargetError(f"{place}: {dotted} is {first['input']!r}: {message}", f"correct {dotted}")


def first_fault(error: pydantic.ValidationError) -> Any:
    """The fault to show, as pydantic has it: an unknown key before the missing one it was probably meant for."""
    faults = error.errors()
    return next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])


def unknown_key(place: str, dotted: str, name: str, legal: tuple[str, ...]) -> TargetError:
    """An unknown key, with the nearest legal one."""
    near = difflib.get_close_matches(name, legal, n=1)
    fix = f"did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(sorted(legal)) or "none"
    return TargetError(f"{place}: unknown key {dotted}", f"{fix}legal keys here: {listed}")


def _pattern(key: Key, known: Mapping[str, tuple[str, ...]]) -> str:
    for candidate in known:
        parts = candidate.split(".") if candidate else []
        if len(parts) == len(key) and all(
            p in ("*", str(k)) for p, k in zip(parts, key, strict=True)
        ):
            return candidate
    return ""
