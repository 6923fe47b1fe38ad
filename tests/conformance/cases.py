"""The table: what is done to each bundle, what it is asked, and what every loader must say to it (runtime/README.md)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.bundle_samples import seal

CPU = "CPUExecutionProvider"


class Tensor(NamedTuple):
    """What a caller gives; the three need not agree."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


Inputs = Mapping[str, Tensor]
Change = Callable[[Path], object]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of `run`; `kind`: how it is refused, None: it is answered as ONNX Runtime itself answers."""

    name: str
    inputs: Inputs
    kind: str | None = None


@dataclass(frozen=True, kw_only=True)
class Case:
    """A bundle, and what its loader makes of it.

    Attributes:
        kind: how opening, the session or the self-test ends; None: they do not fail.
        misses: the comparisons of the self-test that do not pass, as case/output/from.
        passed: what the self-test says in all.
        passed_over: the providers that the report says were not used.
        precision: what the report says of the model.
    """

    name: str
    kind: str | None = None
    misses: tuple[str, ...] = ()
    passed: bool = True
    passed_over: tuple[str, ...] = ()
    precision: str = "fp32"
    calls: tuple[Call, ...] = field(default=())


def tensor(x: Any, dtype: str = "float32") -> Tensor:
    """`x` as a caller gives it."""
    array = np.asarray(x, dtype)
    return Tensor(dtype, array.shape, array.tobytes())


# Calls


def _extremes(batch: int) -> dict[str, Tensor]:
    """Inputs of the bundle `dtypes`: each dtype's ends, and what is no number."""
    count = batch * 3
    odd = [np.nan, np.inf, -np.inf, -0.0, 65504.0, 6e-8, 1.5]
    values: dict[str, Any] = {
        "f16": np.resize(np.array(odd, np.float16), count),
        "f32": np.resize(np.array([*odd, 3.4e38, 1e-45], np.float32), count),
        "b": np.resize([True, False], count),
    }
    for name, dtype in (("i8", "int8"), ("u8", "uint8"), ("i32", "int32"), ("i64", "int64")):
        ends = np.iinfo(dtype)
        values[name] = np.resize(np.array([ends.min, ends.max, 1], dtype), count)
    inputs = {n: tensor(x.reshape(batch, 3), x.dtype.name) for n, x in values.items()}
    return {**inputs, "scalar/odd name:0": tensor(0.5)}


def _but(inputs: Inputs, **changes: Tensor | None) -> Inputs:
    return {n: t for n, t in {**inputs, **changes}.items() if t is not None}


_GOOD = _extremes(2)
_F32, _SCALAR = _GOOD["f32"], "scalar/odd name:0"

DTYPE_CALLS = (
    *(Call(name=f"batch {batch}", inputs=_extremes(batch)) for batch in (1, 2, 0, 7)),
    Call(name="missing", inputs=_but(_GOOD, f32=None), kind="input-missing"),
    Call(name="none at all", inputs={}, kind="input-missing"),
    Call(name="unknown", inputs=_but(_GOOD, f33=_F32), kind="input-unknown"),
    Call(name="unknown toString", inputs=_but(_GOOD, toString=_F32), kind="input-unknown"),
    Call(name="in other letters", inputs=_but(_GOOD, f32=None, F32=_F32), kind="input-missing"),
    *(
        Call(
            name=f"{name} as {other.dtype}", inputs=_but(_GOOD, **{name: other}), kind="dtype-mismatch"
        )
        for name in ("f16", "f32", "i8", "u8", "i32", "i64", "b")
        for other in [_GOOD["u8" if name in ("i8", "b") else "i8"], _GOOD["f32" if name != "f32" else "f16"]]
    ),
    Call(name="size", inputs=_but(_GOOD, f32=tensor(np.zeros((2, 4)))), kind="shape-mismatch"),
    Call(name="rank", inputs=_but(_GOOD, f32=tensor(np.zeros((2, 3, 1)))), kind="shape-mismatch"),
    Call(name="flat", inputs=_but(_GOOD, f32=tensor(np.zeros(6))), kind="shape-mismatch"),
    Call(
        name="vector for scalar",
        inputs={**_GOOD, _SCALAR: tensor([0.5])},
        kind="shape-mismatch",
    ),
    Call(name="scalar for matrix", inputs=_but(_GOOD, f32=tensor(0.5)), kind="shape-mismatch"),
    Call(
        name="two sizes of one dimension",
        inputs=_but(_GOOD, i32=tensor(np.zeros((3, 3)), "int32")),
        kind="shape-mismatch",
    ),
    Call(
        name="too few bytes",
        inputs=_but(_GOOD, f32=Tensor("float32", (2, 3), bytes(20))),
        kind="shape-mismatch",
    ),
    Call(
        name="too many bytes",
        inputs=_but(_GOOD, f32=Tensor("float32", (2, 3), bytes(28))),
        kind="shape-mismatch",
    ),
    Call(name="good after bad", inputs=_GOOD),
)  # fmt: skip

FREE_CALLS = (
    *(
        Call(name=f"{n} x {k}", inputs={"a": _ramp(n, k), "b": _ramp(k, n)})
        for _ramp in [lambda n, k: tensor(np.arange(n * k).reshape(n, k) / 7)]
        for n, k in ((1, 1), (3, 2), (2, 3), (1, 50))
    ),
    Call(
        name="length differs",
        inputs={"a": tensor(np.zeros((2, 3))), "b": tensor(np.zeros((4, 2)))},
        kind="shape-mismatch",
    ),
)


# What is done to a copy of the bundle conv


def edit(change: Callable[[Any], object]) -> Change:
    """Change the manifest and write it again."""

    def edited(bundle: Path) -> None:
        manifest = json.loads((bundle / "manifest.json").read_bytes())
        change(manifest)
        seal(bundle, manifest)

    return edited


def put(place: str, value: object) -> Change:
    """The manifest's value at a dotted place; `...` takes it away."""

    def change(at: Any) -> None:
        *way, last = [int(key) if key.isdigit() else key for key in place.split(".")]
        for key in way:
            at = at[key]
        if value is ...:
            del at[last]
        else:
            at[last] = value

    return edit(change)


def text(change: Callable[[bytes], bytes]) -> Change:
    """Other bytes of manifest.json."""

    def changed(bundle: Path) -> None:
        place = bundle / "manifest.json"
        place.write_bytes(change(place.read_bytes()))

    return changed


def content(path: str, change: Callable[[bytes], bytes], *, listed: bool = False) -> Change:
    """Other bytes of a file, which the manifest knows of if `listed`."""

    def changed(bundle: Path) -> None:
        data = change((bundle / path).read_bytes())
        (bundle / path).write_bytes(data)
        if listed:
            digest = hashlib.sha256(data).hexdigest()

            def relist(manifest: Any) -> None:
                (file,) = (f for f in manifest["files"] if f["path"] == path)
                file.update(size=len(data), sha256=digest)

            edit(relist)(bundle)

    return changed


def _moved(path: str) -> Change:
    """The model under another name, which `files` lists."""

    def change(manifest: Any) -> None:
        (file,) = (f for f in manifest["files"] if f["path"] == manifest["model"]["path"])
        file["path"] = manifest["model"]["path"] = path

    return edit(change)


def remove(path: str) -> Change:
    """No such file."""
    return lambda bundle: (bundle / path).unlink()


def _flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _raise_first(data: bytes) -> bytes:
    values = np.frombuffer(data, np.float32).copy()
    values[0] += 0.25
    return values.tobytes()


def _providers(*names: str) -> Change:
    return put("runtime.providers", [{"name": name, "options": {}} for name in names])


MODEL, INPUT, ANSWER = "model/conv.ort", "golden/0/input-0.bin", "golden/0/source-0.bin"
PATHS = ("/etc/passwd", "../x", "model/../../x", "..", "a//b", "./a", "a\\..\\b", "a/", "")

_INVALID: dict[str, Change] = {
    "empty manifest": text(lambda t: b""),
    "truncated manifest": text(lambda t: t[:-1]),
    "half a manifest": text(lambda t: t[: len(t) // 2]),
    "two manifests": text(lambda t: t + t),
    "html for manifest": text(lambda t: b"<!doctype html><title>Not found</title>"),
    "list for manifest": text(lambda t: b"[]"),
    "null for manifest": text(lambda t: b"null"),
    "digits for manifest": text(lambda t: b"1" * 5000),
    "deep manifest": text(lambda t: b"[" * 200_000),
    "not UTF-8": text(lambda t: b"\xff\xfe" + t),
    "schema a text": put("schema", "1"),
    "schema missing": put("schema", ...),
    "critical missing": put("critical", ...),
    "critical a text": put("critical", "golden"),
    "inputs missing": put("inputs", ...),
    "inputs an object": put("inputs", {}),
    "input name a number": put("inputs.0.name", 3),
    "unknown dtype": put("inputs.0.dtype", "complex64"),
    "negative size": put("inputs.0.shape.1", -8),
    "size with fraction": put("inputs.0.shape.1", 8.5),
    "output shape null": put("outputs.0.shape", None),
    "model a list": put("model", []),
    "model path missing": put("model.path", ...),
    "model path unlisted": put("model.path", "model/other.ort"),
    "model path a golden file": put("model.path", INPUT),
    "min_version missing": put("runtime.min_version", ...),
    "min_version no version": put("runtime.min_version", "latest"),
    "min_version a number": put("runtime.min_version", 1.2),
    "providers missing": put("runtime.providers", ...),
    "option a number": put("runtime.providers.0.options", {"a": 1}),
    "session config missing": put("runtime.session.config", ...),
    "unknown optimization level": put("runtime.session.graph_optimization_level", "most"),
    "threads negative": put("runtime.session.intra_op_num_threads", -1),
    "golden missing": put("golden", ...),
    "atol a text": put("golden.0.expect.0.atol", "0"),
    "golden path out of the bundle": put("golden.0.inputs.0.path", "../x"),
    "files missing": put("files", ...),
    "size negative": put("files.0.size", -1),
    "role missing": put("files.0.role", ...),
    **{f"path {path!r}": put("files.0.path", path) for path in PATHS},
    **{
        f"model path {path!r}": _moved(path) for path in ("../x", "/etc/passwd", ".x/y", "a b", "ä")
    },
}

#: Name → what is done to the bundle `conv`, and what comes of it.
FLAWS: dict[str, tuple[Change, Case]] = {
    case.name: (change, case)
    for change, case in (
        (remove("manifest.json"), Case(name="no manifest", kind="bundle-not-found")),
        *((change, Case(name=n, kind="manifest-invalid")) for n, change in _INVALID.items()),
        (put("schema", 2), Case(name="newer schema", kind="schema-unsupported")),
        (
            text(lambda t: b'{"schema": 2, "critical": []}'),
            Case(name="newer schema in another form", kind="schema-unsupported"),
        ),
        (put("critical", ["encryption"]), Case(name="critical field", kind="schema-unsupported")),
        (put("encryption", {"key": [1, None, {"a": "\u2028"}]}), Case(name="unknown field")),
        (remove(MODEL), Case(name="model missing", kind="file-missing")),
        (content(MODEL, _flip), Case(name="model flipped", kind="file-corrupt")),
        (content(MODEL, lambda d: d[:-1]), Case(name="model cut off", kind="file-corrupt")),
        (content(MODEL, lambda d: d + b"x"), Case(name="model longer", kind="file-corrupt")),
        (remove(INPUT), Case(name="golden input missing", kind="file-missing")),
        (content(INPUT, _flip), Case(name="golden input flipped", kind="file-corrupt")),
        (put("files.0.sha256", "ab"), Case(name="hash too short", kind="file-corrupt")),
        (content(ANSWER, _flip), Case(name="golden answer flipped", kind="file-corrupt")),
        (content(ANSWER, lambda d: d[:-1]), Case(name="golden answer cut off", kind="file-corrupt")),
        (put("runtime.min_version", "99.0.0"), Case(name="old runtime", kind="runtime-too-old")),
        (put("runtime.min_version", "1.100.0"), Case(name="version 1.100", kind="runtime-too-old")),
        (put("runtime.min_version", "1.9.99"), Case(name="version 1.9.99")),
        (
            content(MODEL, lambda d: b"not a model", listed=True),
            Case(name="not a model", kind="provider-unavailable"),
        ),
        (
            _providers("CoreMLExecutionProvider"),
            Case(name="no provider", kind="provider-unavailable"),
        ),
        (put("runtime.providers", []), Case(name="no providers", kind="provider-unavailable")),
        (
            _providers("CoreMLExecutionProvider", CPU),
            Case(name="provider passed over", passed_over=("CoreMLExecutionProvider",)),
        ),
        (
            content(ANSWER, _raise_first, listed=True),
            Case(name="answer off", misses=("0/probabilities/source",), passed=False),
        ),
        (
            put("golden.0.expect.0.shape", [10]),
            Case(name="answer of other shape", misses=("0/probabilities/shipped",), passed=False),
        ),
        (put("golden", []), Case(name="no golden cases", passed=False)),
        *((put("runtime.session.graph_optimization_level", level), Case(name=f"level {level}"))
          for level in ("disabled", "basic", "extended", "all")),
    )
}  # fmt: skip
