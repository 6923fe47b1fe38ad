"""The zoo's list, read and checked: tests/zoo/models.yaml → Entry.

An entry comes from one of three places: a file in a PyPI wheel (`package`, `path`, `sha256`), a Keras model that a dotted name
makes (`keras`, `arguments`), or a function that writes a model file (`writer`, `arguments`).
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

LIST = Path(__file__).with_name("models.yaml")
FORMATS = ("keras", "keras-hdf5", "savedmodel", "graphdef", "checkpoint", "tflite", "onnx")
TFLITE_KINDS = ("float", "fp16", "dynamic", "int8")
#: The bar: |a − b| ≤ atol + rtol·|b|.
ATOL, RTOL = 1e-4, 1e-3


@dataclass(frozen=True, kw_only=True)
class Package:
    """A wheel on PyPI that holds models.

    Attributes:
        requirement: `name==version`.
        license: as the wheel's metadata name it.
        platform, python: pip's tags, for wheels that are built for one.
    """

    requirement: str
    license: str
    platform: str | None = None
    python: str | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One model of the zoo.

    Attributes:
        family: what it stands for; a heading of the list.
        path: inside the wheel; `a.zip!/b` is a member of an archive in it. A checkpoint's path is its `.meta` file.
        sha256: of the file; of a folder see `folder_digest`.
        keras: dotted name of what makes a Keras model; it is saved in `format`.
        libraries: wheels that `keras` imports and the project does not have.
        writer: dotted name of a function that writes the model file at a path.
        tflite: what TFLite's converter makes of the Keras model.
        span: float inputs are drawn from 0 to this: 255 for networks that begin with a Rescaling of pixels.
        fast: belongs to the subset that CI runs.
        refused: words that edgepack's error must hold; the source framework cannot answer it, or ONNX cannot say it.
        graph_inputs, graph_outputs: tensors a user of plain tf2onnx has to find and name for graphs without a signature.
        shapes: sizes of inputs whose free dimensions do not take the default.
        options: more arguments of `edgepack.convert`.
        atol: in place of the bar's, with the reason in `why`.
    """

    name: str
    family: str
    format: str
    package: Package | None = None
    path: str = ""
    sha256: str = ""
    keras: str = ""
    writer: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()
    seed: int = 0
    tflite: str = ""
    span: float = 1.0
    fast: bool = False
    refused: str = ""
    graph_inputs: tuple[str, ...] = ()
    graph_outputs: tuple[str, ...] = ()
    shapes: dict[str, list[int]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    atol: float = ATOL
    why: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError: the entry contradicts itself."""
        origins = [bool(self.package), bool(self.keras), bool(self.writer)]
        if sum(origins) != 1:
            raise ValueError(f"{self.name}: give one of package, keras, writer")
        if self.format not in FORMATS:
            raise ValueError(f"{self.name}: format {self.format!r} is none of {FORMATS}")
        if self.package and not (self.path and len(self.sha256) == 64):
            raise ValueError(f"{self.name}: a package needs path and sha256")
        if self.tflite and self.tflite not in TFLITE_KINDS:
            raise ValueError(f"{self.name}: tflite {self.tflite!r} is none of {TFLITE_KINDS}")
        if self.atol != ATOL and not self.why:
            raise ValueError(f"{self.name}: another atol than {ATOL} needs its reason in `why`")

    @property
    def digest(self) -> str:
        """A hash of what the entry asks for; not of its place in the list, nor of `family` and `fast`."""
        defaults = {f.name: f.default for f in fields(self) if f.default is not MISSING}
        data = {k: v for k, v in asdict(self).items() if v and v != defaults.get(k)}
        data.pop("family")
        data.pop("fast", None)
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()

    @property
    def kind(self) -> str:
        """The format as the table shows it: `tflite int8`, `onnx`."""
        return f"{self.format} {self.tflite}".strip()


def read_entries(path: Path = LIST) -> tuple[Entry, ...]:
    """The whole list.

    Raises:
        ValueError: two entries have one name, or one is not valid; says which.
    """
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    packages = {
        requirement: Package(requirement=requirement, **facts)
        for requirement, facts in data["packages"].items()
    }
    libraries = {name: tuple(wheels) for name, wheels in data["libraries"].items()}
    entries = tuple(
        _entry(family, item, packages, libraries)
        for family, items in data["models"].items()
        for item in items
    )
    names = [e.name for e in entries]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"{path.name}: more than one entry has the name {', '.join(twice)}")
    return entries


def chosen(entries: Sequence[Entry], patterns: Sequence[str], *, fast: bool) -> list[Entry]:
    """Entries whose name, format or family fits one of `patterns` (all, where there are none)."""
    return [
        e
        for e in entries
        if (e.fast or not fast)
        and (
            not patterns
            or any(
                fnmatch.fnmatch(word, p) for p in patterns for word in (e.name, e.kind, e.family)
            )
        )
    ]


def _entry(
    family: str,
    item: dict[str, Any],
    packages: dict[str, Package],
    libraries: dict[str, tuple[str, ...]],
) -> Entry:
    known = dict(item)
    if "package" in known:
        known["package"] = packages[known["package"]]
    if "library" in known:
        known["libraries"] = libraries[known.pop("library")]
    for key in ("graph_inputs", "graph_outputs"):
        known[key] = tuple(known.get(key, ()))
    try:
        return Entry(family=family, **known)
    except TypeError as error:
        raise ValueError(f"{item.get('name')}: {error}") from None


def folder_digest(folder: Path) -> str:
    """sha256 over a folder: one line `path, NUL, sha256 of the file` for each file, by path."""
    whole = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        whole.update(f"{file.relative_to(folder).as_posix()}\0{digest}\n".encode())
    return whole.hexdigest()


def content_digest(path: Path) -> str:
    """sha256 of a model: of the file, of the folder, or of the folder that a checkpoint's `.meta` lies in."""
    if path.is_dir():
        return folder_digest(path)
    if path.suffix == ".meta" or path.name == ".meta":
        return folder_digest(path.parent)
    return hashlib.sha256(path.read_bytes()).hexdigest()
