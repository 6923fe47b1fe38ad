"""How an image becomes an input, as a manifest tells a loader: with nothing left open."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from edgepack.samples.frame import Frame

Number = Annotated[float, Field(strict=False, allow_inf_nan=False)]
PerChannel = Annotated[tuple[Number, ...], Field(strict=False)]
Level = Annotated[int, Field(ge=0, le=255)]

_COUNTS = {"gray": 1, "rgb": 3, "bgr": 3, "rgba": 4}


class Preprocessing(BaseModel):
    """From an image's pixels 0–255 to an input: `(x · scale − mean) / std` for each channel, after resizing.

    Attributes:
        height, width: pixels, after resizing.
        resize, shorter_side, interpolation: as in `edgepack.samples.preprocessing`; `area` is its `box` too.
        channels: in the input's order.
        layout: the input's last axes; those before them are 1. `hw`: no axis for channels.
        mean, std: one for each channel, in the input's order.
        pad: red, green, blue, around a letterbox; for `gray` their mean, three times.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    resize: Literal["stretch", "crop", "letterbox"]
    shorter_side: int | None = Field(default=None, ge=1)
    interpolation: Literal["bilinear", "bicubic", "nearest", "area", "lanczos"]
    channels: Literal["gray", "rgb", "bgr", "rgba"]
    layout: Literal["nhwc", "nchw", "hw"]
    scale: Number
    mean: PerChannel
    std: PerChannel
    pad: Annotated[tuple[Level, Level, Level], Field(strict=False)]

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Preprocessing:
        count = _COUNTS[self.channels]
        if (len(self.mean), len(self.std)) != (count, count):
            raise ValueError(f"mean and std have one value for each channel of {self.channels}")
        if 0 in self.std:
            raise ValueError("std holds a 0")
        if self.layout == "hw" and count > 1:
            raise ValueError(f"layout hw has no axis for {self.channels}")
        if self.shorter_side is not None and self.resize != "crop":
            raise ValueError("shorter_side goes with resize crop")
        return self

    @pydantic.model_serializer(mode="wrap")
    def _without_empty(self, dump: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_none(dump(self))


def without_none(data: dict[str, Any]) -> dict[str, Any]:
    """The fields that are there, so that a manifest without the optional ones keeps its bytes."""
    return {key: value for key, value in data.items() if value is not None}


def settled(frame: Frame) -> Preprocessing:
    """What a frame does to an image."""
    way, count = frame.preprocessing, len(frame.table)
    pad = way.pad if isinstance(way.pad, tuple) else (way.pad,) * 3
    layouts: dict[tuple[int, ...] | None, str] = {None: "hw", (2, 0, 1): "nchw", (0, 1, 2): "nhwc"}
    return Preprocessing.model_validate(
        {
            "height": frame.height,
            "width": frame.width,
            "resize": way.resize,
            "shorter_side": way.shorter_side,
            "interpolation": "area" if way.interpolation == "box" else way.interpolation,
            "channels": frame.order,
            "layout": layouts[frame.axes],
            "scale": way.scale,
            "mean": way.mean if isinstance(way.mean, tuple) else (way.mean,) * count,
            "std": way.std if isinstance(way.std, tuple) else (way.std,) * count,
            "pad": (round(sum(pad) / 3),) * 3 if frame.order == "gray" else pad,
        }
    )
