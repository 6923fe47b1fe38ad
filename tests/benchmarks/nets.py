"""Four small nets in the manner of large ones, untrained: what makes their families hard to quantize is in them.

Each takes float32 `image` [batch, size, size, channels], 0–1, and gives `probabilities` [batch, classes].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import layers

#: A net for images of (size, channels) and so many classes.
Make = Callable[[int, int, int], keras.Model]


def plain_cnn(size: int, channels: int, classes: int) -> keras.Model:
    """Convolution, batch normalization, ReLU; max pooling; two dense layers."""
    image = x = keras.Input((size, size, channels), name="image")
    for features in (16, 32, 48):
        x = layers.Conv2D(features, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(_batch_norm()(x))
        x = layers.MaxPooling2D()(x)
    x = layers.Dense(64, activation="relu")(layers.Flatten()(x))
    return _classifier(image, x, classes, "plain_cnn")


def mobilenet_v3_like(size: int, channels: int, classes: int) -> keras.Model:
    """Inverted residuals with depthwise convolutions, hard-swish, and squeeze-and-excite with a hard sigmoid.

    Source: Howard et al., "Searching for MobileNetV3" (2019), as keras.applications builds it.
    """
    image = keras.Input((size, size, channels), name="image")
    x = layers.Rescaling(2.0, offset=-1.0)(image)
    x = _normed(x, layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False), _hard_swish)
    plan = [  # expansion, features, kernel, stride, squeeze, activation
        (16, 16, 3, 1, True, layers.ReLU()),
        (48, 24, 3, 2, False, layers.ReLU()),
        (72, 24, 3, 1, False, layers.ReLU()),
        (72, 32, 5, 2, True, _hard_swish),
        (96, 32, 5, 1, True, _hard_swish),
    ]
    for expansion, features, kernel, stride, squeeze, act in plan:
        x = _inverted(x, expansion, features, kernel, stride, squeeze, act, _hard_sigmoid)
    x = _normed(x, layers.Conv2D(96, 1, use_bias=False), _hard_swish)
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = _hard_swish(layers.Conv2D(128, 1)(x))
    return _classifier(image, layers.Flatten()(x), classes, "mobilenet_v3_like")


def efficientnet_like(size: int, channels: int, classes: int) -> keras.Model:
    """Inverted residuals with swish, and squeeze-and-excite with a sigmoid.

    Source: Tan, Le, "EfficientNet" (2019), as keras.applications builds it.
    """
    image = keras.Input((size, size, channels), name="image")
    swish, sigmoid = keras.activations.silu, keras.activations.sigmoid
    x = _normed(image, layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False), swish)
    plan = [(16, 16, 3, 1), (64, 24, 3, 2), (96, 24, 3, 1), (96, 40, 5, 2), (160, 40, 5, 1)]
    for expansion, features, kernel, stride in plan:
        x = _inverted(x, expansion, features, kernel, stride, True, swish, sigmoid)
    x = _normed(x, layers.Conv2D(128, 1, use_bias=False), swish)
    return _classifier(image, layers.GlobalAveragePooling2D()(x), classes, "efficientnet_like")


def transformer(size: int, channels: int, classes: int) -> keras.Model:
    """Patches of 4 × 4, three blocks of LayerNorm, multi-head attention and a perceptron with exact GELU.

    Source: Dosovitskiy et al., "An Image is Worth 16x16 Words" (2020).
    """
    width, side = 64, size // 4
    image = keras.Input((size, size, channels), name="image")
    x = layers.Conv2D(width, 4, strides=4)(image)
    x = layers.Reshape((side * side, width))(x)
    # A bias for each place: the position embedding.
    x = layers.EinsumDense("abc,cd->abd", (side * side, width), bias_axes="bd")(x)
    for _ in range(3):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, width // 4)(y, y)])
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.Dense(2 * width)(y)
        y = layers.Dense(width)(keras.activations.gelu(y, approximate=False))
        x = layers.Add()([x, y])
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    return _classifier(image, layers.GlobalAveragePooling1D()(x), classes, "transformer")


def _classifier(image: Any, x: Any, classes: int, name: str) -> keras.Model:
    x = layers.Dense(classes, activation="softmax", name="probabilities")(x)
    return keras.Model(image, x, name=name)


def _batch_norm() -> Any:
    """Statistics that follow the weights within a few dozen steps: training here takes a few hundred, not a hundred thousand."""
    return layers.BatchNormalization(momentum=0.9)


def _normed(x: Any, convolution: Any, activation: Callable[[Any], Any]) -> Any:
    return activation(_batch_norm()(convolution(x)))


def _inverted(
    x: Any,
    expansion: int,
    features: int,
    kernel: int,
    stride: int,
    squeeze: bool,
    activation: Callable[[Any], Any],
    gate: Callable[[Any], Any],
) -> Any:
    """Widen, convolve each channel by itself, weigh the channels, narrow; with a way past where the shapes allow it."""
    given = x
    x = _normed(x, layers.Conv2D(expansion, 1, use_bias=False), activation)
    depthwise = layers.DepthwiseConv2D(kernel, strides=stride, padding="same", use_bias=False)
    x = _normed(x, depthwise, activation)
    if squeeze:
        y = layers.GlobalAveragePooling2D(keepdims=True)(x)
        y = layers.Conv2D(max(8, expansion // 4), 1, activation="relu")(y)
        x = layers.Multiply()([x, gate(layers.Conv2D(expansion, 1)(y))])
    x = _batch_norm()(layers.Conv2D(features, 1, use_bias=False)(x))
    return layers.Add()([x, given]) if given.shape == x.shape else x


def _hard_sigmoid(x: Any) -> Any:
    return layers.ReLU(max_value=6.0)(x + 3.0) * (1.0 / 6.0)


def _hard_swish(x: Any) -> Any:
    return x * _hard_sigmoid(x)


NETS: Mapping[str, Make] = {
    "plain CNN": plain_cnn,
    "MobileNetV3-like": mobilenet_v3_like,
    "EfficientNet-like": efficientnet_like,
    "transformer": transformer,
}
