"""How an image becomes a model's input: the user's words for it, from a YAML file or a preset's name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field, field_validator

from edgepack.errors import TargetError, UsageError
from edgepack.yamlfile import YamlFile, explain

_PRESETS = Path(__file__).resolve().parent / "presets"

#: One value for all channels, or one for each.
PerChannel = float | tuple[float, ...]


class Preprocessing(BaseModel):
    """From pixels 0–255 to the model's input: `(x · scale − mean) / std`, for each channel, after resizing.

    Attributes:
        size: [height, width], or one number for both, where the model leaves them free.
        resize: `stretch` to the size; `crop`: shrink or grow until the image covers it (or its shorter side is `shorter_side`), then
            cut out the middle; `letterbox`: until it fits inside, `pad` around it.
        shorter_side: pixels, before `crop`.
        interpolation: Pillow's filters; all but `nearest` average over the pixels that go into one when they shrink.
        channels: their order in the model's input; by default what its number of channels says: gray, rgb, rgba.
        scale: a number, or a fraction like 1/255.
        mean, std: in the order of `channels`, after scaling.
        layout: where an input's channels stand, if its shape leaves that open.
        pad: 0–255, one value or red, green, blue.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    size: tuple[int, int] | None = None
    resize: Literal["stretch", "crop", "letterbox"] = "stretch"
    shorter_side: int | None = Field(default=None, gt=0)
    interpolation: Literal["bilinear", "bicubic", "nearest", "area", "box", "lanczos"] = "bilinear"
    channels: Literal["rgb", "bgr", "rgba", "gray"] | None = None
    scale: float = Field(default=1.0, allow_inf_nan=False)
    mean: PerChannel = 0.0
    std: PerChannel = 1.0
    layout: Literal["nhwc", "nchw"] | None = None
    pad: int | tuple[int, int, int] = 0

    @field_validator("size", mode="before")
    @classmethod
    def _square(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, int) else value

    @field_validator("size")
    @classmethod
    def _positive(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and min(value) < 1:
            raise ValueError("height and width are at least 1")
        return value

    @field_validator("scale", mode="before")
    @classmethod
    def _fraction(cls, value: Any) -> Any:
        if isinstance(value, str) and value.count("/") == 1:
            over, under = (float(part) for part in value.split("/"))
            if under == 0:
                raise ValueError("divides by 0")
            return over / under
        return value

    @field_validator("std")
    @classmethod
    def _divisor(cls, value: PerChannel) -> PerChannel:
        if 0 in (value if isinstance(value, tuple) else (value,)):
            raise ValueError("0 cannot be divided by")
        return value

    @field_validator("pad")
    @classmethod
    def _pixel(cls, value: int | tuple[int, ...]) -> int | tuple[int, ...]:
        if not all(0 <= v <= 255 for v in (value if isinstance(value, tuple) else (value,))):
            raise ValueError("a pixel is 0 to 255")
        return value

    @pydantic.model_validator(mode="after")
    def _crops(self) -> Preprocessing:
        if self.shorter_side is not None and self.resize != "crop":
            raise ValueError("shorter_side goes with resize: crop")
        return self

    def canonical(self) -> str:
        """One line of JSON, equal for equal preprocessing: for digests and manifests."""
        return json.dumps(self.model_dump(), sort_keys=True)


class _Preset(BaseModel):
    """A preset's file: what it is for, where its numbers are from, and the preprocessing."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    about: str
    source: str
    preprocessing: dict[str, Any]


def presets() -> dict[str, str]:
    """What each preset does, by its name."""
    return {path.stem: _preset(path).about for path in sorted(_PRESETS.glob("*.yaml"))}


def preset_list() -> str:
    """The presets in one line, for messages."""
    return "; ".join(f"{name} ({about})" for name, about in presets().items())


def as_preprocessing(given: object) -> Preprocessing | None:
    """Preprocessing from a preset's name, a YAML file, a mapping, or None.

    A file or mapping may begin with a preset (`preset: torch`) and change some of its keys.

    Raises:
        UsageError: unknown preset, no such file, an unknown key or a value out of range: file, line and key.
    """
    if given is None or isinstance(given, Preprocessing):
        return given
    if isinstance(given, Mapping):
        return _validated(dict(given), None, "preprocessing")
    if not isinstance(given, (str, Path)):
        raise UsageError(
            f"preprocessing is a {type(given).__name__}",
            "give a preset's name, a YAML file or a mapping",
        )
    if str(given) in presets():
        return _validated({"preset": str(given)}, None, "preprocessing")
    path = Path(given)
    if not path.is_file():
        raise UsageError(
            f"preprocessing {str(given)!r} is neither a file nor a preset",
            f"give a YAML file, or one of: {preset_list()}",
        )
    try:
        file = YamlFile(path)
    except TargetError as error:
        raise UsageError(
            error.cause, "write keys such as `preset: torch` or `scale: 1/255`"
        ) from error
    return _validated(file.data, file, str(path))


def _validated(data: dict[str, Any], file: YamlFile | None, place: str) -> Preprocessing:
    data = dict(data)
    name = data.pop("preset", None)
    base: dict[str, Any] = {}
    if name is not None:
        path = _PRESETS / f"{name}.yaml"
        if name not in presets():
            where = place if file is None else file.place(("preset",))
            raise UsageError(f"{where}: no preset {name!r}", f"use one of: {preset_list()}")
        base = _preset(path).preprocessing
    try:
        return Preprocessing.model_validate({**base, **data})
    except pydantic.ValidationError as error:
        if file is not None:
            told = explain(error, file, {"": ("preset", *Preprocessing.model_fields)})
            raise UsageError(told.cause, told.fix) from error
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or place
        keys = ", ".join(("preset", *Preprocessing.model_fields))
        raise UsageError(
            f"{place}: {key} is {first['input']!r}: {first['msg'].removeprefix('Value error, ')}",
            f"keys are: {keys}",
        ) from error


def _preset(path: Path) -> _Preset:
    return _Preset.model_validate(YamlFile(path).data)
