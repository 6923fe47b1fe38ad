"""`manifest.json`: what a bundle is, file by file. See runtime/README.md for the part a loader reads.

Law: `Manifest.from_json(m.to_json()) == m`. The text is canonical JSON (RFC 8785), so that a signature over it holds, and has no
time, host name or absolute path in it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import rfc8785
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from edgepack.artifact import DTYPES
from edgepack.bundle.preprocessing import Preprocessing, without_none
from edgepack.errors import BundleError
from edgepack.names import NAME, VERSION
from edgepack.runtimes import Provider, RuntimeFile, SessionSettings
from edgepack.targets import Precision, Way

SCHEMA = 1
MANIFEST = "manifest.json"
#: The one file that may lie beside the manifest without being listed: the signature over it.
SIGNATURE = "manifest.sig"

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)
_PART = "[A-Za-z0-9_][A-Za-z0-9_.-]*"


def _known(dtype: str) -> str:
    if dtype not in DTYPES:
        raise ValueError(f"must be one of {', '.join(DTYPES)}")
    return dtype


#: Parts begin with neither dot nor slash, so that all lies inside, and need no escape in a URL.
RelativePath = Annotated[str, StringConstraints(pattern=rf"^{_PART}(/{_PART})*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
#: What goes into folder names and into the templates of loaders.
Name = Annotated[str, StringConstraints(pattern=NAME)]
Version = Annotated[str, StringConstraints(pattern=VERSION)]
Dtype = Annotated[str, AfterValidator(_known)]
#: JSON has no tuples, and strict mode takes no list for one.
Dims = Annotated[tuple[Annotated[int, Field(ge=0)] | str, ...], Field(strict=False)]
Bound = Annotated[float, Field(strict=False, ge=0, allow_inf_nan=False)]


class Release(BaseModel):
    """Which app, which version, and its place in the order of releases (a board refuses to go back)."""

    model_config = _STRICT
    app: Name
    version: str
    seq: int = Field(ge=0)


class Target(BaseModel):
    """The profile this was built for, and what the device must be."""

    model_config = _STRICT
    name: Name
    requires: dict[str, str]


class Model(BaseModel):
    """The model file and its form."""

    model_config = _STRICT
    path: RelativePath
    format: Literal["onnx", "ort"]
    precision: Precision
    opset: int


class Tensor(BaseModel):
    """An input or output; a string in the shape is a free dimension. `preprocessing`: how an image becomes this input, where known."""

    model_config = _STRICT
    name: str
    dtype: Dtype
    shape: Dims
    preprocessing: Preprocessing | None = None

    @pydantic.model_serializer(mode="wrap")
    def _without_empty(self, dump: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_none(dump(self))


class RuntimeSpec(BaseModel):
    """What runs it: pinned version, the oldest that may, providers in order, session settings, files of its package that are fetched."""

    model_config = _STRICT
    language: str = Field(pattern=r"^[a-z]+$")
    package: str
    version: Version
    min_version: Version
    providers: Annotated[tuple[Provider, ...], Field(strict=False)]
    session: SessionSettings
    files: Annotated[tuple[RuntimeFile, ...], Field(strict=False)] = ()

    @pydantic.model_serializer(mode="wrap")
    def _without_empty(self, dump: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_none({**dump(self), "files": self.files or None})


class GoldenInput(BaseModel):
    """Raw little-endian values of one input."""

    model_config = _STRICT
    name: str
    dtype: Dtype
    shape: Dims
    path: RelativePath


class Expectation(BaseModel):
    """What one output must be, within |a − b| ≤ atol + rtol·|b|."""

    model_config = _STRICT
    name: str
    origin: Literal["shipped", "source"] = Field(alias="from")
    dtype: Dtype
    shape: Dims
    path: RelativePath
    atol: Bound
    rtol: Bound


class GoldenCase(BaseModel):
    """One feed and the answers to it."""

    model_config = _STRICT
    name: str
    inputs: Annotated[tuple[GoldenInput, ...], Field(strict=False)]
    expect: Annotated[tuple[Expectation, ...], Field(strict=False)]


class File(BaseModel):
    """A file of the bundle; every file but the manifest and its signatures is listed."""

    model_config = _STRICT
    path: RelativePath
    size: int = Field(ge=0)
    sha256: Sha256
    role: Literal["model", "golden", "loader", "doc", "log"]


class SourceModel(BaseModel):
    """The user's model, by content."""

    model_config = _STRICT
    name: str
    format: str
    sha256: Sha256
    size: int
    framework: str


class GateRecord(BaseModel):
    """How accuracy was measured: what, on how many samples of which data, and how much may be lost.

    `judged_by`: of agreement with the float model, by what each output was judged: "classes" or "values". `reference`: the float
    model's own score against the labels; null without labels, or where it is no number.
    """

    model_config = _STRICT
    metric: str
    judged_by: dict[str, Literal["classes", "values"]] = Field(default_factory=dict)
    unit: str
    max_drop: Bound
    samples: int
    data: str
    sha256: Sha256
    reference: float | None = None

    @property
    def said(self) -> str:
        """In words: `agreement of classes (scores) and values (boxes) on 32 samples of calibration data, may drop by 1 point`."""
        samples = "sample" if self.samples == 1 else "samples"
        unit = "point" if self.unit == "points" and self.max_drop == 1.0 else self.unit
        own = "" if self.reference is None else f" (the float model: {self.reference:.4g})"
        said = f"{self._metric} on {self.samples} {samples} of {self.data}{own}, may drop by {self.max_drop:g} {unit}"
        return said.rstrip()

    @property
    def _metric(self) -> str:
        kinds = sorted(set(self.judged_by.values()))
        if len(kinds) < 2:
            return " of ".join((self.metric, *kinds))
        outputs = {k: ", ".join(n for n, j in self.judged_by.items() if j == k) for k in kinds}
        return f"{self.metric} of " + " and ".join(f"{k} ({outputs[k]})" for k in kinds)


class Attempt(BaseModel):
    """One way to build the model that was tried, by the profile's name: options beyond the profile's, and how it was measured.

    `score` and `drop` are null where nothing was measured, or what was is no number; `failure` says why it could not be built;
    `shipped`: it is what the bundle holds.
    """

    model_config = _STRICT
    precision: Way
    options: dict[str, Any]
    size: int
    score: float | None
    drop: float | None
    holds: bool
    failure: str
    shipped: bool = False


class ChosenPrecision(BaseModel):
    """What was asked for, what was picked, and why; and all that was tried, in order."""

    model_config = _STRICT
    requested: str
    chosen: Precision
    because: str
    gate: GateRecord | None = None
    tried: Annotated[tuple[Attempt, ...], Field(strict=False)] = ()


class StageRecord(BaseModel):
    """One step: its options, what it noted, the file it left, and how far that is from the source framework."""

    model_config = _STRICT
    step: str
    options: dict[str, Any]
    changed: bool
    facts: dict[str, Any]
    sha256: Sha256
    size: int
    parity: Annotated[tuple[dict[str, Any], ...], Field(strict=False)]


class Build(BaseModel):
    """How it was made."""

    model_config = _STRICT
    source: SourceModel
    precision: ChosenPrecision
    golden_from: str
    steps: Annotated[tuple[StageRecord, ...], Field(strict=False)]
    tools: dict[str, str]


class Manifest(BaseModel):
    """Everything a bundle says of itself. `critical` names fields beyond these that a reader must know: none, so far."""

    model_config = _STRICT
    schema_version: int = Field(alias="schema", ge=1)
    critical: Annotated[tuple[str, ...], Field(strict=False)] = ()
    release: Release
    target: Target
    model: Model
    inputs: Annotated[tuple[Tensor, ...], Field(strict=False)]
    outputs: Annotated[tuple[Tensor, ...], Field(strict=False)]
    runtime: RuntimeSpec
    golden: Annotated[tuple[GoldenCase, ...], Field(strict=False)]
    files: Annotated[tuple[File, ...], Field(strict=False)]
    build: Build

    def to_json(self) -> bytes:
        """Canonical JSON, UTF-8."""
        return bytes(rfc8785.dumps(self.model_dump(mode="json", by_alias=True)))

    @staticmethod
    def from_json(text: bytes, *, place: Path) -> Manifest:
        """Parse and check a manifest.

        Raises:
            BundleError: not JSON, duplicate keys, a newer schema, an unknown critical field, a missing or faulty field.
        """
        try:
            data = json.loads(
                text, object_pairs_hook=_without_duplicates, parse_constant=_no_constant
            )
            # Half a surrogate pair, a number beyond 2^53: there is no canonical form of them.
            rfc8785.dumps(data)
        except (ValueError, RecursionError, rfc8785.CanonicalizationError) as error:
            raise BundleError(
                f"{place}: {error}", "build the bundle again; it was changed"
            ) from error
        if not isinstance(data, dict):
            raise BundleError(f"{place}: not a JSON object", "build the bundle again")
        schema = data.get("schema")
        if isinstance(schema, int) and schema > SCHEMA:
            raise BundleError(
                f"{place}: schema {schema}; this edgepack knows up to {SCHEMA}", "upgrade edgepack"
            )
        critical = data.get("critical")
        unknown = [c for c in critical if isinstance(c, str)] if isinstance(critical, list) else []
        if unknown:
            raise BundleError(
                f"{place}: critical fields this edgepack does not know: {', '.join(unknown)}",
                "upgrade edgepack",
            )
        try:
            return Manifest.model_validate(data)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise BundleError(
                f"{place}: {where}: {first['msg']}", "build the bundle again"
            ) from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [k for k, _ in pairs]
        twice = next(k for k in keys if keys.count(k) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return result
