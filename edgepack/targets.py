"""A target profile: YAML in, `TargetProfile` out. A target is data; no target's name appears in Python."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from edgepack.errors import TargetError
from edgepack.extends import inherited, owner
from edgepack.names import NAME
from edgepack.resources import RUNTIME, TARGETS, load_shipped
from edgepack.runtimes import Provider, Runtime, RuntimeFile, SessionSettings
from edgepack.yamlfile import YamlFile, explain, first_fault

#: Arithmetic in float32, float16, bfloat16 or int8; `-weights`: weights are stored so, and multiplied as float32 (int4: as the provider does).
Precision = Literal["fp32", "fp16", "bf16", "int8", "fp16-weights", "int8-weights", "int4-weights"]


def _known_way(way: str) -> str:
    precision, at, name = way.partition("@")
    if precision not in get_args(Precision) or (at and not re.fullmatch(NAME, name)):
        known = ", ".join(map(repr, get_args(Precision)))
        raise ValueError(f"must be one of {known}, or one of them with @ and a name")
    return way


#: A precision, or `precision@name`: another way to have it, by other steps or on other providers. What such a one does not say of itself
#: is as the precision has it.
Way = Annotated[str, AfterValidator(_known_way)]

_STRICT = ConfigDict(extra="forbid", frozen=True)


def precision_of(way: str) -> Precision:
    """The precision that a way leads to."""
    return cast("Precision", way.partition("@")[0])


class Tolerance(BaseModel):
    """How far an answer may be off: |a − b| ≤ atol + rtol·|b| + range·max|b|, and cosine(a, b) ≥ cosine.

    `range` is a share of the output's largest magnitude over all golden inputs, for stages whose error is set by a tensor's range (quantization).
    """

    model_config = _STRICT
    atol: float = Field(ge=0)
    rtol: float = Field(ge=0)
    range: float = Field(default=0.0, ge=0)
    cosine: float = Field(default=-1.0, ge=-1, le=1)


class StepSpec(BaseModel):
    """A step's name and options as the profile has them; checked against the step itself when the plan is made."""

    model_config = _STRICT
    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class Variant(pydantic.RootModel[dict[str, Any]]):
    """Options in place of those of the step that gives a model its precision."""

    model_config = ConfigDict(frozen=True)


class PrecisionSpec(BaseModel):
    """One legal precision.

    Attributes:
        steps: what comes after the profile's own steps.
        variants: what to try, in this order, where the steps lose too much accuracy. Without one, nothing else is tried.
        providers: those of the runtime's that run it, by name, in the runtime's order. Without one, all.
        provider_options: by provider, options beside those that the profile gives it for every precision.
        parity: how far each stage may be from the source framework on the build machine.
        device: how far the device may be from the shipped model's answers on the build machine.
    """

    model_config = _STRICT
    steps: tuple[StepSpec, ...] = ()
    variants: tuple[Variant, ...] = ()
    providers: tuple[str, ...] = ()
    provider_options: dict[str, dict[str, str]] = Field(default_factory=dict)
    parity: Tolerance
    device: Tolerance

    _steps = field_validator("steps", mode="before")(lambda value: _step_specs(value))


class Preference(BaseModel):
    """A precision, or a way to one, and why one would want it on this device."""

    model_config = _STRICT
    precision: Way
    because: str


class Auto(BaseModel):
    """What `--precision auto` chooses from.

    Attributes:
        candidates: in order of preference: a later one is chosen for speed only if it is quicker beyond doubt. Those that need data
            are left out where there are none.
        timed_with: the engine whose timings on the build machine tell something of the device. Without one, the first candidate
            that is accurate enough is taken.
    """

    model_config = _STRICT
    candidates: tuple[Preference, ...] = Field(min_length=1)
    timed_with: Literal["onnxruntime", "onnxruntime-web"] | None = None


class TargetProfile(BaseModel):
    """One device family: what its graphs must look like and what runs them.

    Attributes:
        title: one line for people.
        static_shapes: the device takes no free dimension at all.
        requires: what the device must be; checked when a bundle is flashed to a board. `arch`, `board`, `power_mode` are words, with `|`
            between several; `memory` and `disk` (free) are ranges of sizes, `>=4GiB`; all others are ranges of versions, `>=36.4,<37`.
        legality: options of each rule that a finished graph must keep, by the rule's name; `false` drops an inherited one.
        steps: the steps every precision shares, in order.
    """

    model_config = _STRICT
    name: str = Field(pattern=NAME)
    title: str
    runtime: Runtime
    static_shapes: bool
    requires: dict[str, str] = Field(default_factory=dict)
    legality: dict[str, dict[str, Any] | Literal[False]] = Field(default_factory=dict)
    steps: tuple[StepSpec, ...]
    precisions: dict[Way, PrecisionSpec]
    auto: Auto
    next: str = Field(description="what the user does with the bundle, one line")

    _steps = field_validator("steps", mode="before")(lambda value: _step_specs(value))

    @field_validator("precisions", mode="before")
    @classmethod
    def _ways_are_as_their_precision(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {way: _as_precision(value, way, own) for way, own in value.items()}

    @field_validator("requires")
    @classmethod
    def _requires_ranges(cls, value: dict[str, str]) -> dict[str, str]:
        """Held to the rules that a board applies, by the very file that goes there."""
        ranges = load_shipped(RUNTIME / "agent" / "edgepack_agent" / "ranges.py")
        for key, wanted in value.items():
            try:
                ranges.check(key, wanted)
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from error
        return value

    def runtime_for(self, way: str) -> Runtime:
        """What runs a model of that precision, made that way, on the device."""
        spec = self.precisions[way]
        providers = tuple(
            p.model_copy(update={"options": {**p.options, **spec.provider_options.get(p.name, {})}})
            for p in self.runtime.providers
            if not spec.providers or p.name in spec.providers
        )
        return self.runtime.model_copy(update={"providers": providers})

    def as_yaml_data(self) -> dict[str, Any]:
        """Plain data in the form of a profile file: loading it gives this profile again."""
        data = self.model_dump(mode="json")
        for holder in (data, *data["precisions"].values()):
            holder["steps"] = [
                {s["name"]: s["options"]} if s["options"] else s["name"] for s in holder["steps"]
            ]
        return data

    @pydantic.model_validator(mode="after")
    def _precisions_name_its_providers(self) -> TargetProfile:
        known = [provider.name for provider in self.runtime.providers]
        for precision, spec in self.precisions.items():
            for key, names in (
                ("provider_options for", spec.provider_options),
                ("among its providers", spec.providers),
            ):
                for name in names:
                    if name not in known:
                        raise ValueError(
                            f"{precision} has {key} {name}, which runtime.providers does not list"
                        )
        return self

    @pydantic.model_validator(mode="after")
    def _auto_is_legal(self) -> TargetProfile:
        for candidate in self.auto.candidates:
            if candidate.precision not in self.precisions:
                raise ValueError(
                    f"auto names {candidate.precision}, which precisions does not list"
                )
        return self


def list_targets(folder: Path = TARGETS) -> tuple[TargetProfile, ...]:
    """Every profile in `folder` that is not abstract, by name."""
    return tuple(load_file(path) for path in _profile_files(folder))


def load_target(name: str) -> TargetProfile:
    """The profile called `name`, or the one in the file `name` if that ends in .yaml.

    Raises:
        TargetError: there is none (the nearest names are given), or it is not valid.
    """
    if name.endswith((".yaml", ".yml")):
        return load_file(Path(name))
    path = TARGETS / f"{name}.yaml"
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name) or not path.is_file():
        known = [p.stem for p in _profile_files(TARGETS)]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise TargetError(f"there is no target {name!r}", f"{hint}targets: {', '.join(known)}")
    return load_file(path)


def load_file(path: Path) -> TargetProfile:
    """The profile in a YAML file, with what it `extends`.

    Raises:
        TargetError: names file, line and key, with the nearest legal key.
    """
    file = YamlFile(path)
    data = inherited(file)
    data.setdefault("name", path.stem)
    try:
        profile = TargetProfile.model_validate(data)
    except pydantic.ValidationError as error:
        raise explain(error, _at_fault(file, error), _known_keys()) from error
    _check_steps(profile, file)
    _check_rules(profile, file)
    return profile


def _at_fault(file: YamlFile, error: pydantic.ValidationError) -> YamlFile:
    """The file in the chain of `extends` in which the first faulty key stands; else `file`."""
    fault = first_fault(error)
    key = tuple(part for part in fault["loc"] if part != "[key]")
    return owner(file, key[:-1] if fault["type"] == "missing" else key)


def _step_specs(value: Any) -> Any:
    """`- name` or `- name: {options}` → StepSpec data."""
    if not isinstance(value, list):
        raise ValueError("must be a list of steps")
    specs: list[dict[str, Any]] = []
    for item in value:
        if isinstance(item, str):
            specs.append({"name": item})
        elif isinstance(item, dict) and len(item) == 1:
            name, options = next(iter(item.items()))
            specs.append({"name": name, "options": options or {}})
        else:
            raise ValueError(f"{item!r} is not `step` or `step: {{options}}`")
    return specs


def _as_precision(precisions: dict[Any, Any], way: Any, own: Any) -> Any:
    """What a profile says of a way to a precision, over what it says of the precision."""
    base = precisions.get(str(way).partition("@")[0])
    return {**base, **own} if isinstance(base, dict) and isinstance(own, dict) else own


def _check_steps(profile: TargetProfile, file: YamlFile) -> None:
    from edgepack.passes.plan import check_chain
    from edgepack.passes.registry import make_step

    for precision, spec in profile.precisions.items():
        where = f"{file.path}: steps of {precision}"
        try:
            chain = [make_step(s.name, s.options) for s in (*profile.steps, *spec.steps)]
            check_chain(chain, precision_of(precision))
            for variant in spec.variants:
                for step in spec.steps:
                    if make_step(step.name, step.options).precision == precision_of(precision):
                        make_step(step.name, {**step.options, **variant.root})
        except ValueError as error:
            raise TargetError(f"{where}: {error}", "correct the step") from error


def _check_rules(profile: TargetProfile, file: YamlFile) -> None:
    from edgepack.legality.registry import make_rule

    for name, options in profile.legality.items():
        try:
            make_rule(name, options or {})
        except ValueError as error:
            key = ("legality", name)
            place = owner(file, key).place(key)
            raise TargetError(f"{place}: legality: {error}", "correct the rule") from error


def _profile_files(folder: Path) -> list[Path]:
    """Profiles that are not abstract, by name."""
    paths = sorted(folder.glob("*.yaml"), key=lambda p: p.stem)
    return [p for p in paths if not YamlFile(p).data.get("abstract", False)]


def _known_keys() -> dict[str, tuple[str, ...]]:
    def keys(model: type[BaseModel]) -> tuple[str, ...]:
        return tuple(model.model_fields)

    return {
        "": (*keys(TargetProfile), "extends", "abstract", "step_sets", "variant_sets"),
        "runtime": keys(Runtime),
        "runtime.session": keys(SessionSettings),
        "runtime.providers.*": keys(Provider),
        "runtime.files.*": keys(RuntimeFile),
        "precisions.*": keys(PrecisionSpec),
        "precisions.*.parity": keys(Tolerance),
        "precisions.*.device": keys(Tolerance),
        "auto": keys(Auto),
        "auto.candidates.*": keys(Preference),
    }
