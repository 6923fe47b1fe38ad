"""What an image must become for one input: size, channels, layout, dtype, and the value of every pixel level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.artifact import Dim, TensorSpec
from edgepack.errors import DataError, UsageError
from edgepack.samples.preprocessing import Preprocessing, preset_list
from edgepack.samples.rows import Rows

#: Gray, colour, colour with alpha: the channel order where none is given.
_ORDERS = {1: "gray", 3: "rgb", 4: "rgba"}
_COUNTS = {"gray": 1, "rgb": 3, "bgr": 3, "rgba": 4}
#: 8-bit images have these levels.
LEVELS = 256
#: Of arrays that are said to be preprocessed images.
_LOOKED_AT = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """An input's demands on an image, all settled.

    Attributes:
        height, width: pixels.
        order: of the channels: gray, rgb, bgr, rgba.
        axes: how [H, W, C] is transposed; None: there is no axis for channels.
        table: [channels, 256] in the input's dtype: what each level of each channel becomes.
    """

    height: int
    width: int
    order: str
    axes: tuple[int, ...] | None
    table: NDArray[Any]
    preprocessing: Preprocessing

    @property
    def shape(self) -> tuple[int, ...]:
        """A sample's shape, without the batch."""
        if self.axes is None:
            return (self.height, self.width)
        sizes = (self.height, self.width, len(self.table))
        return tuple(sizes[a] for a in self.axes)

    def require_made(self, rows: Rows, source: str) -> None:
        """Hold samples that are said to be images in this preprocessing against what the levels 0 to 255 become in it.

        The first few are looked at. A twentieth of the range is left for resizing in floats, which may overshoot.

        Raises:
            DataError: a value lies outside.
        """
        low, high = float(self.table.min()), float(self.table.max())
        few = np.asarray(rows[:_LOOKED_AT], dtype=np.float64)
        slack = (high - low) / 20
        if few.size and not (low - slack <= few.min() and few.max() <= high + slack):
            raise DataError(
                f"{source}: values from {few.min():g} to {few.max():g}; the preprocessing given takes pixels to {low:g} … {high:g}",
                "arrays are taken as preprocessed already: save them so, or say what they are in with --preprocess",
            )

    def values(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """The sample that fits the input.

        Args: pixels: uint8 [H, W, C], channels in the order gray, rgb or rgba.
        """
        if self.order == "bgr":
            pixels = pixels[:, :, ::-1]
        sample = np.empty(pixels.shape, self.table.dtype)
        for c, levels in enumerate(self.table):
            sample[:, :, c] = levels[pixels[:, :, c]]
        if self.axes is None:
            return sample[:, :, 0]
        return np.ascontiguousarray(sample.transpose(self.axes))


def frame_for(spec: TensorSpec, preprocessing: Preprocessing | None, source: str) -> Frame:
    """What the images in `source` must become for the input `spec`.

    Raises:
        UsageError: the input is no image, its size or layout is open, or nobody said how pixels become its values.
    """
    given = preprocessing or _default(spec, source)
    height, width, channels, axes = _axes(spec, given, source)
    order = given.channels or _ORDERS[channels]
    if _COUNTS[order] != channels:
        raise UsageError(
            f"preprocessing: channels are {order}; {spec} takes {channels}",
            f"write channels: {_ORDERS[channels]}",
        )
    sizes = [height, width]
    for axis, size in enumerate(sizes):
        wanted = given.size[axis] if given.size else None
        if isinstance(size, str) and wanted is None:
            raise UsageError(
                f"{source} holds images; {spec} leaves their size open",
                "fix it with --shape, or write size: [height, width] into the preprocessing",
            )
        if wanted is not None and not isinstance(size, str) and size != wanted:
            raise UsageError(
                f"preprocessing: size is {list(given.size or ())}; {spec} takes another",
                "leave size out: the model says it",
            )
        sizes[axis] = wanted if isinstance(size, str) else size  # type: ignore[assignment]
    return Frame(
        height=int(sizes[0]),
        width=int(sizes[1]),
        order=order,
        axes=axes,
        table=_table(given, channels, spec),
        preprocessing=given,
    )


def _default(spec: TensorSpec, source: str) -> Preprocessing:
    if spec.dtype == "uint8":
        return Preprocessing()
    raise UsageError(
        f"{source} holds images; how their 0–255 become {spec.name}'s {spec.dtype} is not known to edgepack",
        f"say it with --preprocess, a YAML file or one of: {preset_list()}",
    )


def _axes(
    spec: TensorSpec, given: Preprocessing, source: str
) -> tuple[Dim, Dim, int, tuple[int, ...] | None]:
    """Height, width, channels, and how [H, W, C] is transposed."""
    shape = spec.shape
    if len(shape) == 3 and shape[2] not in _ORDERS and (isinstance(shape[0], str) or shape[0] == 1):
        return shape[1], shape[2], 1, None  # [batch, H, W]
    if len(shape) not in (3, 4):
        raise UsageError(
            f"{source} holds images; {spec} is no image", "give arrays, a CSV or module:function"
        )
    first, middle, last = shape[-3:]
    layout = given.layout or _layout(first, last, spec)
    channels = first if layout == "nchw" else last
    if isinstance(channels, str):
        channels = _COUNTS.get(given.channels or "", 0)
    if channels not in _ORDERS:
        raise UsageError(
            f"{spec} as {layout} has {channels or 'an open number of'} channels; images have 1, 3 or 4",
            "correct layout: in the preprocessing, fix the size with --shape, or give arrays",
        )
    if layout == "nchw":
        return middle, last, int(channels), (2, 0, 1)
    return first, middle, int(channels), (0, 1, 2)


def _layout(first: Dim, last: Dim, spec: TensorSpec) -> str:
    nchw, nhwc = first in _ORDERS, last in _ORDERS
    if nchw == nhwc:
        why = "both could be" if nchw else "neither is"
        raise UsageError(
            f"{spec}: where its channels stand is open: {why} 1, 3 or 4",
            "write layout: nhwc or layout: nchw into the preprocessing (--preprocess FILE.yaml)",
        )
    return "nchw" if nchw else "nhwc"


def _table(given: Preprocessing, channels: int, spec: TensorSpec) -> NDArray[Any]:
    levels = np.arange(LEVELS, dtype=np.float64) * given.scale
    rows = []
    for name in ("mean", "std"):
        value = getattr(given, name)
        if isinstance(value, tuple) and len(value) != channels:
            raise UsageError(
                f"preprocessing: {name} has {len(value)} values; {spec} takes {channels} channels",
                f"give {name} one value, or {channels}",
            )
        rows.append(value if isinstance(value, tuple) else (value,) * channels)
    exact = np.stack([(levels - mean) / std for mean, std in zip(*rows, strict=True)])
    want = np.dtype(spec.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        table = exact.astype(want)
    held = np.isfinite(table).all() if want.kind == "f" else np.array_equal(table, exact)
    if not held:
        raise UsageError(
            f"preprocessing takes pixels to {exact.min():g}–{exact.max():g}; {spec.name} is {want}",
            "correct scale, mean and std: every level must fit, and for integers be whole",
        )
    return table
