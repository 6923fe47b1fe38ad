"""Image files as rows: decoded, resized and scaled one at a time, when they are read."""

from __future__ import annotations

import hashlib
import importlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepack.artifact import file_sha256
from edgepack.errors import DataError, EdgepackError, EnvironmentMissing, first_line
from edgepack.samples.frame import Frame
from edgepack.samples.preprocessing import Preprocessing

if TYPE_CHECKING:
    from PIL.Image import Image

#: Files with these endings are taken for images; a folder's others are passed over.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
#: What may be in them, by its first bytes. Pillow has more readers, one of which starts other programs (EPS).
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_MODES = {"gray": "L", "rgb": "RGB", "bgr": "RGB", "rgba": "RGBA"}
#: Pillow's modes of more than 8 bits a channel; its conversion to 8 cuts off what is above 255.
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageRows:
    """N image files as rows [N, *frame.shape].

    Attributes:
        root: the folder that names are relative to.
        names: the files, with `/` between folders.
    """

    root: Path
    names: tuple[str, ...]
    frame: Frame

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.names), *self.frame.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.frame.table.dtype

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any, /) -> NDArray[Any]:
        """Raises DataError: a file is missing, broken, too large, or has more than 8 bits a channel."""
        if not isinstance(index, slice):
            return self._row(self.names[index])
        names = self.names[index]
        block = np.empty((len(names), *self.frame.shape), self.dtype)
        for i, name in enumerate(names):
            block[i] = self._row(name)
        return block

    def digest(self) -> str:
        """Of the names, the files' bytes, and how they are read."""
        digest = hashlib.sha256(
            f"{self.frame.preprocessing.canonical()}\0{self.frame.order}\n".encode()
        )
        for name in self.names:
            digest.update(f"{name}\0{file_sha256(self.root / name)}\n".encode())
        return digest.hexdigest()

    def chosen(self, indices: Sequence[int]) -> ImageRows:
        return replace(self, names=tuple(self.names[i] for i in indices))

    def _row(self, name: str) -> NDArray[Any]:
        return self.frame.values(decoded(self.root / name, self.frame))


def decoded(path: Path, frame: Frame) -> NDArray[np.uint8]:
    """An image file's pixels, turned upright (EXIF) and resized: uint8 [H, W, C], gray, red-green-blue, or with alpha.

    Of several pages or pictures, the first. Transparency is dropped where the model takes no alpha.

    Raises:
        DataError: no image, broken, more pixels than Pillow's guard against decompression bombs allows, or 16 bits a channel.
    """
    pillow = _pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", pillow.DecompressionBombWarning)
            with pillow.open(path, formats=_formats(pillow)) as opened:
                if opened.mode in _DEEP:
                    raise DataError(
                        f"{path}: has more than 8 bits a channel (Pillow's mode {opened.mode})",
                        "save it with 8 bits, or give arrays in the model's own preprocessing",
                    )
                upright = _operations().exif_transpose(opened)
                image = upright.convert(_MODES[frame.order])
            pixels = np.asarray(resized(image, frame, path), dtype=np.uint8)
    except EdgepackError:
        raise
    except (pillow.DecompressionBombWarning, pillow.DecompressionBombError) as error:
        raise DataError(
            f"{path}: {first_line(error)}",
            "resize it first, or take it out: no model sees that many pixels",
        ) from error
    except Exception as error:  # every decoder has its own for broken files
        raise DataError(
            f"{path}: not a readable image ({first_line(error)})", "mend the file, or take it out"
        ) from error
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def resized(image: Image, frame: Frame, path: Path) -> Image:
    """The image at the frame's size, in the way its preprocessing says.

    Raises:
        DataError: after `shorter_side`, the image is smaller than what is to be cut out.

    Source: torchvision transforms/functional.py center_crop and functional_pil.py resize: how halves and the longer side are rounded.
    """
    way = frame.preprocessing
    width, height = frame.width, frame.height
    if way.resize == "stretch":
        return _scaled(image, (width, height), way)
    scaled = _scaled(image, _near_size(image, frame), way)
    if way.resize == "crop":
        if scaled.width < width or scaled.height < height:
            raise DataError(
                f"{path}: {scaled.width}×{scaled.height} pixels (width×height) after shorter_side: "
                f"{way.shorter_side}; {width}×{height} cannot be cut out",
                f"make shorter_side at least {max(width, height)}, or leave it out",
            )
        left, top = (scaled.width - width + 1) // 2, (scaled.height - height + 1) // 2
        return scaled.crop((left, top, left + width, top + height))
    canvas: Image = _pillow().new(image.mode, (width, height), _pad(way, image.mode))
    canvas.paste(scaled, ((width - scaled.width) // 2, (height - scaled.height) // 2))
    return canvas


def _near_size(image: Image, frame: Frame) -> tuple[int, int]:
    """Width and height that keep the image's proportions, from which `crop` cuts or around which `letterbox` pads."""
    way, sides = frame.preprocessing, image.size
    if way.shorter_side is not None:
        longer = way.shorter_side * max(sides) // min(sides)
        return (way.shorter_side, longer) if sides[0] <= sides[1] else (longer, way.shorter_side)
    ratios = (frame.width / sides[0], frame.height / sides[1])
    ratio = min(ratios) if way.resize == "letterbox" else max(ratios)
    return max(1, round(sides[0] * ratio)), max(1, round(sides[1] * ratio))


def require_pillow() -> None:
    """Raises EnvironmentMissing: Pillow is not installed."""
    _pillow()


def _scaled(image: Image, size: tuple[int, int], way: Preprocessing) -> Image:
    if image.size == size:
        return image
    name = {"area": "BOX"}.get(way.interpolation, way.interpolation.upper())
    return image.resize(size, _pillow().Resampling[name])


def _pad(way: Preprocessing, mode: str) -> int | tuple[int, ...]:
    """Gray takes the mean of three; alpha is opaque."""
    values = way.pad if isinstance(way.pad, tuple) else (way.pad,) * 3
    if mode == "L":
        return round(sum(values) / 3)
    return (*values, 255) if mode == "RGBA" else values


def _pillow() -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise EnvironmentMissing(
            "reading images needs Pillow, which is not installed", "pip install 'edgepack[images]'"
        ) from error


def _formats(pillow: Any) -> tuple[str, ...]:
    """Those of _FORMATS that this Pillow was built with: it fails on the name of another."""
    pillow.init()
    return tuple(f for f in _FORMATS if f in pillow.OPEN)


def _operations() -> Any:
    return importlib.import_module("PIL.ImageOps")
