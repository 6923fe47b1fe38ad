"""Files that extend one another: what a file says, with what the files above it say, and in which of them a key stands."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from edgepack.errors import TargetError
from edgepack.resources import TARGETS
from edgepack.yamlfile import YamlFile

#: Keys that say what a file is, not what a device needs: they are not inherited.
_NOT_INHERITED = ("extends", "abstract", "name", "title")
#: Where lists with a name stand, which lists may name one, and an example for who wrote it otherwise.
_SETS = (
    ("step_sets", "steps", "[shapes, simplify]"),
    ("variant_sets", "variants", "[{method: entropy}]"),
)


def inherited(file: YamlFile) -> dict[str, Any]:
    """What the file says, with what it `extends` merged in and its sets of steps spread out.

    Mappings are merged key by key; lists and scalars are replaced. Then each `set: NAME` among steps gives way to the steps that
    `step_sets` has under that name, and among variants to what `variant_sets` has, so that a profile may change a set that those it
    extends use.

    Raises:
        TargetError: names file, line and key.
    """
    data = _inherit(file, seen=())
    _spread_sets(data, file)
    return data


def owner(file: YamlFile, key: tuple[str | int, ...]) -> YamlFile:
    """The file in the chain of `extends` in which `key` stands; else `file`."""
    above: YamlFile | None = file
    while above is not None:
        if _holds(above.data, key):
            return above
        parent = above.data.get("extends")
        above = None if parent is None else YamlFile(_parent_path(above, parent))
    return file


def _holds(data: Any, key: tuple[str | int, ...]) -> bool:
    for part in key:
        inside = isinstance(data, dict) and part in data
        inside = inside or (isinstance(data, list) and isinstance(part, int) and part < len(data))
        if not inside:
            return False
        data = data[part]
    return True


def _inherit(file: YamlFile, seen: tuple[Path, ...]) -> dict[str, Any]:
    data = dict(file.data)
    parent = data.get("extends")
    own = {k: v for k, v in data.items() if k not in ("extends", "abstract")}
    if parent is None:
        return own
    path = _parent_path(file, parent)
    if not path.is_file():
        raise TargetError(
            f"{file.place(('extends',))}: extends {parent!r}, which is no profile",
            f"name a file in {file.path.parent} or one of edgepack's own",
        )
    if path in seen:
        raise TargetError(
            f"{file.place(('extends',))}: extends itself through {parent}", "break the circle"
        )
    base = _inherit(YamlFile(path), (*seen, path))
    base = {k: v for k, v in base.items() if k not in _NOT_INHERITED}
    return _merge(base, own)


def _parent_path(file: YamlFile, parent: str) -> Path:
    """The file beside `file`, else edgepack's own; a profile may extend the shipped one of its own name."""
    beside, shipped = file.path.parent / f"{parent}.yaml", TARGETS / f"{parent}.yaml"
    itself = beside == file.path and shipped.is_file() and not shipped.samefile(beside)
    return shipped if itself or not beside.is_file() else beside


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = _merge(result[key], value)
        else:
            result[key] = value
    return result


def _spread_sets(data: dict[str, Any], file: YamlFile) -> None:
    """Put the items of `step_sets` where `steps` name one, and those of `variant_sets` where `variants` do."""
    precisions = data.get("precisions")
    specs = precisions.items() if isinstance(precisions, dict) else ()
    holders = [((), data), *((("precisions", name), spec) for name, spec in specs)]
    for sets_key, list_key, example in _SETS:
        sets = data.pop(sets_key, {})
        if not isinstance(sets, dict) or not all(isinstance(v, list) for v in sets.values()):
            raise TargetError(
                f"{owner(file, (sets_key,)).place((sets_key,))}: {sets_key} must be lists of {list_key} by name",
                f"write it as `{sets_key}: {{mine: {example}}}`",
            )
        for key, holder in holders:
            if isinstance(holder, dict) and isinstance(holder.get(list_key), list):
                place = owner(file, (*key, list_key)).place((*key, list_key))
                spread = [_spread(item, sets_key, sets, place) for item in holder[list_key]]
                holder[list_key] = [item for items in spread for item in items]


def _spread(item: Any, key: str, sets: dict[str, list[Any]], place: str) -> list[Any]:
    if not (isinstance(item, dict) and list(item) == ["set"]):
        return [item]
    name = item["set"]
    if name not in sets:
        near = difflib.get_close_matches(str(name), list(sets), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise TargetError(
            f"{place}: {key} has no {name!r}", f"{hint}sets: {', '.join(sets) or 'none'}"
        )
    return sets[name]
