"""Open an edgepack bundle on a Jetson, or any Linux with Python 3.8 or newer, and run its model.

    from edgepack_loader import EdgepackBundle

    with EdgepackBundle.open("digits-jetson-orin").session() as session:
        answers = session.run({"image": image})  # {"probabilities": float32 [1, 10]}

Or as a program: `python3 edgepack_loader.py {self-test,latency,report,run,check} --help`. Data go to stdout as one JSON object,
lines for people to stderr. Exit: 0 well, 1 a golden case missed, 2 an error, `{"error": {"kind", "message"}}`.

Needs numpy and onnxruntime (any build), both imported with the first session; a provider's own `package` (openvino) only where the
manifest names one. One file, because it is copied to boards.
In order: manifest, bundle, session, providers with a package of their own, comparison, engine cache, board, command line.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import hashlib
import importlib
import json
import math
import os
import re
import stat
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple
from urllib.parse import quote

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

#: Providers and their options, the first to be tried first.
Chain = List[Tuple[str, Dict[str, str]]]


class EdgepackError(Exception):
    """A bundle or a call that is refused. `kind` is one of the loader contract's words, such as `file-corrupt`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


# --- manifest: edgepack's runtime/README.md has the contract -----------------------------------------

SCHEMA = 1
#: Signatures may lie beside the manifest without being listed in it.
SIGNATURES = re.compile(r"manifest\.(sig|json\.sig)[\w.-]*", re.ASCII)
ITEM_SIZES = {
    **{"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "float16": 2},
    **{"int32": 4, "uint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8},
}
#: Our names for onnxruntime.GraphOptimizationLevel.
LEVELS = {
    **{"disabled": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC"},
    **{"extended": "ORT_ENABLE_EXTENDED", "all": "ORT_ENABLE_ALL"},
}


def parse_manifest(text: bytes) -> dict[str, Any]:
    """The manifest in `text` as plain data, all that a loader reads of it checked.

    Raises:
        EdgepackError: manifest-invalid, schema-unsupported.
    """
    try:
        data = json.loads(text, object_pairs_hook=_no_twins, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise EdgepackError("manifest-invalid", f"manifest.json: {error}") from error
    _check_form(data, {"schema": _COUNT, "critical": [_TEXT]}, "")
    if data["schema"] > SCHEMA or data["critical"]:
        what = f"schema is {data['schema']}, critical names {data['critical']}"
        why = (
            f"manifest.json: {what}; this loader knows schema {SCHEMA} and nothing critical beyond"
        )
        raise EdgepackError("schema-unsupported", why)
    _check_form(data, _FORM, "")
    _check_links(data)
    manifest: dict[str, Any] = data
    return manifest


class _Leaf(NamedTuple):
    what: str
    accepts: Callable[[Any], bool]


def _matches(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and bool(re.fullmatch(pattern, value, re.A | re.S))


def _are_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


_TEXT = _Leaf("a text", _matches(".+"))
_TEXTS = _Leaf("an object of texts", _are_texts)
_COUNT = _Leaf("a whole number of at least 0", lambda v: type(v) is int and v >= 0)
_BOUND = _Leaf("a number of at least 0", lambda v: type(v) in (int, float) and 0 <= v < math.inf)
_DIM = _Leaf("a size or a name", lambda v: _COUNT.accepts(v) or _TEXT.accepts(v))
_PATH = _Leaf("a path inside the bundle", _matches(r"\w[\w.-]*(/\w[\w.-]*)*"))
_DTYPE = _Leaf(f"one of {', '.join(ITEM_SIZES)}", lambda v: v in list(ITEM_SIZES))
_LEVEL = _Leaf(f"one of {', '.join(LEVELS)}", lambda v: v in list(LEVELS))
_VERSION = _Leaf("a version such as 1.20.0", _matches(r"\d+(\.\d+)+"))
_TENSOR = {"name": _TEXT, "dtype": _DTYPE, "shape": [_DIM]}
_GOLDEN = {"name": _TEXT, "dtype": _DTYPE, "shape": [_COUNT], "path": _PATH}
_ANSWER = {**_GOLDEN, "from": _TEXT, "atol": _BOUND, "rtol": _BOUND}
_THREADS = {"intra_op_num_threads": _COUNT}
_SESSION = {"graph_optimization_level": _LEVEL, **_THREADS, "config": _TEXTS}
_PROVIDERS = [{"name": _TEXT, "options": _TEXTS}]
_FORM = {
    "model": {"path": _PATH, "precision": _TEXT},
    "inputs": [_TENSOR],
    "outputs": [_TENSOR],
    "runtime": {
        **{"language": _TEXT, "min_version": _VERSION},
        **{"providers": _PROVIDERS, "session": _SESSION},
    },
    "golden": [{"name": _TEXT, "inputs": [_GOLDEN], "expect": [_ANSWER]}],
    "files": [{"path": _PATH, "size": _COUNT, "sha256": _TEXT, "role": _TEXT}],
}


def _check_form(value: Any, form: Any, at: str) -> None:
    """Raise unless `value` has `form`: an object of at least these fields, a list of such items, or a leaf."""
    if isinstance(form, dict) and isinstance(value, dict):
        for key, inner in form.items():
            place = f"{at}.{key}" if at else key
            if key not in value:
                raise EdgepackError("manifest-invalid", f"manifest.json: {place} is missing")
            _check_form(value[key], inner, place)
    elif isinstance(form, list) and isinstance(value, list):
        for k, item in enumerate(value):
            _check_form(item, form[0], f"{at}[{k}]")
    elif not isinstance(form, _Leaf) or not form.accepts(value):
        containers: dict[type, str] = {dict: "an object", list: "a list"}
        got = containers.get(type(value)) or json.dumps(value)[:80]
        expected = form.what if isinstance(form, _Leaf) else containers[type(form)]
        why = f"manifest.json: {at or 'the whole'} is {got}, expected {expected}"
        raise EdgepackError("manifest-invalid", why)


def _check_links(manifest: dict[str, Any]) -> None:
    """Raise unless names are unique and everything that is named is there, with the size its shape needs."""

    def require(holds: bool, why: str) -> None:
        if not holds:
            raise EdgepackError("manifest-invalid", f"manifest.json: {why}")

    def by(key: str, items: list[dict[str, Any]], at: str) -> dict[str, dict[str, Any]]:
        found = {item[key]: item for item in items}
        require(len(found) == len(items), f"{at} has a {key} twice")
        return found

    files = by("path", manifest["files"], "files")
    by("name", manifest["runtime"]["providers"], "runtime.providers")
    known = {field: by("name", manifest[field], field) for field in ("inputs", "outputs")}
    model = manifest["model"]["path"]
    require(files.get(model, {}).get("role") == "model", f"files has no {model} of role model")
    for case in manifest["golden"]:
        for golden in (*case["inputs"], *case["expect"]):
            name, path, dtype, shape = (golden[k] for k in ("name", "path", "dtype", "shape"))
            field = "outputs" if "from" in golden else "inputs"
            require(name in known[field], f"{path}: {field} has no {name!r}")
            file = files.get(path, {"role": None})
            require(file["role"] == "golden", f"files has no {path} of role golden")
            need = math.prod(shape) * ITEM_SIZES[dtype]
            why = f"{path} has {file['size']} bytes, {dtype} {shape} needs {need}"
            require(file["size"] == need, why)


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Source: RFC 8259, section 4: what a reader makes of duplicate names is unpredictable."""
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} is there twice")
    return result


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


# --- bundle ------------------------------------------------------------------------------------------


class _Model(NamedTuple):
    """What onnxruntime opens, the model's bytes or its path, and the digest of all its files."""

    source: bytes | str
    sha256: str


class EdgepackBundle:
    """A bundle on disk: `root`, its folder; `manifest`, plain data; the model's bytes, checked."""

    def __init__(self, root: Path, manifest: dict[str, Any]) -> None:
        self.root, self.manifest = root, manifest
        self._files = {file["path"]: file for file in manifest["files"]}
        self._model: _Model | None = self._read_model(manifest["model"]["path"])

    @staticmethod
    def open(place: str | os.PathLike[str]) -> EdgepackBundle:
        """The bundle in the folder `place`: manifest parsed, model files read and their SHA-256 checked.

        Raises:
            EdgepackError: bundle-not-found, manifest-invalid, schema-unsupported, file-missing, file-corrupt.
        """
        root = Path(os.path.realpath(place))
        try:
            text = (root / "manifest.json").read_bytes()
        except OSError as error:
            why = f"there is no bundle in {place}: manifest.json: {error.strerror}"
            raise EdgepackError("bundle-not-found", why) from error
        return EdgepackBundle(root, parse_manifest(text))

    def check(self) -> None:
        """Compare every byte on disk with the manifest: the same set of files, sizes and SHA-256.

        Only `manifest.json` and signatures of it (`manifest.sig*`) may lie there unlisted.

        Raises:
            EdgepackError: file-missing if files are missing and nothing else, else file-corrupt; lists all that differ.
        """
        errors = []
        for path in self._files:
            try:
                self._verify(path)
            except EdgepackError as error:
                errors.append(error)
        for place in sorted(self.root.rglob("*")):
            name, mode = place.relative_to(self.root).as_posix(), place.lstat().st_mode
            known = name in self._files or name == "manifest.json" or SIGNATURES.fullmatch(name)
            if stat.S_ISDIR(mode) or (stat.S_ISREG(mode) and known):
                continue
            what = "is not in the manifest" if stat.S_ISREG(mode) else "is not a regular file"
            errors.append(EdgepackError("file-corrupt", f"{name} {what}"))
        if errors:
            kinds = {error.kind for error in errors}
            kind = kinds.pop() if len(kinds) == 1 else "file-corrupt"
            lines = "\n  ".join(map(str, errors))
            raise EdgepackError(kind, f"{self.root} is not what its manifest says:\n  {lines}")

    def session(
        self,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        board: Board | None = None,
    ) -> EdgepackSession:
        """A session on the first of the manifest's providers that can be had.

        Args:
            providers: some of the manifest's providers, tried in this order; None: all, in the manifest's order.
            threads: ONNX Runtime's intra-op threads, 0 for its default; None: what the manifest says.
            cache_dir: folder for TensorRT engines; None: `$XDG_CACHE_HOME/edgepack` or `~/.cache/edgepack`.
            board: whose engines these are; None: this machine's.

        Raises:
            EdgepackError: runtime-too-old, provider-unavailable (with every provider's reason).
        """
        if self._model is None:
            raise ValueError("the bundle is closed")
        runtime, path = self.manifest["runtime"], self.manifest["model"]["path"]
        # Another language's minimum is a version of another package; a host that checks such a bundle has its own.
        own = runtime["language"] == "python"
        ort = _onnxruntime(runtime["min_version"] if own else "0")
        options = _session_options(ort, runtime["session"], threads)
        known = {p["name"]: p["options"] for p in runtime["providers"]}
        unknown = [name for name in providers or () if name not in known]
        if unknown:
            why = f"the manifest has {list(known)}, not {unknown}"
            raise EdgepackError("provider-unavailable", why)
        chain = [(name, known[name]) for name in (known if providers is None else providers)]
        apart = {p["name"]: p["package"] for p in runtime["providers"] if p.get("package")}
        passed_over: dict[str, str] = {}
        for k, (name, own_options) in enumerate(chain):
            try:
                opened: _Opened | _OpenedApart
                if name in apart:
                    count = options.intra_op_num_threads
                    opened = _OpenedApart(name, apart[name], self._model, own_options, count)
                else:
                    rest = [link for link in chain[k:] if link[0] not in apart]
                    opened = _Opened(ort, self._model, options, rest, cache_dir, board)
            except Exception as error:  # whatever it is, the next provider may do
                passed_over[name] = " ".join(str(error).split())
            else:
                return EdgepackSession(self, opened, passed_over)
        reasons = "; ".join(f"{name}: {why}" for name, why in passed_over.items())
        raise EdgepackError("provider-unavailable", f"no provider opens {path}: {reasons}")

    def close(self) -> None:
        """Let go of the model's bytes. Open sessions stay open."""
        self._model = None

    def __enter__(self) -> EdgepackBundle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def tensor(self, golden: dict[str, Any]) -> Array:
        """The array of one of the manifest's golden inputs or answers.

        Raises:
            EdgepackError: file-missing, file-corrupt.
        """
        import numpy as np

        dtype = np.dtype(golden["dtype"])
        stored = np.frombuffer(self._read(golden["path"]), dtype.newbyteorder("<"))
        return stored.reshape(golden["shape"]).astype(dtype, copy=False)

    def _read_model(self, path: str) -> _Model:
        """The model to open. With weights in files of their own it is opened where it lies: they are too many to hold."""
        digests = {p: file["sha256"] for p, file in self._files.items() if file["role"] == "model"}
        if len(digests) == 1:
            return _Model(self._read(path), digests[path])
        for each in digests:
            self._verify(each)
        lines = "".join(f"{name}\0{digest}\n" for name, digest in sorted(digests.items()))
        return _Model(str(self.root / path), hashlib.sha256(lines.encode()).hexdigest())

    def _read(self, path: str) -> bytes:
        place = self._place(path)
        try:
            data = place.read_bytes()
        except OSError as error:
            raise EdgepackError("file-missing", f"{path}: {error.strerror}") from error
        self._compare(path, hashlib.sha256(data).hexdigest())
        return data

    def _verify(self, path: str) -> None:
        """As `_read`, for files that need not be held."""
        place, digest = self._place(path), hashlib.sha256()
        try:
            with place.open("rb") as file:
                for block in iter(lambda: file.read(1 << 20), b""):
                    digest.update(block)
        except OSError as error:
            raise EdgepackError("file-missing", f"{path}: {error.strerror}") from error
        self._compare(path, digest.hexdigest())

    def _place(self, path: str) -> Path:
        """Where a listed file lies: within the bundle, regular, of the listed size."""
        file, place = self._files[path], Path(os.path.realpath(self.root / path))
        if self.root not in place.parents:
            raise EdgepackError("file-corrupt", f"{path} is a link out of the bundle")
        try:
            info = place.stat()
        except OSError as error:
            raise EdgepackError("file-missing", f"{path}: {error.strerror}") from error
        if not stat.S_ISREG(info.st_mode):
            raise EdgepackError("file-corrupt", f"{path} is not a regular file")
        if info.st_size != file["size"]:
            why = f"{path} has {info.st_size} bytes, the manifest says {file['size']}"
            raise EdgepackError("file-corrupt", why)
        return place

    def _compare(self, path: str, digest: str) -> None:
        listed = self._files[path]["sha256"]
        if digest != listed:
            why = f"{path} has SHA-256 {digest}, the manifest says {listed}"
            raise EdgepackError("file-corrupt", why)


# --- session -----------------------------------------------------------------------------------------


class EdgepackSession:
    """An open model. `run` may be called from several threads."""

    def __init__(
        self,
        bundle: EdgepackBundle,
        opened: _Opened | _OpenedApart,
        passed_over: dict[str, str],
    ) -> None:
        import numpy as np

        self._bundle, self._opened, self._passed_over = bundle, opened, passed_over
        self._session, self._array = opened.session, np.ndarray
        self._inputs = [
            (t["name"], np.dtype(t["dtype"]), tuple(t["shape"])) for t in bundle.manifest["inputs"]
        ]
        self._names = {name for name, _, _ in self._inputs}
        self._outputs = [t["name"] for t in bundle.manifest["outputs"]]

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """The answers to `inputs`: arrays by output name, dtypes and shapes as in the manifest's `outputs`.

        Args:
            inputs: numpy arrays by input name, of the very dtypes and shapes in the manifest's `inputs`.

        Raises:
            EdgepackError: input-missing, input-unknown, dtype-mismatch, shape-mismatch.
        """
        session = self._session
        if session is None:
            raise ValueError("the session is closed")
        self._check(inputs)
        return dict(zip(self._outputs, session.run(self._outputs, inputs)))

    def self_test(self) -> dict[str, Any]:
        """Every golden case run and compared: `{"passed", "cases": [{"case", "output", "from", "max_abs", ...}]}`.

        An element passes when |a − b| ≤ atol + rtol·|b|, b expected. `max_abs` is None if it is not finite or the
        output has another dtype or shape; then there is a `why` too. With no golden case nothing has passed.
        """
        cases, tensor = [], self._bundle.tensor
        for case in self._bundle.manifest["golden"]:
            answers = self.run({golden["name"]: tensor(golden) for golden in case["inputs"]})
            for want in case["expect"]:
                names = {"case": case["name"], "output": want["name"], "from": want["from"]}
                outcome = _compare(answers[want["name"]], tensor(want), want["atol"], want["rtol"])
                cases.append({**names, **outcome})
        return {"passed": bool(cases) and all(case["passed"] for case in cases), "cases": cases}

    def warm_up(self, times: int = 3) -> bool:
        """Run the first golden case, so that the first real call is as fast as later ones; gives whether there is one."""
        golden = self._bundle.manifest["golden"]
        if golden:
            feeds = {g["name"]: self._bundle.tensor(g) for g in golden[0]["inputs"]}
            for _ in range(times):
                self.run(feeds)
        return bool(golden)

    def latency(self, runs: int = 100, warm_up: int = 10, seconds: float = 30.0) -> dict[str, Any]:
        """How long one call takes, in milliseconds, for the first golden case: `{"runs", "warm_up", "median_ms", "p95_ms", ...}`.

        Stops after `runs` calls, or once they have taken `seconds`; one is made in any case. From numpy arrays to numpy arrays, copies to the GPU included.

        Raises:
            EdgepackError: input-missing: the bundle has no golden case.
        """
        golden = self._bundle.manifest["golden"]
        if not golden:
            raise EdgepackError("input-missing", "the bundle has no golden case to be timed with")
        feeds = {g["name"]: self._bundle.tensor(g) for g in golden[0]["inputs"]}
        self.warm_up(warm_up)
        times: list[float] = []
        while not times or (len(times) < runs and sum(times) < seconds * 1e3):
            begin = perf_counter()
            self.run(feeds)
            times.append((perf_counter() - begin) * 1e3)
        times.sort()
        # Nearest rank: the smallest time that so many of them do not exceed.
        rank = {f"{n}_ms": times[math.ceil(q * len(times)) - 1] for n, q in _QUANTILES.items()}
        return {"runs": len(times), "warm_up": warm_up, "min_ms": times[0], **rank}

    def report(self) -> dict[str, Any]:
        """What really opened, ready for JSON.

        `provider` leads the session, `fallback` stands behind it node by node, `passed_over` gives provider → reason.
        `nodes` counts the model's nodes per provider, None where this onnxruntime or an .ort file does not tell.
        `proven`: it is certain that every node runs on `provider`.
        """
        opened = self._opened
        return {
            "provider": opened.provider,
            "proven": set(opened.nodes or opened.registered) == {opened.provider},
            "nodes": opened.nodes,
            "fallback": [name for name in opened.registered if name != opened.provider],
            "passed_over": self._passed_over,
            "runtime_version": opened.version,
            "model_sha256": opened.model_sha256,
            "precision": self._bundle.manifest["model"]["precision"],
            "engine_cache": opened.cache.report() if opened.cache else None,
        }

    def close(self) -> None:
        """Close the model. Engines that TensorRT built while running (free dimensions) are sealed for the next session."""
        self._session = self._opened.session = None
        if self._opened.cache:
            self._opened.cache.seal()

    def __enter__(self) -> EdgepackSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _check(self, inputs: dict[str, Array]) -> None:
        if inputs.keys() != self._names:
            missing, unknown = self._names - inputs.keys(), inputs.keys() - self._names
            kind, what = ("missing", missing) if missing else ("unknown", unknown)
            why = f"{kind} input: {sorted(what)}; the model takes {sorted(self._names)}"
            raise EdgepackError(f"input-{kind}", why)
        sizes: dict[str, int] = {}
        for name, dtype, shape in self._inputs:
            value = inputs[name]
            if not isinstance(value, self._array) or value.dtype != dtype:
                got = f"{type(value).__name__} of {getattr(value, 'dtype', 'no dtype')}"
                why = f"input {name!r} is {got}, expected a numpy ndarray of {dtype}"
                raise EdgepackError("dtype-mismatch", why)
            if value.shape != shape and not _fits(value.shape, shape, sizes):
                known = "".join(f", {dim} is {size}" for dim, size in sizes.items())
                expected = ", ".join(map(str, shape))
                why = f"input {name!r} has shape {list(value.shape)}, expected [{expected}]{known}"
                raise EdgepackError("shape-mismatch", why)


_QUANTILES = {"median": 0.5, "p95": 0.95, "max": 1.0}


def _fits(got: tuple[int, ...], shape: tuple[int | str, ...], sizes: dict[str, int]) -> bool:
    """Whether free dimensions explain `got`; a name seen for the first time enters `sizes`."""
    return len(got) == len(shape) and all(
        size == (sizes.setdefault(dim, size) if isinstance(dim, str) else dim)
        for size, dim in zip(got, shape)
    )


class _Opened:
    """An onnxruntime session led by the first provider of a chain, the others behind it for the nodes it leaves.

    The constructor raises whatever says that the first cannot be had.
    """

    def __init__(
        self,
        ort: Any,
        model: _Model,
        options: Any,
        chain: Chain,
        cache_dir: str | os.PathLike[str] | None,
        board: Board | None,
    ) -> None:
        self.provider, self.version = chain[0][0], str(ort.__version__)
        self.model_sha256 = model.sha256
        self.cache: EngineCache | None = None
        built_in = ort.get_available_providers()
        if self.provider not in built_in:
            raise RuntimeError(f"onnxruntime {self.version} is built without it")
        chain = [(name, own) for name, own in chain if name in built_in]
        if "${cache}" in json.dumps(chain):
            board = board or Board.read()
            self.cache = EngineCache(cache_dir, self.model_sha256, board, self.version, chain)
            chain = self.cache.fill(chain)
        with self.cache.building() if self.cache else contextlib.nullcontext():
            # enable_fallback=0: else onnxruntime goes on to others by itself and prints that to stdout.
            self.session = ort.InferenceSession(
                model.source, options, providers=chain, enable_fallback=0
            )
            self.session.disable_fallback()
            self.registered: list[str] = self.session.get_providers()
            self.nodes = self._count_nodes()
            self._prove()

    def _count_nodes(self) -> dict[str, int] | None:
        """Nodes per provider; None if this onnxruntime, or an .ort file, does not tell."""
        if not hasattr(self.session, "get_provider_graph_assignment_info"):
            return None
        counts: dict[str, int] = {}
        for part in self.session.get_provider_graph_assignment_info():
            counts[part.ep_name] = counts.get(part.ep_name, 0) + len(part.get_nodes())
        return counts or None

    def _prove(self) -> None:
        # get_available_providers() says what was compiled in; only the session knows what could be loaded.
        if self.provider not in self.registered:
            raise RuntimeError("a library or the device is missing: see onnxruntime's log")
        if self.nodes and self.provider not in self.nodes:
            raise RuntimeError(f"it takes none of the model's nodes: {self.nodes}")


def _onnxruntime(min_version: str) -> Any:
    # Read when the library is loaded; see onnxruntime's docs/Privacy.md.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        ort = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise EdgepackError("provider-unavailable", f"no onnxruntime: {error}") from error
    ort.disable_telemetry_events()
    if _release(ort.__version__) < _release(min_version):
        why = f"onnxruntime is {ort.__version__}, the bundle needs {min_version} or newer"
        raise EdgepackError("runtime-too-old", why)
    return ort


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _session_options(ort: Any, settings: dict[str, Any], threads: int | None) -> Any:
    options = ort.SessionOptions()
    level = LEVELS[settings["graph_optimization_level"]]
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.intra_op_num_threads = settings["intra_op_num_threads"] if threads is None else threads
    # An onnxruntime that cannot record it takes the entry and does nothing.
    for entry in {"session.record_ep_graph_assignment_info": "1", **settings["config"]}.items():
        options.add_session_config_entry(*entry)
    return options


# --- providers with a package of their own -----------------------------------------------------------


class _OpenedApart:
    """A session of a provider that does not come with onnxruntime and runs all of a model, or is not to be had."""

    def __init__(
        self, provider: str, package: str, model: _Model, options: dict[str, str], threads: int
    ) -> None:
        if package not in RUNTIMES:
            raise RuntimeError(f"this loader knows no package {package!r}")
        self.session: Any = RUNTIMES[package](model.source, options, threads)
        self.provider, self.model_sha256 = provider, model.sha256
        self.version = f"{package} {self.session.version}"
        self.cache: EngineCache | None = None
        self.registered = [provider]
        self.nodes: dict[str, int] | None = None


class OpenVino:
    """A model on OpenVINO's CPU device; `run` is onnxruntime's, and may be called from several threads.

    OpenVINO itself, not its plugin for onnxruntime: that takes Intel's CPUs alone (onnxruntime#31981), this any x86-64.
    """

    def __init__(self, source: bytes | str, options: dict[str, str], threads: int) -> None:
        """Args: source: an ONNX model's bytes, or its path. options: OpenVINO's CPU properties. threads: 0 for its default.

        Raises: ImportError: there is no openvino. RuntimeError: it cannot open the model, or not with this arithmetic.
        """
        openvino = importlib.import_module("openvino")
        self.version = str(openvino.__version__).split("-")[0]
        core = openvino.Core()
        # Where there is no such arithmetic the hint would be let pass in silence, or be emulated.
        wanted = options.get("INFERENCE_PRECISION_HINT", "f32").upper()
        if wanted not in ("F32", *core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")):
            raise RuntimeError(f"this CPU has no {wanted} arithmetic")
        graph = (
            core.read_model(source, b"") if isinstance(source, bytes) else core.read_model(source)
        )
        count = {"INFERENCE_NUM_THREADS": str(threads)} if threads else {}
        self._compiled = core.compile_model(graph, "CPU", {**options, **count})
        self._tensor = openvino.Tensor
        ports = (*self._compiled.inputs, *self._compiled.outputs)
        self._fixed = {p.get_any_name() for p in ports if p.partial_shape.is_static}
        self._idle = [self._request()]

    def run(self, outputs: list[str], inputs: dict[str, Array]) -> list[Array]:
        """The named outputs, as arrays of their own."""
        import numpy as np

        try:
            request, memory = self._idle.pop()
        except IndexError:
            request, memory = self._request()
        for name, value in inputs.items():
            if name in memory:
                memory[name][...] = value
            else:
                request.set_tensor(name, self._tensor(np.ascontiguousarray(value)))
        request.infer()
        answers = [
            (memory[name] if name in memory else request.get_tensor(name).data).copy()
            for name in outputs
        ]
        self._idle.append((request, memory))
        return answers

    def _request(self) -> tuple[Any, dict[str, Array]]:
        """One call's state, with the memory of tensors of fixed shape: given other memory, OpenVINO sets kernels up anew."""
        request = self._compiled.create_infer_request()
        return request, {name: request.get_tensor(name).data for name in self._fixed}


#: What opens a model for the providers of a package, by the package's name.
RUNTIMES: dict[str, Callable[[bytes | str, dict[str, str], int], Any]] = {"openvino": OpenVino}


# --- comparison --------------------------------------------------------------------------------------


def _compare(got: Array, want: Array, atol: float, rtol: float) -> dict[str, Any]:
    """One output against its expectation. Integers are subtracted exactly, floats in float64."""
    import numpy as np

    outcome = {"max_abs": None, "atol": atol, "rtol": rtol, "passed": False}
    if (got.dtype, got.shape) != (want.dtype, want.shape):
        why = f"{got.dtype} {list(got.shape)}, expected {want.dtype} {list(want.shape)}"
        return {**outcome, "why": why}
    with np.errstate(all="ignore"):
        if want.dtype.kind == "f":
            same = (got == want) | (np.isnan(got) & np.isnan(want))
            distance = np.abs(got.astype(np.float64) - want.astype(np.float64))
        else:
            same = got == want
            # Modulo 2**64, larger less smaller is right for every integer dtype.
            low, high = np.minimum(got, want), np.maximum(got, want)
            distance = (high.astype(np.uint64) - low.astype(np.uint64)).astype(np.float64)
        near = distance <= atol + rtol * np.abs(want.astype(np.float64))
        passed = same | (near & np.isfinite(distance))
    worst = float(np.where(same, 0.0, distance).max(initial=0.0))
    worst_or_none = worst if math.isfinite(worst) else None
    return {**outcome, "max_abs": worst_or_none, "passed": bool(passed.all())}


# --- engine cache ------------------------------------------------------------------------------------


class EngineCache:
    """The folder of TensorRT engines of one model on one board, which a provider option names as `${cache}`.

    An engine is executable code for one TensorRT version and one GPU (TensorRT developer guide, "Serialized engines are
    not portable"), so none is loaded that this loader has not built here: the folder's name is a hash of all that an
    engine depends on, nobody else can write to it, and an engine without a right `.sha256` beside it, written once its
    session had opened, is deleted before TensorRT can see it. Is TensorRT's version or the SM unknown, all are.
    """

    def __init__(
        self,
        cache_dir: str | os.PathLike[str] | None,
        model_sha256: str,
        board: Board,
        onnxruntime: str,
        chain: Chain,
    ) -> None:
        options = hashlib.sha256(json.dumps(chain, sort_keys=True).encode()).hexdigest()
        self.key = {"model_sha256": model_sha256, **asdict(board), "onnxruntime": onnxruntime}
        if cache_dir is None:
            home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
            cache_dir = os.path.join(home, "edgepack")
        base = Path(os.path.realpath(cache_dir))
        name = json.dumps([self.key, options], sort_keys=True)
        self.folder = base / hashlib.sha256(name.encode()).hexdigest()[:32]
        self.kept: list[str] = []
        self.removed: list[str] = []
        self._trusted = bool(board.tensorrt and board.sm)
        _make_private(base)
        _make_private(self.folder)

    def fill(self, chain: Chain) -> Chain:
        """`chain` with this folder for every `${cache}`."""
        folder = str(self.folder)
        return [
            (name, {key: value.replace("${cache}", folder) for key, value in options.items()})
            for name, options in chain
        ]

    @contextlib.contextmanager
    def building(self) -> Iterator[None]:
        """Hold the folder while a session opens: first delete what is not ours, last seal what is new."""
        with self._locked():
            for path in self._engines():
                if self._trusted and _seal_of(path) == _sha256(path):
                    self.kept.append(path.name)
                else:
                    self.removed.append(path.name)
                    path.unlink()
            yield
            self._write_seals()

    def seal(self) -> None:
        """Write the SHA-256 of every engine beside it."""
        with self._locked():
            self._write_seals()

    def report(self) -> dict[str, Any]:
        """The folder, what its name stands for, and the engines found there: kept and removed."""
        found = {"kept": self.kept, "removed": self.removed}
        return {"folder": str(self.folder), "key": self.key, **found}

    def _engines(self) -> list[Path]:
        paths = [p for p in sorted(self.folder.rglob("*")) if p.is_symlink() or p.is_file()]
        return [p for p in paths if p.suffix not in (".sha256", ".lock")]

    def _write_seals(self) -> None:
        for path in self._engines():
            digest = _sha256(path)
            if _seal_of(path) != digest:
                _seal_place(path).write_text(digest)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        import fcntl

        with open(self.folder / "edgepack.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = folder.stat()
    if info.st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to uid {info.st_uid}, not to {os.geteuid()}")
    if info.st_mode & 0o022:
        raise PermissionError(f"{folder} can be written by others: chmod 700 {folder}")


def _seal_place(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _seal_of(path: Path) -> str | None:
    try:
        return _seal_place(path).read_text()
    except (OSError, ValueError):
        return None


def _sha256(path: Path) -> str:
    return "a link" if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest()


# --- board -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Board:
    """What a TensorRT engine is bound to, besides model and onnxruntime. Empty: unknown, or not a Jetson."""

    board: str = ""
    l4t: str = ""
    tensorrt: str = ""
    sm: str = ""

    @staticmethod
    def read(root: Path = Path("/")) -> Board:
        """The board whose file system is at `root`. Libraries are asked only at `/`, that is on the board itself.

        Sources: Jetson Linux developer guide (`/etc/nv_tegra_release`, the device tree); `dpkg-query -W` for TensorRT,
        because JetPack's version does not tell it; CUDA GPU list for the SMs of Xavier, Orin and Thor.
        """
        tree, here = root / "proc/device-tree", root == Path("/")
        chips = _text(tree / "compatible")
        known = {"tegra194": "72", "tegra234": "87", "tegra264": "110"}
        sm = next((sm for chip, sm in known.items() if chip in chips), "")
        l4t = re.match(r"# R(\d+) .*?REVISION: ([\d.]+)", _text(root / "etc/nv_tegra_release"))
        return Board(
            board=_text(tree / "model").replace("\0", "").strip(),
            l4t=".".join(l4t.groups()) if l4t else "",
            tensorrt=_installed_tensorrt(root) or (_loaded_tensorrt() if here else ""),
            sm=sm or (_cuda_sm() if here else ""),
        )


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def _installed_tensorrt(root: Path) -> str:
    form = "${db:Status-Abbrev}${Package} ${Version}\n"
    command = ["dpkg-query", f"--admindir={root / 'var/lib/dpkg'}", "-W", "-f", form]
    try:
        done = subprocess.run([*command, "libnvinfer[0-9]*"], capture_output=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    # "hi": installed, and held (apt-mark hold), as many do on a Jetson.
    versions = re.findall(r"^[ih]i +libnvinfer\d+ (\S+)$", done.stdout.decode(), re.MULTILINE)
    return " ".join(sorted(versions))


def _loaded_tensorrt() -> str:
    """Source: NvInferRuntimeBase.h, `int32_t getInferLibVersion()`; 8502 is 8.5.2, 100300 is 10.3.0."""
    for name in ("libnvinfer.so.10", "libnvinfer.so.8", "libnvinfer.so"):
        with contextlib.suppress(OSError, AttributeError):
            return str(ctypes.CDLL(name).getInferLibVersion())
    return ""


def _cuda_sm() -> str:
    """Source: cuda.h, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75 and _MINOR = 76; device 0."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ""
    numbers = [ctypes.c_int(), ctypes.c_int()]
    failed = cuda.cuInit(0) or any(
        cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, 0)
        for number, attribute in zip(numbers, (75, 76))
    )
    return "" if failed else "".join(str(number.value) for number in numbers)


# --- command line ------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code: 0 well, 1 a golden case missed, 2 an error."""
    options = _parser().parse_args(arguments)
    try:
        # stdout belongs to the JSON, whatever onnxruntime prints.
        with contextlib.redirect_stdout(sys.stderr):
            outcome = options.command(options)
    except Exception as error:
        # Everything but our own error is onnxruntime's, while the model runs.
        ours = isinstance(error, EdgepackError)
        kind = error.kind if isinstance(error, EdgepackError) else "runtime-failed"
        message = str(error) if ours else f"{type(error).__name__}: {error}"
        outcome = {"error": {"kind": kind, "message": message}}
        print(f"error: {kind}: {message}", file=sys.stderr)
    print(json.dumps(outcome, indent=2, ensure_ascii=False))
    return 2 if "error" in outcome else 0 if outcome.get("passed", True) else 1


def _parser() -> argparse.ArgumentParser:
    own = str(Path(__file__).resolve().parent.parent)
    parser = argparse.ArgumentParser(description="Check and run an edgepack bundle.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command, summary in (
        ("self-test", _self_test, "run the golden cases and compare"),
        ("latency", _latency, "time the first golden case"),
        ("report", _report, "open the model and say what runs it"),
        ("run", _run, "run the model on .npy files"),
        ("check", _check, "compare every file with the manifest"),
    ):
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.set_defaults(command=command)
        sub.add_argument("bundle", nargs="?", default=own, help="folder (this file's own bundle)")
        if command is not _check:
            sub.add_argument("--providers", type=lambda text: text.split(","), metavar="A,B")
            sub.add_argument("--threads", type=int)
            sub.add_argument("--cache-dir", metavar="DIR", help="folder for TensorRT engines")
        if command is _latency:
            sub.add_argument("--runs", type=int, default=100)
            sub.add_argument("--warm-up", type=int, default=10)
            sub.add_argument("--seconds", type=float, default=30.0, help="at most (30)")
        if command is _run:
            sub.add_argument("--input", action="append", default=[], metavar="NAME=FILE.npy")
            sub.add_argument("--output-dir", type=Path, required=True, metavar="DIR")
    return parser


def _session(options: argparse.Namespace) -> EdgepackSession:
    bundle = EdgepackBundle.open(options.bundle)
    return bundle.session(options.providers, options.threads, options.cache_dir)


def _self_test(options: argparse.Namespace) -> dict[str, Any]:
    with _session(options) as session:
        outcome, report = session.self_test(), session.report()
    lines = []
    for case in outcome["cases"]:
        verdict = "ok" if case["passed"] else "MISS"
        worst = case["max_abs"]
        far = case.get("why", "not finite") if worst is None else f"{worst:.3g}"
        bound = f"{case['atol']:.3g} + {case['rtol']:.3g}·|b|"
        where = f"case {case['case']}: {case['output']} against {case['from']}"
        lines.append(f"{verdict:4} {where}: max |a−b| {far}, allowed {bound}")
    lines += [f"passed over {name}: {why}" for name, why in report["passed_over"].items()]
    verdict = "passed" if outcome["passed"] else "FAILED" if outcome["cases"] else "no golden cases"
    print(*lines, f"{verdict} on {report['provider']}", sep="\n", file=sys.stderr)
    return {**outcome, "report": report}


def _latency(options: argparse.Namespace) -> dict[str, Any]:
    with _session(options) as session:
        times = session.latency(options.runs, options.warm_up, options.seconds)
        report = session.report()
    shown = ", ".join(f"{key[:-3]} {value:.3f} ms" for key, value in times.items() if "_ms" in key)
    print(f"{times['runs']} runs on {report['provider']}: {shown}", file=sys.stderr)
    return {**times, "report": report}


def _report(options: argparse.Namespace) -> dict[str, Any]:
    with _session(options) as session:
        return session.report()


def _check(options: argparse.Namespace) -> dict[str, Any]:
    bundle = EdgepackBundle.open(options.bundle)
    bundle.check()
    return {"files": len(bundle.manifest["files"])}


def _run(options: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    inputs = {}
    for pair in options.input:
        name, _, path = pair.partition("=")
        try:
            inputs[name] = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise EdgepackError("input-missing", f"--input {pair}: {error}") from error
    with _session(options) as session:
        answers, report = session.run(inputs), session.report()
    options.output_dir.mkdir(parents=True, exist_ok=True)
    outputs = []
    for name, value in answers.items():
        path = options.output_dir / (quote(name, safe="") + ".npy")
        np.save(path, value)
        spec = {"name": name, "dtype": str(value.dtype), "shape": value.shape}
        outputs.append({**spec, "path": str(path)})
    return {"outputs": outputs, "report": report}


if __name__ == "__main__":
    sys.exit(main())
