"""Weights that look trained: random ones whose errors show in the answers.

Keras' fresh weights hide mistakes: biases of zero, normalizations that do nothing, and in deep networks signals that blow up or die out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: Added to every bias, scale and shift.
_NOISE = 0.05
#: Keras starts word vectors within ±0.05; trained ones are about so many times as long.
_WORDS = 10
#: Statistics of a data set, given to the layer by whoever made it.
_GIVEN = ("mean", "variance", "count", "normalization")


def season(model: Any, seed: int, span: float) -> None:
    """Give a Keras model non-trivial biases, scales and moving statistics; its answers stay finite and vary.

    Args: span: float inputs are uniform from 0 to this.

    A BatchNormalization's moving statistics become those of a random batch, as training would leave them, then 10 % off.
    """
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        words = variable.path.split("/")
        if words[-1] == "embeddings":
            variable.assign(np.asarray(variable) * _WORDS)
        if len(variable.shape) > 1 or not str(variable.dtype).startswith("float"):
            continue
        if words[-1] in _GIVEN or words[-1].startswith("moving_"):
            continue
        variable.assign(np.asarray(variable) + rng.normal(0, _NOISE, variable.shape))
    norms = [layer for layer in _layers(model) if type(layer).__name__ == "BatchNormalization"]
    if norms:
        _settle(model, norms, rng, span)
    _check(model, rng, span)


def feeds(model: Any, rng: np.random.Generator, batch: int, span: float) -> list[np.ndarray]:
    """Random inputs for a Keras model, in the order of its inputs: as edgepack's golden feeds are, but for `span`."""
    return [
        noise(
            [batch if i == 0 else size or 64 for i, size in enumerate(t.shape)], t.dtype, rng, span
        )
        for t in model.inputs
    ]


def noise(shape: Any, dtype: str, rng: np.random.Generator, span: float) -> np.ndarray:
    """Floats uniform in [0, `span`); integers and bools 0 or 1."""
    if np.dtype(dtype).kind == "f":
        return (rng.random(shape) * span).astype(dtype)
    return rng.integers(0, 2, shape).astype(dtype)


def _layers(model: Any) -> list[Any]:
    return [layer for layer in model._flatten_layers(include_self=False, recursive=True)]


def _settle(model: Any, norms: list[Any], rng: np.random.Generator, span: float) -> None:
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    batch = feeds(model, rng, 2, span)
    for x in batch:
        if span != 1.0 and x.dtype.kind == "f":
            # A bright and a dark picture: edgepack's golden inputs are dark ones to such a network.
            x[1] /= span
    # Dropout and stochastic depth are on in this pass; it only sets a scale.
    model(_packed(model, batch), training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
        mean, variance = np.asarray(layer.moving_mean), np.asarray(layer.moving_variance)
        spread = np.sqrt(variance)
        layer.moving_mean.assign(mean + spread * rng.normal(0, 0.1, mean.shape))
        layer.moving_variance.assign(variance * rng.uniform(0.9, 1.1, mean.shape))


def _packed(model: Any, flat: list[np.ndarray]) -> Any:
    import keras

    functional = getattr(model, "_functional", None) or model
    structure = getattr(functional, "_inputs_struct", None)
    tensors = [keras.ops.convert_to_tensor(x) for x in flat]
    if structure is None:
        return tensors[0] if len(tensors) == 1 else tensors
    return keras.tree.pack_sequence_as(structure, tensors)


def _check(model: Any, rng: np.random.Generator, span: float) -> None:
    """Raises ValueError: an answer is not finite, or is the same for every input."""
    import keras

    batch = 1 if model.inputs[0].shape[0] == 1 else 2
    runs = [
        keras.tree.flatten(model(_packed(model, feeds(model, rng, batch, span)), training=False))
        for _ in range(2)
    ]
    for k, (one, other) in enumerate(zip(*runs, strict=True)):
        a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise ValueError(f"{model.name}: output {k} is not finite")
        if np.abs(a).max(initial=0.0) > 1e4:
            raise ValueError(f"{model.name}: output {k} blew up to {np.abs(a).max():.3g}")
        if a.shape == b.shape and np.abs(a - b).max() < 1e-6:
            raise ValueError(f"{model.name}: output {k} does not depend on the input")
