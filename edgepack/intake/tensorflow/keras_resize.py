"""Keras' resize, for images of a free height or width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def sizes_at_run_time() -> Iterator[None]:
    """While it is open, keras.ops.image.resize takes a size that is a tensor of the graph being traced.

    Keras 3.15 asks `size[0] <= 0` in Python, which such a tensor cannot answer; UpSampling2D passes one for a free size, so it runs on
    images and cannot be traced (nor exported by Keras). What comes after that question takes tensors. It can go when Keras no longer
    asks.

    Source: Keras 3.15, src/ops/image.py (resize, _resize), src/layers/reshaping/up_sampling2d.py.
    """
    import keras
    import tensorflow as tf
    from keras.src.ops import image

    asking = image.resize
    behind = getattr(image, "_resize", asking)

    def resize(images: Any, size: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        if any(tf.is_symbolic_tensor(s) for s in size):
            return behind(images, size, *args, **kwargs)
        return asking(images, size, *args, **kwargs)

    # UpSampling2D and Resizing read the one name, layers of users the other.
    places = (image, keras.ops.image)
    for place in places:
        place.resize = resize
    try:
        yield
    finally:
        for place in places:
            place.resize = asking
