"""What runs a model on a device: package and version, providers in order, session settings, files that are fetched."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from edgepack.names import NAME, VERSION
from edgepack.resources import RUNTIME

_STRICT = ConfigDict(extra="forbid", frozen=True)


class Provider(BaseModel):
    """An execution provider by ONNX Runtime's own name, with its options (values are strings).

    Attributes:
        package, version: of a runtime of its own, which the loader asks instead of ONNX Runtime; empty: it comes with ONNX Runtime.
    """

    model_config = _STRICT
    name: str = Field(pattern=r"^[A-Za-z]+ExecutionProvider$")
    options: dict[str, str] = Field(default_factory=dict)
    package: str = ""
    version: str = Field(default="", pattern=rf"{VERSION}|^$")

    @model_serializer(mode="wrap")
    def _without_empty(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {k: v for k, v in dump(self).items() if v != ""}

    @model_validator(mode="after")
    def _package_has_a_version(self) -> Provider:
        if bool(self.package) != bool(self.version):
            raise ValueError(f"{self.name}: package and version go together")
        return self


class SessionSettings(BaseModel):
    """Session options the loader sets. `intra_op_num_threads` 0: the runtime's default."""

    model_config = _STRICT
    graph_optimization_level: Literal["disabled", "basic", "extended", "all"] = "all"
    intra_op_num_threads: int = Field(default=0, ge=0)
    config: dict[str, str] = Field(default_factory=dict)


class RuntimeFile(BaseModel):
    """A file of the runtime's package that the device fetches by itself, and that must be this one."""

    model_config = _STRICT
    path: str = Field(pattern=NAME)
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Runtime(BaseModel):
    """The runtime on the device: which loader, which package, which version, which providers in which order.

    `files`: those of the package that are fetched one by one (the web's), by content.
    """

    model_config = _STRICT
    language: str
    package: str
    version: str = Field(pattern=VERSION)
    min_version: str = Field(pattern=VERSION)
    providers: tuple[Provider, ...] = Field(min_length=1)
    session: SessionSettings = Field(default_factory=SessionSettings)
    files: tuple[RuntimeFile, ...] = ()

    @field_validator("language")
    @classmethod
    def _has_loader(cls, value: str) -> str:
        languages = sorted(p.parent.name for p in RUNTIME.glob("*/runtime.yaml"))
        if value not in languages:
            raise ValueError(f"no loader in this language (one of {', '.join(languages)})")
        return value
