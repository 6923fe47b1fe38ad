"""Small Keras networks, one for each kind of layer that converters stumble over: images, volumes, front ends, norms, several edges."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers


def sequential_cnn() -> Any:
    """Keras' own first example: a Sequential (tensorflow-onnx#2448: plain tf2onnx crashes on any)."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax", name="digits"),
        ]
    )


def mlp() -> Any:
    """A Sequential of dense layers on a table's columns, all the activations that Dense takes by name."""
    names = ("relu", "selu", "softplus", "softsign", "tanh", "elu", "swish", "leaky_relu")
    hidden = [layers.Dense(24, activation=name) for name in names]
    return keras.Sequential([keras.Input((13,), name="columns"), *hidden, layers.Dense(1)])


def two_inputs() -> Any:
    """An image and a table, joined."""
    image = keras.Input((32, 32, 3), name="photo")
    table = keras.Input((6,), name="attributes")
    x = layers.Conv2D(8, 3, strides=2, activation="relu")(image)
    x = layers.GlobalAveragePooling2D()(x)
    y = layers.Dense(8, activation="relu")(table)
    joined = layers.Concatenate()([x, y])
    return keras.Model([image, table], layers.Dense(1, name="price")(joined))


def three_outputs() -> Any:
    """Age, gender and box of one face: outputs of different ranks."""
    image = keras.Input((48, 48, 3), name="face")
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(image)
    x = layers.BatchNormalization()(x)
    heat = layers.Conv2D(1, 1, activation="sigmoid", name="heat")(x)
    flat = layers.GlobalMaxPooling2D()(x)
    age = layers.Dense(1, activation="softplus", name="age")(flat)
    gender = layers.Dense(2, activation="softmax", name="gender")(flat)
    return keras.Model(image, {"age": age, "gender": gender, "heat": heat})


def dict_inputs() -> Any:
    """Two inputs by name and two outputs by name, in an order that is not the alphabet's."""
    wide = keras.Input((5,), name="wide")
    deep = keras.Input((7,), name="deep")
    x = layers.Dense(16, activation="relu")(deep)
    both = layers.Concatenate()([x, wide])
    outputs = {"score": layers.Dense(1)(both), "class": layers.Dense(3)(both)}
    return keras.Model({"wide": wide, "deep": deep}, outputs)


def shared_tower() -> Any:
    """A siamese network: one tower, used twice, and the distance."""
    tower = keras.Sequential(
        [
            keras.Input((24, 24, 1)),
            layers.Conv2D(8, 5, activation="relu"),
            layers.Flatten(),
            layers.Dense(16),
        ],
        name="tower",
    )
    left, right = keras.Input((24, 24, 1), name="left"), keras.Input((24, 24, 1), name="right")
    difference = layers.Subtract()([tower(left), tower(right)])
    return keras.Model([left, right], layers.Dense(1, activation="sigmoid")(difference))


def unet() -> Any:
    """A U-Net with transposed convolutions: skip connections, odd paddings."""
    image = x = keras.Input((64, 64, 3), name="image")
    skips = []
    for width in (8, 16, 32):
        x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        x = layers.BatchNormalization()(x)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    for width, skip in zip((32, 16, 8), reversed(skips), strict=True):
        x = layers.Conv2DTranspose(width, 3, strides=2, padding="same")(x)
        x = layers.Concatenate()([x, skip])
    return keras.Model(image, layers.Conv2D(2, 1, activation="softmax", name="mask")(x))


def upsampling() -> Any:
    """An autoencoder: nearest and bilinear UpSampling2D, paddings, croppings, of a free image size."""
    image = keras.Input((None, None, 3), name="image")
    x = layers.ZeroPadding2D(((1, 2), (2, 1)))(image)
    x = layers.Conv2D(8, 4, strides=2, activation="relu")(x)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = layers.AveragePooling2D(3, strides=2, padding="same")(x)
    x = layers.UpSampling2D(2, interpolation="nearest")(x)
    x = layers.Cropping2D(1)(x)
    return keras.Model(image, layers.Conv2D(3, 3, padding="same", name="rebuilt")(x))


def convolutions_1d() -> Any:
    """A dilated causal temporal net on a sensor's signal, of free length, with a transposed convolution."""
    signal = x = keras.Input((None, 6), name="signal")
    for dilation in (1, 2, 4):
        y = layers.Conv1D(12, 3, padding="causal", dilation_rate=dilation, activation="relu")(x)
        x = layers.Add()([layers.Conv1D(12, 1)(x), layers.SpatialDropout1D(0.1)(y)])
    x = layers.SeparableConv1D(16, 5, padding="same", activation="gelu")(x)
    x = layers.DepthwiseConv1D(3, padding="same")(x)
    x = layers.MaxPooling1D(2)(x)
    x = layers.Conv1DTranspose(8, 4, strides=2, padding="same")(x)
    x = layers.UpSampling1D(2)(x)
    return keras.Model(signal, layers.Dense(3, name="activity")(layers.GlobalAveragePooling1D()(x)))


def convolutions_3d() -> Any:
    """A volume: 3-D convolution, pooling, transposed convolution, upsampling."""
    volume = keras.Input((16, 24, 24, 1), name="volume")
    x = layers.Conv3D(8, 3, strides=(1, 2, 2), padding="same", activation="relu")(volume)
    x = layers.BatchNormalization()(x)
    x = layers.MaxPooling3D(2)(x)
    x = layers.Conv3DTranspose(8, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.UpSampling3D((1, 2, 2))(x)
    x = layers.ZeroPadding3D(1)(x)
    x = layers.Cropping3D(1)(x)
    return keras.Model(volume, layers.Conv3D(2, 1, activation="softmax", name="tissue")(x))


def separable() -> Any:
    """Grouped, separable, dilated and depthwise convolutions with a depth multiplier, strided."""
    image = keras.Input((40, 40, 8), name="bands")
    x = layers.Conv2D(16, 3, groups=4, activation="relu6")(image)
    x = layers.SeparableConv2D(24, 3, strides=2, depth_multiplier=2, padding="same")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, activation="hard_swish")(x)
    x = layers.DepthwiseConv2D(3, dilation_rate=2, padding="same")(x)
    x = layers.Conv2D(8, 3, dilation_rate=(2, 3), activation="hard_sigmoid")(x)
    x = layers.PReLU(shared_axes=[1, 2])(x)
    return keras.Model(image, layers.GlobalAveragePooling2D(keepdims=True, name="pooled")(x))


def norms() -> Any:
    """Every normalization layer of Keras 3 that looks at the data it is given."""
    image = keras.Input((20, 20, 12), name="features")
    x = layers.GroupNormalization(groups=4)(image)
    x = layers.Conv2D(16, 3)(x)
    x = layers.LayerNormalization(axis=(1, 2, 3))(x)
    x = layers.GroupNormalization(groups=-1)(layers.Activation("silu")(x))
    x = layers.SpectralNormalization(layers.Conv2D(8, 3))(x)
    x = layers.RMSNormalization()(x)
    x = layers.UnitNormalization(axis=-1)(x)
    x = layers.BatchNormalization(axis=1, scale=False)(x)
    return keras.Model(image, layers.LayerNormalization(name="normed")(layers.Flatten()(x)))


def front_end() -> Any:
    """What photographs go through first: Resizing, CenterCrop, Rescaling, Normalization."""
    image = keras.Input((90, 120, 3), name="photo")
    x = layers.Resizing(64, 80, interpolation="bilinear")(image)
    x = layers.CenterCrop(56, 56)(x)
    x = layers.Rescaling(1 / 127.5, offset=-1)(x)
    x = layers.Normalization(mean=[0.48, 0.45, 0.4], variance=[0.05, 0.05, 0.06])(x)
    x = layers.Conv2D(8, 5, strides=3, activation="relu")(x)
    return keras.Model(image, layers.Dense(5, name="scene")(layers.Flatten()(x)))


def adapted_normalization() -> Any:
    """A table's columns through a Normalization that has seen data."""
    rng = np.random.default_rng(5)
    normalization = layers.Normalization()
    normalization.adapt(rng.normal(3, 2, (200, 9)).astype(np.float32))
    table = keras.Input((9,), name="columns")
    return keras.Model(table, layers.Dense(1, name="value")(normalization(table)))


def resize_nearest_bicubic() -> Any:
    """Resizing by nearest neighbour and bicubic, up and down."""
    image = keras.Input((30, 40, 3), name="image")
    near = layers.Resizing(45, 60, interpolation="nearest", name="nearest")(image)
    cubic = layers.Resizing(15, 20, interpolation="bicubic", name="bicubic")(image)
    return keras.Model(image, [near, cubic])


def gelu(approximate: bool) -> Any:
    """A mixer's block with GELU: exact, or by tanh."""
    tokens = keras.Input((16, 24), name="tokens")
    x = layers.Dense(48)(layers.LayerNormalization()(tokens))
    x = layers.Activation(lambda_gelu(approximate))(x)
    x = layers.Permute((2, 1))(layers.Dense(24)(x))
    return keras.Model(tokens, layers.Dense(4, activation="log_softmax", name="logits")(x))


def lambda_gelu(approximate: bool) -> Any:
    """The activation by name where it has one: a `.keras` file may hold no code."""
    return "gelu" if not approximate else gelu_tanh


@keras.saving.register_keras_serializable("zoo")
def gelu_tanh(x: Any) -> Any:
    """GELU by tanh, for formats that keep the graph and not the code."""
    return keras.activations.gelu(x, approximate=True)


def operations() -> Any:
    """A functional model written with keras.ops: gather, where, einsum, top-k, cumulative sum, slicing, clipping."""
    ops = keras.ops
    x = keras.Input((12, 8), name="x")
    y = ops.einsum("btc,bsc->bts", x, x)
    y = ops.where(y > 1.0, ops.sqrt(ops.abs(y)), ops.clip(y, 0.1, 0.9))
    y = ops.cumsum(y, axis=1) + ops.roll(y, 3, axis=2)
    values, _ = ops.top_k(y, 4)
    y = ops.concatenate([values[:, ::2], ops.flip(values[:, 1::2], axis=1)], axis=-1)
    return keras.Model(x, [ops.logsumexp(y, axis=-1), ops.argmax(x, axis=1)])


def detector() -> Any:
    """A single-shot detector's head: boxes decoded from anchors, scores, the best by non-maximum suppression left to the app."""
    image = keras.Input((96, 96, 3), name="image")
    x = layers.Conv2D(16, 3, strides=4, padding="same", activation="relu")(image)
    boxes, scores = [], []
    for width in (24, 32):
        x = layers.BatchNormalization()(layers.Conv2D(width, 3, strides=2, padding="same")(x))
        x = layers.ReLU(6.0)(x)
        boxes.append(layers.Reshape((-1, 4))(layers.Conv2D(8, 3, padding="same")(x)))
        scores.append(layers.Reshape((-1, 3))(layers.Conv2D(6, 3, padding="same")(x)))
    box = layers.Concatenate(axis=1)(boxes)
    centre, size = box[..., :2] * 0.1, keras.ops.exp(box[..., 2:] * 0.2)
    corners = layers.Concatenate(name="boxes")([centre - size / 2, centre + size / 2])
    score = layers.Activation("sigmoid", name="scores")(layers.Concatenate(axis=1)(scores))
    return keras.Model(image, [corners, score])


def super_resolution() -> Any:
    """ESPCN: sub-pixel convolution by reshapes and a transpose of rank 6."""
    image = keras.Input((24, 32, 1), name="low")
    x = layers.Conv2D(16, 5, padding="same", activation="tanh")(image)
    x = layers.Conv2D(9, 3, padding="same")(x)
    x = layers.Reshape((24, 32, 3, 3))(x)
    x = layers.Permute((1, 3, 2, 4))(x)
    return keras.Model(image, layers.Reshape((72, 96, 1), name="high")(x))


def squeeze_excite() -> Any:
    """Channel gates: GlobalAveragePooling with keepdims, Multiply, Average, Maximum, Dot."""
    image = keras.Input((32, 32, 3), name="image")
    x = layers.Conv2D(16, 3, activation="mish")(image)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(16, 1, activation="sigmoid")(gate)
    x = layers.Multiply()([x, gate])
    low, high = layers.AveragePooling2D(2)(x), layers.MaxPooling2D(2)(x)
    x = layers.Maximum()([layers.Average()([low, high]), layers.Minimum()([low, high])])
    flat = layers.Reshape((-1, 16))(x)
    return keras.Model(image, layers.Dot(axes=1, normalize=True, name="gram")([flat, flat]))
